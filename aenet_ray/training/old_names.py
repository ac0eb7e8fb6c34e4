"""Settings of older generations of aenet-python under their names of today."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aenet_ray.config import warn_user

RENAMED = {
    "cached_features": "cache_features",
    "cached_features_for_force": "cache_features",
    "cache_force_neighbors": "cache_neighbors",
    "cache_triplets": "cache_force_triplets",
    "E_atomic": "atomic_energies",
}
"""Old name to the present one, where the value stays the same."""

OLD_NAMES = (*RENAMED, "force_resample_each_epoch", "epochs_per_force_window", "energy_target")

WINDOW = "force_resample_num_epochs"


class OldNameWarning(DeprecationWarning):
    """A setting was given under a name of the past; it works, for now."""


def translated(values: dict[str, Any]) -> dict[str, Any]:
    """The settings with present names only; a warning names each old one and its successor.

    Raises:
        ValueError: Old and present names contradict each other, or an old one has a value it never could have.
    """
    if not any(name in values for name in OLD_NAMES):
        return values
    values = dict(values)
    _renamed(values)
    _force_window(values)
    _energy_target(values)
    return values


def _warn(old: str, instead: str) -> None:
    warn_user(f"{old} is an old name of aenet-python's; say {instead} instead.", OldNameWarning)


def _renamed(values: dict[str, Any]) -> None:
    found: dict[str, tuple[str, Any]] = {}
    for old, new in RENAMED.items():
        if old not in values:
            continue
        value = values.pop(old)
        _warn(old, new)
        _agree(values, new, value, f"{old}={value!r}")
        # Two old names of one setting, for energies and for forces: used where either asks for it.
        if new not in found or value is True:
            found[new] = old, value
    values.update({new: value for new, (_, value) in found.items()})


def _agree(values: dict[str, Any], new: str, value: Any, said: str) -> None:
    if new in values and values[new] != value:
        raise ValueError(f"{said} contradicts {new}={values[new]!r}; leave out the first, which is the old name")


def _force_window(values: dict[str, Any]) -> None:
    """A switch and a number of epochs became one number: 0 keeps the first force subset."""
    each, window = "force_resample_each_epoch", "epochs_per_force_window"
    given = {name: values.pop(name) for name in (each, window) if name in values}
    if not given:
        return
    checks: dict[str, tuple[Callable[[Any], bool], str]] = {
        each: (lambda v: isinstance(v, bool), "true or false"),
        window: (lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= 1, "a number of epochs, at least 1"),
    }
    for name, value in given.items():
        good, allowed = checks[name]
        if not good(value):
            raise ValueError(f"{name}: expected {allowed} (found {value!r}); its present name is {WINDOW}")
    number = given.get(window, 1) if given.get(each, True) else 0
    said = " and ".join(f"{name}={value!r}" for name, value in given.items())
    if number == 0 and window in given:
        raise ValueError(f"{said} contradict each other; say {WINDOW}=0 to keep the first force subset")
    _agree(values, WINDOW, number, said)
    values[WINDOW] = number
    _warn(said, f"{WINDOW}={number}")


def _energy_target(values: dict[str, Any]) -> None:
    """Cohesive energies are the target wherever there are atomic energies."""
    if "energy_target" not in values:
        return
    target, known = values.pop("energy_target"), values.get("atomic_energies") is not None
    if target not in ("cohesive", "total"):
        raise ValueError(f"energy_target: expected 'cohesive' or 'total' (found {target!r})")
    if target == "cohesive" and not known:
        raise ValueError("energy_target='cohesive' needs atomic_energies, the energy of each isolated atom")
    if target == "total" and known:
        raise ValueError(
            "energy_target='total' contradicts atomic_energies: with them, cohesive energies are trained on. Leave out "
            "one of the two; predictions are total energies in both cases"
        )
    _warn(f"energy_target={target!r}", "atomic_energies for cohesive energies, none for total energies,")
