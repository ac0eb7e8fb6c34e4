"""Calibration: the scale that is put in is found, is kept with the members it belongs to, and is used."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from committees import tio2
from potentials import random_potential

from aenet_ray import AenetCommitteeCalculator, TorchCommitteePotential
from aenet_ray.committee.calibration import LEVELS, Calibration, SpreadCalibration, fingerprint
from aenet_ray.errors import CommitteeError


def members(n: int = 4) -> TorchCommitteePotential:
    return TorchCommitteePotential.from_members([random_potential(seed=s) for s in range(n)])


@pytest.fixture(scope="module")
def labelled(data_dir):
    """Structures whose labels are off the committee's mean by 2.5 (energies) and 0.5 (forces) of its spread."""
    rng, found = np.random.default_rng(0), []
    structures = tio2(data_dir, 20)
    for s, r in zip(structures, members().predict(structures, eval_forces=True), strict=True):
        energy = r.energy_mean + 2.5 * r.energy_std * rng.choice([-1, 1])
        forces = r.forces_mean + 0.5 * r.forces_std * rng.choice([-1, 1], r.forces_std.shape)
        found.append(replace(s, energy=energy, forces=forces))
    return found


@pytest.mark.parametrize("method", ["likelihood", "coverage"])
def test_known_scales_are_found(labelled, method):
    calibration = members().calibrate(labelled, method=method)
    assert calibration.energy.scale == pytest.approx(2.5)
    assert calibration.forces.scale == pytest.approx(0.5)
    assert calibration.energy.n == 20
    assert calibration.forces.n + calibration.forces.n_agreeing == 3 * sum(s.n_atoms for s in labelled)


def test_coverage_of_normal_errors():
    rng = np.random.default_rng(1)
    spread = rng.uniform(0.1, 10.0, 100_000)
    fit = SpreadCalibration.fit(3.0 * spread * rng.normal(size=100_000), spread, "likelihood")
    assert fit.scale == pytest.approx(3.0, rel=0.01)
    np.testing.assert_allclose(fit.covered_scaled, LEVELS, atol=0.01)
    assert np.interp(0.6827, LEVELS, fit.covered) == pytest.approx(0.261, abs=0.01)  # within a third of sigma
    assert fit.off > 0.2 > 0.01 > fit.off_scaled


def test_the_largest_errors_do_not_decide_the_coverage():
    rng = np.random.default_rng(2)
    error = rng.normal(size=10_000)
    error[:100] *= 100.0
    scales = [SpreadCalibration.fit(error, np.ones(10_000), m).scale for m in ("likelihood", "coverage")]
    assert scales[0] > 8
    assert scales[1] == pytest.approx(1.0, abs=0.05)


def test_exact_agreement_is_left_out_and_counted():
    spread = np.array([0.0, 1, 1, 1, 1, 1])
    fit = SpreadCalibration.fit(np.array([9.0, 2, 2, 2, 2, -2]), spread, "likelihood")
    assert (fit.scale, fit.n, fit.n_agreeing) == (2.0, 5, 1)


def test_zeros_of_symmetry_are_left_out():
    """Their spread is rounding, their references' errors are not: one would decide the scale of all."""
    error, spread = np.tile([2.0, 1e-4], 10), np.tile([1.0, 1e-14], 10)
    fit = SpreadCalibration.fit(error, spread, "likelihood")
    assert (fit.scale, fit.n, fit.n_agreeing) == (2.0, 10, 10)


def test_predictions_use_it_on_request(labelled):
    committee = members()
    raw = committee.predict(labelled, eval_forces=True)
    committee.calibrate(labelled)
    scaled = committee.predict(labelled, eval_forces=True, calibrated=True)
    np.testing.assert_allclose(scaled.energy_std, 2.5 * raw.energy_std)
    np.testing.assert_allclose(scaled.energy_std_per_atom, 2.5 * raw.energy_std_per_atom)
    np.testing.assert_allclose(scaled.max_force_uncertainty, 0.5 * raw.max_force_uncertainty)
    assert np.array_equal(scaled.energy, raw.energy)
    assert scaled[3].energy_std == pytest.approx(2.5 * raw[3].energy_std)
    np.testing.assert_allclose(scaled.top_uncertain(2)[0].forces_std, 0.5 * raw.top_uncertain(2)[0].forces_std)
    again = committee.predict(labelled)
    assert np.array_equal(again.energy_std, raw.energy_std), "only on request"
    atoms = labelled[0].to_ase()
    atoms.calc = AenetCommitteeCalculator(committee, calibrated=True)
    atoms.get_forces()
    assert atoms.calc.results["energy_std"] == pytest.approx(scaled[0].energy_std)
    np.testing.assert_allclose(atoms.calc.results["forces_std"], scaled[0].forces_std)


def test_without_references_of_forces_their_error_bars_are_unknown(labelled):
    committee = members()
    calibration = committee.calibrate([replace(s, forces=None) for s in labelled])
    assert calibration.forces is None
    result = committee.predict(labelled[:2], eval_forces=True, calibrated=True)
    assert np.isnan(result.max_force_uncertainty).all()
    assert np.isfinite(result.energy_std).all()


def test_kept_in_the_folder_with_its_members(labelled, tmp_path):
    committee = members()
    committee.directory = tmp_path
    made = committee.calibrate(labelled)
    assert Calibration.load(tmp_path, fingerprint(committee.members)) == made
    json.loads((tmp_path / "calibration.json").read_text(), parse_constant=pytest.fail)
    other = members(3)
    other.directory = tmp_path
    with pytest.raises(CommitteeError, match="of other members"):
        other.predict(labelled[:2], calibrated=True)
    again = members()
    again.directory = tmp_path
    assert again.predict(labelled[:2], calibrated=True).calibration == made


def test_reliability_plot(labelled, tmp_path):
    calibration = members().calibrate(labelled)
    figure = calibration.plot(tmp_path / "reliability.png", "four members")
    assert [a.get_title(loc="left").split(" (")[0] for a in figure.axes] == ["Energy per atom", "Force components"]
    assert (tmp_path / "reliability.png").stat().st_size > 10_000
