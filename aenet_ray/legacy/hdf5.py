"""Plain reading of what PyTables wrote: attributes, tables and rows of variable length, never a pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from aenet_ray.errors import StoreError


def open_file(path: Path) -> h5py.File:
    """Raises:
    FileNotFoundError: No such file.
    StoreError: Not HDF5, truncated or damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        kind = "truncated" if "truncated" in str(error) else "not an HDF5 file, or damaged"
        raise StoreError(f"{path}: {kind}: {error}. Expected an HDF5 file of aenet-python.") from None


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """HDF5's errors as ours."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        if isinstance(error, StoreError):
            raise
        hint = ""
        if "filter" in str(error) or "plugin" in str(error):
            hint = " Plain HDF5 lacks its compression: rewrite it with PyTables' 'ptrepack --complib=zlib'."
        raise StoreError(f"{path}: {what} cannot be read: {error}.{hint}") from None


def dataset(file: h5py.File, path: Path, name: str) -> h5py.Dataset:
    """A dataset that lies in the file itself.

    Raises:
        StoreError: Missing, or its data lies in another file: a file from elsewhere must not make us read more
            than itself.
    """
    with reading(path, name):
        parts = name.strip("/").split("/")
        for k in range(1, len(parts) + 1):
            link = file.get("/".join(parts[:k]), getlink=True)
            if link is not None and not isinstance(link, h5py.HardLink):
                raise StoreError(f"{path}: {name} is a link out of its place; expected data in the file itself.")
        found = file.get(name)
        if not isinstance(found, h5py.Dataset):
            raise StoreError(f"{path}: {name} is missing.")
        if found.external or found.is_virtual:
            raise StoreError(f"{path}: {name} keeps its data in other files; expected data in the file itself.")
        return found


def column_names(table: h5py.Dataset, path: Path, needed: tuple[str, ...]) -> None:
    """Raises:
    StoreError: The table lacks columns.
    """
    missing = [name for name in needed if name not in (table.dtype.names or ())]
    if missing:
        raise StoreError(f"{path}: {table.name} has no column {', '.join(missing)}.")


def attribute(node: Any, name: str, default: Any = None) -> Any:
    """A plain attribute as Python's own text, number or boolean. What PyTables pickled stays bytes."""
    if name not in node.attrs:
        return default
    with reading(Path(node.file.filename), f"attribute {name} of {node.name}"):
        value = node.attrs[name]
    if isinstance(value, h5py.Empty):
        return ""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(())[()]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        return text(value) if not value.startswith(b"\x80") else value
    return value


def json_attribute(node: Any, name: str) -> dict[str, Any] | None:
    """A JSON object in an attribute; None where the attribute is missing or empty.

    Raises:
        StoreError: It is something else.
    """
    value = attribute(node, name)
    if value is None or value == "":
        return None
    try:
        found = json.loads(value) if isinstance(value, str) else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise StoreError(f"{node.file.filename}: attribute {name} of {node.name} is {value!r:.60}, expected JSON.")
    return found


def check_hash(node: Any, name: str, hash_name: str) -> None:
    """Raises:
    StoreError: The text of an attribute is not the one its SHA-256 was made of.
    """
    value, expected = attribute(node, name), attribute(node, hash_name)
    if isinstance(value, str) and expected and hashlib.sha256(value.encode()).hexdigest() != expected:
        raise StoreError(
            f"{node.file.filename}: {name} of {node.name} does not fit its {hash_name}: damaged or edited."
        )


def check_version(node: Any, expected: dict[str, Any], what: str) -> None:
    """Raises:
    StoreError: A version or format attribute has another value than those known.
    """
    for name, value in expected.items():
        found = attribute(node, name)
        if found != value:
            raise StoreError(
                f"{node.file.filename}: {what} has {name} {found!r}, this reader knows {value!r}. Write the file anew "
                "with a current aenet-python, or build a structure store from the original files."
            )


def text(value: bytes) -> str:
    """Text of a fixed-width column."""
    try:
        return value.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        return value.rstrip(b"\0").decode("latin1")
