"""Files of aenet-python: told by their content, read without running anything in them.

Everything here makes plain values; what they become is decided by the packages that stand later on the road.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import IO

from aenet_ray.errors import StructureError

KINDS = {
    "training": "aenet-python's training HDF5",
    "trnset-hdf5": "a TrnSet file (HDF5)",
    "trnset-ascii": "a TrnSet file (text)",
    "trnset-fortran": "a TrnSet file (Fortran binary)",
}
"""Files that hold structures."""


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """Which of ``KINDS`` a file is, by its content; None for every other file, and where there is none."""
    try:
        with open(path, "rb") as file:
            head = file.read(8)
            if head == b"\x89HDF\r\n\x1a\n":
                return _hdf5_kind(path)
            if _is_fortran(file, head):
                return "trnset-fortran"
            file.seek(0)
            return "trnset-ascii" if _is_text(file.read(1 << 16)) else None
    except OSError:
        return None


def is_aenet_python_file(path: str | os.PathLike[str]) -> bool:
    """Whether aenet-python wrote it: training HDF5, TrnSet, model.pt or checkpoint."""
    from aenet_ray.legacy.model_file import is_model_file

    return kind_of(path) is not None or is_model_file(path)


def convert_hint(path: str | os.PathLike[str], output: str) -> str | None:
    """What to tell somebody who gave a file of aenet-python where one of ours belongs; None for other files."""
    kind = kind_of(path)
    if kind is None:
        return None
    return f"{KINDS[kind]}, not {output}. Convert it: 'aenet-ray convert {path} -o {Path(path).stem}-converted.h5'."


def _hdf5_kind(path: str | os.PathLike[str]) -> str | None:
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            if "entries/structures" in file or "entries/meta" in file:
                return "training"
            return "trnset-hdf5" if "structures/info" in file and "metadata" in file else None
    except (OSError, RuntimeError, KeyError):
        return None


def _is_text(head: bytes) -> bool:
    """The first lines of a TrnSet: a name, T or F, scale, shift, number of types, then that many names."""
    try:
        lines = head.decode().splitlines()
        n = int(lines[4])
        float(lines[2].replace("D", "E")), float(lines[3].replace("D", "E"))
    except (UnicodeDecodeError, ValueError, IndexError):
        return False
    types = [line.split() for line in lines[5 : 5 + n]]
    return lines[1].strip() in ("T", "F") and n > 0 and len(types) == n and all(len(t) == 1 for t in types)


def _is_fortran(file: IO[bytes], head: bytes) -> bool:
    """An unformatted record: its length in bytes stands before and after it. The first is the name, the second
    one a logical."""
    if len(head) < 8:
        return False
    (length,) = struct.unpack("<i", head[:4])
    if not 0 < length <= 4096:
        return False
    file.seek(4 + length)
    tail = file.read(8)
    return len(tail) == 8 and struct.unpack("<ii", tail) == (length, 4)


def only_for_convert(path: str | os.PathLike[str], kind: str) -> StructureError:
    """For readers of structures that were given a TrnSet, whose energies and cells need a decision."""
    return StructureError(f"{path}: {KINDS[kind]}; read it with 'aenet-ray convert {path} -o NEW.h5'.")
