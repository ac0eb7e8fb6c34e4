"""Least squares of energies on compositions, over any number of samples in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from math import gcd, lcm

import numpy as np
from numpy.typing import NDArray

from aenet_ray.errors import ReferenceEnergyError

FloatArray = NDArray[np.float64]

BLOCK_ROWS = 4096
"""Samples folded into the triangle at a time."""


@dataclass(frozen=True, slots=True)
class Solution:
    """What least squares found.

    Args:
        energies: Per free species, eV, in alphabetical order; of least norm where the rank is deficient.
        rank: Of the compositions of the free species.
        residual_sum_squares: eV².
        singular_values: Largest first.
        relations: Where the rank is deficient, what all compositions have in common, such as 'O:Ti = 2:1'.
        standard_errors: Of the energies, eV, from the scatter of the residuals, σ² (AᵀA)⁻¹; none where there are no
            more samples than energies, or the rank is deficient.
    """

    energies: dict[str, float]
    rank: int
    residual_sum_squares: float
    singular_values: list[float]
    relations: list[str]
    standard_errors: dict[str, float] = field(default_factory=dict)


class CompositionFit:
    """E ≈ Σ n_s ε_s over samples that are added one after another.

    Kept is the triangle R of a QR decomposition of [compositions | energies]: rank, singular values and solution are
    those of all samples, without the loss of digits of normal equations. Species may turn up at any time.
    """

    def __init__(self) -> None:
        self.n_samples = 0
        self.n_atoms: dict[str, int] = {}
        """Of each species, over all samples."""
        self.species: list[str] = []
        self._triangle = np.zeros((0, 1))  # columns: species in the order of their appearance, then the energy
        self._pending: list[tuple[Mapping[str, int], float]] = []

    def add(self, composition: Mapping[str, int], energy: float) -> None:
        """One sample: atoms of each species, and the total energy, eV."""
        self._pending.append((composition, energy))
        if len(self._pending) >= BLOCK_ROWS:
            self.take_in()

    def add_rows(self, species: Sequence[str], counts: NDArray[np.integer], energies: FloatArray) -> None:
        """Many samples: (n, n_species) atoms of each species, and (n,) energies, eV."""
        self.take_in()
        present = [k for k in range(len(species)) if counts[:, k].any()]
        columns = self._columns([species[k] for k in present])
        for k in present:
            self.n_atoms[species[k]] = self.n_atoms.get(species[k], 0) + int(counts[:, k].sum())
        for start in range(0, len(energies), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            block = np.zeros((len(energies[rows]), len(self.species) + 1))
            block[:, columns] = counts[rows][:, present]
            block[:, -1] = energies[rows]
            self._fold(block)
        self.n_samples += len(energies)

    def take_in(self) -> None:
        """Count what was added one by one up to now: ``n_samples``, ``n_atoms`` and ``species`` are complete then."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        self._columns(list(dict.fromkeys(s for composition, _ in pending for s, n in composition.items() if n)))
        column = {s: k for k, s in enumerate(self.species)}
        block = np.zeros((len(pending), len(self.species) + 1))
        for row, (composition, energy) in zip(block, pending, strict=True):
            for s, n in composition.items():
                if n:
                    row[column[s]] = n
                    self.n_atoms[s] = self.n_atoms.get(s, 0) + n
            row[-1] = energy
        self._fold(block)
        self.n_samples += len(pending)

    def _columns(self, species: Sequence[str]) -> list[int]:
        """Columns of these species; new ones get a column of zeros before the energies."""
        new = [s for s in species if s not in self.species]
        if new:
            zeros = np.zeros((len(self._triangle), len(new)))
            self._triangle = np.hstack([self._triangle[:, :-1], zeros, self._triangle[:, -1:]])
            self.species += new
        return [self.species.index(s) for s in species]

    def _fold(self, block: FloatArray) -> None:
        self._triangle = np.asarray(np.linalg.qr(np.vstack([self._triangle, block]), mode="r"))

    def solve(self, fixed: Mapping[str, float] | None = None) -> Solution:
        """Energies of the species that are not fixed; those of the fixed ones are subtracted first."""
        self.take_in()
        fixed = fixed or {}
        free = sorted(set(self.species) - set(fixed))
        triangle = self._triangle
        held = [(self.species.index(s), value) for s, value in fixed.items()]
        target = triangle[:, -1] - sum((triangle[:, k] * value for k, value in held), np.zeros(len(triangle)))
        if not free:
            return Solution({}, 0, float(target @ target), [], [])
        matrix = triangle[:, [self.species.index(s) for s in free]]
        # The threshold that NumPy's lstsq would take for the whole matrix, not for its triangle; at least what the
        # rounding of the triangle can reach. Whole numbers of atoms that differ at all are far above it.
        rcond = max(np.finfo(float).eps * max(self.n_samples, len(free)), 1e-12)
        energies, _, rank, singular = np.linalg.lstsq(matrix, target, rcond=rcond)
        residual = target - matrix @ energies
        relations = [] if rank == len(free) else list(_relations(matrix, int(rank), free))
        square = float(residual @ residual)
        errors = np.empty(0)
        if rank == len(free) < self.n_samples:
            errors = np.linalg.norm(np.linalg.pinv(matrix), axis=1) * np.sqrt(square / (self.n_samples - len(free)))
        shown = singular[: min(self.n_samples, len(free))]
        return Solution(
            dict(zip(free, energies.tolist(), strict=True)), int(rank), square, shown.tolist(),
            relations, dict(zip(free, errors.tolist(), strict=False)),
        )  # fmt: skip


def explain_rank(solution: Solution, n_samples: int) -> str:
    """Why the energies are not determined, and what helps."""
    free = list(solution.energies)
    missing = len(free) - solution.rank
    tied = [s for s in free if any(s in relation.replace(":", " ").split() for relation in solution.relations)]
    some = f"one of {', '.join(tied)}" if missing == 1 else f"{missing} of {', '.join(tied)}"
    return (
        f"the compositions of {n_samples} structures have rank {solution.rank}, but {len(free)} energies are wanted: "
        f"all structures have {' and '.join(solution.relations)}, so that an energy can be moved from one species to "
        f"another without any change. Fix the energy of {some} (fixed_atomic_energies; --fixed {tied[0]}=E), or add "
        "structures of other compositions, such as the elements."
    )


def require_full_rank(solution: Solution, n_samples: int, where: str = "") -> None:
    """Raises:
    ReferenceEnergyError: The rank is less than the number of free species.
    """
    if solution.rank < len(solution.energies):
        raise ReferenceEnergyError(f"{where}{explain_rank(solution, n_samples)}")


def _relations(matrix: FloatArray, rank: int, species: Sequence[str]) -> Iterator[str]:
    """What Σ v_s n_s = 0 of each independent null vector v says, in the smallest whole numbers."""
    null = _reduced(np.linalg.svd(matrix)[2][rank:])
    for vector in null:
        fractions = [Fraction(value).limit_denominator(1000) for value in vector.tolist()]
        scale = lcm(*(f.denominator for f in fractions))
        numbers = [int(f * scale) for f in fractions]
        divisor = gcd(*numbers) or 1
        left = [(s, n // divisor) for s, n in zip(species, numbers, strict=True) if n > 0]
        right = [(s, -n // divisor) for s, n in zip(species, numbers, strict=True) if n < 0]
        if len(left) == len(right) == 1:
            (a, n_a), (b, n_b) = sorted(chain(left, right))
            yield f"{a}:{b} = {n_b}:{n_a}"
        else:
            yield f"{_sum(left)} = {_sum(right)} (in atoms)"


def _sum(terms: Sequence[tuple[str, int]]) -> str:
    return " + ".join(s if n == 1 else f"{n} {s}" for s, n in terms) or "0"


def _reduced(rows: FloatArray) -> FloatArray:
    """Row-reduced echelon form: null vectors of few species each."""
    rows, done = rows.copy(), 0
    for column in range(rows.shape[1]):
        if done == len(rows):
            break
        pivot = done + int(np.abs(rows[done:, column]).argmax())
        if abs(rows[pivot, column]) < 1e-8:
            continue
        rows[[done, pivot]] = rows[[pivot, done]]
        rows[done] /= rows[done, column]
        others = [k for k in range(len(rows)) if k != done]
        rows[others] -= np.outer(rows[others, column], rows[done])
        done += 1
    return np.where(np.abs(rows) < 1e-7, 0.0, rows)
