"""``aenet-ray committee``: from a run's file to a committee, and on from one that was stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from aenet_ray import TorchCommitteePotential
from aenet_ray.cli.main import main

TIO2 = Path(__file__).parents[2] / "examples" / "data" / "tio2_ci100_xsf.tar.gz"


def settings(folder: Path, **changes: object) -> dict:
    values = {
        "data": {"files": str(TIO2)},
        "descriptor": {"species": ["Ti", "O"], "rad_order": 3, "rad_cutoff": 4.5, "ang_order": 1, "ang_cutoff": 3.5},
        "network": [[4, "tanh"]],
        "training": {
            "iterations": 3,
            "method": {"name": "adam", "mu": 0.01},
            "testpercent": 20,
            "device": "cpu",
            "atomic_energies": {"Ti": -1604.604515075, "O": -432.503149303},
        },
        "committee": {"num_members": 2, "base_seed": 5, "members_per_trial": 2},
        "run": {"name": "tio2", "storage_path": str(folder)},
    }
    return values | changes


def committee(folder: Path, *arguments: str, **changes: object) -> int:
    (folder / "run.yaml").write_text(yaml.safe_dump(settings(folder, **changes)))
    return main(["committee", str(folder / "run.yaml"), "--quiet", *arguments])


def test_a_committee_and_more_of_it(tmp_path, capsys):
    """Trained, evaluated on a test set, exported; then longer and with one more member."""
    data = {"files": str(TIO2), "test": str(TIO2)}
    assert committee(tmp_path, data=data) == 0
    said = capsys.readouterr().out
    assert "committee of 2" in said
    assert "test set: RMSE of the mean" in said
    folder = tmp_path / "tio2"
    assert {p.name for p in folder.glob("member_*")} == {"member_000", "member_001"}
    assert (folder / "aenet/member_001").is_dir()
    assert yaml.safe_load((folder / "config.yaml").read_text())["committee"]["num_members"] == 2

    assert committee(tmp_path, data=data) == 2
    assert "holds a committee already" in capsys.readouterr().err
    longer = ["--members", "3", "run.resume=auto", "training.iterations=4"]
    assert committee(tmp_path, *longer, data=data) == 0
    assert TorchCommitteePotential.from_directory(folder).num_members == 3


def test_the_split_of_a_file_is_used(tmp_path):
    import numpy as np

    from aenet_ray.structures.build import build_store
    from aenet_ray.structures.split import SplitFile
    from aenet_ray.structures.store import StructureStore

    build_store(str(TIO2), tmp_path / "tio2.h5", progress=False)
    store = StructureStore(tmp_path / "tio2.h5")
    parts = {"train": np.arange(0, 60), "validation": np.arange(60, 100)}
    SplitFile(parts=parts, n_structures=100, store_hash=store.content_hash).save(tmp_path / "split.json")
    data = {"files": str(tmp_path / "tio2.h5"), "split": str(tmp_path / "split.json")}
    assert committee(tmp_path, "training.iterations=1", data=data) == 0
    for k in range(2):
        with np.load(tmp_path / f"tio2/member_00{k}/split.npz") as ids:
            assert ids["train"].tolist() == list(range(60))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--members", "0"], "num_members"),
        (["committee.num_member=3"], "did you mean 'num_members'"),
        (["committee.member_seeds=[1,2,3]"], "member_seeds has 3 seeds for num_members=2"),
        (["committee=4"], "committee: holds int, expected a group"),
        (["run.resume=must"], "no committee to resume"),
        (["scaling.num_workers=2"], "members_per_trial=2 trains members in one process"),
        (["scaling.num_workers=1", "committee.devices=[cpu]"], "Ray gives each trial its device"),
        (["scaling.num_workers=1", "committee.gpus_per_trial=0.5"], "gpus_per_trial=0.5, but scaling.use_gpu is false"),
        (["scaling.num_workers=1", "training.device=cuda"], "contradicts scaling"),
        (["data.files=nowhere.xsf"], "no such file: nowhere.xsf"),
    ],
)
def test_refused(tmp_path, capsys, arguments, message):
    assert committee(tmp_path, *arguments) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("tio2/member_*/history.csv"))


def test_members_are_wanted_by_number(tmp_path, capsys):
    assert committee(tmp_path, committee={}) == 2
    assert "num_members: is required" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "tune", "committee"])
def test_a_folder_that_ray_would_delete_is_refused(tmp_path, capsys, monkeypatch, command):
    """A job runs in a copy of its working directory, which is gone with the job."""
    copy = tmp_path / "working_dir_files" / "_ray_pkg_0123"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    values = settings(Path("runs"))
    if command != "committee":
        del values["committee"]
    if command == "tune":
        values["tune"] = {"space": {"training.method.mu": {"choice": [0.1, 0.01]}}}
    Path("run.yaml").write_text(yaml.safe_dump(values))
    assert main([command, "run.yaml"]) == 2
    assert "run.storage_path is 'runs', relative to the job's copy" in capsys.readouterr().err
    assert not (copy / "runs").exists()


def test_an_output_dir_that_ray_would_delete_is_refused(tmp_path, capsys, monkeypatch):
    """Also where the run's own folder is elsewhere."""
    copy = tmp_path / "working_dir_files" / "_ray_pkg_0123"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    assert committee(tmp_path, "committee.output_dir=members") == 2
    assert "committee.output_dir is 'members', relative to the job's copy" in capsys.readouterr().err
    assert not list(copy.iterdir())


def test_a_refused_resume_leaves_the_settings_of_before(tmp_path, capsys):
    """``config.yaml`` says what the members trained with; an accepted resume is noted."""
    assert committee(tmp_path, "training.iterations=1") == 0
    noted = tmp_path / "tio2/config.yaml"
    before = noted.read_bytes()
    assert committee(tmp_path, "training.iterations=1", "training.method.mu=0.5", "run.resume=auto") == 2
    assert "mu" in capsys.readouterr().err
    assert noted.read_bytes() == before
    assert committee(tmp_path, "training.iterations=2", "run.resume=auto") == 0
    assert yaml.safe_load(noted.read_text())["training"]["iterations"] == 2
