"""What a search says while it goes, and that it does not wait in silence."""

from __future__ import annotations

import json
import logging
import math

import pytest

from aenet_ray.training import trials as module
from aenet_ray.tuning.progress import TrialLine, progress_table, status_line
from aenet_ray.tuning.trial import Trial, note
from aenet_ray.tuning.watch import Watch


class Known:
    """A trial as Tune knows it."""

    def __init__(self, index: int, status: str) -> None:
        self.config = {"index": index, "split": "split", "training.method.mu": 0.1}
        self.status, self.index = status, index

    def __str__(self) -> str:
        return f"trial_{self.index:04d}"


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_waiting_is_said_after_half_a_minute(tmp_path, clock, caplog, monkeypatch):
    watch = Watch(tmp_path, "test_energy_rmse", 1.0, workers=1)
    watch.setup()
    trial = Known(0, "RUNNING")
    watch.on_trial_start(1, [trial], trial)
    run_dir = tmp_path / "trials" / "trial_0000"
    run_dir.mkdir(parents=True)
    note(run_dir, Trial(0, "split", {}), "features")
    with caplog.at_level(logging.WARNING, "aenet_ray"):
        clock[0] += 20
        watch.on_step_end(1, [trial])
        assert not caplog.records
        clock[0] += 20
        watch.on_step_end(2, [trial])
        assert caplog.messages == ["waiting for trial_0000: features of its descriptor, for 40 s"]
        watch.on_step_end(3, [trial])
        assert len(caplog.records) == 1, "said again at once"
        watch.on_trial_result(4, [trial], trial, {"epoch": 1, "test_energy_rmse": 0.2})
        clock[0] += 31
        note(run_dir, Trial(0, "split", {}), "training")
        watch.on_step_end(4, [trial])
        assert caplog.messages[-1] == "waiting for trial_0000: next epoch, for 31 s"
        monkeypatch.setattr(module.ray, "available_resources", lambda: {"CPU": 1.0, "memory": 1e9})
        clock[0] += 31
        watch.on_step_end(5, [Known(1, "PENDING"), Known(2, "PENDING")])
        assert caplog.messages[-1] == "waiting for 2 trials to start; free for them: 1 CPU"


def test_events_are_lines_of_json(tmp_path, clock, capsys):
    watch = Watch(tmp_path, "test_energy_rmse", 1.0, workers=1)
    watch.setup()
    trial = Known(3, "RUNNING")
    watch.on_trial_start(1, [trial], trial)
    watch.on_trial_result(1, [trial], trial, {"epoch": 1, "test_energy_rmse": 0.25})
    watch.on_trial_result(1, [trial], trial, {"epoch": 2, "test_energy_rmse": math.inf, "failed": True})
    watch.on_trial_complete(1, [trial], trial)
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [e["event"] for e in events] == ["start", "epoch", "epoch", "end"]
    assert events[0]["values"] == {"training.method.mu": 0.1}
    assert [e.get("test_energy_rmse") for e in events] == [None, 0.25, None, None]
    assert events[-1]["state"] == "failed"
    assert "trial_0003 failed after epoch 2: test_energy_rmse 250 meV/atom at best  (mu 0.1)" in capsys.readouterr().err


def test_one_quiet_table():
    lines = [
        TrialLine(f"trial_{i:04d}", {"training.method.mu": 0.1}, "finished", 5, 0.1 * i, 0.1 * i) for i in range(30)
    ]
    lines[7].state = "running"
    table = progress_table(lines, "test_energy_rmse", 1.0)
    names = list(table.columns[0].cells)
    assert names[:2] == ["trial_0007", "trial_0000"], "running first, then the best"
    assert names[-1] == "and 10 more"
    assert status_line(lines, "test_energy_rmse", 1.0) == (
        "trials: 1 running, 29 finished; best test_energy_rmse 0 meV/atom (trial_0000)"
    )
