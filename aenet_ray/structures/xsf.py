"""XSF files in the ænet convention: energy in a comment, forces in columns 5 to 7.

Units eV, Å and eV/Å. Crystals (``PRIMVEC``, ``PRIMCOORD``), molecules (``ATOMS``) and trajectories
(``ANIMSTEPS``) are read; so are ``SLAB`` and ``POLYMER``, periodic along two vectors and one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from aenet_ray.errors import StructureError
from aenet_ray.structures.structure import Structure

_ENERGY = re.compile(r"total\s+energy[^=]*=\s*(\S+)\s*([A-Za-z/]*)", re.IGNORECASE)
_PERIODIC = {
    "CRYSTAL": (True, True, True),
    "SLAB": (True, True, False),
    "POLYMER": (True, False, False),
    "MOLECULE": (False, False, False),
}


def parse_xsf(text: str, source: str = "<text>") -> list[Structure]:
    """Every frame of an XSF text.

    An energy comment belongs to the next atoms; with as many energies as frames they are paired in order.
    Frames without one have energy None.

    Args:
        text: Content of the file.
        source: Its name in messages and in ``Structure.source``.

    Raises:
        StructureError: The text does not parse; names the frame and the line.

    Source:
        XSF as written by XCrySDen, with the additions of ænet (aenet.atomistic.net).
    """
    return _Parser(text, source).parse()


class _Parser:
    def __init__(self, text: str, source: str) -> None:
        self.lines, self.source = text.splitlines(), source
        self.frames: list[Structure] = []
        self.energies: list[tuple[int, float]] = []  # (frames before it, eV)
        self.cell: list[list[float]] | None = None
        self.pbc = _PERIODIC["CRYSTAL"]

    def error(self, message: str, line: int | None = None) -> StructureError:
        place = f"{self.source}, frame {len(self.frames)}" + ("" if line is None else f", line {line + 1}")
        return StructureError(f"{place}: {message}")

    def parse(self) -> list[Structure]:
        i = 0
        while i < len(self.lines):
            words = self.lines[i].split(None, 1)
            keyword = words[0] if words else ""
            if keyword in _PERIODIC:
                self.pbc = _PERIODIC[keyword]
            elif keyword == "PRIMVEC":
                self.cell = self._vectors(i + 1)
                i += 3
            elif keyword == "PRIMCOORD":
                i = self._coordinates(i + 1)
                continue
            elif keyword == "ATOMS":
                i = self._atoms(i + 1, None)
                continue
            elif words and "energy" in self.lines[i].lower():
                self._energy(i)
            i += 1
        if not self.frames:
            found = "the file is empty" if not "".join(self.lines).strip() else "no PRIMCOORD or ATOMS block"
            raise StructureError(f"{self.source}: {found}; expected an XSF file.")
        self._assign_energies()
        return self.frames

    def _energy(self, i: int) -> None:
        match = _ENERGY.search(self.lines[i])
        if match is None:
            return
        unit = match.group(2)
        if unit.lower() not in ("", "ev"):
            raise self.error(f"total energy in {unit!r}, expected eV.", i)
        try:
            value = _number(match.group(1))
        except ValueError:
            raise self.error(f"total energy {match.group(1)!r} is not a number.", i) from None
        self.energies.append((len(self.frames), value))

    def _vectors(self, start: int) -> list[list[float]]:
        rows = [line.split() for line in self.lines[start : start + 3]]
        if len(rows) < 3 or any(len(row) < 3 for row in rows):
            raise self.error("PRIMVEC is not followed by three lattice vectors of three numbers.", start)
        return [[self._float(word, start + k) for word in row[:3]] for k, row in enumerate(rows)]

    def _float(self, word: str, line: int) -> float:
        try:
            return _number(word)
        except ValueError:
            raise self.error(f"{word!r} is not a number.", line) from None

    def _coordinates(self, start: int) -> int:
        """PRIMCOORD: a count line, then the atoms."""
        words = self.lines[start].split() if start < len(self.lines) else []
        if not words or not words[0].isdigit():
            raise self.error("PRIMCOORD is not followed by the number of atoms.", start)
        if self.cell is None and any(self.pbc):
            raise self.error("PRIMCOORD without lattice vectors; expected PRIMVEC before it.", start)
        return self._atoms(start + 1, int(words[0]))

    def _atoms(self, start: int, count: int | None) -> int:
        """Atom lines up to the first with fewer than four words. Returns the line after them."""
        rows, stop = [], start
        for stop in range(start, len(self.lines)):
            row = self.lines[stop].split()
            if len(row) < 4 or row[0].startswith("#"):
                break
            rows.append(row)
        else:
            stop = len(self.lines)
        if count is not None and count != len(rows):
            found = "none follow" if not rows else f"{len(rows)} follow"
            raise self.error(f"{count} atoms announced, {found}; truncated or edited?", start - 1)
        if not rows:
            raise self.error("no atoms.", start - 1)
        self.frames.append(self._frame(rows, start, isolated=count is None))
        return stop

    def _frame(self, rows: list[list[str]], start: int, isolated: bool) -> Structure:
        n_columns = len(rows[0])
        has_forces = n_columns > 4
        uneven = any(len(row) != n_columns for row in rows)
        if has_forces and (n_columns < 7 or uneven):
            widths = sorted({len(row) for row in rows})
            raise self.error(
                f"atom lines of {' and '.join(map(str, widths))} columns; expected species, x, y, z and, "
                "for forces, three more on every line.",
                start,
            )
        if uneven:
            raise self.error("forces on some atoms only; expected them on all or none.", start)
        try:
            values = np.array([row[1 : 7 if has_forces else 4] for row in rows], dtype=np.float64)
        except ValueError:  # slow, but finds the line and accepts Fortran's 1.0D-03
            values = np.array(
                [[self._float(w, start + k) for w in row[1 : 7 if has_forces else 4]] for k, row in enumerate(rows)]
            )
        cell = None if isolated or not any(self.pbc) else np.array(self.cell)
        try:
            return Structure(
                values[:, :3],
                [row[0] for row in rows],
                forces=values[:, 3:] if has_forces else None,
                cell=cell,
                pbc=None if cell is None else np.array(self.pbc),
                source=self.source,
                frame=len(self.frames),
            )
        except StructureError as error:
            raise self.error(str(error).removeprefix(f"{self.source}: "), None) from None

    def _assign_energies(self) -> None:
        frames, energies = self.frames, self.energies
        paired = len(energies) == len(frames)
        owners = list(range(len(frames))) if paired else [frame for frame, _ in energies]
        if len(set(owners)) < len(owners) or any(owner >= len(frames) for owner in owners):
            raise StructureError(
                f"{self.source}: {len(energies)} total energies for {len(frames)} frames; expected one "
                "comment '# total energy = ... eV' before the atoms of each frame."
            )
        for owner, (_, energy) in zip(owners, energies, strict=True):
            frames[owner].energy = energy


def _number(word: str) -> float:
    return float(word.replace("D", "E").replace("d", "e"))


def read_xsf(path: str | os.PathLike[str]) -> list[Structure]:
    """Every frame of an XSF file. Raises StructureError as :func:`parse_xsf` does."""
    return parse_xsf(Path(path).read_text(errors="replace"), str(path))


def format_xsf(structure: Structure, comment: str = "") -> str:
    """One structure as XSF text, in ænet's layout (``%14.8f``: 8 decimals of Å, eV and eV/Å).

    Raises:
        StructureError: Periodic along some vectors only in a way XSF cannot say.
    """
    lines = [f"# {line}" for line in comment.splitlines()]
    if lines:
        lines.append("")
    if structure.energy is not None:
        lines += [f"# total energy = {structure.energy:.8f} eV", ""]
    if structure.cell is None or structure.pbc is None or not structure.pbc.any():
        lines.append("ATOMS")
    else:
        kinds = {pbc: name for name, pbc in _PERIODIC.items()}
        kind = kinds.get(tuple(structure.pbc.tolist()))
        if kind is None:
            raise StructureError(
                f"{structure.source}: periodic {structure.pbc.tolist()}; XSF knows periodicity along the "
                "first one, two or three vectors. Reorder the lattice vectors."
            )
        lines += [kind, "PRIMVEC", *(_row(vector) for vector in structure.cell)]
        lines += ["PRIMCOORD", f"{structure.n_atoms} 1"]
    for i, species in enumerate(structure.species):
        forces = "" if structure.forces is None else _row(structure.forces[i])
        lines.append(f"{species:<2s}{_row(structure.positions[i])}{forces}")
    return "\n".join(lines) + "\n"


def _row(values: Iterable[float]) -> str:
    return "".join(f" {value:14.8f}" for value in values)


def write_xsf(structure: Structure, path: str | os.PathLike[str], comment: str = "") -> None:
    """Write one structure. Raises StructureError as :func:`format_xsf` does."""
    Path(path).write_text(format_xsf(structure, comment))
