"""A TrnSet as text, written for a test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aenet_ray.structures.structure import Structure

ENERGIES = {"Ti": -1604.604515075, "O": -432.503149303}


def write_trnset_text(
    path: Path,
    structures: Sequence[Structure],
    *,
    total: bool = False,
    normalized: bool = False,
    energies: dict[str, float] | None = None,
    per_line: int = 1,
) -> Path:
    """Cohesive energies unless ``total``; atomic energies ``per_line`` to a line; three features an atom."""
    energies = ENERGIES if energies is None else energies
    cohesive = [s.energy - sum(energies[x] for x in s.species) for s in structures]
    per_atom = [e / s.n_atoms for e, s in zip(cohesive, structures, strict=True)]
    values = list(energies.values())
    wrapped = [values[i : i + per_line] for i in range(0, len(values), per_line)]
    lines = ["a set of mine", "T" if normalized else "F", "  1.0000000000000000D+00", "0.0", f"  {len(energies)}"]
    lines += list(energies)
    lines += [" ".join(f"{v:.12f}" for v in row) for row in wrapped]
    lines += [str(sum(s.n_atoms for s in structures)), str(len(structures))]
    lines += [f"{min(per_atom):.16E} {max(per_atom):.16E} {np.mean(per_atom):.16E}"]
    kinds = list(energies)
    for s, e in zip(structures, cohesive, strict=True):
        lines += [s.source, f"{s.n_atoms} {len(set(s.species))}", f"{s.energy if total else e:.16E}"]
        for symbol, r, f in zip(
            s.species, s.positions, np.zeros_like(s.positions) if s.forces is None else s.forces, strict=True
        ):
            lines += [f" {kinds.index(symbol) + 1}", " ".join(f"{x:.16E}" for x in r), " ".join(f"{x:.16E}" for x in f)]
            lines += ["3", "0.1 0.2 0.3"]
    path.write_text("\n".join(lines) + "\n")
    return path
