"""ASE calculator: molecular dynamics, relaxations and whatever else ASE does, with a trained potential."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from aenet_ray.inference.blocks import predict_block
from aenet_ray.potential import TorchANNPotential
from aenet_ray.structures.block import StructureBlock


class AenetCalculator(Calculator):
    """Energies, forces and stress of a :class:`TorchANNPotential` in ASE's units.

    Forces and stress cost a second pass over the neighbours and are computed when they are asked for. Stress is
    there for structures periodic in all three directions; ASE raises PropertyNotImplementedError for others.

    Args:
        potential: The potential, or the path of a model file or checkpoint.
        device: Where a potential read from a file computes, such as 'cuda'; None: as in the file.

    Raises:
        FileNotFoundError, CheckpointError: The model file is missing, damaged, or of another kind.
        DescriptorError: On calculation: a species is unknown to the potential, or the cell is degenerate.
    """

    name = "aenet"
    implemented_properties: list[str] = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012
    ignored_changes: set[str] = {"initial_charges", "initial_magmoms"}  # noqa: RUF012

    def __init__(
        self, potential: TorchANNPotential | str | Path, *, device: str | None = None, **settings: Any
    ) -> None:
        super().__init__(**settings)
        if not isinstance(potential, TorchANNPotential):
            potential = TorchANNPotential.from_file(potential, device=device)
        self.potential = potential

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Fill ``results``: energy, free_energy (eV), energies (n_atoms,) eV, summing to the energy; where asked
        for, forces (n_atoms, 3) eV/Å and stress (6,) eV/Å³, xx yy zz yz xz xy, positive under tension."""
        super().calculate(atoms, properties, system_changes)
        want_stress = "stress" in properties and bool(self.atoms.pbc.all())
        result = predict_block(
            self.potential.model,
            one_structure(self.atoms),
            forces="forces" in properties or want_stress,
            stress=want_stress,
        )
        energy = float(result.energy[0])
        self.results |= {"energy": energy, "free_energy": energy, "energies": result.atom_energies}
        if result.forces is not None:
            self.results["forces"] = result.forces
        if result.stress is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(result.stress[0])


def one_structure(atoms: Atoms) -> StructureBlock:
    """An ASE object without labels as a block of one structure."""
    n = len(atoms)
    return StructureBlock(
        offsets=np.array([0, n]),
        positions=atoms.positions,
        numbers=atoms.numbers.astype(np.int16),
        cell=np.array(atoms.cell)[None],
        pbc=atoms.pbc[None],
        energy=np.full(1, np.nan),
        forces=np.full((n, 3), np.nan),
        has_energy=np.zeros(1, dtype=bool),
        has_forces=np.zeros(1, dtype=bool),
    )
