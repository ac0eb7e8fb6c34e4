from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from aenet_ray.export import SpeciesPotential

sys.path.insert(0, str(Path(__file__).parent))  # for evaluator.py

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "ascii_export_tio2.json"
SPECIES = ("Ti", "O", "H", "C", "N")


@pytest.fixture(scope="session")
def golden() -> dict:
    return json.loads(GOLDEN.read_text())


@pytest.fixture(scope="session")
def golden_potentials(golden) -> dict[str, SpeciesPotential]:
    descriptor, normalization = golden["descriptor"], golden["normalization"]
    return {
        species: SpeciesPotential(
            central_species=species,
            species=descriptor["species"],
            layers=[(layer["weight"], layer["bias"]) for layer in layers],
            activations=[layer["activation"] for layer in layers],
            rad_order=descriptor["rad_order"],
            rad_cutoff=descriptor["rad_cutoff"],
            ang_order=descriptor["ang_order"],
            ang_cutoff=descriptor["ang_cutoff"],
            min_cutoff=descriptor["min_cutoff"],
            feature_mean=normalization["feature_mean"],
            feature_std=normalization["feature_std"],
            feature_min=golden["feature_min"],
            feature_max=golden["feature_max"],
            E_scaling=normalization["E_scaling"],
            E_shift=normalization["E_shift"],
            atomic_energies=golden["atomic_energies"],
            total_atoms=12,
            n_structures=2,
            description="demo",
        )
        for species, layers in golden["network"]["layers_by_species"].items()
    }


@pytest.fixture
def make_potential():
    """Builds a random potential; keywords replace fields."""

    def make(n_species: int = 2, hidden=((4, "tanh"), (3, "twist")), seed: int = 0, **fields):
        rng = np.random.default_rng(seed)
        orders = {"rad_order": fields.get("rad_order", 3), "ang_order": fields.get("ang_order", 2)}
        n_features = (sum(orders.values()) + 2) * (2 if n_species > 1 else 1)
        sizes = [n_features, *(n for n, _ in hidden), 1]
        layers = [(rng.normal(size=(n_out, n_in)), rng.normal(size=n_out)) for n_in, n_out in pairwise(sizes)]
        species = SPECIES[:n_species]
        default = {
            "central_species": species[-1],
            "species": species,
            "layers": layers,
            "activations": [*(name for _, name in hidden), "linear"],
            **orders,
            "rad_cutoff": 6.0,
            "ang_cutoff": 3.5,
            "feature_mean": rng.normal(size=n_features),
            "feature_std": rng.uniform(0.1, 2.0, n_features),
            "feature_min": -np.arange(1.0, n_features + 1),
            "feature_max": np.arange(1.0, n_features + 1),
            "E_scaling": 0.37,
            "E_shift": -3.2,
            "atomic_energies": {s: -10.0 * i for i, s in enumerate(species, start=1)},
            "total_atoms": 600,
            "n_structures": 100,
            "E_min": -4.0,
            "E_max": -2.0,
            "E_avg": -3.0,
            "description": "a_random_potential",
        }
        return SpeciesPotential(**(default | fields))

    return make


@pytest.fixture
def same_fields():
    """Asserts that two potentials agree in every field but those named in ``but``."""

    def compare(a: SpeciesPotential, b: SpeciesPotential, but=(), atol=0.0) -> None:
        for name in SpeciesPotential.__dataclass_fields__:
            if name in but:
                continue
            left, right = getattr(a, name), getattr(b, name)
            if name == "layers":
                for (w, c), (x, d) in zip(left, right, strict=True):
                    np.testing.assert_allclose(w, x, rtol=0, atol=atol)
                    np.testing.assert_allclose(c, d, rtol=0, atol=atol)
            elif isinstance(left, np.ndarray):
                np.testing.assert_allclose(left, right, rtol=0, atol=atol, err_msg=name)
            else:
                assert left == right, name

    return compare
