"""The loss of a batch and its factors: values by hand, their gradient, and the corners where a root has none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aenet_ray.losses import loss_scale

ENERGY, FORCE = np.array([0.3, -0.1, 0.2]), np.array([1.0, -2.0, 0.5, 0.0, 1.5, -1.0])


def combined(energy, force, alpha, fraction=1.0):
    rmse = math.sqrt(np.square(energy).mean()), math.sqrt(np.square(force).mean() / fraction)
    return (1 - alpha) * rmse[0] + alpha * rmse[1]


def of(energy, force, alpha, fraction=1.0):
    return loss_scale(np.square(energy).sum(), len(energy), np.square(force).sum(), len(force), alpha, fraction)


@pytest.mark.parametrize("alpha", [0.1, 0.7, 1.0])
@pytest.mark.parametrize("fraction", [1.0, 0.25])
def test_value_and_gradient(alpha, fraction):
    """One quarter of the forces supervised doubles the force term where ``force_scale_unbiased`` says so."""
    found = of(ENERGY, FORCE, alpha, fraction)
    assert found.loss == pytest.approx(combined(ENERGY, FORCE, alpha, fraction), rel=1e-14)
    assert found.force_rmse == pytest.approx(math.sqrt(np.square(FORCE).mean() / fraction), rel=1e-14)
    step = 1e-6
    for k in range(3):
        e = np.eye(3)[k] * step
        slope = combined(ENERGY + e, FORCE, alpha, fraction) - combined(ENERGY - e, FORCE, alpha, fraction)
        assert 2 * found.c_energy * ENERGY[k] == pytest.approx(slope / (2 * step), rel=1e-6, abs=1e-9)
    for k in range(6):
        e = np.eye(6)[k] * step
        slope = combined(ENERGY, FORCE + e, alpha, fraction) - combined(ENERGY, FORCE - e, alpha, fraction)
        assert 2 * found.c_force * FORCE[k] == pytest.approx(slope / (2 * step), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("alpha", "left"), [(0.3, 0.7), (1.0, 0.0)])
def test_without_supervised_forces_the_energy_term_keeps_its_weight(alpha, left):
    found = loss_scale(np.square(ENERGY).sum(), 3, 0.0, 0, alpha)
    assert found.loss == pytest.approx(left * math.sqrt(np.square(ENERGY).mean()))
    assert math.isnan(found.force_rmse)
    assert found.c_force == 0.0


def test_exactly_no_error_has_no_gradient_and_is_no_nan():
    found = of(0 * ENERGY, 0 * FORCE, 0.5)
    assert (found.loss, found.c_energy, found.c_force) == (0.0, 0.0, 0.0)
    assert of(0 * ENERGY, FORCE, 0.5).c_energy == 0.0
    assert of(ENERGY, 0 * FORCE, 0.5).c_force == 0.0
