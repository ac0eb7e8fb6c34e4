"""Search spaces: what is drawn, where it goes, and that every corner is looked at before anything starts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from searches import experiment

from aenet_ray.errors import ConfigError
from aenet_ray.tuning.config import TuneConfig
from aenet_ray.tuning.domains import RANGES, parse_domain
from aenet_ray.tuning.space import check_space, draw, trial_config, with_values

EXAMPLES = {
    "uniform": [0.5, 2.0],
    "quniform": [0.5, 2.0, 0.25],
    "loguniform": [1e-4, 1e-1],
    "qloguniform": [10, 1000, 10],
    "randint": [2, 9],
    "qrandint": [8, 64, 8],
    "lograndint": [2, 200],
}


@pytest.mark.parametrize("kind", RANGES)
def test_samples_keep_to_their_range(kind):
    domain = parse_domain("x", {kind: EXAMPLES[kind]})
    generator = np.random.default_rng(1)
    values = [domain.sample(generator) for _ in range(500)]
    low, high = domain.corners()
    assert min(values) >= low
    assert max(values) <= high
    whole = "int" in kind
    assert {type(v) for v in values} == {int if whole else float} or kind == "qloguniform"
    if len(EXAMPLES[kind]) == 3:
        steps = {round(v / EXAMPLES[kind][2], 6) for v in values}
        assert all(abs(s - round(s)) < 1e-9 for s in steps), "multiples of the step"
    if whole and high - low < 60:
        assert set(values) == set(range(low, high + 1, EXAMPLES[kind][2] if kind == "qrandint" else 1))
    middle = math.sqrt(low * high) if "log" in kind else (low + high) / 2
    assert 0.3 < np.mean(np.array(values) < middle) < 0.7


def test_draw_is_a_function_of_the_seed():
    tune = TuneConfig(space={"training.method.mu": {"loguniform": [1e-4, 1e-1]}}, num_samples=5)
    assert draw(tune, 4) == draw(tune, 4)
    assert draw(tune, 4) != draw(tune, 5)
    assert draw(tune, 4)[:3] == draw(tune.model_copy(update={"num_samples": 3}), 4)


def test_grids_are_all_there():
    space = {"training.force_weight": {"grid": [0, 0.5]}, "descriptor.rad_order": {"grid": [4, 6, 8]}}
    assert len(draw(TuneConfig(space=space, num_samples=7), 1)) == 6
    mixed = space | {"training.method.mu": {"uniform": [0.1, 0.2]}}
    drawn = draw(TuneConfig(space=mixed, num_samples=2), 1)
    assert len(drawn) == 12
    assert len({d["training.method.mu"] for d in drawn}) == 12


def test_no_configuration_twice():
    """The same one again would give the same result."""
    space = {"training.method.batchsize": {"choice": [4, 8, 16]}, "network.width": {"randint": [5, 7]}}
    drawn = draw(TuneConfig(space=space, num_samples=20), 1)
    assert len(drawn) == len({tuple(d.values()) for d in drawn}) == 6


def test_numbers_without_a_dot_are_numbers():
    """YAML 1.1 reads 1e-4 as text."""
    tune = TuneConfig(space={"a": {"loguniform": ["1e-4", "1e-2"]}, "b": {"choice": ["1e-3", "adam"]}})
    assert tune.domains["a"].arguments == (1e-4, 1e-2)
    assert tune.domains["b"].arguments == (1e-3, "adam")


def test_values_go_where_their_names_say(tmp_path):
    base = experiment(tmp_path)
    values = {"training.method.mu": 0.5, "descriptor.rad_order": 7, "network.width": 9, "network.depth": 3}
    made = with_values(base, values)
    assert made["training"]["method"] == {"name": "adam", "mu": 0.5, "batchsize": 16}
    assert made["network"] == [[9, "tanh"]] * 3
    assert base == experiment(tmp_path), "what was given is not changed"
    assert trial_config(base, values).arch() == {s: [(9, "tanh")] * 3 for s in ("Ti", "O")}
    base["training"]["method"] = "adam"
    assert trial_config(base, {"training.method.batchsize": 4}).training.batch_size == 4
    own = {"network.activation": "sigmoid"}
    assert trial_config(base, own).arch()["Ti"] == [(6, "sigmoid"), (6, "sigmoid")]


def test_every_corner_is_looked_at(tmp_path):
    """A method that does not go with another setting shows, though each alone is allowed."""
    base = experiment(tmp_path)
    space = {
        "training.method.mu": {"uniform": [0.001, 0.1]},
        "training.method.name": {"choice": ["adam", "adamw", "sgd"]},
    }
    with pytest.raises(ConfigError, match=r"training\.method\.name='sgd'.*training\.method\.mu: unknown setting"):
        check_space(base, TuneConfig(space=space))
    space["training.method.name"] = {"choice": ["adam", "adamw"]}
    check_space(base, TuneConfig(space=space))
