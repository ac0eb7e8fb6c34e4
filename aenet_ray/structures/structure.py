"""One structure and the labels its calculation gave."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import ArrayLike, NDArray

from aenet_ray.errors import StructureError

if TYPE_CHECKING:
    from ase import Atoms

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(slots=True)
class Structure:
    """Atoms, their cell and their labels. An absent label is None, never zero.

    Args:
        positions: Cartesian positions, (n_atoms, 3), Å. Need not lie inside the cell.
        species: Chemical symbols or atomic numbers, (n_atoms,).
        energy: Total energy, eV.
        forces: (n_atoms, 3), eV/Å.
        cell: Lattice vectors as rows, (3, 3), Å. None for an isolated structure.
        pbc: Periodic along each lattice vector, (3,). All true where a cell is given.
        name: Identifier, unique within a data set.
        stress: (3, 3), eV/Å³, positive under tension (ASE's sign).
        charges: Partial charges, (n_atoms,), e.
        charge: Total charge, e.
        multiplicity: Spin multiplicity 2S + 1.
        fidelity: Name of the level of theory of the labels.
        source: Where it came from, such as ``set.extxyz#12``; used in messages.
        frame: Index of the frame in its file.

    Raises:
        StructureError: A shape does not fit, or a symbol is unknown.
    """

    positions: FloatArray
    species: list[str]
    energy: float | None = None
    forces: FloatArray | None = None
    cell: FloatArray | None = None
    pbc: NDArray[np.bool_] | None = None
    name: str | None = None
    stress: FloatArray | None = field(default=None, kw_only=True)
    charges: FloatArray | None = field(default=None, kw_only=True)
    charge: float | None = field(default=None, kw_only=True)
    multiplicity: float | None = field(default=None, kw_only=True)
    fidelity: str | None = field(default=None, kw_only=True)
    source: str = field(default="<memory>", kw_only=True)
    frame: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        self.positions = self._array("positions", self.positions, None)
        if self.positions.ndim != 2 or self.positions.shape[1] != 3:
            raise StructureError(f"{self.source}: positions have shape {self.positions.shape}, expected (n_atoms, 3).")
        self.species = [self._symbol(s) for s in self.species]
        n = len(self.positions)
        if len(self.species) != n:
            raise StructureError(f"{self.source}: {len(self.species)} species for {n} positions, expected one each.")
        if self.energy is not None:
            self.energy = float(self.energy)
        self.forces = self._optional("forces", self.forces, (n, 3))
        self.charges = self._optional("charges", self.charges, (n,))
        self.stress = self._optional("stress", self.stress, (3, 3))
        self.cell = self._optional("cell", self.cell, (3, 3))
        if self.pbc is not None:
            pbc = np.asarray(self.pbc, dtype=bool)
            if pbc.shape == ():
                pbc = np.repeat(pbc, 3)
            if pbc.shape != (3,):
                raise StructureError(
                    f"{self.source}: pbc has shape {pbc.shape}, expected (3,): one flag a lattice vector."
                )
            self.pbc = pbc
            if self.cell is None and pbc.any():
                raise StructureError(f"{self.source}: periodic along {pbc.nonzero()[0].tolist()} but without a cell.")
        elif self.cell is not None:
            self.pbc = np.ones(3, dtype=bool)

    def _array(self, name: str, value: ArrayLike, shape: tuple[int, ...] | None) -> FloatArray:
        try:
            array = np.array(value, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise StructureError(f"{self.source}: {name} are not numbers: {error}.") from None
        if shape is not None and array.shape != shape:
            raise StructureError(f"{self.source}: {name} have shape {array.shape}, expected {shape}.")
        return array

    def _optional(self, name: str, value: Any, shape: tuple[int, ...]) -> FloatArray | None:
        return None if value is None else self._array(name, value, shape)

    def _symbol(self, value: object) -> str:
        """Chemical symbol of a symbol, an atomic number or a number in a string ('22')."""
        text = str(value).strip()
        if text.isdigit() and 0 < int(text) < len(chemical_symbols):
            return chemical_symbols[int(text)]
        if text in atomic_numbers and text != "X":
            return text
        raise StructureError(
            f"{self.source}: unknown species {text!r}; expected a chemical symbol such as 'Ti', or an atomic number."
        )

    def __repr__(self) -> str:
        """Formula, energy and what else there is; the arrays are in the attributes."""
        formula = "".join(f"{s}{n if n > 1 else ''}" for s, n in Counter(self.species).items())
        parts = [] if self.name is None and self.source == "<memory>" else [repr(self.name or self.source)]
        parts += [formula, "isolated" if self.cell is None else "periodic"]
        parts += [] if self.energy is None else [f"energy {self.energy:.4f} eV"]
        labels = ("forces", "stress", "charges", "charge", "multiplicity", "fidelity")
        return f"Structure({', '.join(parts + [name for name in labels if getattr(self, name) is not None])})"

    @property
    def n_atoms(self) -> int:
        return len(self.species)

    @property
    def numbers(self) -> NDArray[np.int16]:
        """Atomic numbers, (n_atoms,)."""
        return np.array([atomic_numbers[s] for s in self.species], dtype=np.int16)

    def has_forces(self) -> bool:
        return self.forces is not None

    def is_periodic(self) -> bool:
        """Whether a cell is present (aenet-python's meaning)."""
        return self.cell is not None

    def to_ase(self) -> Atoms:
        """As ASE ``Atoms``, with the labels in a calculator where ASE looks for them."""
        from aenet_ray.structures.ase_io import to_ase

        return to_ase(self)
