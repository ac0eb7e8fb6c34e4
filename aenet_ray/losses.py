"""The combined root-mean-square loss, from sums that add over workers.

A root of a mean is not a mean of roots: with S and n summed over all workers,

    L = (1 − α) sqrt(S_E / n_E) + α sqrt(S_F / n_F)
    ∇L = c_E ∇S_E + c_F ∇S_F,   c_E = (1 − α) / (2 n_E L_E),   c_F = α / (2 n_F L_F)

so every worker differentiates its own sums, with the same c everywhere, and gradients are summed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LossScale:
    """The loss of one global batch and what its sums are multiplied by.

    Args:
        energy_rmse: eV/atom; force_rmse: eV/Å, NaN where nothing is supervised.
        loss: Combined.
        c_energy, c_force: Factors of ∇S_E and ∇S_F.
    """

    energy_rmse: float
    force_rmse: float
    loss: float
    c_energy: float
    c_force: float


def loss_scale(
    s_energy: float, n_energy: int, s_force: float, n_force: int, alpha: float, supervised_fraction: float = 1.0
) -> LossScale:
    """Loss of a global batch.

    Args:
        s_energy: Σ(ΔE/N)², (eV/atom)²; n_energy: structures.
        s_force: Σ|ΔF|², (eV/Å)²; n_force: force components, 0 where nothing is supervised: the energy term
            keeps its weight 1 − α then.
        alpha: Force weight.
        supervised_fraction: Force RMSE is divided by its root (``force_scale_unbiased``).
    """
    energy = math.sqrt(s_energy / n_energy)
    # At exactly zero error the root has no gradient; zero is its limit from the sums' side.
    c_energy = (1 - alpha) / (2 * n_energy * energy) if energy > 0 else 0.0
    if n_force == 0 or alpha == 0:
        return LossScale(energy, math.nan, (1 - alpha) * energy, c_energy, 0.0)
    factor = 1.0 / math.sqrt(supervised_fraction)
    plain = math.sqrt(s_force / n_force)
    c_force = alpha * factor / (2 * n_force * plain) if plain > 0 else 0.0
    force = plain * factor
    return LossScale(energy, force, (1 - alpha) * energy + alpha * force, c_energy, c_force)
