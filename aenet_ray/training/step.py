"""One exact training step and one exact evaluation, on a worker's share of a global batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aenet_ray.losses import LossScale, loss_scale
from aenet_ray.models.ann import ANNModel
from aenet_ray.structures.block import chunks_by_atoms
from aenet_ray.structures.structure import FloatArray, IntArray
from aenet_ray.training.batch import Batch, BatchMaker
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
) -> tuple[LossScale, Tensor]:
    """Update the weights once; returns the global loss before it, and this worker's energy errors.

    Every worker calls it for every global batch, also with an empty share.
    """
    flat.zero_grad()
    if counts.n_force and alpha > 0:
        scale, errors = _energy_and_forces(model, flat, batch, counts, alpha, comm)
    else:
        scale, errors = _energy_only(model, flat, batch, counts, alpha, comm)
    optimizer.step()
    return scale, errors


def _energy_only(
    model: ANNModel, flat: FlatParameters, batch: Batch, counts: GlobalBatch, alpha: float, comm: Comm
) -> tuple[LossScale, Tensor]:
    """∇S_E and S_E travel in one message; the common factor is applied after it."""
    atom_energies, pullback = model.net.forward_with_pullback(batch.x, batch.counts)
    errors = energy_errors(model, batch, atom_energies)
    if batch.n_structures:
        # ∂S_E/∂e_a = 2 error / (N E_scaling) of the atom's structure
        per_structure = errors / batch.n_atoms * (2.0 / model.normalization.E_scaling)
        pullback(per_structure[batch.structure])
        flat.extra[0] = errors.dot(errors)
    comm.sum_(flat.message)
    scale = loss_scale(float(flat.extra[0]), counts.n_structures, 0.0, 0, alpha)
    flat.scale_gradient(scale.c_energy)
    return scale, errors


def _energy_and_forces(
    model: ANNModel, flat: FlatParameters, batch: Batch, counts: GlobalBatch, alpha: float, comm: Comm
) -> tuple[LossScale, Tensor]:
    """The global sums come first: they weigh the two terms before the one backward pass."""
    if batch.forces is None:
        errors = energy_errors(model, batch, model.net(batch.x, batch.counts))
        s_force = torch.zeros((), dtype=torch.float64, device=flat.message.device)
    else:
        errors, force_error = force_errors(model, batch, training=True)
        s_force = force_error.square().sum()
    s_energy = errors.square().sum()
    sums = comm.sum_(torch.stack([s_energy.detach().double(), s_force.detach()]))
    total_energy, total_force = sums.tolist()
    scale = loss_scale(
        total_energy, counts.n_structures, total_force, counts.n_force, alpha, counts.supervised_fraction
    )
    if batch.n_structures:
        (scale.c_energy * s_energy + scale.c_force * s_force).backward()
    comm.sum_(flat.message)
    return scale, errors.detach()


@dataclass(frozen=True, slots=True)
class ErrorSums:
    """Exact errors over the data they name; all structures, all labelled forces."""

    n_structures: int
    energy_rmse: float
    energy_mae: float
    n_force: int
    force_rmse: float
    force_mae: float


def predict_errors(
    model: ANNModel, maker: BatchMaker, ids: IntArray, *, forces: bool
) -> Iterator[tuple[slice, FloatArray, FloatArray]]:
    """(part of ids, energy errors (n,) eV/atom, force errors (n_labelled_atoms, 3) eV/Å) in bounded memory."""
    limit = 4096 if forces else 16384

    def made(part: slice) -> tuple[slice, Batch]:
        return part, maker.make(ids[part], maker.store.has_forces[ids[part]] if forces else None)

    for part, batch in maker.background.map(made, chunks_by_atoms(maker.store.n_atoms[ids], limit)):
        if batch.forces is None:
            with torch.no_grad():
                errors = energy_errors(model, batch, model.net(batch.x, batch.counts))
            yield part, errors.double().cpu().numpy(), np.empty((0, 3))
        else:
            errors, force_error = force_errors(model, batch, training=False)
            yield part, errors.detach().double().cpu().numpy(), force_error.detach().cpu().numpy()


def evaluate(model: ANNModel, maker: BatchMaker, ids: IntArray, comm: Comm, *, forces: bool) -> ErrorSums:
    """Errors over structures ``ids``, each worker taking every size-th of them."""
    sums = np.zeros(6)
    for part, energy, force in predict_errors(model, maker, ids[comm.rank :: comm.size], forces=forces):
        sums[:3] += part.stop - part.start, np.square(energy).sum(), np.abs(energy).sum()
        sums[3:] += force.size, np.square(force).sum(), np.abs(force).sum()
    n, s_energy, a_energy, n_force, s_force, a_force = comm.sum_(torch.from_numpy(sums).to(model.device)).tolist()
    nan = float("nan")
    return ErrorSums(
        n_structures=int(n),
        energy_rmse=(s_energy / n) ** 0.5 if n else nan,
        energy_mae=a_energy / n if n else nan,
        n_force=int(n_force),
        force_rmse=(s_force / n_force) ** 0.5 if n_force else nan,
        force_mae=a_force / n_force if n_force else nan,
    )
