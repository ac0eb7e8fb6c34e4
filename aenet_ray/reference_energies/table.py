"""Samples that have an energy: counted, drawn from, and as a table where they are gone through twice."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from aenet_ray.config import warn_user
from aenet_ray.errors import ReferenceEnergyError
from aenet_ray.reference_energies.compounds import Key, key_of
from aenet_ray.reference_energies.least_squares import CompositionFit
from aenet_ray.reference_energies.samples import Sample, iter_samples, store_blocks
from aenet_ray.structures.compositions import Distinct
from aenet_ray.structures.store import StructureStore

T = TypeVar("T")


class Labelled:
    """Samples that have an energy; the others are counted, and said when all are through."""

    def __init__(self, samples: Any) -> None:
        self.samples, self.n, self.without = samples, 0, 0

    def __iter__(self) -> Iterator[Sample]:
        for composition, energy in iter_samples(self.samples):
            if energy is None:
                self.without += 1
            else:
                self.n += 1
                yield composition, energy

    def finish(self, size: int | None) -> int:
        """Number of samples. Raises ReferenceEnergyError where there is none, or fewer than the subset wants."""
        check_count(self.n, self.without, size)
        return self.n


def check_count(n: int, without: int, size: int | None) -> None:
    if without:
        warn_user(f"{without} of {n + without} structures have no energy; they are left out.", UserWarning)
    if n == 0:
        raise ReferenceEnergyError("samples: none with an energy; expected at least one.")
    if size is not None and size > n:
        raise ReferenceEnergyError(f"subset_size: {size} of {n} samples; expected at most {n}.")


def compositions_of(stores: Sequence[StructureStore]) -> CompositionFit:
    """All structures of stores that have an energy."""
    fit = CompositionFit()
    for store in stores:
        for counts, energies in store_blocks(store):
            has = np.isfinite(energies)
            fit.add_rows(store.species, counts[has], energies[has])
    return fit


def fit_of_stores(stores: Sequence[StructureStore]) -> tuple[CompositionFit, int]:
    """All structures of stores, by columns."""
    fit = compositions_of(stores)
    check_count(fit.n_samples, sum(map(len, stores)) - fit.n_samples, None)
    return fit, fit.n_samples


@dataclass(frozen=True, slots=True)
class Table:
    """Samples that are gone through twice.

    Args:
        species: Of the columns of ``counts``.
        counts: The different compositions, (n_compositions, n_species).
        number: Of each sample's composition, (n,).
        energies: (n,), eV.
    """

    species: Sequence[str]
    counts: np.ndarray
    number: np.ndarray
    energies: np.ndarray

    @classmethod
    def of_samples(cls, samples: Iterable[Sample]) -> Table:
        numbers: dict[Key, int] = {}
        rows = [(numbers.setdefault(key_of(composition), len(numbers)), energy) for composition, energy in samples]
        species = sorted({s for key in numbers for s, _ in key})
        counts = np.zeros((len(numbers), len(species)), dtype=np.int64)
        for key, number in numbers.items():
            for s, n in key:
                counts[number, species.index(s)] = n
        return cls(
            species, counts, np.array([number for number, _ in rows], dtype=np.int64), np.array([e for _, e in rows])
        )

    @classmethod
    def of_stores(cls, stores: Sequence[StructureStore], size: int | None) -> tuple[Table, int]:
        """All structures of stores that have an energy, by columns; and how many they are."""
        species = sorted({s for store in stores for s in store.species})
        compositions, number, energies = Distinct(), list[np.ndarray](), list[np.ndarray]()
        for store in stores:
            columns = [species.index(s) for s in store.species]
            for counts, values in store_blocks(store):
                has = np.isfinite(values)
                rows = np.zeros((int(has.sum()), len(species)), dtype=np.int64)
                rows[:, columns] = counts[has]
                number.append(compositions.add(rows))
                energies.append(values[has])
        total = sum(map(len, energies))
        check_count(total, sum(map(len, stores)) - total, size)
        return cls(species, compositions.rows, np.concatenate(number), np.concatenate(energies)), total

    def take(self, indices: np.ndarray) -> Table:
        return replace(self, number=self.number[indices], energies=self.energies[indices])

    def fit(self, keep: np.ndarray | None) -> CompositionFit:
        chosen = slice(None) if keep is None else keep
        fit = CompositionFit()
        fit.add_rows(self.species, self.counts[self.number[chosen]], self.energies[chosen])
        return fit

    def residuals(self, energies: Mapping[str, float]) -> np.ndarray:
        return self.energies - (self.counts @ np.array([energies.get(s, 0.0) for s in self.species]))[self.number]


def draw(n: int, size: int | None, seed: int | None) -> np.ndarray:
    """Numbers of the samples that ``reservoir`` would choose of n."""
    return np.array(list(reservoir(range(n), n if size is None else size, seed)), dtype=np.int64)


def reservoir(samples: Iterable[T], size: int, seed: int | None) -> Iterator[T]:
    """A random subset of a stream, as aenet-python draws it: item t replaces slot randint(0, t − 1) if it is one."""
    rng = random.Random(seed)
    chosen: list[T] = []
    for t, sample in enumerate(samples, start=1):
        if t <= size:
            chosen.append(sample)
        elif (slot := rng.randint(0, t - 1)) < size:
            chosen[slot] = sample
    yield from chosen
