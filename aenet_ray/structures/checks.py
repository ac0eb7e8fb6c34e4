"""What a structure must fulfil before it may enter a store; over many structures at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aenet_ray.errors import StructureError
from aenet_ray.structures.block import StructureBlock
from aenet_ray.structures.distances import closest_within
from aenet_ray.structures.records import LABELS, Records

MIN_DISTANCE = 0.1
"""Atoms closer than this are an error of the file, Å: no bond is shorter than 0.7 Å."""

MIN_HEIGHT = 1e-3
"""Opposite faces of a periodic cell closer than this leave it without a volume, Å."""


def find_problems(records: Records, min_distance: float = MIN_DISTANCE) -> dict[int, str]:
    """The first reason against each structure that cannot be used, by its index.

    Checked: no atoms; positions, cells or labels that are NaN or infinite; cells without a volume; atoms
    closer than ``min_distance``, periodic images included. Shapes and species were checked by
    :class:`~aenet_ray.structures.structure.Structure`.
    """
    problems: dict[int, str] = {}
    block = records.block
    if len(records) == 0:
        return problems

    def refuse(bad: NDArray[np.bool_], reason: str) -> None:
        for i in bad.nonzero()[0].tolist():
            problems.setdefault(i, reason)

    refuse(np.diff(block.offsets) == 0, "has no atoms.")
    refuse(_any_atom(~np.all(np.isfinite(block.positions), axis=1), block), "positions are NaN or infinite.")
    refuse(~np.all(np.isfinite(block.cell), axis=(1, 2)), "the cell is NaN or infinite.")
    for label in LABELS:
        values = getattr(block, label)
        if values is not None:
            finite = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
            bad = _any_atom(~finite, block) if label in ("forces", "charges") else ~finite
            refuse(
                bad & records.has(label),
                f"{label} {'are' if label.endswith('s') and label != 'stress' else 'is'} NaN or infinite; "
                "leave absent labels out.",
            )
    refuse(_flat_cells(block, problems), "the cell has no volume.")
    _refuse_close_atoms(block, problems, min_distance)
    return problems


def check(records: Records, first: int = 0) -> None:
    """Raise StructureError about the first structure that cannot be used, naming source and frame.

    Args:
        first: Number of structures that came before these, for the message.
    """
    problems = find_problems(records)
    if problems:
        i = min(problems)
        raise StructureError(f"{records.where(i, first)}: {problems[i]}")


def _any_atom(bad: NDArray[np.bool_], block: StructureBlock) -> NDArray[np.bool_]:
    """Whether any atom of each structure is bad, (n,); empty structures count as good."""
    total = np.concatenate([[0], np.cumsum(bad)])
    return total[block.offsets[1:]] > total[block.offsets[:-1]]


def _flat_cells(block: StructureBlock, problems: dict[int, str]) -> NDArray[np.bool_]:
    """Periodic, or a cell given, but two of its faces touch."""
    given = np.any(block.pbc, axis=1) | np.any(block.cell != 0, axis=(1, 2))
    given[list(problems)] = False
    volume = np.abs(np.linalg.det(np.where(given[:, None, None], block.cell, np.eye(3))))
    a, b, c = (block.cell[:, k] for k in range(3))
    areas = [np.linalg.norm(np.cross(u, v), axis=1) for u, v in ((b, c), (c, a), (a, b))]
    return given & (volume <= MIN_HEIGHT * np.max(areas, axis=0))


def _refuse_close_atoms(block: StructureBlock, problems: dict[int, str], min_distance: float) -> None:
    sound = np.setdiff1d(np.arange(block.n_structures), list(problems))
    if len(sound) < block.n_structures:
        block = block.select(sound)
    closest = closest_within(block, min_distance).distances
    for i in (closest < min_distance).nonzero()[0].tolist():
        problems[int(sound[i])] = (
            f"two atoms, or an atom and a periodic image, are {closest[i]:.3f} Å apart (less than "
            f"{min_distance:g} Å). Are positions in Å, and the cell right?"
        )
