"""Several runs of one committee in one process, all a step at a time; each stays the run that it would be alone."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from aenet_ray.errors import AenetRayError, TrainingError
from aenet_ray.training.comm import Solo
from aenet_ray.training.config import LBFGS, NaturalGradient
from aenet_ray.training.early_stopping import is_last
from aenet_ray.training.engine import open_run, run_training
from aenet_ray.training.evaluation import ErrorSums
from aenet_ray.training.history import Row
from aenet_ray.training.keeper import Keeper, parts_of
from aenet_ray.training.members_epoch import evaluate_members, run_members_epoch
from aenet_ray.training.members_step import Members
from aenet_ray.training.spec import RunSpec
from aenet_ray.training.state import Start, TrainState

logger = logging.getLogger(__name__)

OnMemberEpoch = Callable[[int, Row, bool], None]
"""Told of each epoch of each run: its place in the list, its row, and whether it was its last."""
OnMemberEnd = Callable[[int, Exception | None], None]
"""Told when a run has ended: its place in the list, and why it failed, if it did."""


@dataclass(slots=True)
class _Run:
    index: int
    state: TrainState
    keeper: Keeper


def run_members(
    run_dirs: Sequence[Path],
    device: torch.device,
    on_epoch: OnMemberEpoch | None = None,
    on_end: OnMemberEnd | None = None,
) -> None:
    """Train the prepared runs to their ends, each from its newest checkpoint if it has one.

    What goes wrong in one run, such as training that diverges, ends that run; the others go on. Runs that are
    behind, after a kill, catch up first. Methods that look at a whole gradient, L-BFGS and the natural gradient,
    train one run after the other.

    Args:
        run_dirs: Of runs that differ in seeds only.

    Raises:
        TrainingError: The runs differ in more.
    """
    ended = on_end or (lambda index, error: None)
    specs = _specs(run_dirs, ended)
    if not specs:
        return
    _check_alike(run_dirs, specs)
    method = next(iter(specs.values())).config.method
    if isinstance(method, (LBFGS, NaturalGradient)):
        logger.info("method %s: members train one after the other", method.method_name)
        _one_by_one([(i, run_dirs[i]) for i in specs], device, on_epoch, ended)
        return
    runs = _opened(run_dirs, specs, device, ended)
    if not runs:
        return
    with ExitStack() as kept, runs[0].state.maker.background:
        for run in runs:
            kept.enter_context(run.keeper)
        _finish([r for r in runs if r.state.done], ended)
        runs = [r for r in runs if not r.state.done]
        members, finished = None, time.perf_counter()
        while runs:
            behind = min(r.state.epoch for r in runs)
            now = [r for r in runs if r.state.epoch == behind]
            states = [r.state for r in now]
            if members is None or [id(s) for s in members.states] != [id(s) for s in states]:
                members = Members.of(states)
            between, found = time.perf_counter() - finished, run_members_epoch(members)
            finished = time.perf_counter()
            over = []
            for run, row in zip(now, found, strict=True):
                if isinstance(row, AenetRayError):
                    run.keeper.close(row)
                    ended(run.index, row)
                    runs.remove(run)
                    continue
                row = row | {"between_time": between}
                run.keeper.after_epoch(row)
                if on_epoch is not None:
                    on_epoch(run.index, row, is_last(row, run.state.spec.config, run.state.spec.epochs))
                if run.state.done:
                    runs.remove(run)
                    over.append(run)
            _finish(over, ended)


def _specs(run_dirs: Sequence[Path], ended: OnMemberEnd) -> dict[int, RunSpec]:
    found = {}
    for index, run_dir in enumerate(run_dirs):
        try:
            found[index] = RunSpec.load(run_dir)
        except Exception as error:  # of a damaged folder, which is no reason to stop the others
            ended(index, error)
    return found


def _check_alike(run_dirs: Sequence[Path], specs: dict[int, RunSpec]) -> None:
    def shared(spec: RunSpec) -> dict[str, object]:
        own = {"seed", "device", "checkpoint_dir"}
        return {k: v for k, v in spec.config.to_dict().items() if k not in own} | {
            "network": spec.arch,
            "descriptor": {k: v for k, v in spec.descriptor.items() if k != "device"},
            "features": spec.features,
            "split": (spec.train_ids.tobytes(), spec.test_ids.tobytes()),
            "normalization": spec.normalization.to_dict(),
            "atomic_energies": spec.atomic_energies,
        }

    (one, first), *others = ((i, shared(spec)) for i, spec in specs.items())
    for index, own in others:
        differ = [k for k, v in own.items() if v != first[k]]
        if differ:
            raise TrainingError(
                f"{run_dirs[index]} and {run_dirs[one]} differ in {', '.join(differ)}: runs that train together differ "
                "in their seeds only. Train them one by one, or choose another folder."
            )


def _opened(
    run_dirs: Sequence[Path], specs: dict[int, RunSpec], device: torch.device, ended: OnMemberEnd
) -> list[_Run]:
    """The runs where they are, with one store of features for all."""
    runs: list[_Run] = []
    for index, spec in specs.items():
        try:
            start = Start.of(run_dirs[index], spec)
            state = open_run(spec, start, device, runs[0].state.maker if runs else None)
            runs.append(_Run(index, state, Keeper(state, run_dirs[index], Solo())))
        except Exception as error:  # as above
            ended(index, error)
    if any(r.state.epoch for r in runs):
        logger.info("going on after epochs %s", ", ".join(str(r.state.epoch) for r in runs))
    return runs


def _finish(runs: list[_Run], ended: OnMemberEnd) -> None:
    """The full pass with the final weights, together for those that end together, and their models."""
    if not runs:
        return
    members = Members.of([r.state for r in runs])
    parts = {kind: evaluate_members(members, ids) for kind, ids in parts_of(runs[0].state.spec)}
    for k, run in enumerate(runs):
        errors: dict[str, ErrorSums] = {kind: found[k] for kind, found in parts.items()}
        try:
            run.keeper.write_end(errors)
        except AenetRayError as error:
            run.keeper.close(error)
            ended(run.index, error)
        else:
            ended(run.index, None)


def _one_by_one(
    places: Sequence[tuple[int, Path]], device: torch.device, on_epoch: OnMemberEpoch | None, ended: OnMemberEnd
) -> None:
    for index, run_dir in places:

        def told(row: Row, last: bool, index: int = index) -> None:
            if on_epoch is not None:
                on_epoch(index, row, last)

        try:
            run_training(run_dir, Solo(), device, told)
        except Exception as error:
            ended(index, error)
        else:
            ended(index, None)
