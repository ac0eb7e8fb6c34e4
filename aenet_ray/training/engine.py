"""The loop that every worker runs; alone, it is the whole training."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from aenet_ray.errors import TrainingError
from aenet_ray.models.model_file import write_model_file
from aenet_ray.structures.structure import IntArray
from aenet_ray.training import checkpoint
from aenet_ray.training.batch import Batch
from aenet_ray.training.comm import Comm
from aenet_ray.training.history import Row
from aenet_ray.training.loggers import LOGGERS, finite
from aenet_ray.training.natural_gradient import NaturalGradientOptimizer, natural_gradient_step
from aenet_ray.training.plan import batches, share
from aenet_ray.training.spec import RunSpec
from aenet_ray.training.state import TrainState, starting_point
from aenet_ray.training.step import ErrorSums, GlobalBatch, evaluate, train_step

# A supervised atom costs about this many times an atom of which only the energy counts (benchmarks/train_epoch.py).
FORCE_COST = 20.0

logger = logging.getLogger(__name__)

OnEpoch = Callable[[Row, bool], None]
"""Called on every worker after each epoch with its row and whether it was the last one."""


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """One global batch, the same on every worker.

    Args:
        ids: Structures of the store, in order of use, (n,).
        n_atoms: (n,).
        supervised: Whose forces are used, (n,).
        counts: Over all workers.
    """

    ids: IntArray
    n_atoms: NDArray[np.int32]
    supervised: NDArray[np.bool_]
    counts: GlobalBatch

    def mine(self, comm: Comm) -> IntArray:
        """This worker's places in the batch, in ascending order of structure."""
        costs = self.n_atoms * np.where(self.supervised, FORCE_COST, 1.0)
        places = share(costs, comm.size, comm.rank)
        return places[np.argsort(self.ids[places], kind="stable")]


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """All draws of an epoch; what belongs to a batch is looked up when its turn comes, not kept for millions.

    Args:
        drawn: Positions in the training split in order of use, (n_draws,).
        supervised: Whose forces are used this epoch, (n_train,).
    """

    drawn: IntArray
    supervised: NDArray[np.bool_]

    @classmethod
    def of(cls, state: TrainState) -> EpochPlan:
        seed, epoch = state.spec.seed, state.epoch
        return cls(state.policy.draw(seed, epoch), state.subset.draw(seed, epoch))

    def batch(self, part: slice, state: TrainState) -> PlannedBatch:
        drawn = self.drawn[part]
        ids = state.spec.train_ids[drawn]
        n_atoms, supervised = state.maker.store.n_atoms[ids], self.supervised[drawn]
        atoms, fraction = int(n_atoms[supervised].sum()), 1.0
        if state.spec.config.force_scale_unbiased:
            labelled = int(n_atoms[state.subset.labelled[drawn]].sum())
            fraction = atoms / labelled if 0 < atoms < labelled else 1.0
        return PlannedBatch(ids, n_atoms, supervised, GlobalBatch(len(ids), 3 * atoms, fraction))


def train_epoch(state: TrainState, comm: Comm) -> Row:
    """All steps of one epoch; exact means over its draws, by the weights before each update."""
    config, plan = state.spec.config, EpochPlan.of(state)
    alpha, n = config.force_weight, len(plan.drawn)
    # Behind the errors of all draws, if the policy wants them, stands the sum of this worker's.
    needs_errors = state.policy.state() is not None
    errors = np.zeros(n + 1 if needs_errors else 1)
    s_energy = s_force = loss = data_time = step_time = 0.0
    n_force = 0

    def prepared(part: slice) -> tuple[slice, GlobalBatch, IntArray, Batch]:
        planned = plan.batch(part, state)
        mine = planned.mine(comm)
        batch = state.maker.make(planned.ids[mine], planned.supervised[mine] if alpha > 0 else None)
        return part, planned.counts, mine, batch

    start = time.perf_counter()
    for part, counts, mine, batch in state.maker.background.map(prepared, batches(plan.drawn, config.batch_size)):
        ready = time.perf_counter()
        if isinstance(state.optimizer, NaturalGradientOptimizer):
            scale, own = natural_gradient_step(state.model, state.optimizer, batch, mine, counts.n_structures, comm)
        else:
            scale, own = train_step(state.model, state.flat, state.optimizer, batch, counts, alpha, comm)
        if not math.isfinite(scale.loss):
            raise TrainingError(
                f"epoch {state.epoch + 1}: training has diverged, the loss is {scale.loss}. Lower the learning rate "
                f"(now {state.schedule.learning_rate:g}) or look for wrong labels ('aenet-ray info'); checkpoints "
                "of the epochs before are kept."
            )
        magnitude = own.abs().double().cpu().numpy()
        errors[-1] += magnitude.sum()
        if needs_errors:
            errors[part.start + mine] = magnitude
        s_energy += counts.n_structures * scale.energy_rmse**2
        loss += counts.n_structures * scale.loss
        if counts.n_force:
            n_force += counts.n_force
            s_force += counts.n_force * counts.supervised_fraction * scale.force_rmse**2
        data_time += ready - start
        start = time.perf_counter()
        step_time += start - ready
    errors = comm.sum_(torch.from_numpy(errors).to(state.model.device)).cpu().numpy()
    if needs_errors:
        state.policy.observe(plan.drawn, errors[:-1])
    return {
        "train_energy_rmse": math.sqrt(s_energy / n),
        "train_energy_mae": float(errors[-1]) / n,
        "train_force_rmse": math.sqrt(s_force / n_force) if n_force else math.nan,
        "train_force_mae": math.nan,
        "train_loss": loss / n,
        "data_time": data_time,
        "step_time": step_time,
    }


def monitor(errors: ErrorSums, alpha: float) -> float:
    """Validation loss (1 − α) RMSE_E + α RMSE_F; NaN without validation structures."""
    force = 0.0 if math.isnan(errors.force_rmse) else errors.force_rmse
    return (1 - alpha) * errors.energy_rmse + alpha * force


def error_columns(kind: str, errors: ErrorSums, alpha: float) -> Row:
    return {
        f"{kind}_energy_rmse": errors.energy_rmse,
        f"{kind}_energy_mae": errors.energy_mae,
        f"{kind}_force_rmse": errors.force_rmse,
        f"{kind}_force_mae": errors.force_mae,
        f"{kind}_loss": monitor(errors, alpha),
    }


def run_epoch(state: TrainState, comm: Comm) -> Row:
    start = time.perf_counter()
    alpha = state.spec.config.force_weight
    state.schedule.begin(state.epoch)
    row = train_epoch(state, comm)
    before = time.perf_counter()
    errors = evaluate(state.model, state.maker, state.spec.test_ids, comm, forces=alpha > 0)
    row |= error_columns("test", errors, alpha)
    row["validation_time"] = time.perf_counter() - before
    state.schedule.finish(row["test_loss"])
    row["learning_rate"] = state.schedule.learning_rate
    row["epoch"] = state.epoch
    row["epoch_time"] = time.perf_counter() - start
    return row


class Keeper:
    """What worker 0 writes: history, numbered checkpoints, best and final model. Other workers write nothing."""

    def __init__(self, state: TrainState, run_dir: Path, comm: Comm) -> None:
        config = state.spec.config
        self.state, self.run_dir, self.active = state, run_dir, comm.rank == 0
        self.folder = None if config.checkpoint_dir is None else run_dir / config.checkpoint_dir
        self.history = state.history
        if self.active:
            self.history.path = run_dir / "history.csv"
            self.history.rewrite()
        self.last_written = time.monotonic()
        self.loggers = [LOGGERS[name](run_dir) for name in state.spec.loggers] if self.active else []

    def after_epoch(self, row: Row) -> None:
        state, config = self.state, self.state.spec.config
        self.history.append(row)
        for logger in self.loggers:
            logger.log(finite(row), state.epoch)
        better = row["test_loss"] < state.best
        if better:
            state.best = float(row["test_loss"])
        state.epoch += 1
        if not self.active or self.folder is None:
            return
        last = state.epoch == state.spec.epochs
        due = config.checkpoint_interval and state.epoch % config.checkpoint_interval == 0
        due = due and time.monotonic() - self.last_written >= config.checkpoint_seconds
        if due or last:
            checkpoint.save(self.folder, state.epoch - 1, state.payload(), config.max_checkpoints)
            self.last_written = time.monotonic()
        if better and config.save_best:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_model_file(self.folder / "best_model.pt", state.payload())

    def finish(self, comm: Comm) -> None:
        """Replace the last row by a full pass with the final weights, and write the model."""
        state = self.state
        if len(self.history):
            alpha = state.spec.config.force_weight
            row = self.history.last
            for kind, ids in (("train", state.spec.train_ids), ("test", state.spec.test_ids)):
                errors = evaluate(state.model, state.maker, ids, comm, forces=alpha > 0)
                row |= error_columns(kind, errors, alpha)
            self.history.replace_last(row)
        for logger in self.loggers:
            logger.close()
        if self.active:
            self.history.rewrite()
            self.history.write_json(self.run_dir / "history.json")
            write_model_file(self.run_dir / "model.pt", state.payload())


def run_training(run_dir: Path, comm: Comm, device: torch.device, on_epoch: OnEpoch | None = None) -> TrainState:
    """Train the run in ``run_dir`` to its end, from its newest checkpoint if there is one."""
    spec = RunSpec.load(run_dir)
    state = TrainState.create(spec, device)
    folder = None if spec.config.checkpoint_dir is None else run_dir / spec.config.checkpoint_dir
    if (start := starting_point(run_dir, folder)) is not None:
        state.restore(*start)
        if comm.rank == 0:
            logger.info("going on after epoch %d of %d", state.epoch, spec.epochs)
    keeper = Keeper(state, run_dir, comm)
    with state.maker.background:
        finished = time.perf_counter()
        while state.epoch < spec.epochs:
            between = time.perf_counter() - finished
            row = run_epoch(state, comm) | {"between_time": between}
            finished = time.perf_counter()
            keeper.after_epoch(row)
            if on_epoch is not None:
                on_epoch(row, state.epoch == spec.epochs)
        keeper.finish(comm)
    return state
