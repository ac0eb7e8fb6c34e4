"""Compiled functions kept on disk, and compiled again when anything they are built from changes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from numba import njit

# What the compiler may do to sums: everything but assume that there is no NaN and no infinity.
FAST = {"reassoc", "contract", "arcp", "nsz"}


@lru_cache(maxsize=1)
def _sources() -> str:
    """Hash of the files of this folder."""
    content = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return hashlib.sha256(content).hexdigest()


def _kept(compiled: Any) -> Any:
    """Only functions called from Python are kept on disk. numba compares the file that one stands in, but not those
    of the functions it calls; a changed helper would go unnoticed, so their content is part of the stamp."""
    file = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if file is not None:
        file._source_stamp = (file._source_stamp, _sources())
    return compiled


def cached_kernel(function: Callable[..., Any]) -> Any:
    """Compile on the first call, without the GIL and with fast sums, and keep the result on disk."""
    return _kept(njit(nogil=True, cache=True, fastmath=FAST)(function))


def cached_search(function: Callable[..., Any]) -> Any:
    """The same, with every operation rounded as written."""
    return _kept(njit(nogil=True, cache=True)(function))


def helper(function: Callable[..., Any]) -> Any:
    """A function that only kernels call: compiled into them, always, as calls of it cost; fast sums."""
    return njit(nogil=True, fastmath=FAST, forceinline=True)(function)


def exact_helper(function: Callable[..., Any]) -> Any:
    """The same, with every operation rounded as written."""
    return njit(nogil=True)(function)
