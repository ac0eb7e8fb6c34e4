"""Potentials with known weights, for tests of everything that uses one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.models.normalization import Normalization
from aenet_ray.potential import TorchANNPotential
from aenet_ray.structures.structure import Structure

GOLDEN = Path(__file__).parent / "data" / "golden"
NETWORK_CASES = [
    "molecule_1species_h4",
    "molecule_2species_water",
    "molecule_3species_methanol",
    "molecule_4species_absent_species",
    "periodic_orthorhombic_tio2",
    "periodic_triclinic_small",
    "periodic_triclinic_small_unwrapped",
    "isolated_atom",
    "collinear_co2",
]
"""Golden cases with a network, energies and forces."""


def golden(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / f"{name}.json").read_text())


def set_weights(potential: TorchANNPotential, layers: dict[str, list[dict[str, Any]]]) -> None:
    with torch.no_grad():
        for symbol, values in layers.items():
            for (weight, bias), layer in zip(potential.model.net.layers(symbol), values, strict=True):
                weight.copy_(torch.tensor(layer["weight"], dtype=torch.float64))
                bias.copy_(torch.tensor(layer["bias"], dtype=torch.float64))


def golden_potential(case: dict[str, Any], **descriptor: Any) -> TorchANNPotential:
    """The potential of a golden case; ``descriptor`` changes how features are computed."""
    hidden = [tuple(layer) for layer in case["network"]["hidden_layers"]]
    made = ChebyshevDescriptor(**case["descriptor"], **descriptor)
    potential = TorchANNPotential(dict.fromkeys(made.species, hidden), made)
    set_weights(potential, case["network"]["layers_by_species"])
    potential.model.normalization = Normalization.from_dict(case["normalization"])
    potential.model.atomic_energies = dict(case["atomic_energies"] or {})
    return potential


def golden_structure(case: dict[str, Any]) -> Structure:
    return Structure(**case["structure"])


def random_potential(species: tuple[str, ...] = ("Ti", "O"), seed: int = 0, **descriptor: Any) -> TorchANNPotential:
    """A small potential with random weights that knows TiO2, smooth enough for dynamics."""
    settings: dict[str, Any] = {"rad_order": 4, "rad_cutoff": 4.5, "ang_order": 2, "ang_cutoff": 3.5} | descriptor
    torch.manual_seed(seed)
    potential = TorchANNPotential(
        {s: [(6, "tanh"), (5, "tanh")] for s in species}, ChebyshevDescriptor(list(species), **settings)
    )
    potential.model.atomic_energies = {s: -10.0 * (k + 1) for k, s in enumerate(species)}
    potential.model.normalization = Normalization(E_shift=-3.0, E_scaling=0.8, normalize_energy=True)
    return potential
