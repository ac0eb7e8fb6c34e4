"""Predictions of a committee for many structures: a list to look at, arrays to compute with, a table to sort."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, overload

import numpy as np

from aenet_ray.committee.calibration import Calibration
from aenet_ray.committee.ensemble import AenetEnsembleResult, Aggregation, spread
from aenet_ray.errors import ConfigError
from aenet_ray.inference.predict import PredictOut
from aenet_ray.structures.structure import FloatArray, IntArray

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("energy_std", "energy_std_per_atom", "max_force_uncertainty", "mean_force_uncertainty")


@dataclass
class TorchCommitteePredictResult(Sequence[AenetEnsembleResult]):
    """List of :class:`AenetEnsembleResult`, one a structure, and the same as arrays over all of them.

    Args:
        member_outputs: What each member predicted.
        indices: Place of each structure in what was predicted, (n,).
        source_indices: Index of each in the dataset at the root of all Subsets; None where structures were given.
        identifiers: Name of each: its own, else its file, else ``structure_000012``.
        aggregation, reference_member: As of ``AenetEnsembleResult``.
        calibration: Scales of the spreads; None: as they are.
    """

    member_outputs: list[PredictOut]
    indices: IntArray
    source_indices: list[int | None]
    identifiers: list[str]
    aggregation: Aggregation = "mean"
    reference_member: int = 0
    calibration: Calibration | None = None

    def __repr__(self) -> str:
        spread = f", energy_std {self.energy_std.mean():.4f} eV on average" if len(self) else ""
        return f"TorchCommitteePredictResult({len(self)} structures, {self.num_members} members{spread})"

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, i: int) -> AenetEnsembleResult: ...
    @overload
    def __getitem__(self, i: slice) -> TorchCommitteePredictResult: ...
    def __getitem__(self, i: int | slice) -> AenetEnsembleResult | TorchCommitteePredictResult:
        if isinstance(i, slice):
            return self._take(np.arange(len(self))[i])
        place = self.indices[i]
        forces = [out.forces[place] for out in self.member_outputs if out.forces is not None]
        energies = self.member_energies[:, i]
        scales = (1.0, 1.0) if self.calibration is None else (self._energy_scale, self.calibration.force_scale)
        stacked = np.stack(forces) if forces else None
        return AenetEnsembleResult(energies, stacked, self.aggregation, self.reference_member, *scales)

    @property
    def _energy_scale(self) -> float:
        return 1.0 if self.calibration is None else self.calibration.energy_scale

    @property
    def num_members(self) -> int:
        return len(self.member_outputs)

    @cached_property
    def member_energies(self) -> FloatArray:
        """Total energies, (num_members, n), eV."""
        return np.array([out.total_energy for out in self.member_outputs]).reshape(self.num_members, -1)[
            :, self.indices
        ]

    @cached_property
    def n_atoms(self) -> IntArray:
        """(n,)."""
        return np.array([self.member_outputs[0].num_atoms(i) for i in self.indices], dtype=np.int64)

    @property
    def energy_mean(self) -> FloatArray:
        """(n,), eV."""
        return self.member_energies.mean(axis=0)

    @property
    def energy_std(self) -> FloatArray:
        """Of total energies, (n,), eV: big structures have more of it."""
        return spread(self.member_energies) * self._energy_scale

    @property
    def energy_std_per_atom(self) -> FloatArray:
        """(n,), eV/atom: compares structures of different size."""
        return self.energy_std / self.n_atoms

    @property
    def energy(self) -> FloatArray:
        """The committee's answer, (n,), eV."""
        return self.energy_mean if self.aggregation == "mean" else self.member_energies[self.reference_member]

    @cached_property
    def _force_uncertainties(self) -> FloatArray:
        """Maximum and mean over atoms, (n, 2)."""
        return np.array([(r.max_force_uncertainty, r.mean_force_uncertainty) for r in self]).reshape(-1, 2)

    @property
    def max_force_uncertainty(self) -> FloatArray:
        """Of the least certain atom, (n,), eV/Å; NaN without forces."""
        return self._force_uncertainties[:, 0]

    @property
    def mean_force_uncertainty(self) -> FloatArray:
        """Over atoms, (n,), eV/Å; NaN without forces."""
        return self._force_uncertainties[:, 1]

    def to_dataframe(self) -> pd.DataFrame:
        """One row a structure."""
        import pandas as pd

        return pd.DataFrame(
            {
                "index": self.indices,
                "source_index": pd.Series(self.source_indices, dtype=object),
                "identifier": self.identifiers,
                "energy": self.energy,
                "energy_mean": self.energy_mean,
                "energy_std": self.energy_std,
                "member_energies": list(self.member_energies.T.copy()),
                "max_force_uncertainty": self.max_force_uncertainty,
                "mean_force_uncertainty": self.mean_force_uncertainty,
                "num_members": self.num_members,
                "aggregation": self.aggregation,
                "reference_member": self.reference_member,
                "n_atoms": self.n_atoms,
                "energy_std_per_atom": self.energy_std_per_atom,
            }
        )

    def sort_by(self, column: str = "energy_std", *, ascending: bool = False) -> TorchCommitteePredictResult:
        """The same in the order of a column of ``to_dataframe``; equal ones keep their order, NaN comes last.

        Raises:
            ConfigError: There is no such column, or it has no order.
        """
        known = [*METRICS, "energy", "energy_mean", "n_atoms", "index", "source_index", "identifier"]
        if column not in known:
            raise ConfigError(f"sort_by: column {column!r}; expected one of {', '.join(known)}.")
        table = self.to_dataframe()[column]
        return self._take(table.sort_values(ascending=ascending, kind="stable").index.to_numpy())

    def top_uncertain(self, n: int = 10, *, metric: str = "energy_std") -> TorchCommitteePredictResult:
        """The n least certain structures, the least certain first; all where there are fewer.

        Args:
            metric: energy_std, which favours big structures, energy_std_per_atom, max_force_uncertainty, or
                mean_force_uncertainty.

        Raises:
            ConfigError: Another metric, one of forces that were not predicted, or n below 0.
        """
        if metric not in METRICS:
            raise ConfigError(f"top_uncertain: metric {metric!r}; expected one of {', '.join(METRICS)}.")
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0:
            raise ConfigError(f"top_uncertain: n is {n!r}, expected a whole number, not below 0.")
        if "force" in metric and any(out.forces is None for out in self.member_outputs):
            raise ConfigError(f"top_uncertain: {metric} needs forces; predict with eval_forces=True.")
        return self.sort_by(metric)[:n]

    def _take(self, places: IntArray) -> TorchCommitteePredictResult:
        return TorchCommitteePredictResult(
            self.member_outputs,
            self.indices[places],
            [self.source_indices[i] for i in places],
            [self.identifiers[i] for i in places],
            self.aggregation,
            self.reference_member,
            self.calibration,
        )
