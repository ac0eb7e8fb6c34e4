"""Full-batch runs of the reference reproduced step by step, through the store, the plan and the engine."""

from __future__ import annotations

import numpy as np
import pytest
from potentials import golden as golden_case
from potentials import set_weights

from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.potential import TorchANNPotential
from aenet_ray.structures.structure import Structure
from aenet_ray.training.config import METHODS, RunConfig, TorchTrainingConfig
from aenet_ray.training.spec import RunSpec

CASES = ["train_fullbatch_adam_forces", "train_fullbatch_adam_no_normalization", "train_fullbatch_sgd_energy"]


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    golden = golden_case(request.param)
    given = golden["config"]
    descriptor = ChebyshevDescriptor(**golden["descriptor"])
    hidden = [tuple(layer) for layer in golden["network"]["hidden_layers"]]
    potential = TorchANNPotential(dict.fromkeys(descriptor.species, hidden), descriptor)
    set_weights(potential, golden["network"]["initial_layers_by_species"])
    structures = [Structure(**s) for s in golden["structures"]]
    config = TorchTrainingConfig(
        iterations=given["iterations"],
        method=METHODS[given["optimizer"]](**given["optimizer_params"]),
        testpercent=given["testpercent"],
        force_weight=given["force_weight"],
        force_fraction=given["force_fraction"],
        normalize_features=given.get("normalize_features", True),
        normalize_energy=given.get("normalize_energy", True),
        atomic_energies=golden["atomic_energies"],
        show_progress=False,
    )
    storage = tmp_path_factory.mktemp("runs")
    out = potential.train(structures, config=config, run=RunConfig(name="golden", storage_path=str(storage)))
    return golden, potential, out


def test_statistics(case):
    golden, potential, _ = case
    expected, found = golden["normalization"], potential.model.normalization
    assert found.E_shift == pytest.approx(expected["E_shift"], abs=1e-11)
    assert found.E_scaling == pytest.approx(expected["E_scaling"], abs=1e-11)
    for name in ("feature_mean", "feature_std", "feature_min", "feature_max"):
        if expected[name] is None:
            assert getattr(found, name) is None
        else:
            np.testing.assert_allclose(getattr(found, name), expected[name], atol=1e-11, rtol=0)


def test_losses_step_by_step(case):
    golden, _, out = case
    # The last row is a full pass with the final weights.
    for k, epoch in enumerate(golden["epochs"][:-1]):
        assert out.history["train_energy_rmse"][k] == pytest.approx(epoch["energy_rmse"], abs=1e-10)
        assert out.history["train_energy_mae"][k] == pytest.approx(epoch["energy_mae"], abs=1e-10)
        if epoch.get("force_rmse") is not None:
            assert out.history["train_force_rmse"][k] == pytest.approx(epoch["force_rmse"], abs=1e-10)


def test_final_full_pass(case):
    golden, _, out = case
    final = golden["final_full_pass"]
    assert out.stats["final_RMSE_train"] == pytest.approx(final["energy_rmse"], abs=1e-10)
    assert out.stats["final_MAE_train"] == pytest.approx(final["energy_mae"], abs=1e-10)
    assert out.has_force_data is (final["force_rmse"] is not None)
    if final["force_rmse"] is not None:
        assert out.stats["final_RMSE_force_train"] == pytest.approx(final["force_rmse"], abs=1e-10)


def test_final_weights(case):
    golden, potential, _ = case
    for symbol, layers in golden["final_layers_by_species"].items():
        for (weight, bias), values in zip(potential.model.net.layers(symbol), layers, strict=True):
            np.testing.assert_allclose(weight.detach().numpy(), values["weight"], atol=1e-10, rtol=0)
            np.testing.assert_allclose(bias.detach().numpy(), values["bias"], atol=1e-10, rtol=0)


def test_final_predictions(case):
    golden, potential, _ = case
    structures = [Structure(**s) for s in golden["structures"]]
    out = potential.predict(structures, eval_forces=True)
    np.testing.assert_allclose(out.total_energy, golden["final_predictions"]["total_energy"], atol=1e-9, rtol=0)
    np.testing.assert_allclose(out.cohesive_energy, golden["final_predictions"]["cohesive_energy"], atol=1e-9, rtol=0)
    for forces, expected in zip(out.forces, golden["final_predictions"]["forces"], strict=True):
        np.testing.assert_allclose(forces, expected, atol=1e-8, rtol=0)


def test_the_run_says_what_it_ran(case):
    golden, _, out = case
    spec = RunSpec.load(out.run_dir)
    assert spec.epochs == golden["config"]["iterations"]
    assert (out.run_dir / "model.pt").exists()
