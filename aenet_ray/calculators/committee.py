"""ASE calculator of a committee: its mean drives the dynamics, its spread tells when not to believe them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from aenet_ray.calculators.ase import one_structure
from aenet_ray.committee.ensemble import spread
from aenet_ray.committee.potential import TorchCommitteePotential
from aenet_ray.errors import CommitteeError
from aenet_ray.inference.predict import DescribedBlock, predict_described


class AenetCommitteeCalculator(Calculator):
    """Mean energy, forces and stress of a committee in ASE's units, and their spread over its members.

    Besides ASE's properties, ``results`` holds energy_std (eV, of the total energy) and, with forces, forces_std
    ((n_atoms, 3), eV/Å); both are population standard deviations. ``calc.get_property("energy_std", atoms)`` works too.

    Args:
        committee: The committee, or its folder.
        device: Where members read from a folder compute, such as 'cuda'; None: as in their files.

    Raises:
        FileNotFoundError, CommitteeError: There is no committee, or it has no members yet.
    """

    name = "aenet_committee"
    implemented_properties: list[str] = [  # noqa: RUF012
        "energy", "free_energy", "energies", "forces", "stress", "energy_std", "forces_std",
    ]  # fmt: skip
    ignored_changes: set[str] = {"initial_charges", "initial_magmoms"}  # noqa: RUF012

    def __init__(
        self, committee: TorchCommitteePotential | str | Path, *, device: str | None = None, **settings: Any
    ) -> None:
        super().__init__(**settings)
        if not isinstance(committee, TorchCommitteePotential):
            committee = TorchCommitteePotential.from_directory(committee, device)
        if not committee.members:
            raise CommitteeError("the committee has no members yet: train it, or read one with from_directory.")
        self.committee = committee

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Fill ``results``; neighbours and features are computed once for all members."""
        super().calculate(atoms, properties, system_changes)
        want_stress = "stress" in properties and bool(self.atoms.pbc.all())
        want_forces = want_stress or "forces" in properties or "forces_std" in properties
        described = DescribedBlock.of(self.committee.descriptor, one_structure(self.atoms))
        models = [m.model for m in self.committee.members]
        found = predict_described(models, described, forces=want_forces, stress=want_stress)
        energies = np.array([r.energy[0] for r in found])
        self.results |= {"energy": float(energies.mean()), "free_energy": float(energies.mean())}
        self.results |= {"energies": np.mean([r.atom_energies for r in found], axis=0)}
        self.results["energy_std"] = float(spread(energies))
        if want_forces:
            forces = np.array([r.forces for r in found])
            self.results |= {"forces": forces.mean(axis=0), "forces_std": spread(forces)}
        if want_stress:
            mean = np.mean([r.stress[0] for r in found if r.stress is not None], axis=0)
            self.results["stress"] = full_3x3_to_voigt_6_stress(mean)
