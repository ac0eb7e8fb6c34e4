"""The plan of an epoch: a pure function of (seed, epoch, policy state), the same on every worker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from aenet_ray.errors import TrainingError
from aenet_ray.structures.structure import FloatArray, IntArray

# Purposes keep the streams of one seed apart: adding a draw to one never shifts another.
ORDER, TRAIN_FORCES = 0, 1


def generator(seed: int, purpose: int, counter: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, purpose, counter])))


class SamplingPolicy(ABC):
    """Which structures an epoch draws. Its state is all that a resumed run needs of it."""

    name: str

    @abstractmethod
    def draw(self, seed: int, epoch: int) -> IntArray:
        """Positions in the training split, in order of use, (n_draws,)."""

    @abstractmethod
    def observe(self, drawn: IntArray, errors: FloatArray) -> None:
        """Learn from the epoch just done: |ΔE|/N of each draw, (n_draws,), eV/atom."""

    def state(self) -> FloatArray | None:
        """What changes from epoch to epoch, (n_structures,); None where nothing does."""
        return None

    @abstractmethod
    def restore(self, state: FloatArray | None) -> None: ...


@final
class Uniform(SamplingPolicy):
    """Every structure once an epoch, shuffled."""

    name = "uniform"

    def __init__(self, n: int) -> None:
        self.n = n

    def draw(self, seed: int, epoch: int) -> IntArray:
        return generator(seed, ORDER, epoch).permutation(self.n)

    def observe(self, drawn: IntArray, errors: FloatArray) -> None:
        """Nothing to learn."""

    def restore(self, state: FloatArray | None) -> None:
        """Nothing to restore."""


class Weighted(SamplingPolicy):
    """As many draws as structures, with replacement, by weight."""

    def __init__(self, weights: FloatArray) -> None:
        self.weights = weights

    def draw(self, seed: int, epoch: int) -> IntArray:
        rng = generator(seed, ORDER, epoch)
        cumulative = np.cumsum(self.weights)
        # Sorted uniforms walk the cumulative weights in order: ten times faster for millions.
        u = np.sort(rng.random(len(self.weights))) * cumulative[-1]
        drawn = np.minimum(np.searchsorted(cumulative, u, side="right"), len(self.weights) - 1)
        return rng.permutation(drawn)


@final
class EnergyWeighted(Weighted):
    """Low energies more often: w = 1 / (1 + Δ/max Δ), Δ above the lowest energy per atom."""

    name = "energy_weighted"

    def __init__(self, energy_per_atom: FloatArray) -> None:
        super().__init__(energy_weights(energy_per_atom))

    def observe(self, drawn: IntArray, errors: FloatArray) -> None:
        """Nothing to learn: energies do not change."""

    def restore(self, state: FloatArray | None) -> None:
        """Nothing to restore."""


@final
class ErrorWeighted(Weighted):
    """Large errors more often: the weight is the error seen last, uniform at first."""

    name = "error_weighted"

    def __init__(self, n: int) -> None:
        self.scores = np.ones(n)
        super().__init__(error_weights(self.scores))

    def observe(self, drawn: IntArray, errors: FloatArray) -> None:
        n = len(self.scores)
        good = np.isfinite(errors) & (errors >= 0)
        counts = np.bincount(drawn[good], minlength=n)
        sums = np.bincount(drawn[good], weights=errors[good], minlength=n)
        seen = counts > 0
        self.scores[seen] = sums[seen] / counts[seen]
        self.weights = error_weights(self.scores)

    def state(self) -> FloatArray:
        return self.scores

    def restore(self, state: FloatArray | None) -> None:
        if state is None or len(state) != len(self.scores):
            found = "none" if state is None else str(len(state))
            raise TrainingError(
                f"error_weighted sampling: the checkpoint has {found} scores for {len(self.scores)} training "
                "structures; resume with the data and the split the run began with."
            )
        self.scores = np.array(state, dtype=np.float64)
        self.weights = error_weights(self.scores)


def energy_weights(energy_per_atom: FloatArray) -> FloatArray:
    """Weights in [1/2, 1], (n,), of referenced energies per atom (eV)."""
    above = energy_per_atom - energy_per_atom.min()
    highest = above.max()
    return np.ones_like(above) if highest <= 0 else 1.0 / (1.0 + above / highest)


def error_weights(scores: FloatArray) -> FloatArray:
    """Weights of mean one, (n,); all one if no score is positive."""
    clean = np.where(np.isfinite(scores) & (scores > 0), scores, 0.0)
    if not clean.any():
        return np.ones_like(clean)
    clean = np.maximum(clean, 1e-12)
    return clean / clean.mean()


def make_policy(name: str, n: int, energy_per_atom: Callable[[], FloatArray]) -> SamplingPolicy:
    """Policy over n structures; their referenced energies per atom, eV, are only computed if it needs them."""
    if name == "uniform":
        return Uniform(n)
    return EnergyWeighted(energy_per_atom()) if name == "energy_weighted" else ErrorWeighted(n)


@dataclass(frozen=True, slots=True)
class ForceSubset:
    """Which force-labelled structures of a split give their forces, by epoch.

    Args:
        labelled: Whether each structure of the split has forces, (n,).
        fraction, minimum, sampling, resample: The ``force_*`` settings of the configuration.
    """

    labelled: NDArray[np.bool_]
    fraction: float
    minimum: int | None
    sampling: str
    resample: int

    def size(self) -> int:
        n = int(self.labelled.sum())
        return min(max(int(n * self.fraction), self.minimum or 0), n)

    def window(self, epoch: int) -> int:
        """Epochs of one window share one subset."""
        return epoch // self.resample if self.sampling == "random" and self.resample else 0

    def draw(self, seed: int, epoch: int) -> NDArray[np.bool_]:
        """Selected structures, (n,)."""
        if self.fraction >= 1:
            return self.labelled
        candidates = np.flatnonzero(self.labelled)
        rng = generator(seed, TRAIN_FORCES, self.window(epoch))
        selected = np.zeros(len(self.labelled), dtype=bool)
        selected[rng.choice(candidates, self.size(), replace=False)] = True
        return selected


def batches(drawn: IntArray, batch_size: int) -> Iterator[slice]:
    """Global batches as slices of the draws; the last may be smaller."""
    for start in range(0, len(drawn), batch_size):
        yield slice(start, min(start + batch_size, len(drawn)))


def share(costs: NDArray, n_workers: int, worker: int) -> IntArray:
    """This worker's positions of a global batch, ascending.

    Sorted by cost and dealt back and forth, every worker gets nearly the same total; nothing is repeated
    or dropped, and a worker may get nothing.
    """
    if n_workers == 1:
        return np.arange(len(costs))
    by_cost = np.argsort(-costs, kind="stable")
    turn, place = np.divmod(np.arange(len(costs)), n_workers)
    dealt_to = np.where(turn % 2 == 0, place, n_workers - 1 - place)
    return np.sort(by_cost[dealt_to == worker])
