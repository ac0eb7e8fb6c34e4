"""What several members say about one structure: every value kept, mean and spread computed when asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from aenet_ray.errors import CommitteeError, ConfigError
from aenet_ray.structures.structure import FloatArray

Aggregation = Literal["mean", "reference"]


def check_aggregation(aggregation: str, reference_member: int, num_members: int) -> None:
    """Raises:
    ConfigError: Another aggregation, or no such member.
    """
    if aggregation not in ("mean", "reference"):
        raise ConfigError(f"aggregation is {aggregation!r}, expected 'mean' or 'reference'.")
    if isinstance(reference_member, bool) or not isinstance(reference_member, (int, np.integer)):
        raise ConfigError(f"reference_member is {reference_member!r}, expected a member's number.")
    if not 0 <= reference_member < num_members:
        raise ConfigError(f"reference_member is {reference_member}, expected 0 to {num_members - 1}.")


@dataclass(frozen=True, slots=True, eq=False)
class AenetEnsembleResult:
    """One structure's predictions; spreads are population standard deviations (divided by the number of members).

    Args:
        member_energies: Total energies, (num_members,), eV.
        member_forces: (num_members, n_atoms, 3), eV/Å, or None.
        aggregation: Whether ``energy`` and ``forces`` are the mean's or the reference member's.
        reference_member: Its number.
        energy_scale, force_scale: What spreads are multiplied by: those of a calibration, else 1.
    """

    member_energies: FloatArray
    member_forces: FloatArray | None = None
    aggregation: Aggregation = "mean"
    reference_member: int = 0
    energy_scale: float = 1.0
    force_scale: float = 1.0

    def __repr__(self) -> str:
        forces = "" if self.member_forces is None else f", forces on {self.member_forces.shape[1]} atoms"
        return (
            f"AenetEnsembleResult({len(self.member_energies)} members: energy {self.energy:.4f} ± "
            f"{self.energy_std:.4f} eV{forces})"
        )

    @classmethod
    def from_member_predictions(
        cls,
        member_energies: ArrayLike,
        member_forces: ArrayLike | None = None,
        aggregation: Aggregation = "mean",
        reference_member: int = 0,
    ) -> AenetEnsembleResult:
        """Check and put together; shapes as above.

        Raises:
            CommitteeError: No members, or energies and forces of different members or atoms (a ValueError).
            ConfigError: Another aggregation, or no such member (a ValueError).
        """
        try:
            energies = np.asarray(member_energies, dtype=np.float64)
            forces = None if member_forces is None else np.asarray(member_forces, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise CommitteeError(
                f"member_energies and member_forces: expected equal shapes of numbers: {error}"
            ) from None
        if energies.ndim != 1 or not len(energies):
            raise CommitteeError(f"member_energies have shape {energies.shape}, expected (num_members,), at least one.")
        if forces is not None and (forces.ndim != 3 or forces.shape[0] != len(energies) or forces.shape[2] != 3):
            raise CommitteeError(
                f"member_forces have shape {forces.shape}, expected ({len(energies)}, n_atoms, 3) for as many energies."
            )
        check_aggregation(aggregation, reference_member, len(energies))
        return cls(energies, forces, aggregation, int(reference_member))

    @property
    def num_members(self) -> int:
        return len(self.member_energies)

    @property
    def energy_mean(self) -> float:
        """eV."""
        return float(self.member_energies.mean())

    @property
    def energy_std(self) -> float:
        """Of the total energy, eV: grows with the structure."""
        return float(spread(self.member_energies)) * self.energy_scale

    @property
    def energy(self) -> float:
        """The committee's answer, eV."""
        return self.energy_mean if self.aggregation == "mean" else float(self.member_energies[self.reference_member])

    @property
    def forces_mean(self) -> FloatArray | None:
        """(n_atoms, 3), eV/Å."""
        return None if self.member_forces is None else self.member_forces.mean(axis=0)

    @property
    def forces_std(self) -> FloatArray | None:
        """Of each component, (n_atoms, 3), eV/Å."""
        return None if self.member_forces is None else spread(self.member_forces) * self.force_scale

    @property
    def forces(self) -> FloatArray | None:
        """The committee's answer, (n_atoms, 3), eV/Å."""
        if self.aggregation == "mean" or self.member_forces is None:
            return self.forces_mean
        return self.member_forces[self.reference_member]

    @property
    def force_uncertainty(self) -> FloatArray | None:
        """Mean of ``forces_std`` over x, y and z, (n_atoms,), eV/Å."""
        return None if self.forces_std is None else self.forces_std.mean(axis=1)

    @property
    def max_force_uncertainty(self) -> float:
        """Of the least certain atom, eV/Å; NaN without forces."""
        return np.nan if self.force_uncertainty is None else float(self.force_uncertainty.max())

    @property
    def mean_force_uncertainty(self) -> float:
        """Over atoms, eV/Å; NaN without forces."""
        return np.nan if self.force_uncertainty is None else float(self.force_uncertainty.mean())


def spread(values: FloatArray) -> FloatArray:
    """Population standard deviation over the members, the first axis; exactly zero where all agree.

    NumPy's own leaves the rounding of the mean, 1e-13 of a total energy, between equal members.
    """
    return np.std(values - values[0], axis=0)
