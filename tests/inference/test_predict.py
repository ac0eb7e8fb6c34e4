"""Predictions of many structures: order, labels, threads, inputs."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from potentials import random_potential

from aenet_ray import TorchANNPotential
from aenet_ray.errors import ConfigError, DescriptorError, StructureError
from aenet_ray.inference import predict as predict_module
from aenet_ray.inference.predict import PredictionConfig
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.store import StructureStore, write_store
from aenet_ray.structures.structure import Structure

TIO2 = Path(__file__).parents[1] / "data" / "tio2_ci100_xsf.tar.gz"


@pytest.fixture(scope="module")
def structures():
    found = [s for s, _ in zip(read_structures(TIO2), range(23), strict=False)]
    found[7].cell = found[7].pbc = None
    return found


@pytest.fixture(scope="module")
def alone(structures):
    """Each structure predicted by itself."""
    potential = random_potential()
    return [potential.predict([s], eval_forces=True, eval_stress=True) for s in structures]


@pytest.mark.parametrize("num_workers", [0, 1, 3])
@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_batches_and_threads_change_nothing(structures, alone, batch_size, num_workers):
    config = PredictionConfig(batch_size=batch_size, num_workers=num_workers, timing=True, print_atomic_energies=True)
    out = random_potential().predict(structures, eval_forces=True, eval_stress=True, config=config)
    assert out.num_structures == len(structures)
    assert out.structure_paths == [s.source for s in structures]
    for k, one in enumerate(alone):
        assert out.num_atoms(k) == structures[k].n_atoms
        assert out.atom_types[k] == structures[k].species
        assert out.total_energy[k] == pytest.approx(one.total_energy[0], abs=1e-10)
        assert out.atom_energies[k].sum() == pytest.approx(out.total_energy[k], abs=1e-9)
        np.testing.assert_allclose(out.forces[k], one.forces[0], atol=1e-11)
        np.testing.assert_allclose(out.stress[k], one.stress[0], atol=1e-13)
    assert len(out.timing["total"]) == -(-len(structures) // batch_size)
    np.testing.assert_allclose(
        out.timing["total"], np.sum([out.timing[n] for n in ("featurization", "energy_eval", "force_eval")], axis=0)
    )


@pytest.mark.parametrize("num_workers", [0, 2])
def test_input_is_read_as_it_is_needed(structures, monkeypatch, num_workers):
    """Memory does not grow with the number of structures: few batches are ahead of the one being added."""
    read, ahead = [0], []
    original = predict_module._append

    def stream():
        for s in structures:
            read[0] += 1
            yield s

    def spy(out, block, result):
        ahead.append(read[0] - out.num_structures)
        original(out, block, result)

    monkeypatch.setattr(predict_module, "_append", spy)
    random_potential().predict(stream(), config=PredictionConfig(batch_size=2, num_workers=num_workers))
    assert max(ahead) <= 2 * max(1, 2 * num_workers) + 2


def test_what_is_not_asked_for_is_absent(structures):
    out = random_potential().predict(structures[:3])
    assert (out.forces, out.stress, out.atom_energies, out.timing) == (None, None, None, None)


def test_referenced_and_total_energies(structures):
    potential = random_potential()
    out = potential.predict(structures[:4])
    for k, s in enumerate(structures[:4]):
        references = sum(potential.atomic_energies[x] for x in s.species)
        assert out.total_energy[k] - out.cohesive_energy[k] == pytest.approx(references, abs=1e-10)
        assert out.total_energy_per_atom[k] == out.total_energy[k] / s.n_atoms
        assert out.cohesive_energy_per_atom[k] == out.cohesive_energy[k] / s.n_atoms


def test_predictions_as_structures(structures):
    out = random_potential().predict(structures[6:9], eval_forces=True, eval_stress=True)
    for k, (made, given) in enumerate(zip(out.to_structures(), structures[6:9], strict=True)):
        np.testing.assert_array_equal(made.positions, given.positions)
        assert (made.species, made.energy, made.source) == (given.species, out.total_energy[k], given.source)
        np.testing.assert_array_equal(made.forces, out.forces[k])
        assert (made.stress is None) == (given.cell is None)


def test_every_kind_of_input(structures, alone, tmp_path):
    from aenet_ray.structures.ase_io import to_ase, write_ase

    few = structures[:4]
    write_ase(few, tmp_path / "few.extxyz")
    path = write_store(few, tmp_path / "few.h5").path
    for given in (few, [to_ase(s) for s in few], tmp_path / "few.extxyz", StructureStore(path), str(path)):
        out = random_potential().predict(given)
        np.testing.assert_allclose(out.total_energy, [o.total_energy[0] for o in alone[:4]], atol=1e-6)
    assert random_potential().predict(few[0]).num_structures == 1


@pytest.mark.parametrize("num_workers", [0, 2])
def test_unknown_species(structures, num_workers):
    silicon = Structure(np.eye(3) * 2.0, ["Si", "Si", "O"])
    config = PredictionConfig(batch_size=1, num_workers=num_workers)
    with pytest.raises(DescriptorError, match="Unknown species Si"):
        random_potential().predict([*structures[:5], silicon], config=config)


def test_bad_settings_and_files(tmp_path):
    with pytest.raises(ConfigError, match=r"batch_size: .*greater than 0"):
        PredictionConfig(batch_size=0)
    with pytest.raises(StructureError, match=r"none\.xsf"):
        random_potential().predict(tmp_path / "none.xsf")


def test_printed_without_the_arrays(structures):
    potential = random_potential()
    out = potential.predict(structures[:4], eval_forces=True)
    shown = ", ".join(f"{e:.4f}" for e in out.total_energy[:3])
    assert repr(out) == f"PredictOut(4 structures: total_energy [{shown}, …] eV, forces)"
    assert repr(potential.predict(structures[:1])).startswith("PredictOut(1 structure: total_energy [")
    assert str(potential).startswith("TorchANNPotential(Ti: ")
    assert "array" not in repr(structures[0])
    assert f"energy {structures[0].energy:.4f} eV, forces" in repr(structures[0])


def test_random_weights_are_said_once() -> None:
    h2 = Structure([[0.0, 0, 0], [0, 0, 1.0]], ["Ti", "O"])
    potential = random_potential()
    fresh = TorchANNPotential(potential.arch, potential.descriptor)
    with pytest.warns(UserWarning, match="has not been trained"):
        fresh.predict([h2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fresh.predict([h2])
