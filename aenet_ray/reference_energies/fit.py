"""Reference energies: by regression, from reference compounds, or by AIMNet2's filtered regression."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from aenet_ray.config import warn_user
from aenet_ray.errors import ReferenceEnergyError
from aenet_ray.reference_energies.compounds import Key, checked_compounds, key_of, require_found
from aenet_ray.reference_energies.least_squares import CompositionFit, Solution, explain_rank, require_full_rank
from aenet_ray.reference_energies.options import checked_fixed, checked_percentiles, subset_size_of
from aenet_ray.reference_energies.samples import stores_of
from aenet_ray.reference_energies.table import Labelled, Table, draw, fit_of_stores, reservoir


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
        fixed = checked_fixed(fixed_atomic_energies)
        stores = stores_of(samples)
        size = subset_size_of(samples, stores, subset_size, subset_fraction)
        if stores and size is None:
            fit, total = fit_of_stores(stores)
        elif stores:
            table, total = Table.of_stores(stores, size)
            fit = table.fit(draw(total, size, random_seed))
        else:
            labelled = Labelled(samples)
            chosen = labelled if size is None else reservoir(labelled, size, random_seed)
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
        fixed = checked_fixed(fixed_atomic_energies)
        compounds = checked_compounds(reference_compounds)
        lowest: dict[Key, float] = {}
        found = dict.fromkeys(compounds, 0)
        labelled, seen, present = Labelled(samples), set[str](), Counter[Key]()
        for composition, energy in labelled:
            seen.update(composition)
            key = key_of(composition)
            present[key] += 1
            if key in found:
                found[key] += 1
                lowest[key] = min(energy, lowest.get(key, math.inf))
        total = labelled.finish(None)
        require_found([key for key, n in found.items() if n == 0], compounds, present)
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
        low, high = checked_percentiles(percentiles)
        fixed = checked_fixed(fixed_atomic_energies)
        stores = stores_of(samples)
        size = subset_size_of(samples, stores, subset_size, None)
        if stores:
            table, total = Table.of_stores(stores, size)
            table = table if size is None else table.take(draw(total, size, random_seed))
        else:
            labelled = Labelled(samples)
            table = Table.of_samples(labelled if size is None else reservoir(labelled, size, random_seed))
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
