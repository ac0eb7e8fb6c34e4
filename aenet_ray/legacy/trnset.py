"""TrnSet files: structures with energies, forces and fingerprints, as text or HDF5.

Text and Fortran files know no cells at all. Energies are cohesive or total: which of them is found out from the header,
whose extremes are of cohesive energies per atom.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import h5py
import numpy as np

from aenet_ray.errors import StoreError, StructureError
from aenet_ray.legacy import KINDS, kind_of
from aenet_ray.legacy.hdf5 import column_names, dataset, open_file, reading, text

MAX_ATOMS = 10_000_000
"""Of one structure: a count beyond this is damage, not data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a TrnSet says of itself.

    Args:
        name: Of the set. normalized, scale, shift: Whether energies were scaled, and how.
        species: Types in their order. atomic_energies: Of each, eV.
        n_atoms, n_structures: Counts.
        e_min, e_max: Extremes of the cohesive energy, eV/atom.
    """

    name: str
    normalized: bool
    scale: float
    shift: float
    species: tuple[str, ...]
    atomic_energies: dict[str, float]
    n_atoms: int
    n_structures: int
    e_min: float
    e_max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One structure of a TrnSet.

    Args:
        path: Its original file.
        energy: As stored, eV.
        species: (n_atoms,).
        positions, forces: (n_atoms, 3).
        features: (n_atoms, n_features), None where there are none.
        cell: (3, 3), None where the file knows none.
        periodic: Along all vectors.
    """

    path: str
    energy: float
    species: list[str]
    positions: np.ndarray
    forces: np.ndarray
    features: np.ndarray | None
    cell: np.ndarray | None = None
    periodic: bool = True


class TrnSet:
    """A TrnSet file.

    Args:
        path: HDF5 or text.

    Raises:
        FileNotFoundError: No such file.
        StructureError: No TrnSet, or Fortran's binary form, whose layout depends on compiler and version.
        StoreError: An HDF5 file that is damaged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path}: no such file.")
        self.kind = kind_of(self.path)
        if self.kind == "trnset-fortran":
            raise StructureError(
                f"{self.path}: {KINDS['trnset-fortran']}, which is not read. Turn it into text with ænet's "
                "'trnset2ASCII.x', or build a structure store from the original structure files with 'aenet-ray build'."
            )
        if self.kind not in ("trnset-hdf5", "trnset-ascii"):
            raise StructureError(f"{self.path}: no TrnSet file; expected its text or HDF5 form.")
        with self._open() as (self.header, _):
            pass

    @contextmanager
    def _open(self) -> Iterator[tuple[Header, Iterator[Item]]]:
        if self.kind == "trnset-hdf5":
            with open_file(self.path) as file:
                header = _hdf5_header(file, self.path)
                yield header, _hdf5_items(file, self.path, header)
        else:
            with open(self.path, encoding="utf-8", errors="replace") as lines:
                reader = _Lines(lines, self.path)
                header = _text_header(reader)
                yield header, _text_items(reader, header)

    def __len__(self) -> int:
        return self.header.n_structures

    def __iter__(self) -> Iterator[Item]:
        """Structures in order.

        Raises:
            StructureError, StoreError: The file is damaged.
        """
        with self._open() as (_, items):
            yield from items

    def references(self, item: Item) -> float:
        """Sum of the atomic energies of a structure, eV."""
        return sum(self.header.atomic_energies[s] for s in item.species)

    def energies_are(self) -> str:
        """'cohesive' or 'total'; 'unknown' where the header's extremes fit neither.

        Raises:
            StructureError, StoreError: The file is damaged.
        """
        header = self.header
        if not any(header.atomic_energies.values()):
            return "total"  # the same thing
        stored, less = [], []
        for item in self:
            stored.append(item.energy / len(item.species))
            less.append((item.energy - self.references(item)) / len(item.species))
        limits = header.e_min, header.e_max
        tolerance = 1e-6 * max(1.0, *map(abs, limits))
        for answer, values in (("cohesive", stored), ("total", less)):
            if np.allclose((min(values), max(values)), limits, rtol=0, atol=tolerance):
                return answer
        return "unknown"


# HDF5


def _hdf5_header(file: h5py.File, path: Path) -> Header:
    table = dataset(file, path, "metadata")
    needed = ("name", "normalized", "scale", "shift", "atom_types", "atomic_energy", "num_atoms_tot", "num_structures")
    column_names(table, path, (*needed, "E_min", "E_max"))
    with reading(path, "/metadata"):
        rows = table[:]
    if len(rows) != 1:
        raise StoreError(f"{path}: /metadata has {len(rows)} rows, expected one.")
    with reading(path, "/metadata"):  # a column may be of another type
        return _header_of(rows[0], path)


def _header_of(row: np.void, path: Path) -> Header:
    species = tuple(text(bytes(s)) for s in np.atleast_1d(row["atom_types"]))
    energies = [float(e) for e in np.atleast_1d(row["atomic_energy"])]
    if len(species) != len(energies):
        raise StoreError(f"{path}: /metadata names {len(species)} species and {len(energies)} atomic energies.")
    return Header(
        name=text(row["name"]),
        normalized=bool(row["normalized"]),
        scale=float(row["scale"]),
        shift=float(row["shift"]),
        species=species,
        atomic_energies=dict(zip(species, energies, strict=True)),
        n_atoms=int(row["num_atoms_tot"]),
        n_structures=int(row["num_structures"]),
        e_min=float(row["E_min"]),
        e_max=float(row["E_max"]),
    )


def _hdf5_items(file: h5py.File, path: Path, header: Header) -> Iterator[Item]:
    table, atoms = dataset(file, path, "structures/info"), dataset(file, path, "structures/atoms")
    column_names(table, path, ("path", "first_atom", "num_atoms", "energy"))
    column_names(atoms, path, ("type", "coords", "forces"))
    features = dataset(file, path, "structures/features") if "structures/features" in file else None
    if len(table) != header.n_structures or len(atoms) != header.n_atoms:
        raise StoreError(
            f"{path}: holds {len(table)} structures and {len(atoms)} atoms, its header says {header.n_structures} and "
            f"{header.n_atoms}: damaged, or not completely written."
        )
    with reading(path, "/structures/info"):
        info = table[:]
    for i, row in enumerate(info):
        first, n = int(row["first_atom"]), int(row["num_atoms"])
        if first + n > header.n_atoms or n == 0:
            raise StoreError(f"{path}: structure {i}: atoms {first} to {first + n}, there are {header.n_atoms}.")
        with reading(path, f"structure {i}"):
            part = atoms[first : first + n]
            rows = None if features is None or len(features) != header.n_atoms else features[first : first + n]
            cell, periodic = _cell(file, path, i)
            species = [text(bytes(s)) for s in part["type"]]
            source, energy = text(row["path"]), float(row["energy"])
        _check_species(species, header, f"{path}: structure {i}")
        yield Item(
            path=source,
            energy=energy,
            species=species,
            positions=part["coords"],
            forces=part["forces"],
            features=_feature_rows(rows, f"{path}: structure {i}"),
            cell=cell,
            periodic=periodic,
        )


def _cell(file: h5py.File, path: Path, i: int) -> tuple[np.ndarray | None, bool]:
    name = f"structures/cells/structure_{i:06d}"
    if name not in file:
        return None, False
    vectors = dataset(file, path, f"{name}/lattice_vectors")[()]
    return vectors, bool(np.all(dataset(file, path, f"{name}/pbc")[()])) if f"{name}/pbc" in file else True


def _feature_rows(rows: Iterable[np.ndarray] | None, where: str) -> np.ndarray | None:
    parts = [] if rows is None else list(rows)
    if not parts or not len(parts[0]):
        return None
    if len({len(part) for part in parts}) != 1:
        raise StructureError(f"{where}: its atoms have different numbers of features.")
    return np.array(parts, dtype=np.float64)


def _check_species(species: Iterable[str], header: Header, where: str) -> None:
    unknown = sorted(set(species) - set(header.species))
    if unknown:
        raise StructureError(
            f"{where}: species {', '.join(unknown)} is not in the header ({', '.join(header.species)})."
        )


# text


class _Lines:
    """Lines of a file, counted, and runs of numbers that may go over several."""

    def __init__(self, file: IO[str], path: Path) -> None:
        self.file, self.path, self.count = file, path, 0

    def line(self, what: str) -> str:
        found = self.file.readline()
        self.count += 1
        if not found:
            raise StructureError(f"{self.path}: ends at line {self.count}, where {what} should be: truncated.")
        return found.strip()

    def numbers(self, n: int, what: str) -> list[float]:
        values: list[float] = []
        while len(values) < n:
            line = self.line(what)
            try:
                values += [float(word.replace("D", "E").replace("d", "e")) for word in line.split()]
            except ValueError:
                raise self.wrong(what, line) from None
        if len(values) != n:
            raise self.wrong(what, f"{len(values)} numbers")
        return values

    def integers(self, n: int, what: str, low: int, high: int) -> list[int]:
        values = self.numbers(n, what)
        if not all(low <= v <= high and v == int(v) for v in values):
            raise self.wrong(what, " ".join(f"{v:g}" for v in values))
        return [int(v) for v in values]

    def wrong(self, what: str, found: str) -> StructureError:
        return StructureError(f"{self.path}: line {self.count}: {found!r:.80}, expected {what}.")


def _text_header(lines: _Lines) -> Header:
    name, flag = lines.line("the name"), lines.line("T or F")
    if flag not in ("T", "F"):
        raise lines.wrong("T or F", flag)
    (scale,), (shift,) = lines.numbers(1, "the energy scale"), lines.numbers(1, "the energy shift")
    (n_types,) = lines.integers(1, "the number of types", 1, 200)
    species = tuple(lines.line("a type") for _ in range(n_types))
    energies = lines.numbers(n_types, "atomic energies")
    (n_atoms,) = lines.integers(1, "the number of atoms", 1, 2**53)
    (n_structures,) = lines.integers(1, "the number of structures", 1, 2**53)
    e_min, e_max, _ = lines.numbers(3, "least, largest and mean energy")
    return Header(
        name=name,
        normalized=flag == "T",
        scale=scale,
        shift=shift,
        species=species,
        atomic_energies=dict(zip(species, energies, strict=True)),
        n_atoms=n_atoms,
        n_structures=n_structures,
        e_min=e_min,
        e_max=e_max,
    )


def _text_items(lines: _Lines, header: Header) -> Iterator[Item]:
    for i in range(header.n_structures):
        path = lines.line(f"the path of structure {i}")
        n, _ = lines.integers(2, "numbers of atoms and types", 1, MAX_ATOMS)
        (energy,) = lines.numbers(1, "an energy")
        species, positions, forces, features = [], [], [], []
        for _ in range(n):
            (kind,) = lines.integers(1, f"a type from 1 to {len(header.species)}", 1, len(header.species))
            species.append(header.species[kind - 1])
            positions.append(lines.numbers(3, "coordinates"))
            forces.append(lines.numbers(3, "forces"))
            (count,) = lines.integers(1, "a number of features", 0, 1_000_000)
            features.append(np.array(lines.numbers(count, "features")))
        yield Item(
            path=path,
            energy=energy,
            species=species,
            positions=np.array(positions),
            forces=np.array(forces),
            features=_feature_rows(features, f"{lines.path}: structure {i}"),
        )
