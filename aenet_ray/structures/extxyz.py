"""Extended XYZ: a fast reader of its common core (ASE's takes milliseconds a frame).

A frame is a line with the number of atoms, a comment line with ``key=value`` pairs (``Lattice``, ``pbc``,
``Properties``, labels) and one line an atom. Units eV, Å, eV/Å, eV/Å³.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aenet_ray.errors import StructureError
from aenet_ray.structures.labels import LabelKeys, hint_other_keys
from aenet_ray.structures.structure import FloatArray, Structure

_PAIR = re.compile(r"""([^\s=]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|\{([^}]*)\}|\[(.*?)\](?=\s|$)|(\S+))""")
_PLAIN = "species:S:1:pos:R:3"


class Field(NamedTuple):
    """Columns [start, stop) of the atom lines."""

    start: int
    stop: int


def split_frames(lines: IO[str], source: str) -> Iterator[str]:
    """The text of each frame, without parsing it.

    Raises:
        StructureError: No number of atoms where one is due, or the file ends within a frame.
    """
    frame = 0
    for first in lines:
        if not first.strip():
            continue
        try:
            n_atoms = int(first)
        except ValueError:
            raise StructureError(
                f"{source}, frame {frame}: expected the number of atoms, found {first.strip()[:60]!r}."
            ) from None
        rest = list(islice(lines, n_atoms + 1))
        if len(rest) < n_atoms + 1:
            raise StructureError(
                f"{source}, frame {frame}: {n_atoms} atoms announced, {max(len(rest) - 1, 0)} atom lines "
                "follow; truncated?"
            )
        yield first + "".join(rest)
        frame += 1
    if frame == 0:
        raise StructureError(f"{source}: the file is empty; expected an (extended) XYZ file.")


def parse_frame(text: str, source: str, frame: int, keys: LabelKeys) -> Structure:
    """One frame.

    Raises:
        StructureError: It does not parse; names source and frame.
    """
    where = f"{source}, frame {frame}"
    lines = text.split("\n")
    n_atoms = int(lines[0])
    info = parse_comment(lines[1])
    fields = _fields(info.get("Properties", _PLAIN), where)
    rows = [line.split() for line in lines[2 : 2 + n_atoms]]
    width = max(field.stop for field in fields.values())
    for k, row in enumerate(rows):
        if len(row) < width:
            raise StructureError(f"{where}: atom {k} has {len(row)} columns, expected {width}: {lines[2 + k]!r}.")
    column = _Columns(rows, fields, where)
    cell, pbc = _cell(info, where)
    for wanted, key, present in (("energy", keys.energy, info), ("forces", keys.forces, fields)):
        if key not in present:
            hint_other_keys(source, wanted, key, present)
    try:
        return Structure(
            column.required("pos"),
            column.species(),
            _scalar(info, keys.energy, where),
            column.get(keys.forces, "force") if keys.forces == "forces" else column.get(keys.forces),
            cell,
            pbc,
            name=info.get("name", info.get("id")),
            stress=_stress(info, keys.stress, cell, where),
            charges=column.get(keys.charges, "charge") if keys.charges == "charges" else column.get(keys.charges),
            charge=_scalar(info, "charge", where),
            multiplicity=_scalar(info, "multiplicity" if "multiplicity" in info else "mult", where),
            fidelity=info.get("fidelity", keys.fidelity),
            source=source,
            frame=frame,
        )
    except StructureError as error:
        raise StructureError(f"{where}: {str(error).removeprefix(where).removeprefix(source).lstrip(': ')}") from None


def parse_comment(line: str) -> dict[str, str]:
    """The ``key=value`` pairs of a comment line, as texts without their quotes or brackets."""
    pairs = {}
    for match in _PAIR.finditer(line):
        key, *values = match.groups()
        pairs[key] = next(value for value in values if value is not None)
    return pairs


def _fields(properties: str, where: str) -> dict[str, Field]:
    parts, fields, start = properties.split(":"), {}, 0
    try:
        for name, _, count in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
            fields[name] = Field(start, start + int(count))
            start += int(count)
    except ValueError:
        raise StructureError(f"{where}: Properties={properties!r} is not a list of name:type:columns.") from None
    return fields


class _Columns:
    """Numbers by field of the atom lines."""

    def __init__(self, rows: list[list[str]], fields: dict[str, Field], where: str) -> None:
        self.rows, self.fields, self.where = rows, fields, where

    def get(self, *names: str) -> FloatArray | None:
        name = next((name for name in names if name in self.fields), None)
        if name is None:
            return None
        start, stop = self.fields[name]
        try:
            values = np.array([row[start:stop] for row in self.rows], dtype=np.float64)
        except ValueError:
            raise StructureError(f"{self.where}: {name}: {self._culprit(start, stop)} is not a number.") from None
        values = values.reshape(len(self.rows), stop - start)
        return values[:, 0] if stop - start == 1 else values

    def _culprit(self, start: int, stop: int) -> str:
        for k, row in enumerate(self.rows):
            for word in row[start:stop]:
                try:
                    float(word)
                except ValueError:
                    return f"{word!r} (atom {k})"
        return "a value"

    def required(self, name: str) -> FloatArray:
        values = self.get(name)
        if values is None:
            raise StructureError(f"{self.where}: Properties name no {name!r}, only {', '.join(self.fields)}.")
        return values

    def species(self) -> list[str]:
        field = next((self.fields[n] for n in ("species", "Z", "numbers") if n in self.fields), None)
        if field is None:
            raise StructureError(f"{self.where}: Properties name no 'species', only {', '.join(self.fields)}.")
        return [row[field.start] for row in self.rows]


def _numbers(info: dict[str, str], key: str, where: str) -> FloatArray | None:
    if key not in info:
        return None
    text = info[key].removeprefix("_JSON")
    try:
        return np.array(re.split(r"[\s,\[\]]+", text.strip(" []")), dtype=np.float64)
    except ValueError:
        raise StructureError(f"{where}: {key}={info[key]!r} is not made of numbers.") from None


def _scalar(info: dict[str, str], key: str, where: str) -> float | None:
    values = _numbers(info, key, where)
    if values is None:
        return None
    if values.size != 1:
        raise StructureError(f"{where}: {key}={info[key]!r} has {values.size} numbers, expected one.")
    return float(values[0])


def _cell(info: dict[str, str], where: str) -> tuple[Any, NDArray[np.bool_] | None]:
    """Lattice and pbc; without pbc, a lattice is periodic along all three vectors, as in ASE."""
    lattice = _numbers(info, "Lattice", where)
    flags = info.get("pbc")
    pbc = None
    if flags is not None:
        words = flags.replace(",", " ").split()
        if len(words) != 3 or any(word[0] not in "TtFf10" for word in words):
            raise StructureError(f"{where}: pbc={flags!r}, expected three of T and F.")
        pbc = np.array([word[0] in "Tt1" for word in words])
    if lattice is None:
        if pbc is not None and pbc.any():
            raise StructureError(f"{where}: pbc={flags!r} without a Lattice.")
        return None, None
    if lattice.size not in (3, 9):
        raise StructureError(f"{where}: Lattice has {lattice.size} numbers, expected 9.")
    cell = np.diag(lattice) if lattice.size == 3 else lattice.reshape(3, 3)
    if not cell.any() and (pbc is None or not pbc.any()):
        return None, None
    return cell, pbc


def _stress(info: dict[str, str], key: str, cell: Any, where: str) -> FloatArray | None:
    from aenet_ray.structures.ase_io import stress_matrix

    stress = _numbers(info, key, where)
    virial = _numbers(info, "virial", where) if stress is None else None
    if virial is not None and cell is not None:  # eV; the sign of a pressure, so opposite to the stress
        volume = abs(np.linalg.det(cell))
        stress = -virial / volume if volume > 0 else None
    return None if stress is None else stress_matrix(stress, where)
