"""What holds when a run goes on from a checkpoint: what was asked for now, what stays, and what cannot be."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from aenet_ray.errors import ConfigError, TrainingError
from aenet_ray.training.config import METHODS, TorchTrainingConfig

logger = logging.getLogger(__name__)

KEPT = ("testpercent", "max_energy", "max_forces")
"""Settings of the checkpoint that hold where none is given now: they decide what is trained on."""
LOCAL = ("iterations", "seed", "split_seed", "precision", "method", "device", "atomic_energies", "feature_stats")
"""Settings whose change is said elsewhere, or need not be said."""


def settings_on_resume(config: TorchTrainingConfig, start: Mapping[str, Any], where: str) -> TorchTrainingConfig:
    """The settings of a run that goes on from a checkpoint.

    What is given now holds, and is logged where it differs. Where nothing is given, the checkpoint's optimiser
    settings, split seed, filters, precision and normalisation stay.

    Args:
        start: Payload of the checkpoint.
        where: Its name, for messages.

    Raises:
        TrainingError: It was written with another optimiser.
        ConfigError: Normalisation or atomic energies are given that contradict it.
    """
    stored, given = start["training_config"], config.model_fields_set
    _check_normalization(config, start, where)
    check_atomic_energies(config.atomic_energies, start.get("atomic_energies") or {}, where)
    norm = start["normalization"]
    values: dict[str, Any] = {
        "method": _method(config, stored.get("method"), where),
        "normalize_features": bool(norm["normalize_features"]),
        "normalize_energy": bool(norm["normalize_energy"]),
        # What they would override is the checkpoint's already.
        **dict.fromkeys(("E_shift", "E_scaling", "feature_stats")),
    }
    values |= {k: stored[k] for k in KEPT if k in stored and k not in given}
    if config.split_seed is None:
        # The seed split where no split_seed was given; a new seed must not draw another split.
        seed = stored.get("split_seed")
        values["split_seed"] = start.get("seed") if seed is None else seed
    if config.precision == "auto" and start.get("precision") in ("float32", "float64"):
        values["precision"] = start["precision"]
    merged = config.model_copy(update=values)
    _say_changes(merged, stored, where)
    return merged


def _method(config: TorchTrainingConfig, stored: Mapping[str, Any] | None, where: str) -> Any:
    """The optimiser: what is given of it now, and the checkpoint's settings for the rest."""
    if not stored:
        return config.method
    name = str(stored.get("name", "adam")).lower()
    known = {k: v for k, v in stored.items() if k != "name"}
    if "method" not in config.model_fields_set:
        return METHODS[name](**known)
    asked = config.method
    if asked.method_name != name:
        raise TrainingError(
            f"{where}: trained with method {name!r}, this run asks for {asked.method_name!r}, which cannot use its "
            f"state. Leave method out or give {name!r} again; or begin a new run from its weights: "
            "TorchANNPotential.from_file(...).train(...) without resume_from and seed."
        )
    now = known | {k: getattr(asked, k) for k in asked.model_fields_set}
    return type(asked)(**now)


def _check_normalization(config: TorchTrainingConfig, start: Mapping[str, Any], where: str) -> None:
    """The weights of a checkpoint mean something under its own normalisation only."""
    norm = start["normalization"]
    found: dict[str, Any] = {}
    for name in ("normalize_features", "normalize_energy", "E_shift", "E_scaling"):
        now = getattr(config, name)
        if name in config.model_fields_set and now is not None and not np.isclose(now, norm[name], rtol=1e-12, atol=0):
            found[name] = (now, norm[name])
    if config.feature_stats is not None:
        pairs = (("mean", norm["feature_mean"]), ("std", norm["feature_std"]))
        if any(b is None or not _same(config.feature_stats[a], b) for a, b in pairs):
            found["feature_stats"] = ("other values", "its own")
    if found:
        text = "; ".join(f"{k}: {now} is given, {then} was trained with" for k, (now, then) in found.items())
        raise ConfigError(
            f"{where}: its weights belong to its normalisation ({text}). Leave these settings out, or begin a new run."
        )


def _same(a: Any, b: Any) -> bool:
    return len(a) == len(b) and np.allclose(a, b, rtol=1e-12, atol=0)


def check_atomic_energies(given: Any, stored: Mapping[str, float], where: str) -> None:
    """Raises:
    ConfigError: Atomic energies are given that differ from those of the checkpoint: the target would jump.
    """
    if not isinstance(given, Mapping) or not stored:
        return
    total = not any(stored.values())  # trained on total energies; else 0 stands for a species that was not there
    differ = [
        f"{s}: {e} is given, {stored[s]} was trained with"
        for s, e in given.items()
        if s in stored and (total or stored[s] != 0) and abs(e - stored[s]) > 1e-9 * max(1.0, abs(e))
    ]
    if differ:
        raise ConfigError(
            f"{where}: atomic_energies are not those of the checkpoint ({'; '.join(differ)}; eV), so the energies it "
            "learned would be shifted. Leave them out to keep its own, or begin a new run."
        )


def _say_changes(merged: TorchTrainingConfig, stored: Mapping[str, Any], where: str) -> None:
    now = merged.to_dict()
    names = [k for k in now if k in stored and k not in LOCAL and now[k] != stored[k]]
    changed = [f"{k} {stored[k]} -> {now[k]}" for k in names]
    before, after = stored.get("method") or {}, now["method"]
    changed += [f"method.{k} {before[k]} -> {v}" for k, v in after.items() if k in before and before[k] != v]
    if changed:
        logger.info("%s: going on with other settings: %s", where, ", ".join(changed))
