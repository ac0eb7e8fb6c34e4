"""Finding structures that come twice, among many, in little memory."""

from __future__ import annotations

import os
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from aenet_ray.structures.records import Records

_BUFFER = 1 << 19


class Identifiers:
    """The identifiers seen so far, as 64-bit hashes: 8 bytes each once sorted away."""

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._sorted: list[NDArray[np.int64]] = []

    def add(self, records: Records) -> list[int]:
        """Remember the identifiers of records; which of them were there before."""
        keys = [identifier(records, i) for i in range(len(records))]
        hashes = np.array([0 if key is None else hash(key) for key in keys], dtype=np.int64)
        known = np.zeros(len(hashes), dtype=bool)
        for older in self._sorted:
            place = np.minimum(np.searchsorted(older, hashes), len(older) - 1)
            known |= older[place] == hashes
        repeated = []
        for i, (key, value) in enumerate(zip(keys, hashes.tolist(), strict=True)):
            if key is not None and (known[i] or value in self._recent):
                repeated.append(i)
            elif key is not None:
                self._recent.add(value)
        if len(self._recent) > _BUFFER:
            self._sorted.append(np.sort(np.fromiter(self._recent, dtype=np.int64)))
            self._recent.clear()
        return repeated


def identifier(records: Records, i: int) -> tuple[str, int] | None:
    """What may come only once: the name, else the source, with the frame; None for unnamed ones in memory."""
    source, name = records.sources[i], records.names[i]
    in_archive = "::member=" in source  # its name is made of the archive's, which may not be the only one
    if name and not in_archive:
        return name, int(records.frames[i])
    return None if source == "<memory>" else (_absolute(source), int(records.frames[i]))


@lru_cache(maxsize=16)
def _absolute(source: str) -> str:
    return os.path.abspath(source)
