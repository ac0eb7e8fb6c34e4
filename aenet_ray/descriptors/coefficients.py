"""Fixed numbers of the descriptor: species weights, basis changes and recurrence coefficients."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from aenet_ray.structures.structure import FloatArray, IntArray

# sin(pi y) = y S(y^2) and cos(pi y) = C(y^2) for |y| <= 1/2: near-minimax (Chebyshev nodes, 60 digits),
# absolute errors 2e-16 and 4e-18 before rounding.
SIN_PI = (
    3.1415926535897927,
    -5.1677127800497855,
    2.5501640398618677,
    -0.599264528825224,
    0.08214587881631043,
    -0.0073703643265304155,
    0.0004659870158043378,
    -2.113362735205297e-05,
)
COS_PI = (
    1.0,
    -4.934802200544676,
    4.058712126416497,
    -1.335262768843447,
    0.23533063012953284,
    -0.025806888737002202,
    0.0019295562724817132,
    -0.00010456655338748738,
    4.149564353942586e-06,
)


def typespin(n_species: int) -> FloatArray:
    """Species weights by position in the species list, (n_species,): -1, 1 for two; -1, 0, 1 for three."""
    if n_species == 1:
        return np.zeros(1)
    half = n_species // 2
    weights = [s for s in range(-half, half + 1) if s != 0 or n_species % 2 == 1]
    return np.array(weights, dtype=np.float64)


@lru_cache(maxsize=64)
def _chebyshev_to_legendre(order: int) -> tuple[tuple[Fraction, ...], ...]:
    """Exact a with T_n = sum_l a[n][l] P_l, by x P_l = ((l + 1) P_{l+1} + l P_{l-1}) / (2 l + 1)."""
    rows = [[Fraction(0)] * (order + 2) for _ in range(order + 1)]
    rows[0][0] = Fraction(1)
    if order >= 1:
        rows[1][1] = Fraction(1)
    for n in range(2, order + 1):
        row = [-c for c in rows[n - 2]]
        for deg, c in enumerate(rows[n - 1][: n + 1]):
            row[deg + 1] += 2 * c * Fraction(deg + 1, 2 * deg + 1)
            if deg > 0:
                row[deg - 1] += 2 * c * Fraction(deg, 2 * deg + 1)
        rows[n] = row
    return tuple(tuple(r[: order + 1]) for r in rows)


def chebyshev_to_legendre(order: int) -> FloatArray:
    """a with T_n(x) = sum_l a[n, l] P_l(x), (order + 1, order + 1), lower triangular."""
    return np.array([[float(c) for c in row] for row in _chebyshev_to_legendre(order)])


class AngularTables(NamedTuple):
    """Monic associated Legendre polynomials, one row per (m, l), m-major, l >= m.

    q_lm is d^m P_l / dz^m divided by its leading coefficient: q_mm = 1, q_{m+1,m} = z,
    q_lm = z q_{l-1,m} - beta q_{l-2,m}, dq_lm/dz = (l - m) q_{l,m+1}. With c_m + i s_m = (x + i y)^m on unit
    vectors, the real harmonics in Racah normalisation squared are scale q_lm^2 c_m^2 and scale q_lm^2 s_m^2.
    """

    degree: IntArray  # l
    beta: FloatArray
    scale: FloatArray


@lru_cache(maxsize=64)
def angular_tables(order: int) -> AngularTables:
    """Tables up to degree ``order``: (order + 1)(order + 2) / 2 rows."""
    pairs = [(m, deg) for m in range(order + 1) for deg in range(m, order + 1)]
    beta = [((deg - 1) ** 2 - m * m) / (4 * (deg - 1) ** 2 - 1) if deg > m + 1 else 0.0 for m, deg in pairs]
    scale = []
    for m, deg in pairs:
        odd = math.prod(range(1, 2 * deg, 2))  # (2 l - 1)!!
        orders = math.factorial(deg + m) * math.factorial(deg - m)
        scale.append(float(Fraction((1 if m == 0 else 2) * odd * odd, orders)))
    return AngularTables(np.array([deg for _, deg in pairs]), np.array(beta), np.array(scale))


def powers_to_features(order: int) -> FloatArray:
    """2 G_n + (self terms) = sum_k matrix[n, k] (cosine moment_k^2 + sine moment_k^2), (order + 1, rows)."""
    tables = angular_tables(order)
    return chebyshev_to_legendre(order)[:, tables.degree] * tables.scale
