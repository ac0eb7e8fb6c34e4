"""Committees whose members train together: the same members, in fewer processes."""

from __future__ import annotations

import pytest
import torch
from committees import GO_ON, assert_same_members, lose_initial_weights, train, training, weights

from aenet_ray import TorchCommitteePotential
from aenet_ray.committee import train as committee_train
from aenet_ray.errors import TrainingError


@pytest.fixture(scope="module")
def alone(structures, tmp_path_factory):
    return train(structures, tmp_path_factory.mktemp("committee") / "run")


@pytest.mark.parametrize("settings", [{"members_per_trial": 2}, {"members_per_trial": 8}])
def test_the_same_members(alone, structures, tmp_path, settings):
    together = train(structures, tmp_path / "run", **settings)
    assert_same_members(alone, together)
    assert [m.metrics["epochs_recorded"] for m in together.members] == [2, 2, 2]
    assert TorchCommitteePotential.from_directory(tmp_path / "run").num_members == 3


def test_groups_in_processes(alone, structures, tmp_path, monkeypatch):
    started, start = [], committee_train._start

    def noted(directory, group, threads):
        started.append([m.member_index for m in group])
        return start(directory, group, threads)

    monkeypatch.setattr(committee_train, "_start", noted)
    together = train(structures, tmp_path / "run", members_per_trial=2, max_parallel=2)
    assert started == [[0, 1], [2]]
    assert_same_members(alone, together)


def test_shared_batches_are_the_same_trained_together_or_not(structures, tmp_path):
    config = training(force_weight=0.3)
    one, two = (
        train(structures, tmp_path / str(k), config, members_per_trial=k, share_batches=True, n=2) for k in (1, 2)
    )
    assert_same_members(one, two)
    assert not torch.equal(*(weights(m.model_path) for m in two.members))


def test_stopped_in_between_and_trained_on_in_another_way(alone, structures, tmp_path, monkeypatch):
    """Together until the second epoch of the second member; then one by one."""
    train_together = committee_train.train_together

    class Stopped(BaseException):
        pass

    def interrupted(directory, indices, on_epoch, on_end):
        def stop(index, row, last):
            if index == 1 and row["epoch"] == 0:
                raise Stopped

        return train_together(directory, indices, stop, on_end)

    monkeypatch.setattr(committee_train, "train_together", interrupted)
    with pytest.raises(Stopped):
        train(structures, tmp_path / "run", members_per_trial=3)
    monkeypatch.undo()
    assert_same_members(alone, train(structures, tmp_path / "run", run=GO_ON))


def test_one_member_fails_in_a_group(structures, tmp_path, monkeypatch):
    lose_initial_weights(monkeypatch, 1)
    with pytest.raises(TrainingError, match=r"1 of 3 members failed: member 1: FileNotFoundError: .*initial.pt"):
        train(structures, tmp_path / "run", members_per_trial=3)
    monkeypatch.undo()
    assert TorchCommitteePotential.from_directory(tmp_path / "run").num_members == 2
    (tmp_path / "run/member_001/away.pt").rename(tmp_path / "run/member_001/initial.pt")
    assert len(train(structures, tmp_path / "run", run=GO_ON, members_per_trial=3).completed_members) == 3


def test_devices_go_to_groups():
    from aenet_ray.committee.config import TorchCommitteeConfig, plan_members

    committee = TorchCommitteeConfig(5, 1, devices=["cuda:0", "cpu"], members_per_trial=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aenet_ray.committee.config._check_devices", lambda *_: None)
        plans = plan_members(committee, training())
    assert [p.device for p in plans] == ["cuda:0", "cuda:0", "cpu", "cpu", "cuda:0"]
