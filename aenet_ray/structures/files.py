"""Opening files, compressed or not, and telling their format."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from aenet_ray.errors import MissingFileError, StructureError

_OPENERS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}
_COMPRESSION_SUFFIXES = {".gz", ".bz2", ".xz"}
_BY_SUFFIX = {
    ".xsf": "xsf",
    ".axsf": "xsf",
    ".xyz": "extxyz",
    ".extxyz": "extxyz",
    ".exyz": "extxyz",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
}
_DOCUMENTS = {".md", ".rst", ".txt", ".csv", ".tsv", ".pdf", ".png", ".yaml", ".yml", ".py", ".ipynb", ".sh", ".pt"}
READABLE = (
    "XSF (.xsf, .axsf), extended XYZ (.extxyz, .xyz), these compressed (.gz, .bz2, .xz), tar archives of XSF, "
    "structure stores (.h5), aenet-python's training HDF5, and the formats of ASE ('ase info --formats')"
)


@contextmanager
def open_binary(path: str | os.PathLike[str]) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """The file itself, whose position tells the progress, and its content without compression."""
    with open(path, "rb") as raw:
        opener = _OPENERS.get(raw.read(2))
        raw.seek(0)
        if opener is None:
            yield raw, raw
        else:
            with opener(raw) as plain:
                yield raw, plain


def file_format(path: str | os.PathLike[str]) -> str:
    """'tar', 'xsf', 'extxyz', 'hdf5', or 'ase' for everything else: by suffix, then by content.

    Raises:
        StructureError: A directory, or an empty file.
        MissingFileError: No such file (a FileNotFoundError as well).
    """
    from aenet_ray.structures.archives import is_archive

    path = Path(path)
    if path.is_dir():
        raise StructureError(f"{path}: a directory, expected a file.")
    if not path.exists():
        raise MissingFileError(f"{path}: no such file.")
    if path.stat().st_size == 0:
        raise StructureError(f"{path}: the file is empty.")
    if is_archive(path):
        return "tar"
    plain_name = path.with_suffix("") if path.suffix.lower() in _COMPRESSION_SUFFIXES else path
    return _BY_SUFFIX.get(plain_name.suffix.lower()) or _by_content(path)


def _by_content(path: Path) -> str:
    try:
        with open_binary(path) as (_, plain):
            head = plain.read(4096)
    except (OSError, EOFError):
        return "ase"
    if head.startswith(b"\x89HDF"):
        return "hdf5"
    lines = head.decode(errors="replace").splitlines()
    if any(line.split()[:1] in (["PRIMCOORD"], ["PRIMVEC"], ["ATOMS"], ["ANIMSTEPS"]) for line in lines):
        return "xsf"
    # A VASP or CIF file may well begin with a number; only an XYZ file goes on like this.
    if len(lines) > 2 and lines[0].strip().isdigit() and ("Properties=" in lines[1] or "Lattice=" in lines[1]):
        return "extxyz"
    return "ase"


def known_to_ase(path: str | os.PathLike[str]) -> bool:
    """Whether ASE has a format for the file, by its name or content, and its name is not that of a document."""
    from ase.io.formats import UnknownFileTypeError, filetype

    if Path(path).suffix.lower() in _DOCUMENTS:  # by content, ASE takes many texts for structures
        return False
    try:
        filetype(os.fspath(path))
    except UnknownFileTypeError:
        return False
    except Exception:  # damaged; what reads it will say so
        return True
    return True
