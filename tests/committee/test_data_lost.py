"""Features deleted while a committee trains: members that are done stay, the others name what is missing and go on."""

from __future__ import annotations

import shutil
import time

import pytest
import torch
from committees import committee_of, strict_json, training, untrained, weights

from aenet_ray import RunConfig, ScalingConfig, TorchCommitteePotential
from aenet_ray.committee import launch
from aenet_ray.committee import train as committee_train
from aenet_ray.errors import TrainingError

GO_ON = RunConfig(resume="auto", max_failures=2)


@pytest.fixture(scope="module")
def undisturbed(structures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("committee") / "run"
    return untrained().train(structures, config=training(), committee_config=committee_of(3, folder))


def config(folder):
    """Features beside the committee's folder."""
    return training(cache_persist_dir=str(folder.parent / "features"))


def goes_on(undisturbed, structures, folder, n_done, **settings):
    """With the features made again, the members are those of an undisturbed committee; those that were done stay."""
    times = [(folder / f"member_{i:03d}/model.pt").stat().st_mtime_ns for i in range(n_done)]
    committee = committee_of(3, folder)
    again = untrained().train(structures, config=config(folder), committee_config=committee, run=GO_ON, **settings)
    assert len(again.completed_members) == 3
    for one, other in zip(undisturbed.members, again.members, strict=True):
        assert torch.allclose(weights(one.model_path), weights(other.model_path), rtol=1e-9, atol=1e-12)
    assert [(folder / f"member_{i:03d}/model.pt").stat().st_mtime_ns for i in range(n_done)] == times


def deleting_when_one_has_ended(folder, call):
    """``call`` told of an end, after which features and structures are gone."""

    def ended(member):
        shutil.rmtree(folder.parent / "features", ignore_errors=True)
        (folder / "structures.h5").unlink(missing_ok=True)
        call(member)

    return ended


def test_in_this_process(undisturbed, structures, tmp_path, monkeypatch):
    folder, in_turn = tmp_path / "run", committee_train._in_turn

    def losing(directory, groups, told, ended):
        in_turn(directory, groups, told, deleting_when_one_has_ended(folder, ended))

    with monkeypatch.context() as m:
        m.setattr(committee_train, "_in_turn", losing)
        expected = r"2 of 3 members failed: member 1: StoreError: .*features/\w+: no feature store here .*resume='auto'"
        with pytest.raises(TrainingError, match=expected):
            untrained().train(structures, config=config(folder), committee_config=committee_of(3, folder))
    assert next(m["status"] for m in strict_json(folder / "committee_metadata.json")["members"]) == "completed"
    assert TorchCommitteePotential.from_directory(folder).num_members == 1
    goes_on(undisturbed, structures, folder, 1)


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_on_ray(undisturbed, structures, tmp_path, ray_local, monkeypatch):
    """Trials that meet an error which would come again are not tried again, whatever max_failures is."""
    folder, train = tmp_path / "run", launch.train_on_tune

    def losing(metadata, groups, epochs, committee, scaling, run, ended, **more):
        ended = deleting_when_one_has_ended(folder, ended)
        train(metadata, groups, epochs, committee, scaling, run, ended, **more)

    settings = {"config": config(folder), "committee_config": committee_of(3, folder, max_parallel=1)}
    began = time.monotonic()
    with monkeypatch.context() as m:
        m.setattr(launch, "train_on_tune", losing)
        with pytest.raises(TrainingError, match=r"2 of 3 members failed: member 1: StoreError: .*no feature store"):
            untrained().train(structures, **settings, scaling=ScalingConfig(), run=RunConfig(max_failures=50))
    assert time.monotonic() - began < 120
    goes_on(undisturbed, structures, folder, 1, scaling=ScalingConfig())
