"""From a dataset, or a torch Subset of one, to rows of a structure store: what training works with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Subset

from aenet_ray.datasets.base import BaseDataset
from aenet_ray.errors import ConfigError
from aenet_ray.structures.store import StructureStore
from aenet_ray.structures.structure import IntArray


class Resolved(NamedTuple):
    """Where a dataset's structures are.

    Args:
        store: Holds them, and perhaps more.
        ids: Row of each in the store, in the dataset's order, (n,).
        atomic_energies: The dataset's own references, eV, or None.
    """

    store: StructureStore
    ids: IntArray
    atomic_energies: dict[str, float] | None


def is_dataset(value: Any) -> bool:
    """Whether ``resolve_dataset`` takes it; anything else is a source of structures."""
    return isinstance(value, BaseDataset | Subset)


def root_of(dataset: Any) -> tuple[BaseDataset, IntArray]:
    """The dataset under any number of torch Subsets, and the index of each structure in it, (n,).

    Raises:
        ConfigError: There is another kind of dataset underneath, or an index is outside of it.
    """
    if isinstance(dataset, Subset):
        root, below = root_of(dataset.dataset)
        indices = np.asarray(list(dataset.indices))
        if indices.size and (indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer)):
            raise ConfigError(f"Subset: indices are {indices.dtype} {indices.shape}, expected whole numbers (n,).")
        outside = (indices < -len(below)) | (indices >= len(below))
        if outside.any():
            raise ConfigError(
                f"Subset: names structure {indices[outside][0]}, the {type(root).__name__} under it has {len(below)}."
            )
        return root, below[indices.astype(np.int64)]
    if isinstance(dataset, BaseDataset):
        return dataset, np.arange(len(dataset))
    raise ConfigError(
        f"{type(dataset).__name__} is no dataset of aenet_ray; expected StructureDataset, CachedStructureDataset, "
        "HDF5StructureDataset, or a torch Subset of one."
    )


def resolve_dataset(dataset: Any, directory: str | Path) -> Resolved:
    """Rows of a structure store for a dataset; all Subsets, and all parts, of one dataset have one store.

    Args:
        dataset: One of aenet_ray's, or a torch Subset (of a Subset ...) of one.
        directory: Where the store of a dataset in memory is written; the name tells its content.

    Raises:
        ConfigError: Another kind of dataset, or an index outside of it.
    """
    root, positions = root_of(dataset)
    store, rows = root.resolve(Path(directory))
    return Resolved(store, rows[positions], root.atomic_energies)
