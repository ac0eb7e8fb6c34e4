"""What a search says while it goes, and that it does not wait in silence."""

from __future__ import annotations

import json
import logging
import math
from types import SimpleNamespace

import pytest

from aenet_ray.training import trials as module
from aenet_ray.training.history import History
from aenet_ray.tuning.progress import TrialLine, progress_table, status_line
from aenet_ray.tuning.trial import BEST, Told, Trial, note
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


def test_the_best_is_of_all_epochs(tmp_path, clock, capsys):
    """Of fast trials only some are told."""
    watch = Watch(tmp_path, "test_energy_rmse", 1.0, workers=1)
    watch.setup()
    trial = Known(3, "RUNNING")
    watch.on_trial_start(1, [trial], trial)
    watch.on_trial_result(1, [trial], trial, {"epoch": 9, "test_energy_rmse": 0.25, BEST: 0.125})
    watch.on_trial_complete(1, [trial], trial)
    assert "after epoch 9: test_energy_rmse 125 meV/atom at best" in capsys.readouterr().err


def test_what_a_fast_trial_tells(tmp_path):
    """The epochs that its scheduler decides at, the last, and the best of all."""
    tune = SimpleNamespace(metric="test_energy_rmse", sign=1.0, scheduling="asha")
    search = SimpleNamespace(tune=tune, rungs={2, 6}, trial_dir=lambda index: tmp_path, folder=tmp_path)
    heard = []
    told = Told(search, Trial(0, "split", {}), lambda numbers, path: heard.append(numbers))
    told.next_report = math.inf
    history = History(tmp_path / "history.csv")
    for epoch, value in enumerate((0.5, 0.4, 0.1, 0.3, math.nan, 0.2)):
        row = {"epoch": float(epoch), "test_energy_rmse": value, "epoch_time": 0.1}
        history.append(row)
        told.epoch(row, last=epoch == 5)
        told.next_report = math.inf
    told.last_row()
    assert [(n["epoch"], n["test_energy_rmse"], n[BEST]) for n in heard] == [(2, 0.4, 0.4), (6, 0.2, 0.1)]
    again = Told(search, Trial(0, "split", {}), lambda numbers, path: heard.append(numbers))
    again.last_row()
    assert heard[-1][BEST] == 0.1, "a trial that goes on knows it from its history"


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
