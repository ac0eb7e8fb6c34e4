"""Nothing waits in silence: each long wait says for what, and says so again."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from aenet_ray import waiting
from aenet_ray.committee import train as committee_train
from aenet_ray.committee.board import Board
from aenet_ray.committee.layout import CommitteeMetadata, TorchCommitteeMember
from aenet_ray.training.config import TorchTrainingConfig
from aenet_ray.training.history import History
from aenet_ray.waiting import saying


@pytest.fixture
def impatient(monkeypatch, caplog):
    monkeypatch.setattr(waiting, "PATIENCE", 0.1)
    caplog.set_level(logging.WARNING, "aenet_ray")
    return caplog


def until(condition, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_said_again_and_no_more_once_it_has_come(impatient):
    with saying(lambda: "rain"):
        until(lambda: len(impatient.messages) >= 2)
    assert set(impatient.messages) == {"waiting for rain, for 0 s"}
    n = len(impatient.messages)
    time.sleep(0.3)
    assert len(impatient.messages) == n


def test_what_cannot_be_told_is_said_so(impatient):
    """Ray may be gone whose resources were to be told: the watch goes on."""
    with saying(lambda: str(1 / 0)):
        until(lambda: len(impatient.messages) >= 2)
    assert set(impatient.messages) == {"waiting for what cannot be told (division by zero), for 0 s"}


def test_nothing_is_said_while_something_comes(impatient, monkeypatch):
    monkeypatch.setattr(waiting, "PATIENCE", 2.0)
    with saying(lambda: "rain") as came:
        for _ in range(30):
            came()
            time.sleep(0.1)
    assert not impatient.messages


def test_half_a_minute():
    from aenet_ray.committee import launch
    from aenet_ray.training import trials
    from aenet_ray.tuning import watch

    assert waiting.PATIENCE == launch.PATIENCE == watch.PATIENCE == trials.PATIENCE == 30.0


def test_pipelines_of_features_and_of_selection(impatient, monkeypatch):
    from aenet_ray.features import pipeline

    monkeypatch.setattr(pipeline, "free_resources", lambda: "0.1 CPU")

    def rows():
        yield {"start": 0}
        until(lambda: impatient.messages)
        yield {"start": 1}

    assert [r["start"] for r in pipeline.said(rows(), "the next shard of 2 featurizing actors")] == [0, 1]
    assert impatient.messages[0].startswith(
        "waiting for the next shard of 2 featurizing actors; free for them: 0.1 CPU,"
    )


def test_workers_of_a_run(impatient, monkeypatch, tmp_path):
    """That do not start, and that take long over an epoch."""
    from aenet_ray.training import launch

    monkeypatch.setattr(launch, "free_resources", lambda: "nothing")
    spec = SimpleNamespace(epochs=9, config=TorchTrainingConfig())
    with launch._follow(tmp_path, lambda row, last: None, spec, 2):
        until(lambda: impatient.messages)
        first = "waiting for 2 workers to start, or their first epoch; free for them: nothing,"
        assert impatient.messages[0].startswith(first)
        History(tmp_path / "history.csv").append({"epoch": 0.0, "epoch_time": 0.1})
        until(lambda: impatient.messages[-1].startswith("waiting for epoch 2 of 2 workers,"))


def members(folder, n: int) -> list[TorchCommitteeMember]:
    found = [TorchCommitteeMember(i, i, 0, "cpu", folder / f"member_{i:03d}") for i in range(n)]
    for member in found:
        member.member_dir.mkdir()
    return found


def test_processes_of_members(impatient, monkeypatch, tmp_path):
    """The first takes long over its epoch, the other waits for its turn."""
    CommitteeMetadata(tmp_path, members(tmp_path, 2), "parallel", {}).save()

    def start(directory, group, threads):
        seconds = "60" if not impatient.messages else "0"
        return subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({seconds})"], stdin=subprocess.PIPE)

    class Enough(Exception):
        pass

    def told(index, n):
        if impatient.messages:
            raise Enough

    monkeypatch.setattr(committee_train, "_start", start)
    with pytest.raises(Enough):
        committee_train._side_by_side(tmp_path, [[0], [1]], 1, 0, told, lambda member: None)
    assert impatient.messages[0].startswith("waiting for the next epoch of member_000,")


def test_trials_of_a_committee(monkeypatch, tmp_path, caplog):
    """Members that train, and trials that do not start."""
    from aenet_ray.committee import launch
    from aenet_ray.training import trials

    now = [1000.0]
    monkeypatch.setattr(trials.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(trials, "free_resources", lambda: "1 CPU")
    watch = launch.Watch(Board.of(members(tmp_path, 2), 9), lambda member: None, tmp_path, 1, show=False)
    watch.setup()
    trial = Trial("RUNNING", [0])
    watch.on_trial_start(1, [trial], trial)
    with caplog.at_level(logging.WARNING, "aenet_ray"):
        now[0] += 20
        watch.on_step_end(1, [trial])
        assert not caplog.messages
        now[0] += 11
        watch.on_step_end(2, [trial, Trial("PENDING", [1])])
        assert caplog.messages == ["waiting for member_000: its next epoch, for 30 s and more"]
        now[0] += 29
        watch.on_step_end(3, [trial])
        assert len(caplog.messages) == 1, "said again too soon"
        now[0] += 2
        watch.on_step_end(4, [Trial("PENDING", [0]), Trial("PENDING", [1])])
        assert caplog.messages[-1] == "waiting for 2 trials to start; free for them: 1 CPU"
        watch.workers = 2
        now[0] += 31
        watch.on_step_end(5, [trial])
        assert caplog.messages[-1] == "waiting for member_000: its 2 workers, or their next epoch, for 30 s and more"


class Trial:
    """A trial as Tune knows it."""

    def __init__(self, status: str, members: list[int]) -> None:
        self.status, self.config = status, {"members": members}

    def __str__(self) -> str:
        return f"member_{self.config['members'][0]:03d}"
