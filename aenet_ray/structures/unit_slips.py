"""Guessing from the data that a label or a length is not in eV and Å, and saying why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aenet_ray.structures.structure import FloatArray, IntArray

HARTREE, BOHR = 27.211386, 0.529177  # eV, Å
ENERGY_UNITS = {
    "Hartree": HARTREE,
    "Rydberg": HARTREE / 2,
    "kcal/mol": 0.0433641,
    "kJ/mol": 0.0103643,
}
FORCE_UNITS = {
    "Hartree/Bohr": HARTREE / BOHR,
    "Rydberg/Bohr": HARTREE / 2 / BOHR,
    "Hartree/Å": HARTREE,
    "eV/Bohr": 1 / BOHR,
    "kcal/mol/Å": 0.0433641,
    "kJ/mol/Å": 0.0103643,
}


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What may be wrong, and what says so."""

    what: str
    evidence: str


@dataclass(slots=True, kw_only=True)
class Evidence:
    """What the guesses are made from; NaN where unknown.

    Args:
        all_electron_ratio: Total energies over those of all-electron atoms, (n,); see :func:`all_electron_energy`.
        relative_energy: Per atom above that fit, (n,), eV.
        force_rms: Of each structure, (n,), eV/Å.
        bond_ratio: Shortest distance of each structure over the sum of the two covalent radii, (n,).
        work: (n_pairs, 2), eV: energy differences of neighbouring frames; what the forces say they are.
    """

    all_electron_ratio: FloatArray
    relative_energy: FloatArray
    force_rms: FloatArray
    bond_ratio: FloatArray
    work: FloatArray


def find_unit_slips(evidence: Evidence) -> list[Suspicion]:
    """Every suspicion the data gives rise to; none for sane data."""
    return [*_lengths(evidence), *_energies(evidence), *_work(evidence), *_forces(evidence)]


def all_electron_energy(numbers: IntArray) -> FloatArray:
    """Total energy of atoms to a few percent, (n,), eV: −Z^2.4 / 2 Hartree.

    Codes that treat all electrons give about the sum of these for any molecule or crystal.

    Source:
        Fitted to Hartree-Fock energies of the elements; Thomas-Fermi theory gives the exponent 7/3.
    """
    return -0.5 * HARTREE * numbers.astype(float) ** 2.4


def _lengths(evidence: Evidence) -> list[Suspicion]:
    ratios = evidence.bond_ratio[np.isfinite(evidence.bond_ratio)]
    if len(ratios) == 0:
        return []
    ratio = float(np.median(ratios))
    text = f"the shortest distances are {ratio:.2f} times the sum of the covalent radii (median; usual: 0.8 to 1.3)"
    if 1.45 <= ratio <= 2.5:
        return [Suspicion("positions may be in Bohr, not Å", text)]
    if 0.4 <= ratio <= 0.66:
        return [Suspicion("positions may have been taken for Bohr and converted, or scaled, once too often", text)]
    if ratio < 0.2:
        return [Suspicion("positions may be in nm, or fractional", text)]
    if ratio > 5:
        return [Suspicion("positions may be in pm, or the cell far too large", text)]
    return []


def _energies(evidence: Evidence) -> list[Suspicion]:
    ratios = evidence.all_electron_ratio[np.isfinite(evidence.all_electron_ratio)]
    ratio = float(np.median(ratios)) if len(ratios) else 0.0
    for unit, value in ENERGY_UNITS.items():
        if abs(ratio * value - 1) < 0.1:
            text = f"total energies are {ratio:.4g} times those of all-electron atoms in eV (median)"
            return [Suspicion(f"energies may be in {unit}, not eV", text)]
    spread = _median_deviation(evidence.relative_energy)
    if spread > 2.0:
        return [
            Suspicion(
                "energies may be in kcal/mol or kJ/mol, or from several levels of theory",
                f"energies spread by {spread:.1f} eV/atom around the fit by composition (median; usual: below 0.5)",
            )
        ]
    return []


def _work(evidence: Evidence) -> list[Suspicion]:
    """Energy differences of neighbouring frames against force times displacement."""
    if len(evidence.work) < 10:
        return []
    change, expected = evidence.work.T
    norm = np.linalg.norm(change) * np.linalg.norm(expected)
    if norm == 0 or abs(change @ expected) / norm < 0.9:
        return []
    slope = float(change @ expected / (expected @ expected))
    text = (
        f"between {len(change)} pairs of neighbouring frames the energy changes by {slope:.4g} times what the "
        f"forces say (correlation {change @ expected / norm:.3f}; expected: 1)"
    )
    if abs(slope - 1) < 0.3:
        return []
    factors = {f"energies in {unit}": 1 / value for unit, value in ENERGY_UNITS.items()}
    factors |= {f"forces in {unit}": value for unit, value in FORCE_UNITS.items()}
    factors |= {"energies in Hartree and forces in Hartree/Bohr": 1 / BOHR}
    factors |= {"forces are gradients, of the opposite sign": -1.0, "positions in Bohr": BOHR}
    causes = [cause for cause, factor in factors.items() if abs(slope / factor - 1) < 0.12]
    return [Suspicion("energies and forces disagree: " + (" or ".join(causes) or "unknown units"), text)]


def _forces(evidence: Evidence) -> list[Suspicion]:
    rms = evidence.force_rms[np.isfinite(evidence.force_rms)]
    if len(rms) == 0:
        return []
    typical, spread = float(np.median(rms)), _median_deviation(evidence.relative_energy)
    if typical > 25.0:
        text = f"the root mean square force of a structure is {typical:.1f} eV/Å (median; usual: below 5)"
        return [Suspicion("forces may be in kcal/mol/Å or kJ/mol/Å", text)]
    if 0 < typical < 0.03 and spread > 0.01:
        text = (
            f"the root mean square force of a structure is {typical:.4f} eV/Å (median), small for energies that "
            f"spread by {spread:.3f} eV/atom"
        )
        return [Suspicion("forces may be in Hartree/Bohr or Rydberg/Bohr", text)]
    return []


def _median_deviation(values: FloatArray) -> float:
    values = values[np.isfinite(values)]
    return float(np.median(np.abs(values - np.median(values)))) if len(values) else 0.0
