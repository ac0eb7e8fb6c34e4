"""Which of some structures a committee was trained on, as far as its folder still tells."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from aenet_ray.config import warn_user
from aenet_ray.errors import StoreError
from aenet_ray.features.store import FeatureStore
from aenet_ray.structures.structure import IntArray, Structure
from aenet_ray.training.spec import RunSpec

logger = logging.getLogger(__name__)

ROUNDING = 1e-4
"""Å and eV within which two numbers are one: files are written with few digits."""
AT_ONCE = 1024


def warn_of_training_structures(directory: Path, structures: Sequence[Structure]) -> None:
    """Warn of structures that the committee in ``directory`` was trained on; silent where that is not known."""
    try:
        n = count_trained_on(directory, structures)
    except Exception as error:  # features of which a part is gone or damaged
        logger.debug("what %s was trained on is not known: %s", directory, error)
        return
    if n:
        warn_user(
            f"{n} of {len(structures)} structures given for calibration are among those that the committee in "
            f"{directory} was trained on: its errors are smaller there than elsewhere, and error bars will be too "
            "small. Calibrate again without them.",
            UserWarning,
        )


def count_trained_on(directory: Path, structures: Sequence[Structure]) -> int:
    """How many have energy, species, positions and cell of one of the training structures, to rounding.

    Of these only the energies are all read, and the rest of those with the same one.

    Args:
        structures: Those without an energy are not looked for.

    Raises:
        StoreError: Features are damaged.
    """
    found = training_structures(directory)
    if found is None:
        return 0
    store, ids = found
    ids = ids[np.argsort(store.energy[ids])]
    energies = store.energy[ids]
    n = 0
    for s in structures:
        if s.energy is not None:
            first, last = np.searchsorted(energies, [s.energy - ROUNDING, s.energy + ROUNDING])
            n += _is_among(s, store, np.sort(ids[first:last]))
    return n


def training_structures(directory: Path) -> tuple[FeatureStore, IntArray] | None:
    """Features, which keep the geometry, and the training structures in them: all members have the same.

    None where no run, or no features, are left: members of aenet-python have none. Those of a moved folder are looked
    for in it and beside it.
    """
    for folder in sorted(directory.glob("member_*")):
        try:
            spec = RunSpec.load(folder)
        except Exception:  # whatever an incomplete or older run makes of itself
            continue
        given = Path(spec.features)
        for path in (given, directory / "features" / given.name, directory.parent / "features" / given.name):
            with suppress(StoreError):
                return FeatureStore(path), spec.train_ids
    return None


def _is_among(structure: Structure, store: FeatureStore, ids: IntArray) -> bool:
    return any(same.any() for same in _same(structure, store, ids))


def _same(structure: Structure, store: FeatureStore, ids: IntArray) -> Iterator[np.ndarray]:
    """Whether each of ``ids`` (ascending) is the structure, some at a time."""
    wanted = np.array([store.species.index(s) if s in store.species else -1 for s in structure.species])
    cell = np.zeros((3, 3)) if structure.cell is None else structure.cell
    ids = ids[store.n_atoms[ids] == structure.n_atoms]
    for start in range(0, len(ids), AT_ONCE):
        block, species = store.geometry(ids[start : start + AT_ONCE])
        n = block.n_structures
        moved = np.abs(block.positions.reshape(n, -1) - structure.positions.ravel()).max(axis=1)
        strained = np.abs(block.cell - cell).max(axis=(1, 2))
        yield (species.reshape(n, -1) == wanted).all(axis=1) & (moved <= ROUNDING) & (strained <= ROUNDING)
