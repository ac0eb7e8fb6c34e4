"""Datasets in two parts, drawn as aenet-python draws them."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from torch.utils.data import Subset

from aenet_ray.datasets.memory import StructureDataset
from aenet_ray.datasets.resolve import root_of
from aenet_ray.errors import ConfigError
from aenet_ray.structures.split import split_by_fraction

D = TypeVar("D", bound=StructureDataset)


def train_test_split(dataset: D, test_fraction: float = 0.1, seed: int | None = None) -> tuple[D, D]:
    """A dataset in memory as two of the same kind and settings, structures in ascending order.

    Python's ``random.Random(seed)`` shuffles the indices; the first int(n · test_fraction) are the test set, which
    may be empty. Nothing is copied, and features that are there stay.

    Returns:
        (train, test).

    Raises:
        ConfigError: No dataset in memory, or ``test_fraction`` is not in [0, 1).
    """
    if not isinstance(dataset, StructureDataset):
        raise ConfigError(
            f"train_test_split: {type(dataset).__name__} is no StructureDataset; train_test_split_dataset splits "
            "every dataset, and Subsets."
        )
    train, test = split_by_fraction(len(dataset), _fraction(test_fraction), seed)
    return dataset.part(np.sort(train)), dataset.part(np.sort(test))


def train_test_split_dataset(
    dataset: Any, test_fraction: float = 0.1, seed: int | None = None
) -> tuple[Subset[dict[str, Any]], Subset[dict[str, Any]]]:
    """Any dataset, or a torch Subset of one, as two Subsets in shuffled order; drawn as in :func:`train_test_split`.

    Raises:
        ConfigError: No dataset of aenet_ray, or ``test_fraction`` is not in [0, 1).
    """
    root_of(dataset)
    train, test = split_by_fraction(len(dataset), _fraction(test_fraction), seed)
    return Subset(dataset, train.tolist()), Subset(dataset, test.tolist())


def _fraction(value: float) -> float:
    if isinstance(value, bool | str) or not 0 <= value < 1:
        raise ConfigError(f"test_fraction: found {value!r}, expected a number from 0 up to, but not, 1.")
    return float(value)
