"""One door to structures in files, archives and memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from aenet_ray.errors import StructureError
from aenet_ray.structures.archives import is_archive, iter_members
from aenet_ray.structures.structure import Structure
from aenet_ray.structures.xsf import parse_xsf, read_xsf


def read_structures(source: Any) -> Iterator[Structure]:
    """Structures of a path, a Structure, an ASE Atoms, or any iterable of these, in order.

    Raises:
        StructureError: A file is missing, of unknown format, or cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        yield from read_file(source)
    elif isinstance(source, Structure):
        yield source
    elif hasattr(source, "get_chemical_symbols"):
        from aenet_ray.structures.ase_io import from_ase

        yield from_ase(source)
    elif isinstance(source, Iterable):
        for item in source:
            yield from read_structures(item)
    else:
        raise StructureError(
            f"cannot read structures from {type(source).__name__}; expected paths, Structure records, ASE "
            "Atoms, or an iterable of them."
        )


def read_file(path: str | os.PathLike[str]) -> Iterator[Structure]:
    """Structures of one file."""
    if not os.path.exists(path):
        raise StructureError(f"{path}: no such file.")
    if is_archive(path):
        for member in iter_members(path):
            for structure in parse_xsf(member.text(), member.source):
                structure.name = member.name
                yield structure
    elif Path(path).suffix.lower() == ".xsf":
        yield from read_xsf(path)
    else:
        from aenet_ray.structures.ase_io import read_ase

        yield from read_ase(path)
