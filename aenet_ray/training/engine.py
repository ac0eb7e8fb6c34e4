"""The loop that every worker runs; alone, it is the whole training."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from aenet_ray.errors import TrainingError
from aenet_ray.losses import LossScale
from aenet_ray.progress import counted
from aenet_ray.structures.structure import FloatArray, IntArray
from aenet_ray.training.batch import Batch, BatchMaker
from aenet_ray.training.clock import StageClock
from aenet_ray.training.comm import Comm
from aenet_ray.training.early_stopping import is_last
from aenet_ray.training.epoch_plan import EpochPlan, PlannedBatch
from aenet_ray.training.evaluation import error_columns, evaluate
from aenet_ray.training.history import Row
from aenet_ray.training.keeper import Keeper
from aenet_ray.training.lbfgs import lbfgs_step
from aenet_ray.training.natural_gradient import NaturalGradientOptimizer, natural_gradient_step
from aenet_ray.training.plan import batches
from aenet_ray.training.spec import RunSpec
from aenet_ray.training.state import Start, TrainState
from aenet_ray.training.step import GlobalBatch, train_step

logger = logging.getLogger(__name__)

OnEpoch = Callable[[Row, bool], None]
"""Called on every worker after each epoch with its row and whether it was the last one."""


@dataclass
class Running:
    """What an epoch's steps add up to, by the weights before each of them.

    Args:
        errors: |ΔE|/N of this worker's draws in their places, (n_draws,) if the policy wants them, else (0,).
        sums: Of this worker's |ΔE|/N, (n_batches,).
    """

    errors: FloatArray
    sums: FloatArray
    scales: list[LossScale] = field(default_factory=list)
    planned: list[tuple[int, int, float]] = field(default_factory=list)

    def add(
        self, k: int, start: int, counts: GlobalBatch, mine: IntArray, scale: LossScale, magnitude: FloatArray
    ) -> None:
        """Step k, over the draws from ``start`` on; |ΔE|/N of this worker's places ``mine``, (n,)."""
        self.sums[k] = magnitude.sum()
        if len(self.errors):
            self.errors[start + mine] = magnitude
        self.scales.append(scale)
        self.planned.append((counts.n_structures, counts.n_force, counts.supervised_fraction))

    def row(self) -> Row:
        """Exact means over all draws, and means of the steps' values; ``sums`` are those of all workers by now."""
        n, n_force, fraction = (np.array(c, dtype=np.float64) for c in zip(*self.planned, strict=True))
        energy = np.array([s.energy_rmse for s in self.scales])
        force = np.array([s.force_rmse for s in self.scales])
        some = np.isfinite(force)
        # The factor of force_scale_unbiased is in a step's loss, as the reference reports it, but in no exact error.
        squares = n_force[some] * fraction[some] * np.square(force[some])
        return {
            "train_energy_rmse": math.sqrt((n * np.square(energy)).sum() / n.sum()),
            "train_energy_mae": float(self.sums.sum() / n.sum()),
            "train_force_rmse": math.sqrt(squares.sum() / n_force[some].sum()) if some.any() else math.nan,
            "train_loss": float((n * [s.loss for s in self.scales]).sum() / n.sum()),
            "train_energy_rmse_batch_mean": float(energy.mean()),
            "train_energy_mae_batch_mean": float((self.sums / n).mean()),
            "train_force_rmse_batch_mean": float(force[some].mean()) if some.any() else math.nan,
        }


def train_epoch(state: TrainState, comm: Comm) -> Row:
    """All steps of one epoch; exact means over its draws, by the weights before each update."""
    config, plan = state.spec.config, EpochPlan.of(state)
    clock = StageClock(state.model.device, exact=config.timing)
    parts = list(batches(plan.drawn, state.spec.reported_batch(plan.drawn)))
    needs_errors = state.policy.state() is not None
    running = Running(np.zeros(len(plan.drawn) if needs_errors else 0), np.zeros(len(parts)))

    def prepared(part: slice) -> tuple[PlannedBatch, IntArray, Batch | None]:
        planned = plan.batch(part, state)
        mine = planned.mine(comm)
        if isinstance(state.optimizer, torch.optim.LBFGS):  # makes its own, as often as its line search looks
            return planned, mine, None
        return planned, mine, state.maker.make(planned.ids[mine], planned.supervised[mine])

    shown = config.show_progress and config.show_batch_progress and comm.rank == 0
    ready = state.maker.background.map(prepared, parts)
    ready = counted(ready, f"epoch {state.epoch + 1}", len(parts), "batches", show=shown)
    for k, (planned, mine, batch) in enumerate(ready):
        clock.lap("data")
        scale, own = _step(state, planned, mine, batch, comm, clock)
        if not math.isfinite(scale.loss):
            raise diverged(state, scale)
        running.add(k, parts[k].start, planned.counts, mine, scale, own.abs().double().cpu().numpy())
        clock.start()
    everywhere = torch.from_numpy(np.concatenate([running.sums, running.errors])).to(state.model.device)
    found = comm.sum_(everywhere).cpu().numpy()
    running.sums = found[: len(parts)]
    if needs_errors:
        state.policy.observe(plan.drawn, found[len(parts) :])
    return running.row() | training_times(clock)


def diverged(state: TrainState, scale: LossScale) -> TrainingError:
    return TrainingError(
        f"epoch {state.epoch + 1}: training has diverged, the loss is {scale.loss}. Lower the learning rate "
        f"(now {state.schedule.learning_rate:g}), set max_grad_norm, or look for wrong labels "
        "('aenet-ray info'); checkpoints of the epochs before are kept."
    )


def _step(
    state: TrainState, planned: PlannedBatch, mine: IntArray, batch: Batch | None, comm: Comm, clock: StageClock
) -> tuple[LossScale, torch.Tensor]:
    """One step on a global batch; returns the loss before it and this worker's energy errors, eV/atom."""
    config, optimizer = state.spec.config, state.optimizer
    if batch is None:
        return lbfgs_step(state, planned, mine, comm, clock)
    if isinstance(optimizer, NaturalGradientOptimizer):
        n_structures = planned.counts.n_structures
        scale, own = natural_gradient_step(state.model, optimizer, batch, mine, n_structures, comm)
        clock.lap("optimizer")
        return scale, own
    alpha, longest = config.force_weight, config.max_grad_norm
    return train_step(state.model, state.flat, optimizer, batch, planned.counts, alpha, comm, clock, longest)


def training_times(clock: StageClock) -> Row:
    data, step = clock.of("data"), clock.of("forward", "loss", "backward", "optimizer")
    return {
        "data_time": data,
        "step_time": step,
        "forward_time": clock.of("forward"),
        "backward_time": clock.of("backward"),
        "epoch_data_loading_time_train": data,
        "epoch_loss_time_train": clock.of("loss"),
        "epoch_optimizer_time_train": clock.of("optimizer"),
        "epoch_train_time": data + step,
    }


def run_epoch(state: TrainState, comm: Comm) -> Row:
    """An epoch's steps, its validation, and what follows from that."""
    epoch_clock = StageClock(state.model.device)
    state.schedule.begin(state.epoch)
    row = train_epoch(state, comm)
    epoch_clock.lap("train")
    row |= validate(state, comm)
    epoch_clock.lap("validation")
    return row | conclude(state, row["test_loss"]) | epoch_times(epoch_clock)


def conclude(state: TrainState, test_loss: float) -> Row:
    """What follows from an epoch's validation loss for the next ones."""
    state.schedule.finish(test_loss)
    state.stopping.observe(test_loss)
    return {
        "epoch": state.epoch,
        "learning_rate": state.schedule.learning_rate,
        "epochs_without_improvement": state.stopping.waited,
    }


def epoch_times(clock: StageClock) -> Row:
    validation = clock.of("validation")
    return {
        "epoch_time": clock.of("train", "validation"),
        "validation_time": validation,
        "epoch_val_time": validation,
    }


def validate(state: TrainState, comm: Comm) -> Row:
    """Exact errors over the validation structures, all their labelled forces included."""
    config, ids = state.spec.config, state.spec.test_ids
    clock = StageClock(state.model.device, exact=config.timing)
    errors = evaluate(
        state.model,
        state.maker,
        ids,
        comm,
        forces=config.force_weight > 0,
        batch_size=state.spec.reported_batch(ids),
        clock=clock,
    )
    return error_columns("test", errors, config.force_weight) | validation_times(clock)


def validation_times(clock: StageClock) -> Row:
    return {
        "epoch_data_loading_time_val": clock.of("data"),
        "epoch_loss_time_val": clock.of("forward"),
        "epoch_optimizer_time_val": 0.0,
    }


def open_run(spec: RunSpec, start: Start, device: torch.device, maker: BatchMaker | None = None) -> TrainState:
    """A run where it is: at its newest checkpoint, or before its first epoch.

    Args:
        maker: Of a run on the same data; None: its own.
    """
    state = TrainState.create(spec, device, maker)
    if start.payload is not None:
        state.restore(start.payload, start.where)
    return state


def run_training(run_dir: Path, comm: Comm, device: torch.device, on_epoch: OnEpoch | None = None) -> TrainState:
    """Train the run in ``run_dir`` to its end, from its newest checkpoint if there is one."""
    spec = RunSpec.load(run_dir)
    return train_to_end(open_run(spec, Start.of(run_dir, spec), device), run_dir, comm, on_epoch)


def train_to_end(
    state: TrainState,
    run_dir: Path,
    comm: Comm,
    on_epoch: OnEpoch | None = None,
    ending: Callable[[], bool] = lambda: False,
) -> TrainState:
    """Train an opened run.

    Args:
        ending: Asked after each epoch whether to leave the run there, with a checkpoint to go on from.
    """
    spec = state.spec
    if state.epoch and comm.rank == 0:
        logger.info("going on after epoch %d of %d", state.epoch, spec.epochs)
    keeper = Keeper(state, run_dir, comm)
    with keeper, state.maker.background:
        finished = time.perf_counter()
        while not state.done:
            between = time.perf_counter() - finished
            row = run_epoch(state, comm) | {"between_time": between}
            finished = time.perf_counter()
            keeper.after_epoch(row)
            if leaves := ending():
                keeper.leave()  # before anything is printed, to somebody who may be gone
            if on_epoch is not None:
                on_epoch(row, is_last(row, spec.config, spec.epochs))
            if leaves:
                return state
        if state.stopping.stopped and comm.rank == 0:
            logger.info(
                "stopped early after epoch %d of %d: no lower validation loss than %.4g for %d epochs",
                state.epoch, spec.epochs, state.stopping.best, state.stopping.waited,
            )  # fmt: skip
        keeper.finish(comm)
    return state
