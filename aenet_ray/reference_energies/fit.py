"""Reference energies: by regression, from reference compounds, or by AIMNet2's filtered regression."""

from __future__ import annotations

import math
import os
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import numpy as np

from aenet_ray.config import warn_user
from aenet_ray.errors import ReferenceEnergyError, ReferenceEnergyTypeError
from aenet_ray.reference_energies.least_squares import CompositionFit, Solution, explain_rank, require_full_rank
from aenet_ray.reference_energies.samples import (
    Sample,
    check_composition,
    iter_samples,
    parse_formula,
    store_blocks,
    stores_of,
)
from aenet_ray.structures.compositions import Distinct
from aenet_ray.structures.store import StructureStore

T = TypeVar("T")
Key = tuple[tuple[str, int], ...]
"""A composition, sorted and hashable."""


@dataclass(frozen=True, slots=True)
class ReferenceEnergies:
    """Energies of isolated species, eV, and how they were found.

    Args:
        atomic_energies: Species to energy, eV.
        method: How they were found.
        metadata: species_order, fixed_atomic_energies, free_species, n_samples_total, rank,
            residual_sum_squares (eV²), rmse (eV a structure), singular_values, and what belongs to the method.
        n_atoms: Of each species, in the samples that were used.
        standard_errors: Of the fitted energies, eV, from the scatter of the residuals; none where there are no more
            samples than energies.
    """

    atomic_energies: dict[str, float]
    method: Literal["regression", "reference_compounds", "sae"]
    metadata: dict[str, Any] = field(default_factory=dict)
    n_atoms: dict[str, int] = field(default_factory=dict)
    standard_errors: dict[str, float] = field(default_factory=dict)

    @classmethod
    def from_regression(
        cls,
        samples: Any,
        *,
        fixed_atomic_energies: Mapping[str, float] | None = None,
        subset_size: int | None = None,
        subset_fraction: float | None = None,
        random_seed: int | None = None,
    ) -> ReferenceEnergies:
        """Least squares of E ≈ Σ n_s ε_s over the species that are not fixed, in bounded memory.

        Args:
            samples: Pairs (composition, total energy in eV), a structure store, a dataset, paths, Structures, ASE
                Atoms, or an iterable of these, which is gone through once. Structures without energy are left out with
                a warning.
            fixed_atomic_energies: Known energies, eV; subtracted first.
            subset_size: Use so many samples, drawn at random.
            subset_fraction: Use this part of a sized collection, rounded up.
            random_seed: Of the draw.

        Raises:
            ReferenceEnergyError: The compositions do not determine the energies (names the species), a sample or an
                option cannot be used.
            ReferenceEnergyTypeError: One is of the wrong type.
        """
        fixed = _check_fixed(fixed_atomic_energies)
        stores = stores_of(samples)
        size = _subset(samples, stores, subset_size, subset_fraction)
        if stores and size is None:
            fit, total = _fit_of_stores(stores)
        elif stores:
            table, total = _Table.of_stores(stores, size)
            fit = table.fit(_draw(total, size, random_seed))
        else:
            labelled = _Labelled(samples)
            chosen = labelled if size is None else _reservoir(labelled, size, random_seed)
            fit = CompositionFit()
            for composition, energy in chosen:
                fit.add(composition, energy)
            total = labelled.finish(size)
        solution = _solve(fit, fixed, total)
        require_full_rank(solution, fit.n_samples)
        return cls(
            _ordered(fixed | solution.energies),
            "regression",
            _metadata(fixed, solution, total, fit.n_samples)
            | {
                "n_samples_used": fit.n_samples,
                "subset_size": subset_size,
                "subset_fraction": subset_fraction,
                "random_seed": random_seed,
            },
            fit.n_atoms,
            solution.standard_errors,
        )

    @classmethod
    def from_reference_compounds(
        cls,
        samples: Any,
        *,
        reference_compounds: Iterable[str | Mapping[str, int]],
        fixed_atomic_energies: Mapping[str, float] | None = None,
    ) -> ReferenceEnergies:
        """Energies for which the reference compounds are exact: the lowest sample of each composition counts.

        Args:
            samples: As in ``from_regression``.
            reference_compounds: Formulas such as 'TiO2' (no brackets), or mappings. A composition is matched exactly:
                Ti2O4 is not TiO2.
            fixed_atomic_energies: Known energies, eV.

        Raises:
            ReferenceEnergyError: A compound is in no sample, is given twice, or they do not determine the energies.
        """
        fixed = _check_fixed(fixed_atomic_energies)
        compounds = _compounds(reference_compounds)
        lowest: dict[Key, float] = {}
        found = dict.fromkeys(compounds, 0)
        labelled, seen, present = _Labelled(samples), set[str](), Counter[Key]()
        for composition, energy in labelled:
            seen.update(composition)
            key = _key(composition)
            present[key] += 1
            if key in found:
                found[key] += 1
                lowest[key] = min(energy, lowest.get(key, math.inf))
        total = labelled.finish(None)
        _require_found([key for key, n in found.items() if n == 0], compounds, present)
        fit = CompositionFit()
        for key, energy in lowest.items():
            fit.add(dict(key), energy)
        solution = _solve(fit, fixed, total)
        require_full_rank(solution, fit.n_samples, "reference compounds: ")
        result = cls(
            _ordered(fixed | solution.energies),
            "reference_compounds",
            _metadata(fixed, solution, total, fit.n_samples)
            | {
                "n_reference_compounds": len(compounds),
                "reference_compounds": [dict(value) for value in compounds.values()],
                "reference_candidate_counts": list(found.values()),
                "selected_reference_samples": [
                    {"composition": dict(compounds[key]), "energy": lowest[key]} for key in compounds
                ],
            },
            fit.n_atoms,
            solution.standard_errors,
        )
        without = sorted(seen - set(result.atomic_energies))
        if without:
            warn_user(
                f"reference compounds: {', '.join(without)} of the samples is in none of them and gets no energy; "
                "add a compound with it, or fix its energy.",
                UserWarning,
            )
        return result

    @classmethod
    def from_sae(
        cls,
        samples: Any,
        *,
        fixed_atomic_energies: Mapping[str, float] | None = None,
        percentiles: tuple[float, float] = (2.0, 98.0),
        subset_size: int | None = None,
        random_seed: int | None = None,
    ) -> ReferenceEnergies:
        """AIMNet2's self-atomic energies: regression, repeated without the samples of extreme residuals.

        Kept is what lies strictly between the percentiles of E − Σ n_s ε_s (eV a structure, linear interpolation).
        Where compositions do not tell species apart, the split is that of least norm, and a warning says so.
        Memory: 16 bytes a sample.

        Args:
            samples, fixed_atomic_energies, subset_size, random_seed: As in ``from_regression``.
            percentiles: Lower and upper one.

        Raises:
            ReferenceEnergyError: A sample or an option cannot be used, or the percentiles leave none.
        """
        low, high = _check_percentiles(percentiles)
        fixed = _check_fixed(fixed_atomic_energies)
        stores = stores_of(samples)
        size = _subset(samples, stores, subset_size, None)
        if stores:
            table, total = _Table.of_stores(stores, size)
            table = table if size is None else table.take(_draw(total, size, random_seed))
        else:
            labelled = _Labelled(samples)
            table = _Table.of_samples(labelled if size is None else _reservoir(labelled, size, random_seed))
            total = labelled.finish(size)
        first = _solve(table.fit(None), fixed, total)
        residual = table.residuals(fixed | first.energies)
        limits = np.percentile(residual, [low, high])
        keep = (limits[0] < residual) & (residual < limits[1])
        if not keep.any():
            raise ReferenceEnergyError(
                f"percentiles {low} and {high} of {len(residual)} residuals leave no sample strictly between them "
                f"({limits[0]:g} and {limits[1]:g} eV); give more samples or wider percentiles."
            )
        kept = table.fit(keep)
        solution = _solve(kept, {s: e for s, e in fixed.items() if s in kept.species}, total)
        if solution.rank < len(solution.energies):
            warn_user(f"SAE of least norm: {explain_rank(solution, kept.n_samples)}", UserWarning)
        return cls(
            _ordered(fixed | solution.energies),
            "sae",
            _metadata(fixed, solution, total, kept.n_samples)
            | {
                "n_samples_used": kept.n_samples,
                "subset_size": subset_size,
                "random_seed": random_seed,
                "percentiles": [low, high],
                "residual_limits": limits.tolist(),
                "first_pass_atomic_energies": _ordered(fixed | first.energies),
            },
            kept.n_atoms,
            solution.standard_errors,
        )


class _Labelled:
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
        _check_count(self.n, self.without, size)
        return self.n


def _check_count(n: int, without: int, size: int | None) -> None:
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


def _fit_of_stores(stores: Sequence[StructureStore]) -> tuple[CompositionFit, int]:
    """All structures of stores, by columns."""
    fit = compositions_of(stores)
    _check_count(fit.n_samples, sum(map(len, stores)) - fit.n_samples, None)
    return fit, fit.n_samples


@dataclass(frozen=True, slots=True)
class _Table:
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
    def of_samples(cls, samples: Iterable[Sample]) -> _Table:
        numbers: dict[Key, int] = {}
        rows = [(numbers.setdefault(_key(composition), len(numbers)), energy) for composition, energy in samples]
        species = sorted({s for key in numbers for s, _ in key})
        counts = np.zeros((len(numbers), len(species)), dtype=np.int64)
        for key, number in numbers.items():
            for s, n in key:
                counts[number, species.index(s)] = n
        return cls(
            species, counts, np.array([number for number, _ in rows], dtype=np.int64), np.array([e for _, e in rows])
        )

    @classmethod
    def of_stores(cls, stores: Sequence[StructureStore], size: int | None) -> tuple[_Table, int]:
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
        _check_count(total, sum(map(len, stores)) - total, size)
        return cls(species, compositions.rows, np.concatenate(number), np.concatenate(energies)), total

    def take(self, indices: np.ndarray) -> _Table:
        return replace(self, number=self.number[indices], energies=self.energies[indices])

    def fit(self, keep: np.ndarray | None) -> CompositionFit:
        chosen = slice(None) if keep is None else keep
        fit = CompositionFit()
        fit.add_rows(self.species, self.counts[self.number[chosen]], self.energies[chosen])
        return fit

    def residuals(self, energies: Mapping[str, float]) -> np.ndarray:
        return self.energies - (self.counts @ np.array([energies.get(s, 0.0) for s in self.species]))[self.number]


def _solve(fit: CompositionFit, fixed: Mapping[str, float], n_samples: int) -> Solution:
    fit.take_in()
    unknown = sorted(set(fixed) - set(fit.species))
    if unknown:
        raise ReferenceEnergyError(
            f"fixed_atomic_energies: {', '.join(unknown)} is in none of {n_samples} samples, which hold "
            f"{', '.join(sorted(fit.species))}."
        )
    return fit.solve(fixed)


def _metadata(fixed: Mapping[str, float], solution: Solution, n_total: int, n_used: int) -> dict[str, Any]:
    return {
        "species_order": sorted([*fixed, *solution.energies]),
        "fixed_atomic_energies": dict(fixed),
        "free_species": list(solution.energies),
        "n_samples_total": n_total,
        "rank": solution.rank,
        "residual_sum_squares": solution.residual_sum_squares,
        "rmse": math.sqrt(solution.residual_sum_squares / n_used),
        "singular_values": solution.singular_values,
    }


def _ordered(energies: Mapping[str, float]) -> dict[str, float]:
    return {s: energies[s] for s in sorted(energies)}


def _key(composition: Mapping[str, int]) -> Key:
    return tuple(sorted(composition.items()))


def _formula(key: Key) -> str:
    return "".join(f"{s}{n if n > 1 else ''}" for s, n in key)


def _compounds(given: Iterable[str | Mapping[str, int]]) -> dict[Key, dict[str, int]]:
    """Each compound under its key, in the order given."""
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise ReferenceEnergyTypeError(
            f"reference_compounds: {given!r:.60}, expected a list of formulas or mappings, such as ['TiO2', 'O2']."
        )
    compounds: dict[Key, dict[str, int]] = {}
    for number, item in enumerate(given):
        where = f"reference_compounds[{number}]"
        counts = parse_formula(item) if isinstance(item, str) else check_composition(item, where)
        key = _key(counts)
        if key in compounds:
            raise ReferenceEnergyError(f"{where}: {_formula(key)} was given before; expected each compound once.")
        compounds[key] = counts
    if not compounds:
        raise ReferenceEnergyError("reference_compounds: empty; expected formulas such as ['TiO2', 'O2'].")
    return compounds


def _require_found(missing: list[Key], compounds: Mapping[Key, Mapping[str, int]], present: Counter[Key]) -> None:
    """Raises:
    ReferenceEnergyError: A compound is in no sample; the message lists compositions that are there.
    """
    if not missing:
        return
    asked = ", ".join("".join(f"{s}{n if n > 1 else ''}" for s, n in compounds[key].items()) for key in missing)
    # Those of the same ratio first: a cell of several formula units is what is most often meant.
    ratios = {_ratio(key) for key in missing}
    near = sorted(present, key=lambda key: (_ratio(key) not in ratios, -present[key], sum(n for _, n in key)))
    shown = ", ".join(f"{_formula(key)} ({present[key]})" for key in near[:8])
    more = f" and {len(near) - 8} more" if len(near) > 8 else ""
    raise ReferenceEnergyError(
        f"reference compounds {asked}: no sample has exactly this number of atoms; expected one that has, with an "
        f"energy. Compositions that are there, and how often: {shown}{more}."
    )


def _ratio(key: Key) -> Key:
    divisor = math.gcd(*(n for _, n in key))
    return tuple((s, n // divisor) for s, n in key)


def _check_fixed(fixed: Mapping[str, float] | None) -> dict[str, float]:
    if fixed is None:
        return {}
    if not isinstance(fixed, Mapping):
        raise ReferenceEnergyTypeError(
            f"fixed_atomic_energies: {fixed!r:.60}, expected a mapping such as {{'O': -432.5}}."
        )
    for species, energy in fixed.items():
        if isinstance(energy, bool) or not isinstance(energy, int | float | np.number):
            raise ReferenceEnergyTypeError(f"fixed_atomic_energies[{species!r}]: {energy!r}, expected a number, eV.")
        if not math.isfinite(energy):
            raise ReferenceEnergyError(f"fixed_atomic_energies[{species!r}]: {energy}, expected a finite number, eV.")
    return {s: float(fixed[s]) for s in sorted(fixed)}


def _check_percentiles(percentiles: Sequence[float]) -> tuple[float, float]:
    if len(percentiles) != 2 or not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise ReferenceEnergyError(f"percentiles: {percentiles}, expected a lower and an upper one, 0 to 100.")
    return float(percentiles[0]), float(percentiles[1])


def _subset(samples: Any, stores: Sequence[StructureStore], size: int | None, fraction: float | None) -> int | None:
    """How many samples to draw; None for all."""
    if size is not None and fraction is not None:
        raise ReferenceEnergyError(f"subset_size={size} and subset_fraction={fraction}: expected one of them.")
    if size is not None:
        if isinstance(size, bool) or not isinstance(size, int | np.integer):
            raise ReferenceEnergyTypeError(f"subset_size: {size!r}, expected a positive whole number.")
        if size < 1:
            raise ReferenceEnergyError(f"subset_size: {size}, expected a positive whole number.")
        return int(size)
    if fraction is None:
        return None
    if isinstance(fraction, bool) or not isinstance(fraction, int | float):
        raise ReferenceEnergyTypeError(f"subset_fraction: {fraction!r}, expected a number above 0, at most 1.")
    if not 0 < fraction <= 1:
        raise ReferenceEnergyError(f"subset_fraction: {fraction}, expected a number above 0, at most 1.")
    if stores:
        return math.ceil(fraction * sum(store.n_with("energy") for store in stores))
    paths = isinstance(samples, list | tuple) and any(isinstance(s, str | os.PathLike) for s in samples)
    if isinstance(samples, str) or not isinstance(samples, Sized) or paths:
        raise ReferenceEnergyTypeError(
            f"subset_fraction needs samples of known number, found {'paths' if paths else type(samples).__name__}; "
            "give a list of samples, or a store, or subset_size."
        )
    return math.ceil(fraction * len(samples))


def _draw(n: int, size: int | None, seed: int | None) -> np.ndarray:
    """Numbers of the samples that ``_reservoir`` would choose of n."""
    return np.array(list(_reservoir(range(n), n if size is None else size, seed)), dtype=np.int64)


def _reservoir(samples: Iterable[T], size: int, seed: int | None) -> Iterator[T]:
    """A random subset of a stream, as aenet-python draws it: item t replaces slot randint(0, t − 1) if it is one."""
    rng = random.Random(seed)
    chosen: list[T] = []
    for t, sample in enumerate(samples, start=1):
        if t <= size:
            chosen.append(sample)
        elif (slot := rng.randint(0, t - 1)) < size:
            chosen[slot] = sample
    yield from chosen
