"""Selections and calibrations that make no sense, each refused with its reason before anything is scored."""

# ruff: noqa: E501 - rows of a table

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from committees import tio2
from potentials import random_potential

from aenet_ray import AenetCommitteeCalculator, Structure
from aenet_ray import TorchCommitteePotential as Potential
from aenet_ray.committee.calibration import Calibration, SpreadCalibration
from aenet_ray.errors import CommitteeError, ConfigError, InputTypeError, PlotError, StoreError, StructureError
from aenet_ray.plots.reliability import reliability_plot
from aenet_ray.plots.selection import selection_plot
from aenet_ray.selection.run import select_structures
from aenet_ray.selection.score import Scorer
from aenet_ray.structures.ase_io import write_ase
from aenet_ray.structures.store import write_store


def choose(s: SimpleNamespace, **given: object) -> object:
    candidates = given.pop("candidates", s.structures)
    committee = given.pop("committee", s.committee)
    return select_structures(committee, candidates, progress=False, **given)


def file(s: SimpleNamespace, name: str, text: str) -> Path:
    (s.tmp / name).write_text(text)
    return s.tmp / name


def same_potentials(s: SimpleNamespace) -> Potential:
    return Potential.from_members([random_potential(seed=0)] * 2)


def calibration(s: SimpleNamespace, **changed: object) -> object:
    """A calibration file with something changed in it."""
    s.committee.calibrate(s.structures).save(s.tmp)
    values = json.loads((s.tmp / "calibration.json").read_text()) | changed
    file(s, "calibration.json", json.dumps({k: v for k, v in values.items() if v is not ...}))
    return Calibration.load(s.tmp)


def fresh() -> Potential:
    return Potential.from_members([random_potential(seed=k) for k in range(2)])


def unlabelled(s: SimpleNamespace) -> list[Structure]:
    return [replace(x, energy=None, forces=None) for x in s.structures]


def energies_only(s: SimpleNamespace) -> Potential:
    committee = fresh()
    committee.calibrate(s.structures, forces=False)
    return committee


# id, what is tried, class, message
ROWS = [
    ("none", lambda s: choose(s, top=0), ConfigError, "top is 0, expected a whole number, at least 1"),
    ("negative", lambda s: choose(s, top=-5), ConfigError, "top is -5"),
    ("a fraction", lambda s: choose(s, top=0.1), ConfigError, r"top is 0\.1, expected a whole number"),
    ("top bool", lambda s: choose(s, top=True), ConfigError, "top is True"),
    ("top text", lambda s: choose(s, top="200"), ConfigError, "top is '200'"),
    ("pool zero", lambda s: choose(s, pool=0), ConfigError, "pool is 0, expected a whole number, at least 1"),
    ("workers negative", lambda s: choose(s, workers=-1), ConfigError, "workers is -1, expected a whole number, at least 0"),
    ("metric", lambda s: choose(s, metric="spread"), ConfigError, "metric 'spread'; expected one of energy_std, energy_std_per_atom"),
    ("on_error", lambda s: choose(s, on_error="ignore"), ConfigError, "on_error is 'ignore', expected 'raise' or 'skip'"),
    ("no committee", lambda s: choose(s, committee=s.tmp), FileNotFoundError, "expected a committee's folder"),
    ("one member", lambda s: choose(s, committee=Potential.from_members([random_potential()])), CommitteeError, "committee of 1 has no spread"),
    ("not calibrated", lambda s: choose(s, committee=fresh(), calibrated=True), CommitteeError, "is not calibrated"),
    ("calibrated by energies", lambda s: choose(s, committee=energies_only(s), calibrated=True, metric="max_force_uncertainty"), CommitteeError, "has no scale for max_force_uncertainty"),
    ("no candidates", lambda s: choose(s, candidates=[]), StructureError, "no candidates to select from"),
    ("a number", lambda s: choose(s, candidates=3), InputTypeError, "candidates: int given; expected paths"),
    ("an iterator", lambda s: choose(s, candidates=iter(s.structures)), InputTypeError, "iterator given; .*read a second time"),
    ("a number among them", lambda s: choose(s, candidates=[*s.structures, 4]), InputTypeError, "candidates: int given"),
    ("file missing", lambda s: choose(s, candidates=["nowhere.xsf"]), StructureError, "nowhere.xsf: no such file"),
    ("file empty", lambda s: choose(s, candidates=file(s, "a.extxyz", "")), StructureError, "a.extxyz: the file is empty"),
    ("folder empty", lambda s: choose(s, candidates=s.tmp), StructureError, "no files in this directory"),
    ("no store", lambda s: choose(s, candidates=file(s, "a.h5", "nothing")), StoreError, "a.h5: not an HDF5 file"),
    ("a file twice", lambda s: choose(s, candidates=[file(s, "a.xyz", "1\n\nO 0 0 0\n")] * 2), StructureError, "a.xyz: given twice"),
    ("bad frame", lambda s: choose(s, candidates=file(s, "a.xyz", "1\n\nO 0 0 up\n")), StructureError, "'up' .atom 0. is not a number.*on_error='skip'"),
    ("other species", lambda s: choose(s, candidates=file(s, "a.xyz", "1\n\nAu 0 0 0\n")), StructureError, "has species the committee .of Ti, O. does not know"),
    ("atoms on atoms", lambda s: choose(s, candidates=Structure(np.zeros((2, 3)), ["O", "O"])), StructureError, "<memory>, structure 0: .*Å apart"),
    ("no atoms", lambda s: choose(s, candidates=Structure(np.zeros((0, 3)), [])), StructureError, "has no atoms"),
    ("position NaN", lambda s: choose(s, candidates=Structure([[0, 0, np.nan]], ["O"])), StructureError, "positions are NaN"),
    ("output of another kind", lambda s: choose(s, output=s.tmp / "s.csv"), ConfigError, "output 's.csv'; expected an extended XYZ file"),
    ("output's folder", lambda s: choose(s, output=s.tmp / "away" / "s.xyz"), ConfigError, "away: no such folder"),
    ("output a candidate", lambda s: choose(s, candidates=file(s, "a.xyz", "1\n\nO 0 0 0\n"), output=s.tmp / "a.xyz"), ConfigError, "is one of the candidates; choose another output"),
    ("method", lambda s: fresh().calibrate(s.structures, method="guess"), ConfigError, "method is 'guess', expected 'likelihood' or 'coverage'"),
    ("no labels", lambda s: fresh().calibrate(unlabelled(s)), CommitteeError, "calibration of energies: 0 values have a reference"),
    ("few labels", lambda s: fresh().calibrate(s.structures[:2], forces=False), CommitteeError, "2 values have a reference, 2 of these a spread.*at least 5"),
    ("no spread", lambda s: same_potentials(s).calibrate(s.structures), CommitteeError, "0 of these a spread above zero.*different seeds"),
    ("forces unlabelled", lambda s: fresh().calibrate([replace(x, forces=None) for x in s.structures], forces=True), CommitteeError, "calibration of forces: 0 values"),
    ("no errors", lambda s: SpreadCalibration.fit(np.zeros(9), np.ones(9), "likelihood"), CommitteeError, "the scale would be 0; are references predictions"),
    ("predict uncalibrated", lambda s: fresh().predict(s.structures, calibrated=True), CommitteeError, "not calibrated: calibrate it on structures"),
    ("calculator uncalibrated", lambda s: AenetCommitteeCalculator(fresh(), calibrated=True), CommitteeError, "not calibrated"),
    ("calibration missing", lambda s: Calibration.load(s.tmp), CommitteeError, "calibration.json: no such file.*aenet-ray calibrate"),
    ("calibration no JSON", lambda s: Calibration.load(file(s, "calibration.json", "{").parent), CommitteeError, "is no calibration of a committee"),
    ("calibration of something else", lambda s: Calibration.load(file(s, "calibration.json", "[]").parent), CommitteeError, "is no calibration of a committee .TypeError"),
    ("calibration's key missing", lambda s: calibration(s, forces=...), CommitteeError, "KeyError: 'forces'"),
    ("calibration of the future", lambda s: calibration(s, schema_version="9"), CommitteeError, "version '9', expected '1.0'; calibrate again"),
    ("calibration edited", lambda s: calibration(s, energy={"scale": -1, "n": 5, "n_agreeing": 0, "rmse": 1, "rms_spread": 1, "covered": [], "covered_scaled": []}), CommitteeError, "scale -1"),
    ("no reliability", lambda s: reliability_plot([0.5], {}), PlotError, "no calibrated quantity to draw"),
    ("reliability's shapes", lambda s: reliability_plot([0.5], {"energy": ([1, 2], [1], 1.0, 9)}), PlotError, r"\(2,\) and \(1,\) values for \(1,\) levels"),
    ("histogram's shapes", lambda s: selection_plot([1, 2], [1, 2], [1.0]), PlotError, "2 edges for 2 bins, expected 3"),
    ("histogram of nothing", lambda s: selection_plot([1, 2], [0], []), PlotError, "no candidates to draw"),
]  # fmt: skip


@pytest.fixture(scope="module")
def some(data_dir):
    return SimpleNamespace(structures=tio2(data_dir, 6), committee=fresh())


@pytest.mark.parametrize(("tried", "error", "message"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_refused(tried, error, message, some, tmp_path):
    with pytest.raises(error, match=message):
        tried(SimpleNamespace(**vars(some), tmp=tmp_path))
    assert not [p for p in tmp_path.iterdir() if p.suffix in (".csv", ".png", ".progress")]


@pytest.mark.parametrize("kind", ["h5", "xyz"])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_lost_on_the_way(some, tmp_path, monkeypatch, kind, on_error):
    """Also where bad candidates are skipped: what is left of a file is no selection of it."""
    path, score = tmp_path / f"a.{kind}", Scorer.__call__
    (write_store if kind == "h5" else write_ase)(some.structures, path)
    monkeypatch.setattr(Scorer, "__call__", lambda self, chunk: (path.unlink(), score(self, chunk))[1])
    message = rf"a\.{kind}: deleted while the candidates were scored. Put it back or leave it out, and select again"
    with pytest.raises(StoreError, match=message):
        select_structures(some.committee, path, on_error=on_error, output=tmp_path / "s.xyz", progress=False)
    assert not list(tmp_path.glob("s.xyz*progress"))


EARLY = [row for row in ROWS[: [r[0] for r in ROWS].index("bad frame")]]


@pytest.mark.parametrize(("tried", "error"), [row[1:3] for row in EARLY], ids=[row[0] for row in EARLY])
def test_before_anything_is_scored(tried, error, some, tmp_path, monkeypatch):
    def scored(*_: object) -> None:
        raise AssertionError("scored")

    monkeypatch.setattr(Scorer, "__call__", scored)
    with pytest.raises(error):
        tried(SimpleNamespace(**vars(some), tmp=tmp_path))
