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
from aenet_ray.inference.blocks import DescribedBlock, Evaluator


class AenetCommitteeCalculator(Calculator):
    """Mean energy, forces and stress of a committee in ASE's units, and their spread over its members.

    Besides ASE's properties, ``results`` holds energy_std (eV, of the total energy) and, with forces, forces_std
    ((n_atoms, 3), eV/Å); both are population standard deviations. ``calc.get_property("energy_std", atoms)`` works too.

    Args:
        committee: The committee, or its folder.
        device: Where members read from a folder compute, such as 'cuda'; None: as in their files.
        calibrated: Scale spreads by the committee's calibration.

    Raises:
        FileNotFoundError, CommitteeError: There is no committee, it has no members yet, or it is not calibrated.
    """

    name = "aenet_committee"
    implemented_properties: list[str] = [  # noqa: RUF012
        "energy", "free_energy", "energies", "forces", "stress", "energy_std", "forces_std",
    ]  # fmt: skip
    ignored_changes: set[str] = {"initial_charges", "initial_magmoms"}  # noqa: RUF012

    def __init__(
        self,
        committee: TorchCommitteePotential | str | Path,
        *,
        device: str | None = None,
        calibrated: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if not isinstance(committee, TorchCommitteePotential):
            committee = TorchCommitteePotential.from_directory(committee, device)
        if not committee.members:
            raise CommitteeError("the committee has no members yet: train it, or read one with from_directory.")
        self.committee = committee
        calibration = committee.calibration() if calibrated else None
        self._scales = (1.0, 1.0) if calibration is None else (calibration.energy_scale, calibration.force_scale)

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
        evaluate = Evaluator([m.model for m in self.committee.members])
        found = evaluate(described, forces=want_forces, stress=want_stress)
        energies = np.array([r.energy[0] for r in found])
        self.results |= {"energy": float(energies.mean()), "free_energy": float(energies.mean())}
        self.results |= {"energies": np.mean([r.atom_energies for r in found], axis=0)}
        self.results["energy_std"] = float(spread(energies)) * self._scales[0]
        if want_forces:
            forces = np.array([r.forces for r in found])
            self.results |= {"forces": forces.mean(axis=0), "forces_std": spread(forces) * self._scales[1]}
        if want_stress:
            mean = np.mean([r.stress[0] for r in found if r.stress is not None], axis=0)
            self.results["stress"] = full_3x3_to_voigt_6_stress(mean)
