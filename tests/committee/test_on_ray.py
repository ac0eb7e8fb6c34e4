"""Committees as trials on Ray Tune: the same members, failures told, kills survived."""

from __future__ import annotations

import json

import pytest
from committees import assert_same_members, lose_initial_weights, strict_json, train, training

from aenet_ray import RunConfig, ScalingConfig, TorchCommitteePotential
from aenet_ray.committee import potential as committee_potential
from aenet_ray.errors import ConfigError, TrainingError

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

GO_ON = RunConfig(resume="auto", max_failures=1)


@pytest.fixture(scope="module")
def alone(structures, tmp_path_factory):
    return train(structures, tmp_path_factory.mktemp("committee") / "run")


def test_trials_of_one_and_of_two(alone, structures, tmp_path, ray_local):
    """One member a trial; and two members in one, one in the other."""
    for k in (1, 2):
        found = train(structures, tmp_path / str(k), scaling=ScalingConfig(), members_per_trial=k)
        assert_same_members(alone, found)
        assert found.execution_mode == "parallel"
    values = strict_json(tmp_path / "2/committee_metadata.json")
    assert [m["status"] for m in values["members"]] == ["completed"] * 3
    names = {p.name for p in (tmp_path / "2/ray/trials").iterdir() if p.is_dir()}
    assert names == {"members_000-001", "member_002"}


def test_a_member_that_fails_is_told_and_tried_again(alone, structures, tmp_path, ray_local, monkeypatch):
    """A file that is gone is no error of ours: it may be back, so it is tried as often as run.max_failures says."""
    lose_initial_weights(monkeypatch, 1)
    folder = tmp_path / "run"
    with pytest.raises(TrainingError, match=r"1 of 3 members failed: member 1: FileNotFoundError: .*initial.pt"):
        train(structures, folder, scaling=ScalingConfig(), run=RunConfig(max_failures=1), members_per_trial=3)
    monkeypatch.undo()
    assert TorchCommitteePotential.from_directory(folder).num_members == 2
    (folder / "member_001/away.pt").rename(folder / "member_001/initial.pt")
    before = (folder / "member_000/model.pt").stat().st_mtime_ns
    assert_same_members(alone, train(structures, folder, scaling=ScalingConfig(), run=GO_ON))
    assert (folder / "member_000/model.pt").stat().st_mtime_ns == before


def test_features_deleted_before_a_member_starts(structures, tmp_path, monkeypatch):
    prepare = committee_potential.prepare_members

    def prepare_and_delete(directory, plans, known, features, *rest):
        members = prepare(directory, plans, known, features, *rest)
        (features.path / "index.json").unlink()
        return members

    monkeypatch.setattr(committee_potential, "prepare_members", prepare_and_delete)
    expected = "2 of 2 members failed: member 0: StoreError: .*no feature store here"
    with pytest.raises(TrainingError, match=expected):
        train(structures, tmp_path / "run", n=2)


def test_resources_that_no_node_has_are_said_at_once(structures, tmp_path, ray_local):
    with pytest.raises(
        ConfigError, match=r"a trial needs 512 CPU on one node, the cluster's nodes have \d+ CPU, 0 GPU"
    ):
        train(structures, tmp_path / "run", scaling=ScalingConfig(cpus_per_worker=512))
    with pytest.raises(ConfigError, match=r"64 workers need 64 CPUs, the cluster has"):
        train(structures, tmp_path / "run", scaling=ScalingConfig(num_workers=64))
    assert not list(tmp_path.glob("run/member_*")), "before anything was made"


@pytest.mark.slow
def test_two_workers_a_member(structures, tmp_path, ray_local):
    config = training(force_weight=0.2)
    one = train(structures, tmp_path / "one", config, n=2)
    two = train(structures, tmp_path / "two", config, ScalingConfig(num_workers=2), n=2)
    assert_same_members(one, two, rtol=1e-8, atol=1e-10)
    assert json.loads((tmp_path / "two/member_001/summary.json").read_text())["status"] == "completed"
