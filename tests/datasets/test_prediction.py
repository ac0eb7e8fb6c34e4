"""Predictions for datasets, and what a prediction keeps of its structures."""

from __future__ import annotations

import numpy as np
import pytest
from potentials import golden, golden_potential, golden_structure, random_potential
from torch.utils.data import Subset

from aenet_ray import CachedStructureDataset, ChebyshevDescriptor, HDF5StructureDataset, PredictionConfig, Structure
from aenet_ray.datasets import StructureDataset
from aenet_ray.errors import ConfigError
from aenet_ray.structures.ase_io import write_ase


@pytest.fixture(scope="module")
def potential():
    return random_potential()


def in_file(structures, descriptor, tmp_path, **build):
    dataset = HDF5StructureDataset(descriptor, tmp_path / "d.h5", structures)
    dataset.build_database(False, **build)
    return dataset


def kinds(structures, descriptor, tmp_path):
    yield StructureDataset(structures, descriptor)
    yield CachedStructureDataset(structures, descriptor, show_progress=False)
    yield in_file(structures, descriptor, tmp_path)
    yield in_file(structures, descriptor, tmp_path, persist_features=True)


@pytest.mark.parametrize("forces", [False, True])
def test_datasets_predict_as_their_structures_do(potential, tio2, tmp_path, forces):
    config = PredictionConfig(batch_size=3, print_atomic_energies=True)
    whole = potential.predict(tio2, forces, config)
    order = [7, 0, 15, 3, 3, 9, 1]
    for dataset in kinds(tio2, potential.descriptor, tmp_path):
        out = potential.predict_dataset(Subset(dataset, order), forces, config)
        assert out.num_structures == len(order)
        for k, i in enumerate(order):
            assert out.total_energy[k] == pytest.approx(whole.total_energy[i], abs=1e-9)
            np.testing.assert_allclose(out.atom_energies[k], whole.atom_energies[i], atol=1e-10)
            np.testing.assert_array_equal(out.coords[k], tio2[i].positions)
            if forces:
                np.testing.assert_allclose(out.forces[k], whole.forces[i], atol=1e-10)
        assert out.identifiers == [dataset.get_structure_identifier(i) for i in order]
        assert out.names == [tio2[i].name for i in order]


def test_kept_features_are_used(potential, tio2, tmp_path, monkeypatch):
    descriptor = potential.descriptor
    cached, kept = list(kinds(tio2, descriptor, tmp_path))[1::2]
    expected = potential.predict(tio2).total_energy
    other = ChebyshevDescriptor(["Ti", "O"], 2, 3.0, 1, 3.0)
    foreign = CachedStructureDataset(tio2, other, show_progress=False)
    np.testing.assert_allclose(potential.predict_dataset(foreign).total_energy, expected, atol=1e-9)

    def refuse(*_, **__):
        raise AssertionError("features are computed again")

    monkeypatch.setattr(ChebyshevDescriptor, "features", refuse)
    monkeypatch.setattr(ChebyshevDescriptor, "edges", refuse)
    for dataset in (cached, kept, Subset(kept, range(16))):
        np.testing.assert_allclose(potential.predict_dataset(dataset).total_energy, expected, atol=1e-9)
    with pytest.raises(AssertionError, match="computed again"):
        potential.predict_dataset(foreign)


def test_only_datasets_are_taken(potential, tio2):
    with pytest.raises(ConfigError, match="list is no dataset of aenet_ray; expected StructureDataset"):
        potential.predict_dataset(tio2)


@pytest.mark.parametrize("name", ["molecule_2species_water", "periodic_orthorhombic_tio2"])
def test_energies_of_atoms_are_scaled_the_right_way(name):
    """aenet-python gives e · E_scaling; it is e / E_scaling + E_shift + ε."""
    case = golden(name)
    potential, structure = golden_potential(case), golden_structure(case)
    norm = potential.model.normalization
    assert norm.E_scaling != 1
    out = potential.predict([structure], config=PredictionConfig(print_atomic_energies=True))
    references = np.array([potential.atomic_energies.get(s, 0.0) for s in structure.species])
    expected = np.array(case["network_outputs_per_atom_normalized"]) / norm.E_scaling + norm.E_shift + references
    np.testing.assert_allclose(out.atom_energies[0], expected, atol=1e-9)
    assert out.atom_energies[0].sum() == pytest.approx(out.total_energy[0], abs=1e-9)
    assert out.atom_energies[0].sum() - references.sum() == pytest.approx(out.cohesive_energy[0], abs=1e-9)


def test_nothing_in_nothing_out(potential):
    """aenet-python fails with an IndexError."""
    out = potential.predict([], eval_forces=True, config=PredictionConfig(timing=True, print_atomic_energies=True))
    assert (out.num_structures, out.forces, out.atom_energies, out.structure_paths) == (0, [], [], [])
    assert out.timing == {"featurization": [], "energy_eval": [], "force_eval": [], "total": []}
    assert out.to_structures() == out.total_energy_per_atom == out.cohesive_energy_per_atom == []


def test_every_frame_has_its_path(potential, tio2, tmp_path):
    """aenet-python gives one path a file."""
    path = tmp_path / "frames.extxyz"
    write_ase(tio2[:5], path)
    unnamed = Structure(tio2[6].positions, tio2[6].species, None, None, tio2[6].cell)
    out = potential.predict([str(path), unnamed], eval_forces=True)
    assert out.structure_paths == [str(path)] * 5 + ["<memory>"]
    assert out.frames == [0, 1, 2, 3, 4, 0]
    assert out.identifiers[5] == "structure_000005"
    made = out.to_structures()
    assert [(s.source, s.frame) for s in made] == list(zip(out.structure_paths, out.frames, strict=True))
    assert [s.name for s in potential.predict(tio2[:3]).to_structures()] == [s.name for s in tio2[:3]]
    np.testing.assert_array_equal(made[4].forces, out.forces[4])


def test_committees_use_kept_features(tio2, tmp_path, monkeypatch):
    from aenet_ray import TorchCommitteePotential

    members = []
    for seed in range(2):
        potential = random_potential(seed=seed)
        potential.save(tmp_path / f"{seed}.pt")
        members.append(tmp_path / f"{seed}.pt")
    committee = TorchCommitteePotential.from_files(members)
    dataset = CachedStructureDataset(tio2, committee.descriptor, show_progress=False)
    expected = committee.predict(tio2)
    monkeypatch.setattr(ChebyshevDescriptor, "features", lambda *_, **__: pytest.fail("computed again"))
    found = committee.predict_dataset(Subset(dataset, [3, 1]))
    np.testing.assert_allclose(found.energy_mean, np.array(expected.energy_mean)[[3, 1]], atol=1e-9)
