"""The splits of a search: one for all trials, or those of a cross-validation; written down once, with hash."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aenet_ray.errors import ConfigError
from aenet_ray.run_data import read_split
from aenet_ray.structures.split import SplitFile, split_indices
from aenet_ray.structures.store import StructureStore
from aenet_ray.structures.structure import IntArray
from aenet_ray.training.choose import Split

FEW, MANY = 2, 100


@dataclass(frozen=True, slots=True)
class SharedSplit:
    """A split file and the hash that its trials insist on.

    Args:
        name: 'split', or of a fold 'fold_1', or the source that is left out.
        file: JSON.
        hash: ``SplitFile.hash``.
    """

    name: str
    file: str
    hash: str

    def load(self, store: StructureStore) -> Split:
        """Raises:
        ConfigError: The file is gone, or holds another split, or one of another store.
        """
        return read_split(self.file, store, self.hash)


def one_split(
    store: StructureStore, folder: Path, testpercent: float, seed: int, given: Split | None = None
) -> list[SharedSplit]:
    """The split of a search without cross-validation: the one given, or drawn from all structures with energies."""
    if given is None:
        ids = _labelled(store)
        train, test = split_indices(len(ids), testpercent, seed)
        return [_write(store, folder / "split.json", "split", ids[train], ids[test], seed)]
    return [_write(store, folder / "split.json", "split", given.train_ids, given.test_ids, None)]


def folds(store: StructureStore, folder: Path, k: int, seed: int, given: Split | None = None) -> list[SharedSplit]:
    """k parts of nearly equal size, each held out once.

    Raises:
        ConfigError: There are fewer structures than folds.
    """
    ids = _all(store, given)
    if len(ids) < k:
        raise ConfigError(f"tune.cv: {k} folds of {len(ids)} structures with energies; choose fewer.")
    shuffled, _ = split_indices(len(ids), 0, seed, keep_order=True)
    parts = np.array_split(ids[shuffled], k)
    return [
        _write(store, folder / f"fold_{i + 1}.json", f"fold_{i + 1}", np.setdiff1d(ids, part), part, seed)
        for i, part in enumerate(parts)
    ]


def leave_one_source_out(
    store: StructureStore, folder: Path, pattern: str | None, given: Split | None = None
) -> list[SharedSplit]:
    """A split for each source, which is held out.

    Raises:
        ConfigError: There is only one source, there are very many, or the pattern does not match some.
    """
    ids = _all(store, given)
    labels = np.array([source_label(text, pattern) for text in store.sources()])[ids]
    counts = Counter(labels.tolist())
    if not FEW <= len(counts) <= MANY:
        some = ", ".join(sorted(counts)[:3])
        raise ConfigError(
            f"tune.cv: source: the structures are of {len(counts)} sources ({some}{', …' if len(counts) > 3 else ''}), "
            f"expected {FEW} to {MANY}. Say by tune.source_pattern what makes a source."
        )
    names = unique_names(sorted(counts))
    return [
        _write(store, folder / f"without_{i + 1}.json", names[label], ids[labels != label], ids[labels == label], None)
        for i, label in enumerate(sorted(counts))
    ]


def source_label(source: str, pattern: str | None) -> str:
    """What of a structure's source names the group it belongs to: archive or file, of single XSF files the folder.

    Raises:
        ConfigError: The pattern does not match.
    """
    if pattern is None:
        archive, inside, _ = source.partition("::member=")
        if inside:
            return archive
        return str(Path(source).parent) if source.endswith((".xsf", ".xsf.gz")) else source
    found = re.search(pattern, source)
    if found is None:
        raise ConfigError(f"tune.source_pattern: {pattern!r} does not match the source {source!r}.")
    return found[1] if found.re.groups and found[1] is not None else found[0]


def unique_names(labels: list[str]) -> dict[str, str]:
    """Short names of sources: the last parts of their paths, as many as tell them apart."""
    for depth in range(1, 20):
        short = {label: "/".join(Path(label).parts[-depth:]) or label for label in labels}
        if len(set(short.values())) == len(labels):
            return short
    return {label: label for label in labels}


def _labelled(store: StructureStore) -> IntArray:
    return np.flatnonzero(store.has("energy"))


def _all(store: StructureStore, given: Split | None) -> IntArray:
    ids = _labelled(store)
    return ids if given is None else np.intersect1d(ids, np.union1d(given.train_ids, given.test_ids))


def _write(
    store: StructureStore, path: Path, name: str, train: IntArray, validation: IntArray, seed: int | None
) -> SharedSplit:
    parts: dict[str, Any] = {"train": np.sort(train), "validation": np.sort(validation)}
    written = SplitFile(parts=parts, n_structures=len(store), store_hash=store.content_hash, seed=seed, note=name)
    path.parent.mkdir(parents=True, exist_ok=True)
    written.save(path)
    return SharedSplit(name, str(path), written.hash)
