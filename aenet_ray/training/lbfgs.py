"""Epochs of L-BFGS: torch's minimiser over a loss and a gradient that are sums over all workers.

Every worker runs the same line search on the same numbers, so that all take the same steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from aenet_ray.errors import TrainingError
from aenet_ray.losses import LossScale, loss_scale
from aenet_ray.structures.structure import IntArray
from aenet_ray.training.batch import Batch
from aenet_ray.training.clock import StageClock
from aenet_ray.training.comm import Comm
from aenet_ray.training.epoch_plan import PlannedBatch
from aenet_ray.training.state import TrainState
from aenet_ray.training.step import energy_errors, force_errors


class FullBatchLoss:
    """Loss and gradient over all training structures as a closure of torch's L-BFGS; all workers call it together.

    Args:
        first: The loss before the first step of the epoch, once it was called.
        own: Energy errors of this worker's structures then, eV/atom.
    """

    def __init__(self, state: TrainState, planned: PlannedBatch, mine: IntArray, comm: Comm, clock: StageClock) -> None:
        self.state, self.planned, self.mine, self.comm, self.clock = state, planned, mine, comm, clock
        self.first: LossScale | None = None
        self.own = torch.empty(0)
        self._kept: list[Batch] = []

    def __call__(self) -> float:
        state, counts, alpha = self.state, self.planned.counts, self.state.spec.config.force_weight
        n = len(state.flat.gradient)
        # ∇S_E, ∇S_F and both sums in one message: what weighs them is known only after it.
        message = torch.zeros(2 * n + 2, dtype=torch.float64, device=state.model.device)
        errors = [self._add(batch, message, n) for batch in self._batches()]
        self.comm.sum_(message)
        s_energy, s_force = message[2 * n :].tolist()
        scale = loss_scale(s_energy, counts.n_structures, s_force, counts.n_force, alpha, counts.supervised_fraction)
        if not math.isfinite(scale.loss):
            raise TrainingError(
                f"epoch {state.epoch + 1}: training has diverged, the loss of a trial step of lbfgs is {scale.loss}. "
                "Lower lr, start with a few epochs of adam, or look for wrong labels ('aenet-ray info')."
            )
        state.flat.gradient.copy_(scale.c_energy * message[:n] + scale.c_force * message[n : 2 * n])
        if self.first is None:
            self.first, self.own = scale, torch.cat([*errors, self.own.to(state.model.device)])
        self.clock.lap("loss")
        return scale.loss

    def _batches(self) -> Iterator[Batch]:
        """This worker's share in parts of ``batchsize`` structures; kept for the next call where it is one."""
        size = self.state.spec.config.batch_size
        parts = [self.mine[start : start + size] for start in range(0, len(self.mine), size)]
        made: Iterable[Batch] = self._kept or self.state.maker.background.map(self._make, parts)
        for batch in made:
            self.clock.lap("data")
            self._kept = [batch] if len(parts) == 1 else []
            yield batch

    def _make(self, part: IntArray) -> Batch:
        return self.state.maker.make(self.planned.ids[part], self.planned.supervised[part])

    def _add(self, batch: Batch, message: Tensor, n: int) -> Tensor:
        """Add a batch's share of the sums; returns its energy errors."""
        model, flat = self.state.model, self.state.flat
        if batch.forces is None:
            errors, force_error = energy_errors(model, batch, model.net(batch.x, batch.counts)), None
        else:
            errors, force_error = force_errors(model, batch, training=True)
        self.clock.lap("forward")
        flat.zero_grad()
        s_energy = errors.square().sum()
        s_energy.backward(retain_graph=force_error is not None)
        message[:n] += flat.gradient
        message[2 * n] += s_energy.detach()
        if force_error is not None:
            flat.zero_grad()
            s_force = force_error.square().sum()
            s_force.backward()
            message[n : 2 * n] += flat.gradient
            message[2 * n + 1] += s_force.detach()
        self.clock.lap("backward")
        return errors.detach()


def lbfgs_step(
    state: TrainState, planned: PlannedBatch, mine: IntArray, comm: Comm, clock: StageClock
) -> tuple[LossScale, Tensor]:
    """The steps of one epoch; returns the loss before them and this worker's energy errors then.

    Raises:
        TrainingError: A trial step has no finite loss.
    """
    loss = FullBatchLoss(state, planned, mine, comm, clock)
    state.optimizer.step(loss)
    clock.lap("optimizer")
    assert loss.first is not None
    return loss.first, loss.own
