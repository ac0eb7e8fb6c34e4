"""From sampled settings to a run's configuration, every corner looked at before anything starts."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from aenet_ray.config import SettingsError
from aenet_ray.errors import AenetRayError, ConfigError
from aenet_ray.experiment import ExperimentConfig
from aenet_ray.training.config import METHODS
from aenet_ray.tuning.config import TuneConfig
from aenet_ray.tuning.domains import Domain, grid_points

logger = logging.getLogger(__name__)

TRIES = 200
"""Draws for a configuration that was not drawn before."""
SHARED = "all trials share one structure store and one split, or their errors could not be compared"
REFUSED = {
    "data": SHARED + "; for other splits use tune.cv",
    "training.testpercent": SHARED + "; for other splits use tune.cv",
    "training.split_seed": SHARED + "; for other splits use tune.cv",
    "training.max_energy": SHARED + "; it would change what is validated on",
    "training.max_forces": SHARED + "; it would change what is validated on",
    "training.checkpoint_dir": "trials keep their checkpoints in their own folders",
    "training.show_progress": "it changes no result",
    "run": "it says where the search keeps its files",
    "features": "it says where the search keeps its files",
    "export": "it changes no result",
    "scaling": "every trial gets the same resources",
    "tune": "a search does not search its own settings",
}
"""Settings that are no part of a trial, and why."""
LAYERS = {"network.width": 15, "network.depth": 2, "network.activation": "tanh"}
"""Settings that make networks of equal layers, and what they are where neither space nor network says."""
PBT_SETTINGS = ("training.method.", "training.force_weight", "training.max_grad_norm", "training.sampling_policy")
"""What may change in the middle of a run."""


def with_values(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A run's settings with those sampled, by dotted names, put in."""
    settings = copy.deepcopy(dict(base))
    layers = {path: value for path, value in values.items() if path in LAYERS}
    for path, value in values.items():
        if path not in LAYERS:
            _put(settings, path, copy.deepcopy(value))
    if layers:
        settings["network"] = _equal_layers(settings.get("network"), layers)
    return settings


def _put(settings: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    target = settings
    for i, parent in enumerate(parents):
        inner = target.get(parent)
        if isinstance(inner, str) and inner.lower() in METHODS:
            inner = {"name": inner}  # method: adam
        if inner is None:
            inner = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"tune.space.{path}: {'.'.join(parents[: i + 1])} is {inner!r}, no group of settings.")
        target[parent] = inner
        target = inner
    target[last] = value


def _equal_layers(network: Any, layers: Mapping[str, Any]) -> list[list[Any]]:
    """Layers of one width and activation, those of the file's network where they are not searched."""
    known: Any = next(iter(network.values()), None) if isinstance(network, dict) else network
    try:
        default = {"network.width": known[0][0], "network.depth": len(known), "network.activation": known[0][1]}
    except (TypeError, IndexError, KeyError):
        default = LAYERS
    width, depth, activation = ({**default, **layers}[name] for name in LAYERS)
    if type(depth) is not int or depth < 1:
        raise ConfigError(f"tune.space.network.depth: found {depth!r}, expected a number of layers, at least 1.")
    return [[width, activation] for _ in range(depth)]


def trial_config(base: Mapping[str, Any], values: Mapping[str, Any]) -> ExperimentConfig:
    """The configuration of a trial.

    Raises:
        ConfigError: A value is not allowed; names it.
    """
    shown = ", ".join(f"{path}={value!r}" for path, value in values.items())
    try:
        config = ExperimentConfig.from_mapping(with_values(base, values))
        config.check()
    except SettingsError as error:
        text = "; ".join(f"{path}: {said}" if path else said for path, said in error.problems)
        raise ConfigError(f"tune.space: {shown}: {text}") from None
    except AenetRayError as error:
        if str(error).startswith("tune.space"):
            raise
        raise ConfigError(f"tune.space: {shown}: {error}") from None
    return config


def check_space(base: Mapping[str, Any], tune: TuneConfig) -> None:
    """Look at every setting of the space, at the ends of each range and at all values of each list.

    Raises:
        ConfigError: A setting is unknown, no part of a trial, or has values that are not allowed; or what the metric
            means would differ from trial to trial.
    """
    space = tune.domains
    for path in space:
        for refused, reason in REFUSED.items():
            if path == refused or path.startswith(f"{refused}."):
                raise ConfigError(f"tune.space.{path}: cannot be searched: {reason}.")
        shadowed = [other for other in space if path.startswith(f"{other}.")]
        if path in LAYERS and "network" in space:
            shadowed = ["network"]
        if shadowed:
            raise ConfigError(f"tune.space.{path}: {shadowed[0]} is searched as a whole; give one of them.")
    if "training.force_weight" in space and tune.metric.endswith("_loss"):
        raise ConfigError(
            f"tune.metric: {tune.metric} is another loss for every training.force_weight; search by an error, such as "
            "test_energy_rmse."
        )
    if tune.scheduling == "pbt":
        fixed = [p for p in space if not p.startswith(PBT_SETTINGS) or p == "training.method.name"]
        if fixed:
            raise ConfigError(
                f"tune.space.{fixed[0]}: pbt changes settings of trials while they run, which goes for optimiser "
                "settings (training.method.*), training.force_weight, max_grad_norm and sampling_policy alone."
            )
    for values in corners(space):
        trial_config(base, values)


def corners(space: Mapping[str, Domain]) -> Iterator[dict[str, Any]]:
    """Settings to look at: each value of interest of one, with the first values of all others."""
    first = {path: domain.corners()[0] for path, domain in space.items()}
    yield first
    for path, domain in space.items():
        for value in domain.corners()[1:]:
            yield {**first, path: value}


def draw(tune: TuneConfig, seed: int) -> list[dict[str, Any]]:
    """The settings of all trials of a random search, the same for the same seed; no configuration twice.

    Fewer than asked for where the space holds no more.
    """
    generator = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    space = tune.domains
    points = grid_points(space)
    drawn: list[dict[str, Any]] = []
    seen: set[str] = set()
    for _ in range(tune.num_samples if space else 1):
        for point in points:
            for _ in range(TRIES):
                sample = {path: point[path] if path in point else d.sample(generator) for path, d in space.items()}
                text = json.dumps(sample, sort_keys=True)
                if text not in seen:
                    seen.add(text)
                    drawn.append(sample)
                    break
    if len(drawn) < len(points) * tune.num_samples and any(d.kind != "grid" for d in space.values()):
        logger.info("the space holds no more than %d configurations", len(drawn))
    return drawn
