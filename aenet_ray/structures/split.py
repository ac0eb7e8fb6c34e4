"""Seeded splits into train, validation and test, and the file that writes one down."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from aenet_ray.errors import ConfigError
from aenet_ray.files import write_text
from aenet_ray.structures.structure import IntArray

FORMAT, VERSION = "aenet_ray.split", 1


def split_indices(
    n: int, testpercent: float, split_seed: int | None = None, *, keep_order: bool = False
) -> tuple[IntArray, IntArray]:
    """Train and test indices of n structures, the same as aenet-python's for the same seed.

    Python's ``random.Random(split_seed)`` shuffles 0 … n − 1; the first int(n · testpercent / 100) are the
    test set, which may be empty.

    Args:
        n: Number of structures.
        testpercent: Share of the test set, 0 to 100.
        split_seed: Seed; None for another split each time.
        keep_order: Keep the shuffled order within the parts, instead of ascending indices.

    Returns:
        (train, test), (n − n_test,) and (n_test,).

    Raises:
        ConfigError: ``testpercent`` is no percentage, or n is negative.
    """
    if n < 0 or not 0 <= testpercent <= 100:
        raise ConfigError(
            f"split of {n} structures with testpercent={testpercent}, expected n >= 0 and a percentage from 0 to 100."
        )
    train, test = _drawn(n, int(n * testpercent / 100), split_seed)
    return (train, test) if keep_order else (np.sort(train), np.sort(test))


def split_by_fraction(n: int, test_fraction: float, seed: int | None = None) -> tuple[IntArray, IntArray]:
    """The same with a share from 0 to 1, in shuffled order: int(n · test_fraction) of n structures are the test set."""
    return _drawn(n, int(n * test_fraction), seed)


def _drawn(n: int, n_test: int, seed: int | None) -> tuple[IntArray, IntArray]:
    shuffled = list(range(n))
    random.Random(seed).shuffle(shuffled)
    return np.array(shuffled[n_test:], dtype=np.int64), np.array(shuffled[:n_test], dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitFile:
    """A split written down: which structures of which store, drawn with which seed.

    Args:
        parts: Structure indices of each part, such as 'train', 'validation' and 'test'; no structure twice.
        n_structures: Of the store.
        store_hash: ``content_hash`` of the store the indices belong to.
        seed: What it was drawn with; None if it was not drawn.
        note: Anything worth knowing.

    Raises:
        ConfigError: An index is outside the store, or in two places.
    """

    parts: Mapping[str, IntArray]
    n_structures: int
    store_hash: str
    seed: int | None = None
    note: str = field(default="")

    def __post_init__(self) -> None:
        parts = {name: _indices(name, values, self.n_structures) for name, values in self.parts.items()}
        object.__setattr__(self, "parts", parts)
        owner: dict[int, str] = {}
        for name, indices in parts.items():
            for i in indices.tolist():
                if i in owner:
                    raise ConfigError(
                        f"split: structure {i} is in {owner[i]!r} and in {name!r}; expected in one part, once."
                    )
                owner[i] = name

    def __getitem__(self, part: str) -> IntArray:
        if part not in self.parts:
            raise ConfigError(f"split: no part {part!r}, there are {', '.join(self.parts)}.")
        return self.parts[part]

    @property
    def hash(self) -> str:
        """Of the parts and the store they belong to: two splits with the same one are the same."""
        parts = {name: indices.tolist() for name, indices in sorted(self.parts.items())}
        return hashlib.sha256(json.dumps([self.n_structures, self.store_hash, parts]).encode()).hexdigest()[:32]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as JSON, atomically."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "n_structures": self.n_structures,
            "store_hash": self.store_hash,
            "seed": self.seed,
            "note": self.note,
            "hash": self.hash,
            "parts": {name: indices.tolist() for name, indices in self.parts.items()},
        }
        write_text(path, json.dumps(content))

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], store_hash: str | None = None, split_hash: str | None = None
    ) -> SplitFile:
        """Read and check.

        Args:
            store_hash: ``content_hash`` of the store the split shall be used with; None leaves that unchecked.
            split_hash: ``hash`` of the split that is meant; None takes any.

        Raises:
            ConfigError: No split file, damaged or edited, of another store, or another split.
        """
        try:
            content: dict[str, Any] = json.loads(Path(path).read_text())
        except FileNotFoundError:
            raise ConfigError(f"{path}: no such split file.") from None
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: not a split file: {error}.") from None
        if not isinstance(content, dict) or (content.get("format"), content.get("version")) != (FORMAT, VERSION):
            raise ConfigError(f"{path}: not a split file; expected JSON of format {FORMAT!r}, version {VERSION}.")
        if store_hash is not None and content["store_hash"] != store_hash:
            raise ConfigError(
                f"{path}: made for the store with content hash {content['store_hash']}, this one has {store_hash}. "
                "Its indices would mean other structures: draw a new split."
            )
        names = ("parts", "n_structures", "store_hash", "seed", "note")
        try:
            split = cls(**{name: content[name] for name in names})
        except KeyError as error:
            raise ConfigError(f"{path}: incomplete split file: {error} is missing.") from None
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
        if content.get("hash", split.hash) != split.hash:
            raise ConfigError(
                f"{path}: was changed by hand, its hash is no longer that of its parts; draw a new split."
            )
        if split_hash not in (None, split.hash):
            raise ConfigError(
                f"{path}: holds another split (hash {split.hash}) than the one this began with ({split_hash}). Put "
                "that one back, or begin anew under another name."
            )
        return split


def _indices(name: str, values: ArrayLike, n: int) -> IntArray:
    array = np.asarray(values)
    if array.size == 0:
        return np.empty(0, dtype=np.int64)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ConfigError(f"split: part {name!r} is of {array.dtype} {array.shape}, expected whole numbers (n,).")
    if array.min() < 0 or array.max() >= n:
        raise ConfigError(
            f"split: part {name!r} names structures {array.min()} to {array.max()}, the store has 0 to {n - 1}."
        )
    return array.astype(np.int64)
