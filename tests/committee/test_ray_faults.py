"""Real processes killed in the middle of a committee's training: its members are those of an undisturbed one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from committees import REFERENCES, strict_json
from runs import TIO2, difference, final_weights
from test_faults import gone, processes_of

from aenet_ray import TorchCommitteeTrainResult
from aenet_ray.cli.main import main
from aenet_ray.training.checkpoint import numbered

pytestmark = [pytest.mark.ray, pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(300)]

EPOCHS, MEMBERS = 250, 3


def settings(folder: Path, name: str) -> dict:
    return {
        "data": {"files": str(TIO2)},
        "descriptor": {"species": ["Ti", "O"], "rad_order": 4, "rad_cutoff": 5.0, "ang_order": 2, "ang_cutoff": 4.0},
        "network": [[6, "tanh"], [5, "tanh"]],
        "training": {
            "iterations": EPOCHS,
            "method": {"name": "adam", "mu": 0.005, "batchsize": 16},
            "testpercent": 20,
            "sampling_policy": "error_weighted",
            "atomic_energies": REFERENCES,
            "show_progress": False,
        },
        "committee": {"num_members": MEMBERS, "base_seed": 3, "members_per_trial": 2},
        "run": {"name": name, "storage_path": str(folder), "resume": "auto", "max_failures": 1},
    }


def start(folder: Path, log: str) -> subprocess.Popen:
    values = settings(folder, "killed") | {"scaling": {"num_workers": 1}}
    (folder / "run.yaml").write_text(yaml.safe_dump(values))
    with (folder / log).open("w") as output:
        command = [sys.executable, "-m", "aenet_ray.cli", "committee", "run.yaml"]
        return subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)


def newest(folder: Path) -> list[int]:
    """Epoch of each member's newest checkpoint."""
    members = [folder / "killed" / f"member_{i:03d}" for i in range(MEMBERS)]
    return [found[-1][0] if (found := numbered(m / "checkpoints")) else -1 for m in members]


def wait_for(folder: Path, epoch: int, process: subprocess.Popen, log: str) -> list[int]:
    """Until the first two members, which train together, have a checkpoint of that epoch."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        now = newest(folder)
        if min(now[:2]) >= epoch:
            assert min(now[:2]) < EPOCHS - 30, "nearly over, a kill would prove little"
            return now
        assert process.poll() is None, (folder / log).read_text()
        time.sleep(0.01)
    raise AssertionError(f"only at {newest(folder)} in 120 s")


def test_trial_and_driver_killed(tmp_path):
    """A trial whose process dies goes on, and so does a committee whose driver is killed; as without any kill."""
    (tmp_path / "undisturbed.yaml").write_text(yaml.safe_dump(settings(tmp_path, "undisturbed")))
    assert main(["committee", str(tmp_path / "undisturbed.yaml")]) == 0

    process = start(tmp_path, "first.log")
    at = wait_for(tmp_path, 15, process, "first.log")
    found = [pid for pid in processes_of(tmp_path, "ImplicitFunc") if pid != process.pid]
    assert found, (tmp_path / "first.log").read_text()
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    at = wait_for(tmp_path, max(at[:2]) + 15, process, "first.log")
    assert "it is started again and goes on from its checkpoint" in (tmp_path / "first.log").read_text()
    process.kill()
    process.wait()
    assert gone(tmp_path, "ImplicitFunc"), "trials outlive their driver"
    states = [m["status"] for m in strict_json(tmp_path / "killed/committee_metadata.json")["members"]]
    assert "pending" in states

    again = start(tmp_path, "second.log")
    assert again.wait(timeout=150) == 0, (tmp_path / "second.log").read_text()
    one, other = (TorchCommitteeTrainResult.from_directory(tmp_path / n) for n in ("undisturbed", "killed"))
    assert len(one.completed_members) == len(other.completed_members) == MEMBERS
    for a, b in zip(one.members, other.members, strict=True):
        assert a.seed == b.seed
        assert difference(final_weights(a.member_dir), final_weights(b.member_dir)) < 1e-9
        assert b.metrics["epochs_recorded"] == EPOCHS
    assert (tmp_path / "killed/aenet/member_002").is_dir()
