"""Which settings made a difference: known answers."""

from __future__ import annotations

import numpy as np

from aenet_ray.tuning.importance import setting_importance


def test_what_decides_and_what_does_not():
    generator = np.random.default_rng(1)
    values = [
        {"rate": float(10 ** generator.uniform(-4, -1)), "noise": float(generator.uniform()), "act": act}
        for act in ["tanh", "twist"] * 50
    ]
    metric = [abs(np.log10(v["rate"]) + 2.5) + (0.3 if v["act"] == "tanh" else 0) for v in values]
    found = setting_importance(values, metric)
    assert found["rate"] > 0.7, "not monotonic: a correlation would miss it"
    assert found["noise"] < 0.1
    assert 0.02 < found["act"] < 0.4
    last = setting_importance(
        values, [np.inf if v["act"] == "tanh" else m for v, m in zip(values, metric, strict=True)]
    )
    assert last["act"] > 0.5, "failed trials rank last"


def test_random_values_explain_nothing():
    """As many groups as there are must not look like an effect."""
    generator = np.random.default_rng(2)
    found = [
        setting_importance([{"x": float(v)} for v in generator.uniform(size=12)], generator.uniform(size=12))["x"]
        for _ in range(300)
    ]
    assert np.mean(found) < 0.15


def test_too_few_trials_say_nothing():
    assert setting_importance([{"x": 1}] * 4, [1, 2, 3, 4]) == {}
    assert setting_importance([{"x": 1}] * 9, range(9)) == {"x": 0.0}
