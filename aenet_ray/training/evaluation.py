"""Exact errors over all structures of a part, added over workers; and what the reference reports beside them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from aenet_ray.features.store import FeatureStore
from aenet_ray.models.ann import ANNModel
from aenet_ray.structures.block import chunks_by_atoms
from aenet_ray.structures.structure import FloatArray, IntArray
from aenet_ray.training.batch import Batch, BatchMaker
from aenet_ray.training.clock import StageClock
from aenet_ray.training.comm import Comm
from aenet_ray.training.history import Row
from aenet_ray.training.step import energy_errors, force_errors


@dataclass(frozen=True, slots=True)
class ErrorSums:
    """Exact errors over the data they name; all structures, all labelled forces; NaN where there are none.

    Args:
        n_structures, n_force: Structures and force components.
        energy_rmse, energy_mae: eV/atom; force_rmse, force_mae: eV/Å, over components.
        energy_rmse_batch_mean, energy_mae_batch_mean, force_rmse_batch_mean: Means of the values of batches of
            the training's size, as aenet-python reports them.
    """

    n_structures: int
    energy_rmse: float
    energy_mae: float
    n_force: int
    force_rmse: float
    force_mae: float
    energy_rmse_batch_mean: float
    energy_mae_batch_mean: float
    force_rmse_batch_mean: float

    @classmethod
    def of(cls, sums: FloatArray) -> ErrorSums:
        """From n, Σ(ΔE/N)², Σ|ΔE/N|, n_F, Σ ΔF², Σ|ΔF| of each batch, (n_batches, 6)."""
        n, s_energy, a_energy, n_force, s_force, a_force = sums.sum(axis=0).tolist()
        return cls(
            n_structures=int(n),
            energy_rmse=math.sqrt(s_energy / n) if n else math.nan,
            energy_mae=a_energy / n if n else math.nan,
            n_force=int(n_force),
            force_rmse=math.sqrt(s_force / n_force) if n_force else math.nan,
            force_mae=a_force / n_force if n_force else math.nan,
            energy_rmse_batch_mean=_mean(np.sqrt(_ratio(sums[:, 1], sums[:, 0]))),
            energy_mae_batch_mean=_mean(_ratio(sums[:, 2], sums[:, 0])),
            force_rmse_batch_mean=_mean(np.sqrt(_ratio(sums[:, 4], sums[:, 3]))),
        )


def _ratio(sums: FloatArray, counts: FloatArray) -> FloatArray:
    some = counts > 0
    return sums[some] / counts[some]


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if len(values) else math.nan


def predict_errors(
    model: ANNModel, maker: BatchMaker, ids: IntArray, *, forces: bool, clock: StageClock | None = None
) -> Iterator[tuple[slice, FloatArray, FloatArray]]:
    """(part of ids, energy errors (n,) eV/atom, force errors (n_labelled_atoms, 3) eV/Å) in bounded memory.

    Args:
        ids: Structures of the store, ascending.
    """
    clock = clock or StageClock(model.device)
    limit = 4096 if forces else 16384

    def made(part: slice) -> tuple[slice, Batch]:
        return part, maker.make(ids[part], maker.store.has_forces[ids[part]] if forces else None)

    for part, batch in maker.background.map(made, chunks_by_atoms(maker.store.n_atoms[ids], limit)):
        clock.lap("data")
        if batch.forces is None:
            with torch.no_grad():
                errors = energy_errors(model, batch, model.net(batch.x, batch.counts))
            found = part, errors.double().cpu().numpy(), np.empty((0, 3))
        else:
            errors, force_error = force_errors(model, batch, training=False)
            found = part, errors.detach().double().cpu().numpy(), force_error.detach().cpu().numpy()
        clock.lap("forward")
        yield found
        clock.start()


def evaluate(
    model: ANNModel,
    maker: BatchMaker,
    ids: IntArray,
    comm: Comm,
    *,
    forces: bool,
    batch_size: int,
    clock: StageClock | None = None,
) -> ErrorSums:
    """Errors over structures ``ids``, ascending, each worker taking every size-th of them.

    Args:
        batch_size: Of the batches, in the order of ``ids``, whose errors are averaged beside the exact ones.
    """
    mine = np.arange(len(ids))[comm.rank :: comm.size]
    sums = np.zeros((-(-len(ids) // batch_size), 6))
    for part, energy, force in predict_errors(model, maker, ids[mine], forces=forces, clock=clock):
        add_errors(sums, maker.store, ids, mine[part], energy, force, batch_size)
    return ErrorSums.of(comm.sum_(torch.from_numpy(sums).to(model.device)).cpu().numpy())


def add_errors(
    sums: FloatArray,
    store: FeatureStore,
    ids: IntArray,
    places: IntArray,
    energy: FloatArray,
    force: FloatArray,
    batch_size: int,
) -> None:
    """Add the errors of the structures ``ids[places]`` to the sums of their batches, as of ``ErrorSums.of``."""
    columns = [np.ones(len(energy)), np.square(energy), np.abs(energy)]
    if len(force):
        n_atoms = store.n_atoms[ids[places]] * store.has_forces[ids[places]]
        of_atom = np.repeat(np.arange(len(places)), n_atoms)
        per_atom = (np.full(len(force), 3.0), np.square(force).sum(axis=1), np.abs(force).sum(axis=1))
        columns += [np.bincount(of_atom, c, minlength=len(places)) for c in per_atom]
    for k, column in enumerate(columns):
        sums[:, k] += np.bincount(places // batch_size, column, minlength=len(sums))


def monitor(errors: ErrorSums, alpha: float) -> float:
    """Validation loss (1 − α) RMSE_E + α RMSE_F; NaN without validation structures."""
    force = 0.0 if math.isnan(errors.force_rmse) else errors.force_rmse
    return (1 - alpha) * errors.energy_rmse + alpha * force


def error_columns(kind: str, errors: ErrorSums, alpha: float) -> Row:
    """What the history says of a part, ``train`` or ``test``."""
    return {
        f"{kind}_energy_rmse": errors.energy_rmse,
        f"{kind}_energy_mae": errors.energy_mae,
        f"{kind}_force_rmse": errors.force_rmse,
        f"{kind}_force_mae": errors.force_mae,
        f"{kind}_loss": monitor(errors, alpha),
        f"{kind}_energy_rmse_batch_mean": errors.energy_rmse_batch_mean,
        f"{kind}_energy_mae_batch_mean": errors.energy_mae_batch_mean,
        f"{kind}_force_rmse_batch_mean": errors.force_rmse_batch_mean,
    }
