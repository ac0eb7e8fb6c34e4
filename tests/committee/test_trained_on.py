"""Structures given for calibration that the committee was trained on are found, as long as its folder tells."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
from committees import tio2, train

from aenet_ray import TorchCommitteePotential
from aenet_ray.cli.main import main
from aenet_ray.structures.ase_io import write_ase
from aenet_ray.structures.readers import read_structures

SILENT = "error:.* structures given for calibration"


@pytest.fixture(scope="module")
def made(data_dir, tmp_path_factory):
    """A committee's folder, the structures it was trained on, and others; as it may be copied, features inside."""
    folder, structures = tmp_path_factory.mktemp("made") / "committee", tio2(data_dir, 24)
    train(structures[:16], folder, n=2)
    with np.load(folder / "member_000/split.npz") as ids:
        known = [structures[i] for i in ids["train"]]
    assert len(known) == 12
    return folder, known, structures[16:]


@pytest.fixture
def folder(made, tmp_path):
    """A copy, without the features where they were first: those inside are found in the new place."""
    copy = shutil.copytree(made[0], tmp_path / "moved")
    for run in copy.glob("member_*/run.json"):
        run.write_text(run.read_text().replace(str(made[0]), str(tmp_path / "away")))
    return copy


def calibrate(folder, structures) -> None:
    TorchCommitteePotential.from_directory(folder).calibrate(structures)


def test_structures_trained_on_are_counted(made, tmp_path):
    """Also those read from a file with fewer digits, and under other names."""
    folder, known, others = made
    write_ase([replace(s, name=None) for s in known[:5]] + others, tmp_path / "validation.extxyz")
    read = list(read_structures(tmp_path / "validation.extxyz"))
    rounded = [replace(s, positions=s.positions.round(5), energy=round(s.energy, 5)) for s in read]
    assert not np.array_equal(rounded[0].positions, known[0].positions)
    with pytest.warns(UserWarning, match=r"5 of 13 structures given for calibration .* was trained on"):
        calibrate(folder, rounded)


@pytest.mark.filterwarnings(SILENT)
@pytest.mark.parametrize(
    "changed",
    [
        lambda s: {"positions": s.positions + 0.001},
        lambda s: {"cell": 1.001 * s.cell},
        lambda s: {"cell": None, "pbc": None},
        lambda s: {"energy": s.energy + 0.01},
        lambda s: {"species": [{"Ti": "O", "O": "Ti"}[x] for x in s.species]},
        lambda s: {"energy": None},
    ],
    ids=["moved", "strained", "isolated", "other energy", "other species", "no energy"],
)
def test_others_are_not(made, changed):
    folder, known, others = made
    calibrate(folder, [*(replace(s, **changed(s)) for s in known), *others])


def test_a_moved_folder_still_tells(made, folder):
    with pytest.warns(UserWarning, match=r"12 of 12 structures given .*/moved was trained on"):
        calibrate(folder, made[1])
    shutil.move(folder / "features", folder.parent / "features")
    with pytest.warns(UserWarning, match="12 of 12 structures given"):
        calibrate(folder, made[1])


@pytest.mark.filterwarnings(SILENT)
@pytest.mark.parametrize("gone", ["features", "features/*/energy.npy", "features/*/shard_*", "member_*/split.npz"])
def test_silent_where_it_cannot_be_told(made, folder, gone):
    for path in folder.glob(gone):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    calibrate(folder, made[1])


@pytest.mark.filterwarnings(SILENT)
@pytest.mark.parametrize(("name", "text"), [("energy.npy", ""), ("index.json", "{}")])
def test_silent_where_features_are_damaged(made, folder, name, text):
    """It is advice: what it cannot read is no reason not to calibrate."""
    (path,) = folder.glob(f"features/*/{name}")
    path.write_text(text)
    calibrate(folder, made[1])


def test_command(made, folder, tmp_path, capsys):
    write_ase([*made[1][:3], *made[2]], tmp_path / "v.extxyz")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert main(["calibrate", str(folder), str(tmp_path / "v.extxyz")]) == 0
    assert "spread x" in capsys.readouterr().out
    (said,) = (str(w.message) for w in caught if "calibration" in str(w.message))
    assert said.startswith("3 of 11 structures given for calibration")
    assert said.endswith("Calibrate again without them.")
