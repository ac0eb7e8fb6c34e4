"""Datasets in memory: samples, filters, identifiers; and the record of a structure as aenet-python's."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from dataset_samples import REFERENCES, TIO2
from torch.utils.data import DataLoader, Subset

from aenet_ray import ChebyshevDescriptor, Structure
from aenet_ray.datasets import CachedStructureDataset, HDF5StructureDataset, StructureDataset, collate
from aenet_ray.structures.ase_io import to_ase


@pytest.fixture(params=["memory", "cached", "file"])
def dataset(request, tio2, descriptor, tmp_path):
    """Every third without forces, the fifth isolated and without energy, one unnamed."""
    structures = [
        Structure(s.positions, s.species, s.energy, s.forces if k % 3 else None, s.cell, s.pbc, s.name)
        for k, s in enumerate(tio2[:7])
    ]
    structures[5] = Structure(tio2[5].positions, tio2[5].species)
    if request.param == "file":
        made = HDF5StructureDataset(descriptor, tmp_path / "d.h5", structures, in_memory_cache_size=4)
        made.build_database(False)
        return made
    if request.param == "memory":
        return StructureDataset(structures, descriptor)
    return CachedStructureDataset(structures, descriptor, show_progress=False)


def test_samples(dataset, tio2, descriptor):
    with_forces = not isinstance(dataset, CachedStructureDataset)
    for i, sample in enumerate(dataset):
        s = tio2[i]
        whole = i != 5
        cell, pbc = (s.cell, s.pbc) if whole else (None, None)
        expected = descriptor.forward_from_positions(s.positions, s.species, cell, pbc)
        torch.testing.assert_close(sample["features"], expected, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(sample["positions"], s.positions)
        assert sample["species"] == s.species
        assert sample["species_indices"].tolist() == [descriptor.species.index(x) for x in s.species]
        assert sample["n_atoms"] == s.n_atoms
        assert sample["has_forces"] == bool(whole and i % 3)
        assert sample["use_forces"] == bool(whole and i % 3 and with_forces)
        assert (sample["forces"] is None) != sample["use_forces"]
        assert (sample["cell"] is None, sample["pbc"] is None) == (not whole, not whole)
        assert sample["energy"] == s.energy if whole else np.isnan(sample["energy"])
        assert (sample["name"], sample["source_index"]) == (s.name if whole else None, i)
        assert sample["identifier"] == dataset.get_structure_identifier(i)
    assert dataset[-1]["source_index"] == len(dataset) - 1
    with pytest.raises(IndexError, match=r"structure 7 asked for, there are 7"):
        dataset[7]


def test_statistics(dataset, tio2):
    with_forces = 0 if isinstance(dataset, CachedStructureDataset) else 3
    assert dataset.get_force_indices() == [1, 2, 4][:with_forces]
    symbols = [x for s in tio2[:7] for x in s.species]
    assert dataset.get_statistics() == {
        "n_structures": 7,
        "n_force_structures": with_forces,
        "n_energy_only": 7 - with_forces,
        "n_without_energy": 1,
        "n_atoms": len(symbols),
        "species": {"O": symbols.count("O"), "Ti": symbols.count("Ti")},
    }
    assert dataset.warmup(show_progress=False) == (4 if isinstance(dataset, HDF5StructureDataset) else 7)


def test_batches_of_a_loader(dataset):
    loader = DataLoader(Subset(dataset, [6, 2, 0, 1]), batch_size=3, collate_fn=collate)
    first, second = list(loader)
    samples = [dataset[i] for i in (6, 2, 0)]
    assert first["sample_indices"].tolist() == [6, 2, 0]
    assert first["n_atoms"].tolist() == [s["n_atoms"] for s in samples]
    torch.testing.assert_close(first["features"], torch.cat([s["features"] for s in samples]))
    torch.testing.assert_close(first["energy_ref"], torch.tensor([s["energy"] for s in samples], dtype=torch.float64))
    assert torch.bincount(first["structure_index"]).tolist() == first["n_atoms"].tolist()
    if isinstance(dataset, CachedStructureDataset):
        assert first["forces_ref_f"].shape == (0, 3)
        assert first["features_f"].shape == (0, first["features"].shape[1])
    else:
        assert first["force_sample_indices"].tolist() == [1]
        torch.testing.assert_close(first["forces_ref_f"], samples[1]["forces"])
        torch.testing.assert_close(first["positions_f"], samples[1]["positions"])
        assert second["force_sample_n_atoms"].tolist() == second["n_atoms"].tolist()


def test_filters(tio2, descriptor):
    """max_forces is on magnitudes: in aenet-python a force passes if each of its components does."""
    per_atom = np.array([(s.energy - sum(REFERENCES[x] for x in s.species)) / s.n_atoms for s in tio2])
    limit = float(np.sort(per_atom)[6])
    low = StructureDataset(tio2, descriptor, max_energy=limit, atomic_energies=REFERENCES)
    assert [s.name for s in low.structures] == [s.name for s, e in zip(tio2, per_atom, strict=True) if e <= limit]
    forces = [Structure([[0, 0, 0.0]], ["O"], 0.0, [f]) for f in ([0.9, 0, 0], [0.9, 0.9, 0.9], [0, 1.0, 0])]
    bare = Structure([[0, 0, 0.0]], ["O"], 0.0)
    calm = StructureDataset([*forces, bare], descriptor, max_forces=1.0)
    assert [s.forces is None or s.forces.tolist() for s in calm.structures] == [[[0.9, 0, 0]], [[0, 1.0, 0]], True]
    with pytest.warns(UserWarning, match=r"1 of 2 structures have no energy \(the first is number 1\)"):
        assert len(StructureDataset([bare, Structure([[0, 0, 0.0]], ["O"])], descriptor, max_energy=0.0)) == 1


def test_inputs_and_identifiers(tio2, descriptor, tmp_path):
    assert len(StructureDataset(TIO2, descriptor)) == 100
    unnamed = [to_ase(tio2[0]), Structure(tio2[1].positions, tio2[1].species, -1.0)]
    dataset = StructureDataset(iter(unnamed), descriptor)
    assert dataset.get_structure_identifier(1) == "structure_000001"
    from aenet_ray.structures.xsf import write_xsf

    write_xsf(tio2[0], tmp_path / "a.xsf")
    assert StructureDataset(tmp_path / "a.xsf", descriptor).get_structure_identifier(0) == str(tmp_path / "a.xsf")
    again = pickle.loads(pickle.dumps(StructureDataset(tio2, descriptor, seed=3)))
    assert (len(again), again.seed) == (16, 3)


def test_the_same_name_twice_is_no_error(tio2, descriptor, tmp_path):
    twice = StructureDataset([tio2[0], tio2[0]], descriptor)
    assert len(twice.resolve(tmp_path)[0]) == 2


def test_cached_features_have_the_descriptors_type(tio2):
    descriptor = ChebyshevDescriptor(["Ti", "O"], 3, 3.5, 2, 3.0, dtype=torch.float32)
    dataset = CachedStructureDataset(tio2[:2], descriptor, show_progress=False)
    assert dataset[0]["features"].dtype == dataset.load_persisted_features(0).dtype == torch.float32


def test_the_record_is_aenet_pythons():
    structure = Structure([[0, 0, 0], [0, 0, 2]], ["Ti", "O"], -5, [[0, 0, 1]] * 2, np.eye(3) * 9, [True] * 3, "name")
    assert (structure.energy, structure.name, structure.n_atoms) == (-5.0, "name", 2)
    assert (structure.positions.shape, structure.forces.shape, structure.cell.shape) == ((2, 3), (2, 3), (3, 3))
    assert structure.has_forces()
    assert structure.is_periodic()
    bare = Structure(positions=[[0, 0, 0]], species=["O"], energy=1.0)
    assert (bare.has_forces(), bare.is_periodic(), bare.forces, bare.cell, bare.pbc, bare.name) == (
        False,
        False,
        *[None] * 4,
    )


def test_printed_as_what_it_holds(tio2, descriptor):
    dataset = StructureDataset(tio2, descriptor, max_forces=1000.0)
    assert repr(dataset) == (
        f"StructureDataset(16 structures, 16 with forces for training, max_forces=1000; {descriptor})"
    )
