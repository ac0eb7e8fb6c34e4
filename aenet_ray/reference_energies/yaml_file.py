"""Atomic energies in YAML: what ``aenet-ray atomic-energies -o`` writes and a run's ``atomic_energies`` may name."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ase.data import atomic_numbers, chemical_symbols

from aenet_ray.errors import ConfigError
from aenet_ray.files import write_text


def yaml_line(atomic_energies: Mapping[str, float]) -> str:
    """The line to paste into a run's ``training``, all digits kept."""
    return f"atomic_energies: {{{', '.join(f'{s}: {float(e)!r}' for s, e in atomic_energies.items())}}}"


def write_energies(
    path: str | os.PathLike[str], atomic_energies: Mapping[str, float], metadata: Mapping[str, Any] | None = None
) -> Path:
    """Write atomic energies, eV, and how they were found; the file appears complete or not at all.

    Raises:
        OSError: The file cannot be written.
    """
    plain = json.loads(json.dumps(metadata or {}, default=str))
    text = f"# eV an isolated atom\n{yaml_line(atomic_energies)}\n"
    if plain:
        text += yaml.safe_dump({"metadata": plain}, sort_keys=False, allow_unicode=True)
    write_text(path, text)
    return Path(path)


def read_energies(path: str | os.PathLike[str]) -> dict[str, float]:
    """Atomic energies of a YAML file: under ``atomic_energies``, or the whole file; atomic numbers stand for symbols.

    Raises:
        ConfigError: Missing, no YAML, a key is no element, an energy is no finite number, an element is there twice.
    """
    try:
        values = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file of atomic energies; expected 'fit', a mapping, or a YAML file as 'aenet-ray "
            "atomic-energies data.h5 -o energies.yaml' writes it."
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from None
    if isinstance(values, Mapping) and "atomic_energies" in values:
        values = values["atomic_energies"]
    if not isinstance(values, Mapping) or not values:
        raise ConfigError(f"{path}: {values!r:.60}; expected a mapping of species to energies, eV.")
    energies: dict[str, float] = {}
    for key, energy in values.items():
        symbol = chemical_symbols[key] if isinstance(key, int) and 0 < key < len(chemical_symbols) else key
        if symbol not in atomic_numbers or symbol == "X":
            hint = " (YAML reads No as false: put it in quotes)" if key is False else ""
            raise ConfigError(f"{path}: {key!r} is no chemical symbol and no atomic number{hint}.")
        if isinstance(energy, bool) or not isinstance(energy, int | float) or not math.isfinite(energy):
            raise ConfigError(f"{path}: the energy of {symbol} is {energy!r}, expected a finite number, eV.")
        if symbol in energies:
            raise ConfigError(f"{path}: {symbol} is there twice, by symbol and by number.")
        energies[symbol] = float(energy)
    return energies
