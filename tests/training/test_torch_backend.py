"""Training with features and forces by plain torch: the path of a GPU, also run where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from runs import ATOMIC_ENERGIES, TIO2, config, difference, final_weights, small_descriptor

from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.inference.evaluate import evaluate_store
from aenet_ray.models.model_file import read_model_file
from aenet_ray.potential import TorchANNPotential
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.store import StructureStore, write_store
from aenet_ray.training.config import RunConfig

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(scope="module")
def structures():
    found = [s for s, _ in zip(read_structures(TIO2), range(20), strict=False)]
    found[4].forces = None
    return found


def train(structures, folder: Path, *, descriptor: dict | None = None, **changes):
    """Fresh features each time: equal input would find what another backend made."""
    made = ChebyshevDescriptor.from_config(small_descriptor().config() | (descriptor or {}))
    potential = TorchANNPotential({s: [(6, "tanh"), (5, "twist")] for s in ("Ti", "O")}, made)
    settings = config(**({"iterations": 4, "sampling_policy": "error_weighted", "device": "cpu"} | changes))
    out = potential.train(structures, config=settings, run=RunConfig(name="run", storage_path=str(folder)))
    return potential, out


def assert_same(one, two, tolerance: float) -> None:
    (_, out), (_, other_out) = one, two
    assert difference(final_weights(out.run_dir), final_weights(other_out.run_dir)) < tolerance
    for column, values in out.history.items():
        if "_time" not in column:
            np.testing.assert_allclose(other_out.history[column], values, rtol=tolerance, err_msg=column)


@pytest.fixture(scope="module")
def compiled(structures, tmp_path_factory):
    return train(structures, tmp_path_factory.mktemp("compiled"), descriptor={"backend": "compiled"})


def test_torch_on_the_cpu_trains_the_same(structures, compiled, tmp_path):
    by_torch = train(structures, tmp_path, descriptor={"backend": "torch"})
    assert by_torch[0].descriptor.backend == "torch"
    assert np.isfinite(by_torch[1].history["train_force_rmse"]).all()
    assert_same(compiled, by_torch, 1e-9)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("how", ["default", "asked", "descriptor"])
def test_cuda_trains_the_same(structures, compiled, tmp_path, how):
    """No code changes: a device is found, asked for in the configuration, or given with the descriptor."""
    descriptor = {"device": "cuda"} if how == "descriptor" else {}
    changes = {"device": "cuda" if how == "asked" else None}
    on_gpu = train(structures, tmp_path, descriptor=descriptor, **changes)
    assert read_model_file(on_gpu[1].run_dir / "model.pt")["descriptor_config"]["device"].startswith("cuda")
    assert_same(compiled, on_gpu, 1e-8)
    here = TorchANNPotential.from_file(on_gpu[1].run_dir / "model.pt", device="cuda")
    assert here.model.device.type == "cuda"
    there = TorchANNPotential.from_file(on_gpu[1].run_dir / "model.pt", device="cpu")
    one, two = (p.predict(structures[:5], eval_forces=True, eval_stress=True) for p in (here, there))
    np.testing.assert_allclose(one.total_energy, two.total_energy, atol=1e-9, rtol=0)
    for a, b in zip((*one.forces, *one.stress), (*two.forces, *two.stress), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("method", ["adam", "adamw", "sgd"])
def test_cuda_runs_every_optimiser_and_precision(structures, tmp_path, method, precision):
    _, out = train(structures, tmp_path, device="cuda", precision=precision, method={"name": method}, iterations=2)
    assert np.isfinite(out.history["train_loss"]).all()
    assert read_model_file(out.run_dir / "model.pt")["precision"] == precision


def test_float32_is_close_to_float64(structures, compiled, tmp_path):
    _, out = train(structures, tmp_path, precision="float32")
    assert read_model_file(out.run_dir / "model.pt")["precision"] == "float32"
    weights = final_weights(out.run_dir)
    assert weights.dtype == torch.float32
    apart = difference(final_weights(compiled[1].run_dir), weights.double())
    assert 0 < apart < 1e-3
    np.testing.assert_allclose(out.history["train_loss"], compiled[1].history["train_loss"], rtol=1e-4)


def test_history_is_what_predictions_say(structures, compiled, tmp_path):
    """The last row, from stored features and the training step, against the public ``predict``."""
    potential, out = compiled
    store = StructureStore(write_store(structures, tmp_path / "all.h5").path)
    with np.load(out.run_dir / "split.npz") as split:
        parts = {"train": split["train"], "test": split["test"]}
    for kind, ids in parts.items():
        row = evaluate_store(potential.model, store, ids, name=kind, forces=True).row()
        last = {k: v[-1] for k, v in out.history.items()}
        assert row.energy_rmse == pytest.approx(last[f"{kind}_energy_rmse"], rel=1e-9)
        assert row.energy_mae == pytest.approx(last[f"{kind}_energy_mae"], rel=1e-9)
        assert row.force_rmse == pytest.approx(last[f"{kind}_force_rmse"], rel=1e-9)
        assert row.force_mae == pytest.approx(last[f"{kind}_force_mae"], rel=1e-9)
    assert potential.atomic_energies == ATOMIC_ENERGIES
