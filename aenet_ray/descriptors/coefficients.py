"""Fixed numbers of the descriptor: species weights, basis changes and recurrence coefficients."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from aenet_ray.structures.structure import FloatArray

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
    """Recurrences of normalised associated Legendre functions, one row per (m, l), m-major, l >= m.

    The real harmonics in Racah normalisation are Q_lm(z) Re (x + i y)^m and Q_lm(z) Im (x + i y)^m on
    unit vectors, with Q_lm = N_lm d^m P_l / dz^m, N_lm^2 = (2 - [m = 0]) (l - m)! / (l + m)!.
    Then Q_lm = alpha z Q_{l-1,m} - beta Q_{l-2,m}, and dQ_lm/dz = gamma Q_{l,m+1}.
    """

    l: np.ndarray  # noqa: E741
    start: FloatArray  # Q_mm by m, (order + 1,)
    alpha: FloatArray
    beta: FloatArray
    gamma: FloatArray
    up: np.ndarray  # row of (m + 1, l); its own row where l = m, gamma being zero there


@lru_cache(maxsize=64)
def angular_tables(order: int) -> AngularTables:
    """Tables up to degree ``order``; rows (order + 1)(order + 2) / 2."""
    pairs = [(m, deg) for m in range(order + 1) for deg in range(m, order + 1)]
    row = {pair: k for k, pair in enumerate(pairs)}

    def norm_squared(m: int, deg: int) -> Fraction:
        return Fraction((1 if m == 0 else 2) * math.factorial(deg - m), math.factorial(deg + m))

    def ratio(a: Fraction, b: Fraction) -> float:
        return math.sqrt(a / b)

    alpha, beta, gamma = (np.zeros(len(pairs)) for _ in range(3))
    up = np.arange(len(pairs))
    for k, (m, deg) in enumerate(pairs):
        here = norm_squared(m, deg)
        if deg > m:
            alpha[k] = (2 * deg - 1) / (deg - m) * ratio(here, norm_squared(m, deg - 1))
            gamma[k] = ratio(here, norm_squared(m + 1, deg))
            up[k] = row[m + 1, deg]
        if deg > m + 1:
            beta[k] = (deg + m - 1) / (deg - m) * ratio(here, norm_squared(m, deg - 2))
    start = np.array([math.sqrt(norm_squared(m, m) * math.prod(range(1, 2 * m, 2)) ** 2) for m in range(order + 1)])
    degrees = np.array([deg for _, deg in pairs])
    return AngularTables(degrees, start, alpha, beta, gamma, up)
