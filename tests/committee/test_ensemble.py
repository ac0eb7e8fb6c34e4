"""Mean and spread of member predictions: the reference's numbers, and what must hold for any."""

from __future__ import annotations

import numpy as np
import pytest
from potentials import golden

from aenet_ray import AenetEnsembleResult


@pytest.fixture(scope="module")
def case():
    return golden("committee_aggregation")


def test_golden(case):
    result = AenetEnsembleResult.from_member_predictions(case["member_energies"], case["member_forces"])
    for name in (
        "energy_mean", "energy_std", "forces_mean", "forces_std", "force_uncertainty", "max_force_uncertainty",
        "mean_force_uncertainty",
    ):  # fmt: skip
        np.testing.assert_allclose(getattr(result, name), case[name], rtol=0, atol=1e-12)
    assert result.energy == result.energy_mean
    assert np.array_equal(result.forces, result.forces_mean)
    assert result.num_members == 4
    assert (result.aggregation, result.reference_member) == ("mean", 0)


def test_reference_aggregation_reports_the_member_and_keeps_mean_and_spread(case):
    result = AenetEnsembleResult.from_member_predictions(
        case["member_energies"], case["member_forces"], aggregation="reference", reference_member=2
    )
    assert result.energy == case["reference_member_2_energy"]
    assert np.array_equal(result.forces, case["member_forces"][2])
    np.testing.assert_allclose([result.energy_mean, result.energy_std], [case["energy_mean"], case["energy_std"]])


def test_equal_members_have_exactly_no_spread():
    energy, forces = -4985.123456789012, np.random.default_rng(0).normal(size=(5, 3))
    result = AenetEnsembleResult.from_member_predictions([energy] * 7, np.stack([forces] * 7))
    assert result.energy_std == 0
    assert result.max_force_uncertainty == 0
    assert np.array_equal(result.forces_std, np.zeros((5, 3)))


def test_without_forces():
    result = AenetEnsembleResult.from_member_predictions([1.0, 3.0])
    assert (result.energy, result.energy_std) == (2.0, 1.0)
    assert result.forces is result.forces_mean is result.forces_std is result.force_uncertainty is None
    assert np.isnan(result.max_force_uncertainty)
    assert np.isnan(result.mean_force_uncertainty)
