"""Seeds and devices of the members, folder names."""

from __future__ import annotations

import pytest
from committees import training, untrained

from aenet_ray import RunConfig, TorchCommitteeConfig
from aenet_ray.committee.config import plan_members
from aenet_ray.committee.layout import member_name
from aenet_ray.errors import TrainingError


def seeds(committee, **settings):
    return [p.seed for p in plan_members(committee, training(**settings))]


def test_seeds_by_priority():
    assert seeds(TorchCommitteeConfig(3, 100, [5, 3, 9]), seed=1) == [5, 3, 9]
    assert seeds(TorchCommitteeConfig(3, 100), seed=1) == [100, 101, 102]
    assert seeds(TorchCommitteeConfig(3), seed=1) == [1, 2, 3]
    drawn = seeds(TorchCommitteeConfig(3))
    assert drawn == [drawn[0], drawn[0] + 1, drawn[0] + 2]
    assert seeds(TorchCommitteeConfig(3)) != drawn


def test_the_split_has_one_seed():
    def split(committee, **settings):
        (seed,) = {p.split_seed for p in plan_members(committee, training(**settings))}
        return seed

    assert split(TorchCommitteeConfig(3, 100), seed=1, split_seed=4) == 4
    assert split(TorchCommitteeConfig(3, 100), seed=1) == 1
    assert split(TorchCommitteeConfig(3, 100)) == 100


def test_members_that_began_keep_their_seeds():
    first = plan_members(TorchCommitteeConfig(2), training())
    again = plan_members(TorchCommitteeConfig(4), training(), first)
    assert again[:2] == first
    assert [p.seed for p in again] == [first[0].seed + i for i in range(4)]


def test_devices_in_turn():
    plans = plan_members(TorchCommitteeConfig(3, devices=["cpu", "cpu:0"]), training(device=None))
    assert [p.device for p in plans] == ["cpu", "cpu:0", "cpu"]


def test_equal_seeds_are_told():
    with pytest.warns(UserWarning, match="same seed are the same potential"):
        TorchCommitteeConfig(2, member_seeds=[1, 1])


def test_names():
    assert member_name(7, 8) == "member_007"
    assert member_name(7, 1000) == "member_007"
    assert member_name(7, 1001) == "member_0007"


def test_members_that_share_batches_differ_in_weights_only():
    plans = plan_members(TorchCommitteeConfig(3, 5, share_batches=True), training())
    assert [(p.seed, p.drawing) for p in plans] == [(5, 5), (6, 5), (7, 5)]
    own = plan_members(TorchCommitteeConfig(3, 5), training())
    assert [p.drawing for p in own] == [5, 6, 7]


@pytest.mark.parametrize("run", [None, RunConfig()], ids=["no run", "no name"])
@pytest.mark.parametrize("folder", [None, "mine"])
def test_a_folder_that_ray_would_delete_is_refused(structures, tmp_path, monkeypatch, run, folder):
    """A job runs in a copy of its working directory, which is gone with the job."""
    copy = tmp_path / "working_dir_files" / "_ray_pkg_0123"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    committee = TorchCommitteeConfig(2, output_dir=folder)
    with pytest.raises(TrainingError, match=f"output_dir is '{folder or 'committee_run'}', relative to the job's copy"):
        untrained().train(structures, config=training(), committee_config=committee, run=run)
    assert not list(copy.iterdir())
