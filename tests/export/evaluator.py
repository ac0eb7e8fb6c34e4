"""A potential evaluated from its file's numbers, as ænet does it; independent of aenet_ray's networks."""

from __future__ import annotations

import numpy as np

from aenet_ray.export import SpeciesPotential


def _sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def _mtanh(x):
    return 1.7159 * np.tanh(2.0 * x / 3.0)


def _mtanh_slope(x):
    return 1.7159 * 2.0 / 3.0 * (1.0 - np.tanh(2.0 * x / 3.0) ** 2)


ACTIVATIONS = {
    "linear": (lambda x: x, np.ones_like),
    "tanh": (np.tanh, lambda x: 1.0 - np.tanh(x) ** 2),
    "sigmoid": (_sigmoid, lambda x: _sigmoid(x) * (1.0 - _sigmoid(x))),
    "mtanh": (_mtanh, _mtanh_slope),
    "twist": (lambda x: _mtanh(x) + 0.1 * x, lambda x: _mtanh_slope(x) + 0.1),
}


def atom_energies(potential: SpeciesPotential, features) -> np.ndarray:
    """Energies of atoms with these features, (n_atoms,), eV."""
    return _evaluate(potential, features)[0]


def feature_gradients(potential: SpeciesPotential, features) -> np.ndarray:
    """Their derivatives, (n_atoms, n_features), eV."""
    return _evaluate(potential, features)[1]


def _evaluate(p: SpeciesPotential, features) -> tuple[np.ndarray, np.ndarray]:
    average = p.feature_mean if p.normalize_features else np.zeros(p.n_features)
    spread = np.sqrt(np.maximum(p.second_moment() - average**2, 0.0))
    factor = np.where(spread > 1e-10, 1.0 / np.maximum(spread, 1e-10), 0.0)
    h = (np.asarray(features) - average) * factor
    slopes = []
    for (weight, bias), name in zip(p.layers, p.activations, strict=True):
        x = h @ weight.T + bias
        h = ACTIVATIONS[name][0](x)
        slopes.append(ACTIVATIONS[name][1](x))
    gradient = np.ones_like(h)
    for (weight, _), slope in zip(reversed(p.layers), reversed(slopes), strict=True):
        gradient = (gradient * slope) @ weight
    energy = h[:, 0] / p.E_scaling + p.E_shift + p.atomic_energies.get(p.central_species, 0.0)
    return energy, gradient * factor / p.E_scaling
