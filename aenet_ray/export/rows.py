"""The rows of an ænet potential file, in order: what the ASCII and the binary form have in common."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from aenet_ray.errors import ExportError
from aenet_ray.export.species_potential import ACTIVATION_CODES, SpeciesPotential

Kind = Literal["int", "ints", "float", "floats", "text", "words", "flag", "environment", "line"]
Values = dict[str, Any]
"""Row name to int, float, str, bool, list of str, or int32/float64 array."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its name, how it is stored, what a reader may call it, and how many values it has.

    ``count`` may use the rows before; ``width`` is the length of a text in the binary form;
    ``minimum`` is the smallest integer that makes sense.
    """

    name: str
    kind: Kind
    what: str
    count: Callable[[Values], int] = lambda values: 1
    width: int = 0
    minimum: int = 0


ROWS = (
    Row("n_layers", "int", "number of layers", minimum=2),
    Row("largest_layer", "int", "size of the largest layer"),
    Row("n_weights", "int", "number of weights"),
    Row("n_values", "int", "number of node values"),
    Row("nodes", "ints", "nodes per layer", lambda v: v["n_layers"]),
    Row("activations", "ints", "activation codes", lambda v: v["n_layers"] - 1),
    Row("weight_ends", "ints", "end index of each layer's weights", lambda v: v["n_layers"]),
    Row("value_ends", "ints", "end index of each layer's values", lambda v: v["n_layers"]),
    Row("weights", "floats", "weights", lambda v: v["n_weights"]),
    Row("description", "text", "description", width=1024),
    Row("central_species", "text", "central species", width=2),
    Row("n_species", "int", "number of species", minimum=1),
    Row("species", "words", "species", lambda v: v["n_species"]),
    Row("min_cutoff", "float", "smallest distance"),
    Row("max_cutoff", "float", "largest distance"),
    Row("basis", "text", "basis type", width=100),
    Row("n_features", "int", "number of features", minimum=1),
    Row("n_parameters", "int", "parameters per feature", minimum=1),
    Row("function_kinds", "ints", "function kinds", lambda v: v["n_features"]),
    Row("parameters", "floats", "function parameters", lambda v: v["n_parameters"] * v["n_features"]),
    Row("environment", "environment", "environment species", lambda v: 2 * v["n_features"]),
    Row("n_evaluations", "int", "number of evaluations"),
    Row("feature_min", "floats", "feature minima", lambda v: v["n_features"]),
    Row("feature_max", "floats", "feature maxima", lambda v: v["n_features"]),
    Row("feature_average", "floats", "feature averages", lambda v: v["n_features"]),
    Row("feature_second_moment", "floats", "feature covariances", lambda v: v["n_features"]),
    Row("training_set", "text", "training-set name", width=1024),
    Row("normalized", "flag", "flag of normalised energies"),
    Row("E_scaling", "float", "energy scaling"),
    Row("E_shift", "float", "energy shift"),
    Row("n_energies", "int", "number of atomic energies", minimum=1),
    Row("energy_species", "words", "species of the atomic energies", lambda v: v["n_energies"]),
    Row("atomic_energies", "floats", "atomic energies", lambda v: v["n_energies"]),
    Row("total_atoms", "int", "total number of atoms"),
    Row("n_structures", "int", "number of structures"),
    Row("energy_range", "line", "lowest, highest and average energy", lambda v: 3),
)


def values_of(potential: SpeciesPotential, *, allow_longer_angular_cutoff: bool = False) -> Values:
    """All rows of ``potential``'s file.

    Raises:
        ExportError: The angular cutoff is longer than the radial one, and this was not allowed.
    """
    p = potential
    if p.ang_cutoff > p.rad_cutoff and not allow_longer_angular_cutoff:
        raise ExportError(
            f"potential of {p.central_species}: the angular cutoff of {p.ang_cutoff} Å is longer than the "
            f"radial one of {p.rad_cutoff} Å. ænet weights angular neighbours beyond the radial cutoff "
            "wrongly, so that energies would differ: train with ang_cutoff <= rad_cutoff, or pass "
            "allow_longer_angular_cutoff=True for a reader that is known to be right."
        )
    nodes, n_features = p.layer_sizes, p.n_features
    weight, bias, average, moment = p.stored_form()
    steps = [(n_in + 1) * n_out for n_in, n_out in pairwise(nodes)]
    ends = list(accumulate((n + 1 for n in nodes[:-1]), initial=0))
    blocks = [np.column_stack([w, b]).ravel(order="F") for w, b in ((weight, bias), *p.layers[1:])]
    parameters = np.zeros((4, n_features))
    parameters[:, 0] = p.rad_cutoff, p.rad_order, p.ang_cutoff, p.ang_order
    zeros = np.zeros(n_features)
    energies = [p.atomic_energies.get(s, 0.0) for s in p.species]
    return {
        "n_layers": len(nodes),
        "largest_layer": max(nodes),
        "n_weights": sum(steps),
        "n_values": ends[-1] + nodes[-1],
        "nodes": np.array(nodes, dtype=np.int32),
        "activations": np.array([ACTIVATION_CODES[name] for name in p.activations], dtype=np.int32),
        "weight_ends": np.array(list(accumulate(steps, initial=0)), dtype=np.int32),
        "value_ends": np.array(ends, dtype=np.int32),
        "weights": np.concatenate(blocks),
        "description": one_word(p.description),
        "central_species": p.central_species,
        "n_species": len(p.species),
        "species": list(p.species),
        "min_cutoff": p.min_cutoff,
        "max_cutoff": max(p.rad_cutoff, p.ang_cutoff),
        "basis": "Chebyshev",
        "n_features": n_features,
        "n_parameters": len(parameters),
        "function_kinds": np.zeros(n_features, dtype=np.int32),
        "parameters": parameters.ravel(order="F"),
        "environment": np.zeros(2 * n_features, dtype=np.int32),
        "n_evaluations": 0,
        "feature_min": zeros if p.feature_min is None else p.feature_min,
        "feature_max": zeros if p.feature_max is None else p.feature_max,
        "feature_average": average,
        "feature_second_moment": moment,
        "training_set": one_word(p.training_set),
        "normalized": True,
        "E_scaling": p.E_scaling,
        "E_shift": p.E_shift,
        "n_energies": len(p.species),
        "energy_species": list(p.species),
        "atomic_energies": np.array(energies),
        "total_atoms": p.total_atoms,
        "n_structures": p.n_structures,
        "energy_range": np.array([p.E_min, p.E_max, p.E_avg]),
    }


def one_word(text: str) -> str:
    """``text`` without what ends a word for a Fortran reader: blanks, commas, slashes, quotes."""
    word = re.sub(r"[^A-Za-z0-9._+-]+", "_", text).strip("_")
    return word[:100] or "aenet_ray"


def potential_of(values: Mapping[str, Any], path: str | Path, place: Callable[[str], str]) -> SpeciesPotential:
    """The potential that rows describe; ``place(row name)`` says where in its file a row stands.

    Raises:
        ExportError: The rows contradict each other, or it is not a Chebyshev potential; names the file.
    """
    try:
        return _potential_of(values, lambda row: f"{path}, {place(row)}")
    except ExportError as error:
        message = str(error)
        raise error if message.startswith(str(path)) else ExportError(f"{path}: {message}") from None


def _potential_of(v: Mapping[str, Any], where: Callable[[str], str]) -> SpeciesPotential:

    def expect(row: str, found: object, expected: object, meaning: str) -> None:
        if found != expected:
            raise ExportError(f"{where(row)}: {meaning} is {found}, expected {expected}.")

    expect("basis", v["basis"].lower(), "chebyshev", "the basis type")
    expect("n_parameters", v["n_parameters"], 4, "the number of parameters per feature")
    parameters = v["parameters"].reshape(4, -1, order="F")[:, 0].tolist()
    rad_cutoff, rad_order, ang_cutoff, ang_order = parameters
    if not (rad_order.is_integer() and ang_order.is_integer() and rad_order >= 0 and ang_order >= 0):
        raise ExportError(f"{where('parameters')}: the orders are {rad_order} and {ang_order}, expected whole numbers.")
    n_features = int(rad_order + ang_order + 2) * (2 if v["n_species"] > 1 else 1)
    expect("n_features", v["n_features"], n_features, "the number of features for these orders and species")
    nodes = v["nodes"].tolist()
    expect("nodes", min(nodes) > 0, True, "every layer having nodes")
    expect("nodes", (nodes[0], nodes[-1]), (n_features, 1), "the first and last layer's size")
    steps = [(n_in + 1) * n_out for n_in, n_out in pairwise(nodes)]
    expect("n_weights", v["n_weights"], sum(steps), "the number of weights for these layers")
    expect("energy_species", sorted(v["energy_species"]), sorted(v["species"]), "the list of species")
    if not v["normalized"]:
        expect("E_scaling", (v["E_scaling"], v["E_shift"]), (1.0, 0.0), "scaling and shift of raw energies")
    average, moment = v["feature_average"], v["feature_second_moment"]
    known_range = bool(v["feature_min"].any() or v["feature_max"].any())
    return SpeciesPotential(
        central_species=v["central_species"],
        species=tuple(v["species"]),
        layers=_layers(v["weights"], nodes),
        activations=_activations(v["activations"].tolist(), where("activations")),
        rad_order=int(rad_order),
        rad_cutoff=rad_cutoff,
        ang_order=int(ang_order),
        ang_cutoff=ang_cutoff,
        min_cutoff=v["min_cutoff"],
        feature_mean=average,
        feature_std=np.sqrt(np.maximum(moment - average**2, 0.0)),
        feature_second_moment=moment,
        feature_min=v["feature_min"] if known_range else None,
        feature_max=v["feature_max"] if known_range else None,
        normalize_features=bool((average != 0.0).any() or (moment != 1.0).any()),
        E_scaling=v["E_scaling"],
        E_shift=v["E_shift"],
        atomic_energies=dict(zip(v["energy_species"], v["atomic_energies"].tolist(), strict=True)),
        total_atoms=v["total_atoms"],
        n_structures=v["n_structures"],
        **dict(zip(("E_min", "E_max", "E_avg"), v["energy_range"].tolist(), strict=True)),
        description=v["description"],
        training_set=v["training_set"],
    )


def _layers(weights: np.ndarray, nodes: list[int]) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    layers, start = [], 0
    for n_in, n_out in pairwise(nodes):
        stop = start + (n_in + 1) * n_out
        block = weights[start:stop].reshape(n_out, n_in + 1, order="F")
        layers.append((block[:, :-1], block[:, -1]))
        start = stop
    return tuple(layers)


def _activations(codes: list[int], where: str) -> tuple[str, ...]:
    names = {code: name for name, code in ACTIVATION_CODES.items()}
    unknown = sorted(set(codes) - set(names))
    if unknown:
        raise ExportError(f"{where}: unknown activation codes {unknown}, expected 0 to {max(names)}.")
    return tuple(names[code] for code in codes)
