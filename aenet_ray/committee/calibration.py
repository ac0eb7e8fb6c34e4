"""What a spread must be multiplied by to be an error bar, learnt from structures whose references are known."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from aenet_ray.errors import CommitteeError, ConfigError
from aenet_ray.files import write_json
from aenet_ray.structures.structure import FloatArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from aenet_ray.committee.predict_result import TorchCommitteePredictResult
    from aenet_ray.potential import TorchANNPotential
    from aenet_ray.structures.structure import Structure

CALIBRATION = "calibration.json"
SCHEMA_VERSION = "1.0"
FEWEST = 5
LEVELS = np.linspace(0.02, 0.98, 49)
# Force components that are zero by symmetry have a spread of rounding errors, and references with errors of their own.
AGREEING = 1e-3
ONE_SIGMA = math.erf(1.0 / math.sqrt(2.0))

CalibrationMethod = Literal["likelihood", "coverage"]


@dataclass(frozen=True, slots=True)
class SpreadCalibration:
    """Of one quantity: energies per atom, or force components.

    Args:
        scale: Spread times this is the standard deviation of the error.
        n: Values it was learnt from; n_agreeing: values left out, since their spread is below a
            thousandth of its root mean square: labels are not that exact.
        rmse, rms_spread: Of these values, eV/atom or eV/Å.
        covered, covered_scaled: Share of the errors within the bounds that should hold ``LEVELS`` of them, before
            and after scaling.
    """

    scale: float
    n: int
    n_agreeing: int
    rmse: float
    rms_spread: float
    covered: list[float]
    covered_scaled: list[float]

    @classmethod
    def fit(
        cls, error: FloatArray, spread: FloatArray, method: CalibrationMethod, what: str = "energies"
    ) -> SpreadCalibration:
        """
        Args:
            error: Prediction less reference, (n,); NaN without a reference.
            spread: Standard deviation of the members, (n,).
            method: As of :meth:`TorchCommitteePotential.calibrate`.

        Raises:
            CommitteeError: There are fewer than five values with a reference and a spread, or no errors at all.
            ConfigError: Another method.
        """
        if method not in ("likelihood", "coverage"):
            raise ConfigError(f"calibration method is {method!r}, expected 'likelihood' or 'coverage'.")
        known = np.isfinite(error)
        typical = np.sqrt(np.mean(spread[known] ** 2)) if known.any() else 0.0
        used = known & (spread > AGREEING * typical)
        if used.sum() < FEWEST:
            raise CommitteeError(
                f"calibration of {what}: {known.sum()} values have a reference, {used.sum()} of these a spread above "
                f"zero; expected at least {FEWEST}. Give structures with labels, and members with different seeds."
            )
        z = np.abs(error[used]) / spread[used]
        scale = float(np.sqrt(np.mean(z**2)) if method == "likelihood" else np.quantile(z, ONE_SIGMA))
        if not 0 < scale < np.inf:
            raise CommitteeError(f"calibration of {what}: the scale would be {scale:g}; are references predictions?")
        rmse, mean = (float(np.sqrt(np.mean(v[used] ** 2))) for v in (error, spread))
        n_agreeing = int(known.sum() - used.sum())
        return cls(scale, int(used.sum()), n_agreeing, rmse, mean, _covered(z), _covered(z / scale))

    @property
    def off(self) -> float:
        """Mean distance of observed from expected coverage, before scaling."""
        return float(np.abs(np.array(self.covered) - LEVELS).mean())

    @property
    def off_scaled(self) -> float:
        """After scaling."""
        return float(np.abs(np.array(self.covered_scaled) - LEVELS).mean())


def _covered(z: FloatArray) -> list[float]:
    """Share of |z| below each level's bound of the normal distribution."""
    from statistics import NormalDist

    bounds = [NormalDist().inv_cdf(0.5 + level / 2) for level in LEVELS]
    return (np.searchsorted(np.sort(z), bounds, side="right") / len(z)).tolist()


@dataclass(frozen=True, slots=True)
class Calibration:
    """Scales of a committee's spreads, and what they were learnt from.

    Args:
        energy: None, or of energies per atom.
        forces: None, or of force components.
        members: Fingerprint of the members it belongs to.
        method: coverage: so that 68.3 % are within one; likelihood: the root mean square of error over spread.
    """

    energy: SpreadCalibration | None
    forces: SpreadCalibration | None
    members: str
    method: CalibrationMethod

    @classmethod
    def of(
        cls,
        result: TorchCommitteePredictResult,
        structures: Sequence[Structure],
        members: str,
        *,
        forces: bool,
        method: CalibrationMethod,
    ) -> Calibration:
        """Of predictions, not scaled, for structures with labels; the rest as of ``SpreadCalibration.fit``."""
        energy = of_forces = None
        error = result.energy_mean - np.array([np.nan if s.energy is None else s.energy for s in structures])
        if np.isfinite(error).any() or not forces:
            energy = SpreadCalibration.fit(error / result.n_atoms, result.energy_std_per_atom, method)
        if forces:
            columns: list[list[FloatArray]] = [[np.empty(0)], [np.empty(0)]]
            for predicted, s in zip(result, structures, strict=True):
                mean, spread = predicted.forces_mean, predicted.forces_std
                if s.forces is not None and mean is not None and spread is not None:
                    columns[0].append((mean - s.forces).ravel())
                    columns[1].append(spread.ravel())
            errors, spreads = map(np.concatenate, columns)
            of_forces = SpreadCalibration.fit(errors, spreads, method, "forces")
        return cls(energy, of_forces, members, method)

    @property
    def energy_scale(self) -> float:
        """NaN where energies were not calibrated: an unknown error bar is not a small one."""
        return math.nan if self.energy is None else self.energy.scale

    @property
    def force_scale(self) -> float:
        return math.nan if self.forces is None else self.forces.scale

    def save(self, directory: str | Path) -> Path:
        """Write ``calibration.json`` into a committee's folder."""
        path = Path(directory) / CALIBRATION
        write_json(path, {"schema_version": SCHEMA_VERSION, "levels": LEVELS.tolist(), **asdict(self)})
        return path

    @classmethod
    def load(cls, directory: str | Path, members: str | None = None) -> Calibration:
        """Read a committee's calibration.

        Args:
            members: Fingerprint of the members it must belong to; None: any.

        Raises:
            CommitteeError: There is none, it is damaged, or of other members.
        """
        path = Path(directory) / CALIBRATION
        if not path.is_file():
            raise CommitteeError(
                f"{path}: no such file: the committee is not calibrated. Calibrate it on structures with labels: "
                "calibrate(...), or aenet-ray calibrate."
            )
        try:
            found = json.loads(path.read_text())
            version = found["schema_version"]
            parts = [None if found[k] is None else SpreadCalibration(**found[k]) for k in ("energy", "forces")]
            calibration = cls(parts[0], parts[1], str(found["members"]), found["method"])
            for part in filter(None, parts):
                if not 0 < part.scale < math.inf or len(part.covered) != len(LEVELS):
                    raise ValueError(f"scale {part.scale}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise CommitteeError(f"{path}: is no calibration of a committee ({reason}); calibrate again.") from None
        if version != SCHEMA_VERSION:
            raise CommitteeError(f"{path}: version {version!r}, expected {SCHEMA_VERSION!r}; calibrate again.")
        if members is not None and calibration.members != members:
            raise CommitteeError(
                f"{path}: of other members than the committee has now (trained further, or more of them); calibrate "
                "again."
            )
        return calibration

    def plot(self, outfile: str | Path | None = None, title: str | None = None) -> Figure:
        """Expected against observed coverage, before and after scaling."""
        from aenet_ray.plots.reliability import reliability_plot

        parts = {"energy per atom": self.energy, "force components": self.forces}
        curves = {k: (p.covered, p.covered_scaled, p.scale, p.n) for k, p in parts.items() if p is not None}
        return reliability_plot(LEVELS, curves, outfile=outfile, title=title)

    def __str__(self) -> str:
        lines = []
        for name, part, unit in (("energies", self.energy, "eV/atom"), ("forces", self.forces, "eV/Å")):
            if part is not None:
                lines.append(
                    f"{name:9} spread x {part.scale:.3f}   RMSE {part.rmse:.5f}, RMS spread {part.rms_spread:.5f} "
                    f"{unit}   coverage off by {part.off:.3f}, scaled {part.off_scaled:.3f}   n = {part.n}"
                )
        return "\n".join(lines)


def fingerprint(members: Sequence[TorchANNPotential]) -> str:
    """Of everything that the members' predictions depend on."""
    digest = hashlib.sha256()
    for member in members:
        model: Any = member.model
        about = [member.descriptor.fingerprint(), model.normalization.to_dict(), model.atomic_energies, member.arch]
        digest.update(json.dumps(about, default=str, sort_keys=True).encode())
        for name, weight in model.state_dict().items():
            digest.update(name.encode() + weight.detach().double().cpu().numpy().tobytes())
    return digest.hexdigest()[:32]
