"""Prepared members as trials on Ray Tune.

A trial is a member, or a group of members that train together, in Tune's own process for it. Only where a member has
several workers does its trial start a trainer; Tune's process for it then holds no CPU, or the processes of waiting
trials would take those that the workers wait for. What is done and what is left stands in the members' folders alone:
a committee whose driver was killed begins with new trials for the members that are not completed.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ray import tune

from aenet_ray import errors
from aenet_ray.committee.board import Board
from aenet_ray.committee.config import TorchCommitteeConfig
from aenet_ray.committee.layout import CommitteeMetadata, TorchCommitteeMember
from aenet_ray.committee.member import conclude, train_together
from aenet_ray.errors import AenetRayError, TrainingError
from aenet_ray.features.locks import held
from aenet_ray.ray_session import prepare_tune, quiet_ray_logs
from aenet_ray.training.config import RunConfig, ScalingConfig
from aenet_ray.training.launch import train_on_ray
from aenet_ray.training.trials import TrialWatch, run_trials, trials_at_a_time, with_resources
from aenet_ray.waiting import PATIENCE

if TYPE_CHECKING:
    from rich.table import Table

logger = logging.getLogger(__name__)

STATE = "ray"


def solo_trial(sampled: dict[str, Any], directory: str, threads: int) -> None:
    """What Tune runs for members of one worker."""
    quiet_ray_logs()
    torch.set_num_threads(threads)
    folder = Path(directory)
    left = _left(folder, sampled["members"])
    with ExitStack() as stack:
        for index in left:
            stack.enter_context(_alone(folder, index))
        members = train_together(folder, left) if left else []
    _try_again(members)
    tune.report({"ended": len(members)})


def trainer_trial(sampled: dict[str, Any], directory: str, scaling: dict[str, Any], max_failures: int) -> None:
    """What Tune runs for a member of several workers: a trainer that goes on where the member was."""
    quiet_ray_logs()
    folder = Path(directory)
    for index in _left(folder, sampled["members"]):
        member = CommitteeMetadata.load(folder).members[index]
        failure: Exception | None = None
        try:
            run = RunConfig(max_failures=max_failures)
            train_on_ray(member.member_dir, ScalingConfig(**scaling), run, show_progress=False, on_epoch=_nothing)
        except AenetRayError as error:
            failure = error
        conclude(member, folder, failure)
    tune.report({"ended": 1})


def _nothing(row: Any, last: bool) -> None:
    """The board reads the member's history."""


def _left(folder: Path, indices: list[int]) -> list[int]:
    """Those without a summary: a trial that is tried again leaves what came to an end in peace."""
    members = CommitteeMetadata.load(folder).members
    ended = {i for i in indices if members[i].summary_path.exists()}
    return [i for i in indices if i not in ended or _temporary(_ended(members[i], folder))]


def _ended(member: TorchCommitteeMember, folder: Path) -> TorchCommitteeMember:
    return TorchCommitteeMember.read_summary(member.summary_path, folder)


def _temporary(member: TorchCommitteeMember) -> bool:
    """Whether a failure may not come again: none of ours, which follow from data and settings."""
    name = (member.error or "").partition(":")[0]
    return member.status == "failed" and not hasattr(errors, name)


def _try_again(members: list[TorchCommitteeMember]) -> None:
    """Fail, so that Tune starts the trial once more."""
    failed = [m for m in members if _temporary(m)]
    if failed:
        raise TrainingError("; ".join(f"member {m.member_index}: {m.error}" for m in failed))


def _alone(folder: Path, index: int) -> AbstractContextManager[bool]:
    """Processes of a driver that was killed live a moment longer: no two may train one member."""
    message = f"waiting for the end of another process that trains member {index}"
    return held(folder / STATE / f"member_{index:03d}.lock", 2 * PATIENCE, message)


def concurrency(committee: TorchCommitteeConfig, scaling: ScalingConfig) -> int:
    """Trials at a time: as many as the cluster holds, at most ``max_parallel`` where it is given."""
    fits = trials_at_a_time(scaling, committee.gpus_per_trial)
    return min(fits, committee.max_parallel) if "max_parallel" in committee.model_fields_set else fits


def train_on_tune(
    metadata: CommitteeMetadata,
    groups: list[list[int]],
    epochs: int,
    committee: TorchCommitteeConfig,
    scaling: ScalingConfig,
    run: RunConfig,
    ended: Callable[[TorchCommitteeMember], None],
    *,
    show_progress: bool,
) -> None:
    """Train groups of members, each a trial, on the Ray that is there.

    Args:
        groups: Numbers of members.
        epochs: Of each member.
        run: ``max_failures`` is how often a trial is tried again whose process died, or which failed by chance.
        ended: Told of each member, completed or failed.

    Raises:
        TrainingError: Tune itself failed.
        KeyboardInterrupt: It was interrupted, and can go on.
    """
    prepare_tune()
    folder = metadata.directory
    for index in (i for group in groups for i in group):
        metadata.members[index].summary_path.unlink(missing_ok=True)
    shutil.rmtree(folder / STATE / "trials", ignore_errors=True)  # of an earlier driver; members' files tell more
    watch = Watch(Board.of(metadata.members, epochs), ended, folder, scaling.num_workers, show=show_progress)
    tuner = tune.Tuner(
        _trainable(folder, committee, scaling, run),
        param_space={"members": tune.grid_search(groups)},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=concurrency(committee, scaling),
            reuse_actors=True,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(folder / STATE),
            failure_config=tune.FailureConfig(max_failures=run.max_failures),
            callbacks=[watch],
            verbose=0,
        ),
    )
    run_trials(tuner, folder, "the committee's trials")
    if any(metadata.members[i].status == "pending" for group in groups for i in group):
        raise KeyboardInterrupt  # Tune takes an interrupt for an end like any other


def _trainable(folder: Path, committee: TorchCommitteeConfig, scaling: ScalingConfig, run: RunConfig) -> Any:
    if scaling.num_workers > 1:
        settings = {"scaling": scaling.model_dump(), "max_failures": run.max_failures}
        function = tune.with_parameters(trainer_trial, directory=str(folder), **settings)
    else:
        function = tune.with_parameters(solo_trial, directory=str(folder), threads=scaling.cpus_per_worker)
    return with_resources(function, scaling, committee.gpus_per_trial)


def _name(trial: Any) -> str:
    members: list[int] = trial.config["members"]
    first, last = members[0], members[-1]
    return f"member_{first:03d}" if first == last else f"members_{first:03d}-{last:03d}"


class Watch(TrialWatch):
    """Shows the members, and tells of those that ended.

    Args:
        workers: Of a trial.
    """

    def __init__(
        self, board: Board, ended: Callable[[TorchCommitteeMember], None], folder: Path, workers: int, *, show: bool
    ) -> None:
        super().__init__(show)
        self.board, self.ended, self.folder, self.workers = board, ended, folder, workers

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"ended": None}

    def look(self) -> bool:
        return self.board.look()

    def table(self) -> Table:
        return self.board.table()

    def status(self) -> str:
        return self.board.status()

    def doing(self, running: list[Any]) -> list[str]:
        doing = "its next epoch" if self.workers == 1 else f"its {self.workers} workers, or their next epoch"
        return [f"waiting for {t}: {doing}, for {PATIENCE:.0f} s and more" for t in running]

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._set(trial, "running")

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._set(trial, "waiting")
        logger.warning("%s: died or failed by chance; it is started again and goes on from its checkpoint", trial)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._end(trial, "its trial ended without a word")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        said = _last_line(trial) if getattr(trial, "pickled_error_file", None) else ""
        self._end(trial, f"its process died, {trial.num_failures} times{f': {said}' if said else ''}")

    def _set(self, trial: Any, state: str) -> None:
        self.heard = time.monotonic()
        for index in trial.config["members"]:
            self.board.lines[index].state = state

    def _end(self, trial: Any, otherwise: str) -> None:
        """Members as their summaries tell; one without was in the process when it died for the last time."""
        self.heard = time.monotonic()
        for index in trial.config["members"]:
            line = self.board.lines[index]
            member = line.member
            if member.summary_path.exists():
                member = _ended(member, self.folder)
            else:
                member.status, member.error = "failed", otherwise
                member.write_summary(self.folder)
            line.state = member.status
            self.ended(member)


def _last_line(trial: Any) -> str:
    error = trial.get_error()
    lines = str(error).strip().splitlines() if error is not None else []
    return lines[-1] if lines else ""
