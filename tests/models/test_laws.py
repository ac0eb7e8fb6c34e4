"""What every potential obeys: extensivity, rotation, translation, permutation, stress as strain derivative."""

from __future__ import annotations

import numpy as np
import pytest
from potentials import random_potential

from aenet_ray.structures.structure import Structure

BACKENDS = pytest.mark.parametrize("backend", ["compiled", "torch"])


def crystal() -> Structure:
    """Six atoms in a triclinic cell much smaller than the cutoff."""
    rng = np.random.default_rng(4)
    cell = np.array([[4.4, 0.2, -0.1], [0.5, 4.7, 0.3], [-0.2, 0.4, 3.1]])
    fractions = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.3, 0.3, 0], [0.7, 0.7, 0], [0.8, 0.2, 0.5], [0.2, 0.8, 0.5]])
    positions = (fractions + rng.normal(0, 0.02, fractions.shape)) @ cell
    return Structure(positions, ["Ti", "Ti", "O", "O", "O", "O"], cell=cell)


def predict(potential, structure):
    out = potential.predict([structure], eval_forces=True, eval_stress=True)
    return out.total_energy[0], out.forces[0], out.stress[0]


@BACKENDS
def test_supercells_are_extensive(backend):
    potential, small = random_potential(backend=backend), crystal()
    images = np.array([(i, j, k) for i in range(2) for j in range(1) for k in range(3)])
    positions = (small.positions[None] + (images @ small.cell)[:, None]).reshape(-1, 3)
    large = Structure(positions, small.species * 6, cell=small.cell * np.array([2, 1, 3])[:, None])
    energy, forces, stress = predict(potential, small)
    many_energy, many_forces, many_stress = predict(potential, large)
    assert many_energy == pytest.approx(6 * energy, abs=1e-9)
    np.testing.assert_allclose(many_forces, np.tile(forces, (6, 1)), atol=1e-9)
    np.testing.assert_allclose(many_stress, stress, atol=1e-11)


@BACKENDS
def test_rotation_turns_forces_and_stress(backend):
    potential, s = random_potential(backend=backend), crystal()
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    energy, forces, stress = predict(potential, s)
    turned = Structure(s.positions @ turn.T, s.species, cell=s.cell @ turn.T)
    other_energy, other_forces, other_stress = predict(potential, turned)
    assert other_energy == pytest.approx(energy, abs=1e-9)
    np.testing.assert_allclose(other_forces, forces @ turn.T, atol=1e-9)
    np.testing.assert_allclose(other_stress, turn @ stress @ turn.T, atol=1e-11)
    assert np.abs(forces).max() > 0.1


@BACKENDS
def test_translation_and_order_of_atoms(backend):
    potential, s = random_potential(backend=backend), crystal()
    order = np.array([4, 0, 5, 2, 1, 3])
    moved = Structure(s.positions[order] + [3.3, -20.0, 0.7], [s.species[i] for i in order], cell=s.cell)
    energy, forces, stress = predict(potential, s)
    other_energy, other_forces, other_stress = predict(potential, moved)
    assert other_energy == pytest.approx(energy, abs=1e-9)
    np.testing.assert_allclose(other_forces, forces[order], atol=1e-9)
    np.testing.assert_allclose(other_stress, stress, atol=1e-11)
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-10)
    np.testing.assert_allclose(stress, stress.T, atol=1e-12)


@BACKENDS
def test_stress_is_the_strain_derivative(backend):
    potential, s, h = random_potential(backend=backend), crystal(), 1e-5
    _, _, stress = predict(potential, s)
    volume = abs(np.linalg.det(s.cell))
    for a in range(3):
        for b in range(3):
            energies = []
            for sign in (1, -1):
                strain = np.eye(3)
                strain[a, b] += sign * h
                strained = Structure(s.positions @ strain, s.species, cell=s.cell @ strain)
                energies.append(potential.predict([strained]).total_energy[0])
            assert stress[a, b] == pytest.approx((energies[0] - energies[1]) / (2 * h * volume), abs=1e-8)


@BACKENDS
def test_forces_are_the_derivative(backend):
    potential, s, h = random_potential(backend=backend), crystal(), 1e-5
    _, forces, _ = predict(potential, s)
    for atom, axis in [(0, 0), (2, 1), (5, 2)]:
        energies = []
        for sign in (1, -1):
            positions = s.positions.copy()
            positions[atom, axis] += sign * h
            energies.append(potential.predict([Structure(positions, s.species, cell=s.cell)]).total_energy[0])
        assert forces[atom, axis] == pytest.approx(-(energies[0] - energies[1]) / (2 * h), abs=1e-7)
