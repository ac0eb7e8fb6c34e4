"""The structure record of aenet-python's files, and what its fields must be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from aenet_ray.errors import StructureError
from aenet_ray.legacy.unpickle import read_state, what_is

RECORD_FIELDS = ("positions", "species", "energy", "forces", "cell", "pbc", "name")


@dataclass(frozen=True, slots=True)
class Record:
    """The plain values of aenet-python's structure record; what is absent is None.

    Args:
        positions: (n_atoms, 3), Å.
        species: (n_atoms,).
        energy: Total energy, eV.
        forces: (n_atoms, 3), eV/Å.
        cell: Rows, (3, 3), Å.
        pbc: (3,).
        name: Identifier.
    """

    positions: np.ndarray
    species: list[str]
    energy: float | None
    forces: np.ndarray | None
    cell: np.ndarray | None
    pbc: np.ndarray | None
    name: str | None


def read_record(data: bytes, where: str) -> Record:
    """The record in a pickle.

    Args:
        data: The pickle.
        where: File and entry, for messages.

    Raises:
        UnsafeFileError: It asks for a class, function or instruction that such a record has no need of.
        StructureError: It is damaged, or a field is of another kind than it should be.
    """
    return _checked(read_state(data, where), where)


def _checked(state: dict[str, Any], where: str) -> Record:
    """The fields of a record, each of the kind it should be; shapes are left to ``Structure``."""

    def refuse(name: str, expected: str) -> NoReturn:
        raise StructureError(f"{where}: {name} is {what_is(state.get(name))}, expected {expected}.")

    def array(name: str, kinds: str = "fiu") -> np.ndarray | None:
        value = state.get(name)
        if value is None:
            return None
        if not isinstance(value, np.ndarray) or value.dtype.kind not in kinds:
            refuse(name, "an array of numbers")
        return value

    unknown = sorted(k for k, v in state.items() if k not in RECORD_FIELDS and v is not None)
    if unknown:
        raise StructureError(f"{where}: the record has the field {unknown[0]!r}; known are {', '.join(RECORD_FIELDS)}.")
    positions = array("positions")
    if positions is None:
        refuse("positions", "an array of numbers")
    species = state.get("species")
    if isinstance(species, np.ndarray) and species.dtype.kind == "U" and species.ndim == 1:
        species = species.tolist()
    if not isinstance(species, (list, tuple)) or not all(isinstance(s, str) for s in species):
        refuse("species", "a list of chemical symbols")
    energy, name, pbc = state.get("energy"), state.get("name"), state.get("pbc")
    if energy is not None and type(energy) not in (int, float):
        refuse("energy", "a number")
    if name is not None and not isinstance(name, str):
        refuse("name", "a text")
    if isinstance(pbc, (list, tuple)) and all(isinstance(flag, bool) for flag in pbc):
        pbc = np.array(pbc, dtype=bool)
    elif pbc is not None:
        pbc = array("pbc", "biu")
    if energy is not None:
        energy = None if math.isnan(energy) else float(energy)
    return Record(positions, list(species), energy, array("forces"), array("cell"), pbc, name)
