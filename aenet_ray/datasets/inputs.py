"""What ``train`` is given, in whichever way, as one structure store and who trains on which rows of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from aenet_ray.config import warn_user
from aenet_ray.datasets.base import BaseDataset
from aenet_ray.datasets.resolve import is_dataset, resolve_dataset, root_of
from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.errors import ConfigError
from aenet_ray.features.featurize import KnownFeatures
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.store import StructureStore, write_store
from aenet_ray.structures.store_files import replace_store
from aenet_ray.structures.structure import FloatArray, IntArray, Structure


@dataclass(frozen=True, slots=True)
class Inputs:
    """Data of a training run.

    Args:
        store: Holds all of it, and perhaps more.
        ids: Rows to be split, in the order given; None: all, or split already.
        train_ids, test_ids: Rows of a split that was given, else None.
        atomic_energies: Those that the datasets own, eV.
        features_folder: Where the datasets keep feature stores.
        known_features: Features that need not be computed.
    """

    store: StructureStore
    ids: IntArray | None = None
    train_ids: IntArray | None = None
    test_ids: IntArray | None = None
    atomic_energies: dict[str, float] | None = None
    features_folder: Path | None = None
    known_features: KnownFeatures | None = None

    def references(self, given: Any) -> Any:
        """Atomic energies to train with: the datasets' own, else what the configuration gives.

        Raises:
            ConfigError: Both are there, and differ.
        """
        if self.atomic_energies is None or given is None:
            return given if self.atomic_energies is None else self.atomic_energies
        if given != self.atomic_energies:
            raise ConfigError(
                f"train: config.atomic_energies is {given}, and the dataset has {self.atomic_energies}. Give "
                "them once, or the same twice."
            )
        return self.atomic_energies


def check_inputs(
    structures: Any,
    dataset: Any,
    train: Any,
    test: Any,
    *,
    descriptor: ChebyshevDescriptor,
    force_weight: float,
    where: str = "train",
) -> None:
    """Refuse what cannot be trained on, before anything is read or written.

    Raises:
        ConfigError: No data, or data given in more ways than one, of which aenet-python took one by rank and ignored
            the others; a dataset that is no dataset of aenet_ray's, whose descriptor is another one, that has no
            forces, or that holds a structure twice.
    """
    given = {"structures": structures, "dataset": dataset, "train_dataset": train}
    names = [name for name, value in given.items() if value is not None]
    if not names and test is not None:
        raise ConfigError(f"{where}: nothing is given but test_dataset; train_dataset is missing.")
    if len(names) != 1:
        found = f"{' and '.join(names)} are given" if names else "nothing is given"
        raise ConfigError(f"{where}: {found}; expected exactly one of structures, dataset and train_dataset.")
    if test is not None and train is None:
        raise ConfigError(
            f"{where}: test_dataset goes with train_dataset, but {names[0]} is given, which is split by testpercent."
        )
    value = given[names[0]]
    if isinstance(value, (list, tuple)) and not value:
        raise ConfigError(f"{where}: {names[0]} is empty; expected paths, structures, or a dataset.")
    for name, value in {**given, "test_dataset": test}.items():
        if value is not None and _is_meant_as_dataset(value):
            _check_dataset(f"{where}: {name}", value, descriptor, force_weight)


def _is_meant_as_dataset(value: Any) -> bool:
    from torch.utils.data import Dataset

    return isinstance(value, Dataset)


def _check_dataset(where: str, dataset: Any, descriptor: ChebyshevDescriptor, force_weight: float) -> None:
    try:
        root, positions = root_of(dataset)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    if root.descriptor is not None and root.descriptor.fingerprint() != descriptor.fingerprint():
        raise ConfigError(
            f"{where} has features of {root.descriptor}, the potential needs those of {descriptor}. Make both with "
            "one descriptor."
        )
    if force_weight > 0 and not root.with_forces:
        raise ConfigError(
            f"{where}: a {type(root).__name__} is for energies only, and force_weight is {force_weight}. Use a "
            "StructureDataset; features are computed once with it, too."
        )
    values, counts = np.unique(positions, return_counts=True)
    if (counts > 1).any():
        raise ConfigError(
            f"{where} holds structure {values[counts > 1][0]} {counts.max()} times; expected each once. To draw "
            "structures at different rates, set sampling_policy."
        )


def collect_inputs(
    run_dir: Path, structures: Any = None, dataset: Any = None, train: Any = None, test: Any = None, *, keep: bool
) -> Inputs:
    """All data in one store; datasets of one root share it, anything else is written to ``run_dir``.

    Args:
        keep: A run began with what is in ``run_dir``: it must not change.

    Raises:
        ConfigError: Training and test datasets have different atomic energies.
        StructureError, StoreError: Data cannot be read.
        TrainingError: ``keep``, and the structures are others.
    """
    if train is not None:
        return _collect_split(run_dir, train, test, keep)
    data = structures if structures is not None else dataset
    if not is_dataset(data):
        return Inputs(_as_store(run_dir, (data,), keep)[0])
    store, ids, energies = resolve_dataset(data, run_dir)
    root, _ = root_of(data)
    return Inputs(
        store,
        ids=ids,
        atomic_energies=energies,
        features_folder=root.features_folder(),
        known_features=partial(_kept, root),
    )


def _collect_split(run_dir: Path, train: Any, test: Any, keep: bool) -> Inputs:
    energies = _common_energies(train, test)
    roots = [root_of(part)[0] if is_dataset(part) else None for part in (train, test) if part is not None]
    if (roots[0] is not None and roots[-1] is roots[0]) or _share_rows(roots):
        first = resolve_dataset(train, run_dir)
        test_ids = np.empty(0, dtype=np.int64) if test is None else resolve_dataset(test, run_dir).ids
        root = roots[0]
        assert root is not None
        _warn_of_overlap(first.ids, test_ids)
        return Inputs(
            first.store,
            train_ids=first.ids,
            test_ids=test_ids,
            atomic_energies=energies,
            features_folder=root.features_folder(),
            known_features=partial(_kept, root),
        )
    parts = (train,) if test is None else (train, test)
    store, n_train = _as_store(run_dir, parts, keep)
    return Inputs(
        store,
        train_ids=np.arange(n_train),
        test_ids=np.arange(n_train, len(store)),
        atomic_energies=energies,
        known_features=_joined(parts),
    )


def _share_rows(roots: list[BaseDataset | None]) -> bool:
    """Whether the datasets are one, Subsets of one, or parts of one that was split."""
    first, last = roots[0], roots[-1]
    return first is not None and last is not None and first.rows_token() == last.rows_token()


def _warn_of_overlap(train_ids: IntArray, test_ids: IntArray) -> None:
    both = np.intersect1d(train_ids, test_ids)
    if len(both):
        warn_user(
            f"train_dataset and test_dataset have {len(both)} structures in common (the first is number {both[0]}): "
            "the validation error will be too good.",
            UserWarning,
        )


def _common_energies(*parts: Any) -> dict[str, float] | None:
    owned = [root_of(part)[0].atomic_energies for part in parts if is_dataset(part)]
    owned = [energies for energies in owned if energies is not None]
    if any(energies != owned[0] for energies in owned):
        raise ConfigError(
            f"train: train_dataset has atomic_energies {owned[0]}, test_dataset has {owned[-1]}. Make both with "
            "the same."
        )
    return owned[0] if owned else None


def _kept(root: BaseDataset, start: int, stop: int) -> FloatArray | None:
    return root.kept_rows(np.arange(start, stop))


def _joined(parts: tuple[Any, ...]) -> KnownFeatures | None:
    """Features of datasets that were written one after the other, if all keep them."""
    if not all(is_dataset(part) for part in parts):
        return None
    found = [root_of(part) for part in parts]
    ends = np.cumsum([0, *(len(positions) for _, positions in found)])

    def features(start: int, stop: int) -> FloatArray | None:
        kept = [
            root.kept_rows(root.rows(positions[max(start - first, 0) : max(stop - first, 0)]))
            for (root, positions), first in zip(found, ends.tolist(), strict=False)
            if start < first + len(positions) and stop > first
        ]
        return None if any(k is None for k in kept) else np.concatenate([k for k in kept if k is not None])

    return features


def _as_store(run_dir: Path, parts: tuple[Any, ...], keep: bool) -> tuple[StructureStore, int]:
    """One store of all parts, and how many structures the first has; a store that is one already stays where it is."""
    if len(parts) == 1:
        only = parts[0]
        if isinstance(only, str | Path) and str(only).endswith((".h5", ".hdf5")):
            only = StructureStore(only)
        if isinstance(only, StructureStore):
            return only, len(only)
    counts = [0] * len(parts)

    def everything() -> Iterator[Structure]:
        for k, part in enumerate(parts):
            for structure in iterate(part):
                counts[k] += 1
                yield structure

    def build(path: Path) -> None:
        write_store(everything(), path, allow_duplicates=any(is_dataset(part) for part in parts))

    store = replace_store(build, run_dir / "structures.h5", keep=keep)
    return store, counts[0]


def dataset_features(dataset: Any, descriptor: ChebyshevDescriptor) -> KnownFeatures | None:
    """Features of a dataset's structures [start, stop) where it keeps those of the descriptor.

    Raises:
        ConfigError: No dataset of aenet_ray.
    """
    root, positions = root_of(dataset)
    if root.descriptor is None or root.descriptor.fingerprint() != descriptor.fingerprint():
        return None
    return lambda start, stop: root.kept_rows(root.rows(positions[start:stop]))


def iterate(source: Any) -> Iterator[Structure]:
    """Structures of a store, a dataset, or anything that ``read_structures`` takes."""
    if isinstance(source, StructureStore):
        yield from source
    elif is_dataset(source):
        root, positions = root_of(source)
        yield from (root.get_structure(int(i)) for i in positions)
    else:
        yield from read_structures(source)
