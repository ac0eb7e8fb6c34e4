"""The ASE calculator against ``predict`` and against the laws that ASE's drivers rely on."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError
from ase.md.verlet import VelocityVerlet
from ase.spacegroup import crystal
from potentials import NETWORK_CASES, golden, golden_potential, golden_structure, random_potential

from aenet_ray.calculators import ase as calculator_module
from aenet_ray.calculators.ase import AenetCalculator
from aenet_ray.errors import CheckpointError, DescriptorError
from aenet_ray.structures.ase_io import to_ase


def rutile() -> Atoms:
    """TiO2, six atoms, displaced from symmetry."""
    cell = [4.594, 4.594, 2.959, 90, 90, 90]
    atoms = crystal(["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=cell)
    atoms.rattle(0.05, seed=1)
    return Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=True)


@pytest.mark.parametrize("name", NETWORK_CASES)
def test_same_as_the_known_answers_and_predict(name):
    case = golden(name)
    potential, structure = golden_potential(case), golden_structure(case)
    atoms = to_ase(structure)
    atoms.calc = AenetCalculator(potential)
    assert atoms.get_potential_energy() == pytest.approx(case["total_energy"], abs=1e-9)
    assert atoms.get_potential_energy(force_consistent=True) == pytest.approx(case["total_energy"], abs=1e-9)
    np.testing.assert_allclose(atoms.get_forces(), case["forces"], atol=1e-8, rtol=0)
    np.testing.assert_allclose(atoms.get_potential_energies().sum(), case["total_energy"], atol=1e-9, rtol=0)
    out = potential.predict([structure], eval_forces=True, eval_stress=True)
    np.testing.assert_allclose(atoms.get_forces(), out.forces[0], atol=1e-12, rtol=0)
    if structure.cell is None:
        with pytest.raises(PropertyNotImplementedError):
            atoms.get_stress()
    else:
        np.testing.assert_allclose(atoms.get_stress(voigt=False), out.stress[0], atol=1e-12, rtol=0)


def test_energy_is_conserved():
    atoms = rutile()
    atoms.calc = AenetCalculator(random_potential(seed=1))
    velocities = np.random.default_rng(3).normal(0, 0.03, (6, 3))
    atoms.set_velocities(velocities - np.average(velocities, axis=0, weights=atoms.get_masses()))
    totals, potentials = [], []

    def watch() -> None:
        potentials.append(atoms.get_potential_energy())
        totals.append(potentials[-1] + atoms.get_kinetic_energy())

    dynamics = VelocityVerlet(atoms, timestep=0.5 * units.fs)
    dynamics.attach(watch)
    dynamics.run(200)
    assert atoms.get_all_distances(mic=True)[np.triu_indices(6, 1)].min() > 1.0, "features jump at min_cutoff"
    assert np.ptp(potentials) > 0.05
    # The rest is the integrator's: it falls with the square of the time step.
    assert np.ptp(totals) < 3e-4 * np.ptp(potentials)


def test_stress_is_the_strain_derivative_of_the_energy():
    atoms = rutile()
    atoms.calc = AenetCalculator(random_potential())
    stress, h = atoms.get_stress(voigt=False), 1e-5
    for a in range(3):
        for b in range(3):
            energies = []
            for sign in (1, -1):
                strained = atoms.copy()
                strain = np.eye(3)
                strain[a, b] += sign * h / 2
                strain[b, a] += sign * h / 2
                strained.set_cell(atoms.cell @ strain, scale_atoms=True)
                strained.calc = atoms.calc
                energies.append(strained.get_potential_energy())
            derivative = (energies[0] - energies[1]) / (2 * h) / atoms.get_volume()
            assert stress[a, b] == pytest.approx(derivative, abs=1e-7)


def test_computes_what_is_asked(monkeypatch):
    asked = []
    original = calculator_module.predict_block

    def spy(model, block, *, forces, stress):
        asked.append((forces, stress))
        return original(model, block, forces=forces, stress=stress)

    monkeypatch.setattr(calculator_module, "predict_block", spy)
    atoms = rutile()
    atoms.calc = AenetCalculator(random_potential())
    atoms.get_potential_energy()
    assert set(atoms.calc.results) == {"energy", "free_energy", "energies"}
    atoms.get_forces()
    atoms.get_potential_energy()
    atoms.get_stress()
    atoms.get_forces()
    assert asked == [(False, False), (True, False), (True, True)]
    atoms.positions[0, 0] += 0.01
    atoms.get_potential_energy()
    assert asked[3:] == [(False, False)]


def test_from_file_and_as_one_of_many(tmp_path):
    potential = random_potential()
    potential.save(tmp_path / "model.pt")
    calculator = AenetCalculator(tmp_path / "model.pt", device="cpu")
    energies = []
    for scale in (1.0, 1.1):
        atoms = rutile()
        atoms.set_cell(atoms.cell * scale, scale_atoms=True)
        atoms.calc = calculator
        energies.append(atoms.get_potential_energy())
        alone = atoms.copy()
        alone.calc = AenetCalculator(potential)
        assert alone.get_potential_energy() == pytest.approx(energies[-1], abs=1e-10)
    assert energies[0] != energies[1]
    assert calculator.name == "aenet"


def test_slab_without_a_third_vector_and_a_molecule_in_a_box():
    """Vectors along which nothing repeats do not matter, zero or not."""
    potential = random_potential()
    energies = []
    for height in (0.0, 30.0):
        slab = rutile()
        slab.set_cell([*slab.cell[:2], [0, 0, height]])
        slab.pbc = (True, True, False)
        slab.calc = AenetCalculator(potential)
        energies.append(slab.get_potential_energy())
        with pytest.raises(PropertyNotImplementedError):
            slab.get_stress()
    assert energies[0] == pytest.approx(energies[1], abs=1e-10)


def test_errors_say_what_is_wrong(tmp_path):
    atoms = Atoms("SiO", [[0, 0, 0], [0, 0, 1.6]], calculator=AenetCalculator(random_potential()))
    with pytest.raises(DescriptorError, match="Unknown species Si"):
        atoms.get_potential_energy()
    with pytest.raises(FileNotFoundError, match=r"no_model\.pt: no such model file"):
        AenetCalculator(tmp_path / "no_model.pt")
    (tmp_path / "text.pt").write_text("no model")
    with pytest.raises(CheckpointError, match="cannot be read as a model file"):
        AenetCalculator(str(tmp_path / "text.pt"))
