"""ænet potentials as they lie on a disk: a file a species, in either format, together one potential."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aenet_ray.errors import ExportError
from aenet_ray.export.aenet_ascii import read_ascii
from aenet_ray.export.aenet_binary import read_binary
from aenet_ray.export.rows import values_of
from aenet_ray.export.species_potential import SpeciesPotential

DESCRIPTOR = ("species", "rad_order", "rad_cutoff", "ang_order", "ang_cutoff", "min_cutoff")
"""What all files of one potential must agree in."""

# First bytes of files that are no potential files of ænet, and what they are.
FOREIGN = {
    b"\x00\x00\x00\x04": "a Fortran unformatted file, big endian; expected little endian, or the ASCII form",
    b"PK\x03\x04": "a zip archive, such as a torch model file; read it with TorchANNPotential.from_file",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "compressed; unpack it first",
}


def read_potential_file(path: str | os.PathLike[str]) -> SpeciesPotential:
    """One species' potential, ASCII or binary, told by its first bytes.

    Raises:
        ExportError: Truncated, garbled, of another format or basis; names the line or record.
        FileNotFoundError: No such file.
    """
    path = Path(path)
    if path.is_dir():
        raise ExportError(f"{path}: a directory, expected a potential file.")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such potential file.")
    with path.open("rb") as file:
        head = file.read(4)
    for magic, what in FOREIGN.items():
        if head.startswith(magic):
            raise ExportError(f"{path}: {what}.")
    # The first record of a binary file is one integer of four bytes.
    return read_binary(path) if head == b"\x04\x00\x00\x00" else read_ascii(path)


def read_potential_files(paths: Any) -> dict[str, SpeciesPotential]:
    """The files of one potential, species to its share, in the descriptor's order.

    Args:
        paths: Mapping of species to path; or a directory (its ``*.nn.ascii`` and ``*.nn`` files; both forms of one
            potential count once); or a path, or many.

    Raises:
        ExportError: As ``read_potential_file``; or a species has no file or two, a file is of another species than the
            mapping says, or the files do not belong together.
        FileNotFoundError: No such file.
    """
    files: dict[str, Path] = {}
    potentials: dict[str, SpeciesPotential] = {}
    for label, path in _listed(paths):
        potential = read_potential_file(path)
        species = potential.central_species
        if label not in (None, species):
            raise ExportError(f"{path}: the potential of {species}, expected that of {label}.")
        if species in files:
            if isinstance(paths, str | os.PathLike) and same_potential(potential, potentials[species]):
                continue  # both forms of one potential in one folder
            raise ExportError(f"{path}: the potential of {species}, as is {files[species]}; expected one a species.")
        files[species], potentials[species] = path, potential
    first, *others = potentials
    for other in others:
        _check_together(potentials[first], files[first], potentials[other], files[other])
    missing = [s for s in potentials[first].species if s not in potentials]
    if missing:
        raise ExportError(
            f"{files[first]}: a potential for {', '.join(potentials[first].species)}, but there is no file of "
            f"{', '.join(missing)}; given are {', '.join(map(str, files.values()))}."
        )
    return {s: potentials[s] for s in potentials[first].species}


def _listed(paths: Any) -> list[tuple[str | None, Path]]:
    if isinstance(paths, Mapping):
        listed: list[tuple[str | None, Path]] = [(str(s), Path(p)) for s, p in paths.items()]
    elif isinstance(paths, str | os.PathLike):
        path = Path(paths)
        listed = [(None, p) for p in _in_directory(path)] if path.is_dir() else [(None, path)]
    elif isinstance(paths, Iterable):
        listed = [(None, Path(p)) for p in paths]
    else:
        raise ExportError(
            f"potential files: {type(paths).__name__}, expected paths, a mapping of species to paths, or a directory."
        )
    if not listed:
        raise ExportError("potential files: none given; expected one a species.")
    return listed


def _in_directory(path: Path) -> list[Path]:
    found = sorted(p for p in path.iterdir() if p.name.endswith((".nn.ascii", ".nn")) and p.is_file())
    if not found:
        raise ExportError(f"{path}: no *.nn.ascii or *.nn files in this directory.")
    return found


def same_potential(a: SpeciesPotential, b: SpeciesPotential) -> bool:
    """Whether two potentials hold the same numbers, to the last digit."""
    left, right = values_of(a, allow_longer_angular_cutoff=True), values_of(b, allow_longer_angular_cutoff=True)
    return all(np.array_equal(left[key], right[key]) for key in left)


def _check_together(a: SpeciesPotential, path_a: Path, b: SpeciesPotential, path_b: Path) -> None:
    for name in DESCRIPTOR:
        if getattr(a, name) != getattr(b, name):
            raise ExportError(
                f"{path_b}: {name} is {_shown(getattr(b, name))}, but {_shown(getattr(a, name))} in {path_a}; expected "
                "files of one potential, which have one descriptor (the order of species fixes their weights)."
            )


def _shown(value: object) -> str:
    return " ".join(value) if isinstance(value, tuple) else str(value)
