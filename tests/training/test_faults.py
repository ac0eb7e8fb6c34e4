"""Real processes killed in the middle of a run: what comes out is what would have come out."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from runs import ATOMIC_ENERGIES, TIO2, difference, final_weights

from aenet_ray.training.checkpoint import numbered

pytestmark = [pytest.mark.ray, pytest.mark.fault, pytest.mark.timeout(240)]

# Many short epochs: workers whose driver was killed train on for a second or two, and must not come to the end.
EPOCHS = 400


def experiment(folder: Path, name: str, **scaling: int) -> dict:
    return {
        "data": {"files": str(TIO2)},
        "descriptor": {"species": ["Ti", "O"], "rad_order": 5, "rad_cutoff": 6.0, "ang_order": 3, "ang_cutoff": 4.5},
        "network": [[6, "tanh"], [5, "tanh"]],
        "training": {
            "iterations": EPOCHS,
            "method": {"name": "adam", "mu": 0.003, "batchsize": 8},
            "force_weight": 0.3,
            "force_fraction": 0.5,
            "force_resample_num_epochs": 3,
            "sampling_policy": "error_weighted",
            "use_scheduler": True,
            "scheduler_patience": 2,
            "max_checkpoints": 2,
            "checkpoint_seconds": 0,
            "seed": 3,
            "atomic_energies": ATOMIC_ENERGIES,
        },
        "scaling": scaling or None,
        "run": {"name": name, "storage_path": str(folder), "resume": "auto"},
    }


def start(folder: Path, values: dict, log: str) -> subprocess.Popen:
    file = folder / f"{values['run']['name']}.yaml"
    file.write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "aenet_ray.cli", "train", str(file)]
    with (folder / log).open("w") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)


def wait_for_checkpoint(run_dir: Path, epoch: int, process: subprocess.Popen) -> tuple[int, list[str]]:
    """The newest numbered checkpoint, of that epoch or a later one, and the lines of the history up to it."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        found = numbered(run_dir / "checkpoints")
        if found and found[-1][0] >= epoch:
            newest = found[-1][0]
            assert newest < EPOCHS - 20, "the run is nearly over, a kill would prove little"
            return newest, (run_dir / "history.csv").read_text().splitlines()[: newest + 2]
        assert process.poll() is None, "the run ended too early"
        time.sleep(0.02)
    raise AssertionError("no checkpoint in 90 s")


def went_on_from(run_dir: Path, before: list[str]) -> bool:
    """Whether the epochs before the kill were kept: done once more, they would have taken other times."""
    lines = (run_dir / "history.csv").read_text().splitlines()
    assert [int(row.split(",")[0]) for row in lines[1:]] == list(range(EPOCHS))
    return lines[: len(before)] == before


def processes_of(folder: Path, title: str) -> list[int]:
    """Ray's processes that belong to runs in the folder, by what they were started for."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
            where = os.readlink(entry / "cwd")  # of a zombie there is none to read
        except OSError:
            continue
        if title in command and where.startswith(str(folder)):
            found.append(int(entry.name))
    return found


def gone(folder: Path, title: str, seconds: float = 100) -> bool:
    deadline = time.monotonic() + seconds
    while processes_of(folder, title) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not processes_of(folder, title)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def undisturbed(folder):
    process = start(folder, experiment(folder, "undisturbed"), "undisturbed.log")
    assert process.wait(timeout=120) == 0, (folder / "undisturbed.log").read_text()
    return final_weights(folder / "undisturbed")


def test_worker_killed(folder, undisturbed):
    """Ray starts the group again by itself; it goes on from the newest checkpoint."""
    process = start(folder, experiment(folder, "worker_killed", num_workers=2), "worker_killed.log")
    run_dir = folder / "worker_killed"
    newest, before = wait_for_checkpoint(run_dir, 10, process)
    workers = processes_of(folder, "RayTrainWorker")
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    assert process.wait(timeout=120) == 0, (folder / "worker_killed.log").read_text()
    log = (folder / "worker_killed.log").read_text()
    back = re.search(rf"the workers were started again and are back at epoch (\d+)/{EPOCHS}", log)
    assert back, log
    assert int(back[1]) > newest
    assert went_on_from(run_dir, before)
    assert difference(undisturbed, final_weights(run_dir)) < 1e-9


@pytest.mark.parametrize("n_workers", [0, 2])
def test_driver_killed_and_resumed(folder, undisturbed, n_workers):
    """The same command again, with the same or another number of workers, ends with the same weights."""
    name = f"driver_killed_{n_workers}"
    process = start(folder, experiment(folder, name, num_workers=2), f"{name}.log")
    run_dir = folder / name
    newest, before = wait_for_checkpoint(run_dir, 10, process)
    process.kill()
    process.wait()
    assert gone(folder, "RayTrainWorker"), "workers outlive their driver"
    assert not (run_dir / "model.pt").exists()
    again = start(
        folder, experiment(folder, name, **({"num_workers": n_workers} if n_workers else {})), f"{name}_2.log"
    )
    log = folder / f"{name}_2.log"
    assert again.wait(timeout=120) == 0, log.read_text()
    said = re.search(rf"going on after epoch (\d+) of {EPOCHS}", log.read_text())
    assert said, log.read_text()
    first = re.search(rf"epoch +(\d+)/{EPOCHS}  train", log.read_text())
    assert first, log.read_text()
    assert int(first[1]) > int(said[1]) > newest
    assert went_on_from(run_dir, before)
    assert difference(undisturbed, final_weights(run_dir)) < 1e-9


def test_nothing_is_left_running(folder):
    """Also after drivers that had no chance to clean up: Ray's helpers notice it within seconds."""
    assert gone(folder, "ray"), processes_of(folder, "ray")
