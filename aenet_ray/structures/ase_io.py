"""From and to ASE: its Atoms objects, and the formats it reads and writes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aenet_ray.errors import StructureError
from aenet_ray.structures.files import READABLE
from aenet_ray.structures.labels import DEFAULT_KEYS, LabelKeys
from aenet_ray.structures.structure import Structure

if TYPE_CHECKING:
    from ase import Atoms


def from_ase(atoms: Atoms, *, source: str = "<memory>", frame: int = 0, keys: LabelKeys = DEFAULT_KEYS) -> Structure:
    """A structure with the labels of an ASE object: its calculator's results, or ``info`` and ``arrays``.

    Energy is the calculator's ``energy`` (extrapolated to zero smearing where a code gives both); forces are
    without the effect of constraints. Total charge and multiplicity come from ``info``.

    Raises:
        StructureError: A label has the wrong shape.
    """
    results = dict(getattr(atoms.calc, "results", {}) or {})

    def label(key: str, place: Mapping[str, Any]) -> Any:
        value = results.get(key)
        return place.get(key) if value is None else value

    info = atoms.info
    cell, pbc = _cell(atoms)
    multiplicity = next((info[key] for key in ("multiplicity", "mult") if key in info), None)
    return Structure(
        atoms.get_positions(),
        atoms.get_chemical_symbols(),
        label(keys.energy, info),
        label(keys.forces, atoms.arrays),
        cell,
        pbc,
        name=None if info.get("name") is None else str(info["name"]),
        stress=stress_matrix(label(keys.stress, info), source),
        charges=label(keys.charges, atoms.arrays),
        charge=info.get("charge"),
        multiplicity=multiplicity,
        fidelity=keys.fidelity if info.get("fidelity") is None else str(info["fidelity"]),
        source=source,
        frame=frame,
    )


def _cell(atoms: Atoms) -> tuple[Any, Any]:
    """ASE's missing vectors (zero rows) are completed where the structure is not periodic along them."""
    missing = ~atoms.cell.any(1)
    if missing.all() and not atoms.pbc.any():
        return None, None
    if missing.any() and not (missing & atoms.pbc).any():
        return np.asarray(atoms.cell.complete()), atoms.pbc
    return np.asarray(atoms.cell), atoms.pbc


def stress_matrix(stress: Any, source: str) -> Any:
    """(3, 3) of ASE's six components xx yy zz yz xz xy, or of nine."""
    if stress is None:
        return None
    values = np.asarray(stress, dtype=np.float64)
    if values.shape == (6,):
        xx, yy, zz, yz, xz, xy = values
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    if values.size != 9:
        raise StructureError(f"{source}: stress has shape {values.shape}, expected (3, 3), (9,) or (6,).")
    return values.reshape(3, 3)


def to_ase(structure: Structure) -> Atoms:
    """An ASE object; labels in a SinglePointCalculator, the rest in ``info``."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms = Atoms(structure.species, structure.positions, cell=structure.cell, pbc=structure.pbc)
    results = {
        name: value
        for name in ("energy", "forces", "stress", "charges")
        if (value := getattr(structure, name)) is not None
    }
    if "stress" in results:
        s = structure.stress
        assert s is not None
        results["stress"] = np.array([s[0, 0], s[1, 1], s[2, 2], s[1, 2], s[0, 2], s[0, 1]])
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    for key in ("name", "charge", "multiplicity", "fidelity"):
        if (value := getattr(structure, key)) is not None:
            atoms.info[key] = value
    return atoms


def read_ase(
    path: str | os.PathLike[str], *, keys: LabelKeys = DEFAULT_KEYS, frmt: str | None = None
) -> Iterator[Structure]:
    """Every frame of a file in any format ASE reads, compressed ones included; ``frmt`` is ASE's name of it, if known.

    Raises:
        StructureError: ASE does not know the format, or cannot read the file.
    """
    import ase.io
    from ase.io.formats import UnknownFileTypeError

    frame = 0
    try:
        for atoms in ase.io.iread(os.fspath(path), index=":", format=frmt):
            yield from_ase(atoms, source=str(path), frame=frame, keys=keys)
            frame += 1
    except UnknownFileTypeError as error:
        raise StructureError(f"{path}: unknown format ({error}). aenet_ray reads {READABLE}.") from None
    except StructureError:
        raise
    except Exception as error:  # ASE's readers raise whatever their parsing runs into
        raise StructureError(f"{path}, frame {frame}: ASE cannot read it: {type(error).__name__}: {error}.") from None
    if frame == 0:
        raise StructureError(f"{path}: no structure in it.")


def writable_format(path: str | os.PathLike[str], inputs: Iterable[str] = ()) -> str:
    """ASE's name of the format in which structures can be written to a file of this name.

    Args:
        inputs: Files that are read, none of which may be replaced.

    Raises:
        StructureError: The name does not end in extended XYZ's or another such format's; or a structure store, or an
            input, is there.
    """
    from ase.io.formats import UnknownFileTypeError, filetype, ioformats

    path = Path(path)
    if path.exists() and any(Path(name).exists() and path.samefile(name) for name in inputs):
        raise StructureError(f"{path}: is read, and would be replaced by what is written; choose another output.")
    try:
        name = "extxyz" if path.suffix.lower() in (".xyz", ".extxyz", ".exyz") else filetype(str(path), read=False)
    except UnknownFileTypeError:
        name = ""
    known = ioformats.get(name)
    if known is None or known.single or not (known.can_write and known.can_read):
        raise StructureError(
            f"{path}: structures are written as extended XYZ; expected a name that ends in .xyz or .extxyz, or in that "
            "of another format for several structures that ASE writes, such as .traj."
        )
    if path.is_dir() or (path.is_file() and file_is_hdf5(path)):
        raise StructureError(f"{path}: a folder or HDF5 file is there, which is not replaced; choose another output.")
    return name


def file_is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x89HDF"


def write_ase(structures: Iterable[Structure], path: str | os.PathLike[str], format: str = "extxyz") -> None:
    """Write structures through ASE, by default as extended XYZ with energy, forces and stress."""
    import ase.io

    ase.io.write(os.fspath(path), [to_ase(s) for s in structures], format=format)
