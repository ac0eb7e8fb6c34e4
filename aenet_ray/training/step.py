"""One exact training step, on a worker's share of a global batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aenet_ray.losses import LossScale, loss_scale
from aenet_ray.models.ann import ANNModel
from aenet_ray.training.batch import Batch
from aenet_ray.training.clock import StageClock
from aenet_ray.training.comm import Comm
from aenet_ray.training.flat import FlatParameters


@dataclass(frozen=True, slots=True)
class GlobalBatch:
    """Counts over all workers; every worker knows them from the plan.

    Args:
        n_structures: Structures of the global batch.
        n_force: Supervised force components.
        supervised_fraction: Their part of all labelled ones if ``force_scale_unbiased``, else 1.
    """

    n_structures: int
    n_force: int
    supervised_fraction: float = 1.0


def energy_errors(model: ANNModel, batch: Batch, atom_energies: Tensor) -> Tensor:
    """(E_pred − E_ref)/N, (n_structures,), eV/atom."""
    total = torch.zeros_like(batch.target).index_add(0, batch.structure, atom_energies)
    return (total / batch.n_atoms - batch.target) / model.normalization.E_scaling


def force_errors(model: ANNModel, batch: Batch, *, training: bool) -> tuple[Tensor, Tensor]:
    """Energy errors, and F_pred − F_ref of the supervised atoms, (n_supervised, 3), eV/Å."""
    assert batch.forces is not None
    x = batch.x.requires_grad_(True)
    atom_energies = model.net(x, batch.counts)
    (gradient,) = torch.autograd.grad(atom_energies.sum(), x, create_graph=training)
    forces = model.forces(gradient[batch.forces.rows], batch.forces.edges, batch.forces.species)
    return energy_errors(model, batch, atom_energies), forces - batch.forces.reference


def train_step(
    model: ANNModel,
    flat: FlatParameters,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    counts: GlobalBatch,
    alpha: float,
    comm: Comm,
    clock: StageClock,
    max_grad_norm: float | None = None,
) -> tuple[LossScale, Tensor]:
    """Update the weights once; returns the global loss before it, and this worker's energy errors.

    Every worker calls it for every global batch, also with an empty share.

    Args:
        max_grad_norm: The gradient of the global batch is shortened to this 2-norm where it is longer.
    """
    flat.zero_grad()
    if counts.n_force and alpha > 0:
        scale, errors = _energy_and_forces(model, flat, batch, counts, alpha, comm, clock)
    else:
        scale, errors = _energy_only(model, flat, batch, counts, alpha, comm, clock)
    if max_grad_norm is not None:
        flat.clip(max_grad_norm)
    optimizer.step()
    clock.lap("optimizer")
    return scale, errors


def _energy_only(
    model: ANNModel,
    flat: FlatParameters,
    batch: Batch,
    counts: GlobalBatch,
    alpha: float,
    comm: Comm,
    clock: StageClock,
) -> tuple[LossScale, Tensor]:
    """∇S_E and S_E travel in one message; the common factor is applied after it."""
    atom_energies, pullback = model.net.forward_with_pullback(batch.x, batch.counts)
    errors = energy_errors(model, batch, atom_energies)
    clock.lap("forward")
    if batch.n_structures:
        # ∂S_E/∂e_a = 2 error / (N E_scaling) of the atom's structure
        per_structure = errors / batch.n_atoms * (2.0 / model.normalization.E_scaling)
        pullback(per_structure[batch.structure])
        flat.extra[0] = errors.dot(errors)
    clock.lap("backward")
    comm.sum_(flat.message)
    scale = loss_scale(float(flat.extra[0]), counts.n_structures, 0.0, 0, alpha)
    flat.scale_gradient(scale.c_energy)
    clock.lap("loss")
    return scale, errors


def _energy_and_forces(
    model: ANNModel,
    flat: FlatParameters,
    batch: Batch,
    counts: GlobalBatch,
    alpha: float,
    comm: Comm,
    clock: StageClock,
) -> tuple[LossScale, Tensor]:
    """The global sums come first: they weigh the two terms before the one backward pass."""
    if batch.forces is None:
        errors = energy_errors(model, batch, model.net(batch.x, batch.counts))
        s_force = torch.zeros((), dtype=torch.float64, device=flat.message.device)
    else:
        errors, force_error = force_errors(model, batch, training=True)
        s_force = force_error.square().sum()
    s_energy = errors.square().sum()
    clock.lap("forward")
    sums = comm.sum_(torch.stack([s_energy.detach().double(), s_force.detach()]))
    total_energy, total_force = sums.tolist()
    scale = loss_scale(
        total_energy, counts.n_structures, total_force, counts.n_force, alpha, counts.supervised_fraction
    )
    clock.lap("loss")
    if batch.n_structures:
        (scale.c_energy * s_energy + scale.c_force * s_force).backward()
    comm.sum_(flat.message)
    clock.lap("backward")
    return scale, errors.detach()
