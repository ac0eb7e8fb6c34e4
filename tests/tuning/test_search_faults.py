"""Real processes killed in the middle of a search: what comes out is what would have come out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from runs import difference, final_weights
from searches import experiment
from test_faults import gone, processes_of

from aenet_ray.training.checkpoint import numbered
from aenet_ray.tuning.config import TuneConfig
from aenet_ray.tuning.plan import open_search
from aenet_ray.tuning.results import TuneResults
from aenet_ray.tuning.trial import Trial, train_trial

pytestmark = [pytest.mark.ray, pytest.mark.fault, pytest.mark.timeout(240)]

EPOCHS = 300
TUNE = {
    "space": {"training.method.mu": {"loguniform": [1e-3, 1e-2]}},
    "num_samples": 2,
    "seed": 1,
    "scheduler": "none",
    "max_failures": 1,
}


def settings(folder: Path, name: str) -> dict:
    values = experiment(folder, name, iterations=EPOCHS, sampling_policy="error_weighted")
    values["run"]["resume"] = "auto"
    return values


def start(folder: Path, log: str, name: str = "killed", **more: dict) -> subprocess.Popen:
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(settings(folder, name) | {"tune": TUNE} | more))
    command = [sys.executable, "-m", "aenet_ray.cli", "tune", f"{name}.yaml"]
    with (folder / log).open("w") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)


def newest(folder: Path, name: str = "killed") -> list[int]:
    """Epoch of each trial's newest checkpoint."""
    trials = [folder / name / "trials" / f"trial_{i:04d}" for i in range(2)]
    return [found[-1][0] if (found := numbered(t / "checkpoints")) else -1 for t in trials]


def wait_for(folder: Path, epoch: int, process: subprocess.Popen) -> list[int]:
    """Until both trials have a checkpoint of that epoch; one may have come to its end by then."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        now = newest(folder)
        if min(now) >= epoch:
            assert min(now) < EPOCHS - 50, "the trials are nearly over, a kill would prove little"
            return now
        assert process.poll() is None, "the search ended too early"
        time.sleep(0.02)
    raise AssertionError(f"only at {newest(folder)} in 90 s")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("search_faults")


@pytest.fixture(scope="module")
def undisturbed(folder) -> list:
    """The same trials, one after the other in this process, without Ray."""
    search = open_search(settings(folder, "undisturbed"), TuneConfig(**TUNE))
    for entry in search.entries:
        trial = Trial(entry["index"], entry["split"], entry["values"])
        train_trial(search, trial, lambda numbers, path: None, 1, False, None)
    return [final_weights(search.trial_dir(i)) for i in range(2)]


def test_trial_and_driver_killed(folder, undisturbed):
    """A trial whose process dies goes on from its checkpoint, and so does a search whose driver is killed."""
    process = start(folder, "first.log")
    at = wait_for(folder, 20, process)
    found = [pid for pid in processes_of(folder, "ImplicitFunc") if pid != process.pid]
    assert found, (folder / "first.log").read_text()
    os.kill(found[0], signal.SIGKILL)
    at = wait_for(folder, max(at) + 20, process)
    log = (folder / "first.log").read_text()
    assert "its process died; it is started again and goes on from its checkpoint" in log
    lines = [(folder / "killed" / "trials" / f"trial_{i:04d}" / "history.csv") for i in range(2)]
    before = [path.read_text().splitlines()[: n + 2] for path, n in zip(lines, at, strict=True)]
    process.kill()
    process.wait()
    assert gone(folder, "ImplicitFunc"), "trials outlive their driver"
    assert min(newest(folder)) < EPOCHS - 1
    again = start(folder, "second.log")
    log = folder / "second.log"
    assert again.wait(timeout=120) == 0, log.read_text()
    for path, kept in zip(lines, before, strict=True):
        after = path.read_text().splitlines()
        assert len(after) == EPOCHS + 1
        assert after[: len(kept)] == kept, "epochs before the kill were done once more: they would take other times"
    events = [json.loads(line) for line in (folder / "killed" / "events.jsonl").read_text().splitlines()]
    assert sum(e["event"] == "retry" for e in events) == 1
    second = [e for e in events if e["event"] == "epoch"]
    for i in range(2):
        mine = [e["epoch"] for e in second if e["trial"] == f"trial_{i:04d}"]
        lost = [a for a, b in pairwise(mine) if b < a]
        assert not lost, "an epoch that was reported was done once more"
        assert mine[-1] == EPOCHS
    results = TuneResults.from_folder(folder / "killed")
    assert [t.state for t in results.trials] == ["finished", "finished"]
    for i, weights in enumerate(undisturbed):
        assert difference(weights, final_weights(results.trials[i].run_dir)) < 1e-12


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_driver_of_trainers_killed(folder, undisturbed):
    """Trials of two workers, one at a time: what was done before the kill is not done once more."""
    more = {"scaling": {"num_workers": 2}, "tune": TUNE | {"max_concurrent": 1}}
    process = start(folder, "trainers.log", "trainers", **more)
    deadline = time.monotonic() + 240
    while max(at := newest(folder, "trainers")) < 20:
        assert process.poll() is None, (folder / "trainers.log").read_text()
        assert time.monotonic() < deadline, f"only at {at}"
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert gone(folder, "ray"), "trainers or workers outlive their driver"
    at = newest(folder, "trainers")
    assert 20 <= max(at) < EPOCHS - 20, "nearly over, a kill would prove little"
    lines = [folder / "trainers" / "trials" / f"trial_{i:04d}" / "history.csv" for i in range(2)]
    before = {path: path.read_text().splitlines() for path in lines if path.exists()}
    for path, known in before.items():
        assert len(known) - 1 <= at[lines.index(path)] + 2, "epochs without a checkpoint: more than the one in flight"
    again = start(folder, "trainers_2.log", "trainers", **more)
    assert again.wait(timeout=400) == 0, (folder / "trainers_2.log").read_text()
    for path in lines:
        after = path.read_text().splitlines()
        assert len(after) == EPOCHS + 1
        kept = before.get(path, [])[: at[lines.index(path)] + 2]
        assert after[: len(kept)] == kept, "epochs before the kill were done once more: they would take other times"
    results = TuneResults.from_folder(folder / "trainers")
    assert [t.state for t in results.trials] == ["finished", "finished"]
    for weights, trial in zip(undisturbed, results.trials, strict=True):
        assert difference(weights, final_weights(trial.run_dir)) < 1e-9


def test_nothing_is_left_running(folder):
    assert gone(folder, "ray"), processes_of(folder, "ray")
