"""``precision`` is what network, weights on disk and stored features are in, whatever the descriptor computes in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from runs import TIO2, config

from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.features.store import FeatureStore
from aenet_ray.models.model_file import read_model_file
from aenet_ray.potential import TorchANNPotential
from aenet_ray.structures.readers import read_structures
from aenet_ray.training.config import RunConfig
from aenet_ray.training.spec import RunSpec

STRUCTURES = 16


@pytest.fixture(scope="module")
def structures():
    return [s for s, _ in zip(read_structures(TIO2), range(STRUCTURES), strict=False)]


def trained(structures, folder: Path, precision: str, dtype: str, **changes):
    descriptor = ChebyshevDescriptor(["Ti", "O"], 4, 4.0, 2, 3.0, dtype=getattr(torch, dtype))
    potential = TorchANNPotential({s: [(5, "tanh")] for s in ("Ti", "O")}, descriptor)
    settings = config(**({"iterations": 3, "precision": precision, "device": "cpu"} | changes))
    out = potential.train(structures, config=settings, run=RunConfig(name="run", storage_path=str(folder)))
    return potential, out


@pytest.mark.parametrize(
    ("precision", "dtype", "expected"),
    [
        ("auto", "float64", "float64"),
        ("auto", "float32", "float32"),
        ("float32", "float64", "float32"),
        ("float64", "float32", "float64"),
        ("float64", "float64", "float64"),
    ],
)
def test_network_weights_and_features_are_in_it(structures, tmp_path, precision, dtype, expected):
    potential, out = trained(structures, tmp_path, precision, dtype)
    wanted = getattr(torch, expected)
    assert {p.dtype for p in potential.model.parameters()} == {wanted}
    payload = read_model_file(out.run_dir / "model.pt")
    assert {t.dtype for t in payload["model_state_dict"].values()} == {wanted}
    spec = RunSpec.load(out.run_dir)
    features = FeatureStore(spec.features)
    assert features.dtype == np.dtype(expected)
    (shard,) = sorted(features.path.glob("shard_*"))
    assert np.load(shard / "features.npy").dtype == np.dtype(expected), "on disk too"
    assert np.load(shard / "positions.npy").dtype == np.float64, "geometry is not"
    assert spec.model(torch.device("cpu")).dtype == wanted
    again = TorchANNPotential.from_file(out.run_dir / "model.pt")
    assert {p.dtype for p in again.model.parameters()} == {wanted}
    assert np.isfinite(out.history["train_force_rmse"]).all()


def test_precisions_differ_by_rounding_only(structures, tmp_path):
    energies = []
    for precision in ("float64", "float32"):
        potential, _ = trained(structures, tmp_path / precision, precision, "float64", force_weight=0.0)
        energies.append(np.array(potential.predict(structures).cohesive_energy))
    assert not np.array_equal(*energies), "it is really another precision"
    np.testing.assert_allclose(energies[1], energies[0], rtol=1e-4)
