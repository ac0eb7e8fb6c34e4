from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from evaluator import ACTIVATIONS, atom_energies, feature_gradients

from aenet_ray.errors import ExportError
from aenet_ray.export import ACTIVATION_CODES

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "activations.json"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"central_species": "Fe"}, "not among the descriptor's species"),
        ({"species": ("Ti", "Ti")}, "expected different chemical symbols"),
        ({"species": ("Ti", "O 2"), "central_species": "Ti"}, "expected different chemical symbols"),
        ({"activations": ("tanh", "relu", "linear")}, "unknown activations"),
        ({"activations": ("tanh", "linear")}, "2 activations for 3 layers"),
        ({"activations": ("tanh", "tanh", "tanh")}, "expected 'linear'"),
        ({"layers": [(np.ones((4, 13)), np.ones(4))] * 3}, r"layer 1 has weights \(4, 13\).*\(4, 14\)"),
        ({"layers": [(np.ones((2, 14)), np.ones(2))], "activations": ["linear"]}, r"expected \(1, 14\)"),
        ({"feature_mean": np.zeros(3)}, r"feature_mean has shape \(3,\), expected \(14,\)"),
        ({"feature_std": np.zeros(14)}, "feature_std goes down to 0.0"),
        ({"feature_max": np.full(14, np.nan)}, "feature_max has values that are not finite"),
        ({"E_scaling": 0.0}, "cannot be used"),
        ({"E_shift": np.inf}, "cannot be used"),
        ({"atomic_energies": {"Ti": np.nan}}, r"atomic_energies\[Ti\]"),
        ({"ang_cutoff": 0.0}, "expected more than 0"),
    ],
)
def test_what_does_not_fit_is_refused(make_potential, fields, message):
    with pytest.raises(ExportError, match=message) as error:
        make_potential(**fields)
    assert "potential of" in str(error.value)


def test_weights_that_are_not_finite_are_refused(make_potential):
    layers = [(np.full((1, 14), np.nan), np.zeros(1))]
    with pytest.raises(ExportError, match="layer 1 has weights that are not finite"):
        make_potential(hidden=(), layers=layers)


def test_it_keeps_its_own_copy(make_potential):
    mean = np.zeros(14)
    potential = make_potential(feature_mean=mean)
    mean[:] = 1.0
    assert potential.feature_mean.sum() == 0.0


def test_codes_and_values_of_activations():
    golden = json.loads(GOLDEN.read_text())
    assert dict(ACTIVATION_CODES) == golden["codes"]
    for name, rows in golden["rows"].items():
        x, value, slope = np.array(rows).T
        np.testing.assert_allclose(ACTIVATIONS[name][0](x), value, atol=1e-14)
        np.testing.assert_allclose(ACTIVATIONS[name][1](x), slope, atol=1e-14)


def test_evaluator_gradient(make_potential):
    potential = make_potential(hidden=[(3, "sigmoid"), (4, "mtanh"), (3, "twist")])
    features = np.random.default_rng(0).normal(size=(1, potential.n_features))
    steps = 1e-6 * np.eye(potential.n_features)
    numeric = (atom_energies(potential, features + steps) - atom_energies(potential, features - steps)) / 2e-6
    np.testing.assert_allclose(feature_gradients(potential, features)[0], numeric, atol=1e-8)
