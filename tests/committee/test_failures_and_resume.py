"""Members in processes of their own, members that fail, committees that were stopped."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from committees import (
    GO_ON,
    assert_same_members,
    committee_of,
    lose_initial_weights,
    strict_json,
    training,
    untrained,
)

from aenet_ray import RunConfig, TorchCommitteePotential
from aenet_ray.committee import train as committee_train
from aenet_ray.errors import TrainingError
from aenet_ray.training.spec import RunSpec


@pytest.fixture(scope="module")
def undisturbed(structures, tmp_path_factory):
    """Two members trained here, one after the other."""
    folder = tmp_path_factory.mktemp("committee") / "run"
    return untrained().train(structures, config=training(), committee_config=committee_of(2, folder))


def test_processes_give_the_same_members_and_leave_the_directory_alone(undisturbed, structures, tmp_path, monkeypatch):
    """With a relative folder, which breaks the reference's workers: they change their directory."""
    monkeypatch.chdir(tmp_path)
    committee = committee_of(2, Path("relative"), max_parallel=2)
    parallel = untrained().train(structures, config=training(), committee_config=committee)
    assert Path.cwd() == tmp_path
    assert [p.name for p in tmp_path.iterdir()] == ["relative"]
    assert parallel.execution_mode == "parallel"
    assert not list((tmp_path / "relative").rglob("train.log")), "a log that says nothing is not kept"
    assert_same_members(undisturbed, parallel, 0, 0)


@pytest.fixture
def damaged(monkeypatch):
    """The first member's initial weights are lost after the preparation."""
    lose_initial_weights(monkeypatch, 0)
    return monkeypatch


def test_a_member_that_fails_is_told_and_the_others_are_kept(structures, tmp_path, damaged):
    folder = tmp_path / "run"
    config, committee = training(), committee_of(2, folder)
    with pytest.raises(TrainingError, match=r"1 of 2 members failed: member 0: FileNotFoundError: .*initial.pt"):
        untrained().train(structures, config=config, committee_config=committee)
    values = strict_json(folder / "committee_metadata.json")
    assert [m["status"] for m in values["members"]] == ["failed", "completed"]
    assert values["failures"][0]["member_index"] == 0
    assert "FileNotFoundError" in strict_json(folder / "member_000/summary.json")["error"]
    assert TorchCommitteePotential.from_directory(folder).num_members == 1

    damaged.undo()
    before = (folder / "member_001/model.pt").stat().st_mtime_ns
    again = untrained()
    result = again.train(structures, config=config, committee_config=committee, run=GO_ON)
    assert again.num_members == len(result.completed_members) == 2
    assert (folder / "member_001/model.pt").stat().st_mtime_ns == before, "a completed member stays as it is"


def test_processes_that_fail_or_die(structures, tmp_path, damaged):
    """Three members: one raises, one is killed, one trains."""
    start = committee_train._start

    def killed(directory, group, threads):
        process = start(directory, group, threads)
        if group[0].member_index == 1:
            process.kill()
        return process

    damaged.setattr(committee_train, "_start", killed)
    committee = committee_of(3, tmp_path / "run", max_parallel=3)
    expected = r"2 of 3 members failed: member 0: FileNotFoundError: .*; member 1: its process was killed by signal 9"
    with pytest.raises(TrainingError, match=expected):
        untrained().train(structures, config=training(), committee_config=committee, run=RunConfig(max_failures=1))
    assert TorchCommitteePotential.from_directory(tmp_path / "run").num_members == 1


def test_a_killed_process_is_started_again(structures, tmp_path, monkeypatch, caplog):
    start, starts = committee_train._start, []

    def killed_once(directory, group, threads):
        process = start(directory, group, threads)
        starts.append(group[0].member_index)
        if starts == [0]:
            process.kill()
        return process

    monkeypatch.setattr(committee_train, "_start", killed_once)
    committee = committee_of(2, tmp_path / "run", max_parallel=2)
    result = untrained().train(structures, config=training(), committee_config=committee)
    assert [m.member_index for m in result.completed_members] == [0, 1]
    assert sorted(starts) == [0, 0, 1]
    assert "member_000: killed by signal 9; started again" in caplog.text


DRIVER = """
import os, subprocess, sys, time
member = '''
import os, sys, time
from aenet_ray.committee.member import _leave_with
_leave_with(int(sys.argv[1]))
open(sys.argv[2] + ".part", "w").write(str(os.getpid()))
os.rename(sys.argv[2] + ".part", sys.argv[2])
time.sleep(60)
'''
arguments = [sys.executable, "-c", member, str(os.getpid()), sys.argv[1]]
subprocess.Popen(arguments, stdin=subprocess.PIPE)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.05)
os.kill(os.getpid(), 9)
"""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")  # one that ended and that nobody has asked about is still listed
    return not (state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def test_members_do_not_outlive_a_killed_driver(tmp_path):
    """Else two processes would train one member after a restart."""
    subprocess.run([sys.executable, "-c", DRIVER, str(tmp_path / "pid")], check=False)
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < deadline, "the member's process is still there"
        time.sleep(0.05)


def test_a_committee_that_is_there_is_not_overwritten(undisturbed, structures):
    committee = committee_of(2, undisturbed.output_dir)
    with pytest.raises(TrainingError, match=r"holds a committee already.*resume='auto'"):
        untrained().train(structures, config=training(), committee_config=committee)


def test_a_finished_committee_is_only_read(undisturbed, structures):
    times = [m.model_path.stat().st_mtime_ns for m in undisturbed.members]
    again = untrained()
    again.train(structures, config=training(), committee_config=committee_of(2, undisturbed.output_dir), run=GO_ON)
    assert [m.model_path.stat().st_mtime_ns for m in undisturbed.members] == times
    assert again.num_members == 2


def test_stopped_in_between_it_ends_as_if_undisturbed(undisturbed, structures, tmp_path, monkeypatch):
    """Stopped after the first epoch of the second member: the first stays, the second goes on."""
    committee = committee_of(2, tmp_path / "run")
    train_together = committee_train.train_together

    class Stopped(BaseException):
        pass

    def interrupted(directory, indices, on_epoch, on_end):
        def stop(index, row, last):
            if index == 1:
                raise Stopped

        return train_together(directory, indices, stop, on_end)

    monkeypatch.setattr(committee_train, "train_together", interrupted)
    with pytest.raises(Stopped):
        untrained().train(structures, config=training(), committee_config=committee)
    monkeypatch.undo()
    states = [m["status"] for m in strict_json(tmp_path / "run/committee_metadata.json")["members"]]
    assert states == ["completed", "pending"]
    again = untrained().train(structures, config=training(), committee_config=committee, run=RunConfig(resume="must"))
    assert_same_members(undisturbed, again, 0, 0)
    assert len(again.trainouts[1].learning_rate) == 2


def test_more_epochs_and_more_members(structures, tmp_path, caplog):
    folder = tmp_path / "run"
    caplog.set_level(logging.INFO, "aenet_ray")
    one, two = (committee_of(n, folder, base_seed=None) for n in (1, 2))
    untrained().train(structures, config=training(iterations=1), committee_config=one)
    result = untrained().train(structures, config=training(iterations=2), committee_config=two, run=GO_ON)
    said = [r.getMessage() for r in caplog.records if r.getMessage().startswith("training on")]
    seed = f"training on 12 structures, validating on 4, 0 left out by filters; seed {result.members[0].seed}"
    assert said == [seed, seed], "the committee's seed, also where the second member begins"
    assert [RunSpec.load(m.member_dir).seed for m in result.members] == [m.seed for m in result.members]
    assert [m.metrics["epochs_recorded"] for m in result.members] == [2, 2]
    assert result.members[1].seed == result.members[0].seed + 1, "drawn once, recorded, counted on"
    splits = [np.load(m.member_dir / "split.npz")["train"] for m in result.members]
    assert np.array_equal(*splits)


def test_other_data_are_refused_and_nothing_is_lost(structures, tmp_path):
    folder, committee = tmp_path / "run", committee_of(1, tmp_path / "run")
    untrained().train(structures, config=training(iterations=1), committee_config=committee)
    before = (folder / "structures.h5").read_bytes()
    with pytest.raises(TrainingError, match="began with other structures"):
        untrained().train(structures[:8], config=training(), committee_config=committee, run=GO_ON)
    assert (folder / "structures.h5").read_bytes() == before


def test_other_settings_are_refused(undisturbed, structures):
    committee = committee_of(2, undisturbed.output_dir)
    with pytest.raises(TrainingError, match=r"member_000: began with other settings \(force_weight: 0.0 -> 0.5"):
        untrained().train(structures, config=training(force_weight=0.5), committee_config=committee, run=GO_ON)


def test_a_member_of_another_committee_is_refused(structures, tmp_path):
    """The same seeds and settings, another split; and other seeds."""
    import shutil

    runs = {"ours": {"split_seed": 1}, "theirs": {"split_seed": 1}}
    for name, seeds in runs.items():
        config = training(iterations=1, **seeds)
        untrained().train(structures, config=config, committee_config=committee_of(2, tmp_path / name))
    stranger, place = tmp_path / "theirs/member_001", tmp_path / "ours/member_001"
    with np.load(stranger / "split.npz") as ids:
        np.savez(stranger / "split.npz", train=ids["train"][1:], test=ids["test"])
    shutil.rmtree(place)
    shutil.copytree(stranger, place)
    again = {"config": training(iterations=1, split_seed=1), "committee_config": committee_of(2, tmp_path / "ours")}
    with pytest.raises(TrainingError, match="member_001: its training structures are not those of member_000"):
        untrained().train(structures, **again, run=GO_ON)
    shutil.rmtree(place)
    shutil.copytree(tmp_path / "ours/member_000", place)
    with pytest.raises(TrainingError, match=r"member_001: began with other settings \(seed: 7 -> 8"):
        untrained().train(structures, **again, run=GO_ON)


def test_shared_batches_cannot_begin_in_between(undisturbed, structures):
    committee = committee_of(2, undisturbed.output_dir, share_batches=True)
    with pytest.raises(TrainingError, match="member_001: began with share_batches=False, now it is True"):
        untrained().train(structures, config=training(), committee_config=committee, run=GO_ON)
