"""model.pt and checkpoints of aenet-python: the same predictions, the same names, training that goes on."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
import torch
from legacy_files import model_payload, write_model
from potentials import NETWORK_CASES, golden, golden_potential, golden_structure

from aenet_ray import legacy
from aenet_ray.errors import CheckpointError, TrainingError
from aenet_ray.legacy.model_file import flat_optimizer_state, training_config
from aenet_ray.models.model_file import read_model_file, write_model_file
from aenet_ray.potential import TorchANNPotential
from aenet_ray.structures.structure import Structure
from aenet_ray.training.config import SGD, Adam, RunConfig, TorchTrainingConfig


@pytest.mark.parametrize("name", NETWORK_CASES)
def test_predictions_are_the_golden_ones(tmp_path, name):
    case = golden(name)
    potential = TorchANNPotential.from_file(write_model(tmp_path / "model.pt", model_payload(case)))
    out = potential.predict([golden_structure(case)], eval_forces=True)
    assert out.total_energy[0] == pytest.approx(case["total_energy"], abs=1e-9)
    assert out.cohesive_energy[0] == pytest.approx(case["cohesive_energy"], abs=1e-9)
    np.testing.assert_allclose(out.forces[0], case["forces"], rtol=0, atol=1e-8)


CASE = golden("periodic_triclinic_small")


@pytest.fixture
def model_file(tmp_path):
    return write_model(tmp_path / "model.pt", model_payload(CASE, extra_metadata={"committee_seed": 3}))


def test_what_it_tells(model_file):
    potential = TorchANNPotential.from_file(model_file)
    assert potential.descriptor.species == CASE["descriptor"]["species"]
    assert potential.descriptor.rad_cutoff == CASE["descriptor"]["rad_cutoff"]
    assert list(potential.arch) == CASE["descriptor"]["species"], "layers of other species are left out"
    assert potential.atomic_energies == (CASE["atomic_energies"] or {})
    assert potential.metadata["extra_metadata"] == {"committee_seed": 3}
    assert potential.metadata["training_config"]["cache_features"] is True
    assert potential.metadata["training_config"]["atomic_energies"] == {"O": -1.0}
    history = potential.history
    assert history["train_energy_rmse"] == history["train_energy_rmse_batch_mean"] == [0.3, 0.25]
    assert history["epoch"] == [0, 1]
    assert math.isnan(history["test_energy_rmse"][1])


def test_saved_again_it_is_ours(model_file, tmp_path):
    TorchANNPotential.from_file(model_file).save(tmp_path / "ours.pt")
    assert legacy.is_aenet_python_file(model_file)
    assert not legacy.is_aenet_python_file(tmp_path / "ours.pt")
    out = TorchANNPotential.from_file(tmp_path / "ours.pt").predict([golden_structure(CASE)])
    assert out.total_energy[0] == pytest.approx(CASE["total_energy"], abs=1e-9)
    torch.load(tmp_path / "ours.pt", weights_only=True)


def test_float32_activations_in_capitals_and_cuda(tmp_path):
    payload = model_payload(CASE)
    payload["model_state_dict"] = {k: v.float() for k, v in payload["model_state_dict"].items()}
    payload["architecture"] = {s: [(n, a.upper()) for n, a in layers] for s, layers in payload["architecture"].items()}
    payload["descriptor_config"] |= {"dtype": "torch.float32", "device": "cuda:0"}
    payload["device_hint"] = "cuda:0"
    potential = TorchANNPotential.from_file(write_model(tmp_path / "m.pt", payload), device="cpu")
    assert potential.model.dtype == torch.float32
    out = potential.predict([golden_structure(CASE)])
    assert out.cohesive_energy[0] == pytest.approx(CASE["cohesive_energy"], abs=1e-4)


@pytest.mark.parametrize(
    "normalization",
    [
        {"normalize_features": False, "normalize_energy": False, "E_shift": None, "E_scaling": None},
        {"normalize_features": True, "normalize_energy": False, "E_shift": 0.0, "E_scaling": 1.0},
        None,
    ],
)
def test_without_normalization(tmp_path, normalization):
    """Stored statistics are None there; the reference fails on resuming such a run."""
    case = golden("molecule_4species_absent_species")
    payload = model_payload(case)
    if normalization is None:
        payload["normalization"] = None
    else:
        payload["normalization"] = normalization | dict.fromkeys(("feature_mean", "feature_std", "feature_min"))
    potential = TorchANNPotential.from_file(write_model(tmp_path / "m.pt", payload))
    assert not potential.model.normalization.normalize_features
    assert (potential.model.normalization.E_shift, potential.model.normalization.E_scaling) == (0.0, 1.0)


def test_statistics_of_a_run_that_did_not_use_them(tmp_path):
    case = golden("molecule_4species_absent_species")
    payload = model_payload(case)
    n = case["n_features"]
    payload["normalization"] |= {"normalize_features": False, "feature_mean": [5.0] * n, "feature_std": [0.1] * n}
    potential = TorchANNPotential.from_file(write_model(tmp_path / "m.pt", payload))
    assert not potential.model.normalization.normalize_features
    assert potential.predict([golden_structure(case)]).total_energy[0] == pytest.approx(case["total_energy"], abs=1e-9)


# old names


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"cached_features": True}, {"cache_features": True}),
        ({"cached_features_for_force": True, "cached_features": False}, {"cache_features": True}),
        ({"cached_features": True, "cached_features_for_force": False}, {"cache_features": True}),
        ({"cache_triplets": True}, {"cache_force_triplets": True}),
        ({"cache_force_neighbors": True}, {"cache_neighbors": True}),
        ({"E_atomic": {"O": 1.0}}, {"atomic_energies": {"O": 1.0}}),
        ({"E_atomic": {"O": 1.0}, "energy_target": "total"}, {"atomic_energies": None}),
        ({"energy_target": "cohesive", "E_atomic": {"O": 1.0}}, {"atomic_energies": {"O": 1.0}}),
        ({"force_resample_each_epoch": True}, {"force_resample_num_epochs": 1}),
        ({"force_resample_each_epoch": False}, {"force_resample_num_epochs": 0}),
        (
            {"force_resample_each_epoch": True, "epochs_per_force_window": 3},
            {"force_resample_num_epochs": 3},
        ),
        ({"method": {"name": "SGD", "lr": 0.1}}, {"method": {"name": "sgd", "lr": 0.1}}),
        ({"method": {"name": "adam", "fields": {"mu": 0.1}}}, {"method": {"name": "adam", "mu": 0.1}}),
        ({"method": None}, {"method": None}),
    ],
)
def test_settings_under_their_newest_names(old, new):
    assert training_config({"iterations": 5, **old}) == {"iterations": 5, **new}


# going on


def theirs(payload, method="adam", seen=None, steps=4):
    """An optimiser over their parameters one by one, after some steps; ``seen`` of them got a gradient each time."""
    names = list(payload["model_state_dict"])
    parameters = [torch.nn.Parameter(v.clone()) for v in payload["model_state_dict"].values()]
    cls, settings = (
        (torch.optim.Adam, {"lr": 2e-3, "betas": (0.8, 0.99), "eps": 1e-8})
        if method == "adam"
        else (torch.optim.SGD, {"lr": 1e-3, "momentum": 0.9})
    )
    optimizer = cls(parameters, **settings)
    for step in range(steps):
        for k, (name, p) in enumerate(zip(names, parameters, strict=True)):
            used = seen is None or seen(name, step)
            p.grad = torch.sin(torch.arange(p.numel(), dtype=p.dtype) + k + step).reshape(p.shape) if used else None
        optimizer.step()
    return names, parameters, optimizer


def one_more_step(names, parameters, optimizer, flat, method):
    """The next update by their optimiser, and by ours over one vector with the translated state."""
    before = torch.cat([p.detach().reshape(-1) for p in parameters])
    for k, p in enumerate(parameters):
        p.grad = torch.cos(torch.arange(p.numel(), dtype=p.dtype) + k).reshape(p.shape)
    vector = torch.nn.Parameter(before.clone())
    vector.grad = torch.cat([p.grad.reshape(-1) for p in parameters])
    if method == "adam":
        ours = torch.optim.Adam([vector], lr=1.0, fused=True)
    else:
        ours = torch.optim.SGD([vector], lr=1.0, momentum=0.1)
    ours.load_state_dict(flat)
    optimizer.step()
    ours.step()
    return torch.cat([p.detach().reshape(-1) for p in parameters]) - before, vector.detach() - before


@pytest.mark.parametrize("method", ["adam", "sgd"])
def test_the_optimizer_goes_on_as_it_would_have(method, tmp_path):
    payload = model_payload(CASE)
    names, parameters, optimizer = theirs(payload, method)
    flat = flat_optimizer_state(optimizer.state_dict(), payload["model_state_dict"], tmp_path)
    expected, found = one_more_step(names, parameters, optimizer, flat, method)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


def test_a_species_that_batches_lacked(tmp_path):
    """Its steps are fewer; the size of its next one is kept, nearly: Adam counts one step for all of ours."""
    payload = model_payload(CASE)
    _, parameters, optimizer = theirs(payload, seen=lambda name, step: "Sp2" in name or step % 2 == 0)
    flat = flat_optimizer_state(optimizer.state_dict(), payload["model_state_dict"], tmp_path)
    assert float(flat["state"][0]["step"]) == 4
    first, second = optimizer.state[parameters[0]], optimizer.state[parameters[-1]]
    assert (float(first["step"]), float(second["step"])) == (2, 4)
    n = parameters[0].numel()
    for key, beta in (("exp_avg", 0.8), ("exp_avg_sq", 0.99)):
        unbiased = first[key].reshape(-1) / (1 - beta**2)
        torch.testing.assert_close(flat["state"][0][key][:n] / (1 - beta**4), unbiased)


def test_weights_in_another_order(tmp_path):
    """The order of the file decides which state belongs to which weight; ours is always species, layer, bias last."""
    payload = model_payload(CASE)
    _, _, optimizer = theirs(payload)
    expected = flat_optimizer_state(optimizer.state_dict(), payload["model_state_dict"], tmp_path)
    state, n = optimizer.state_dict(), len(payload["model_state_dict"])
    turned = {n - 1 - k: v for k, v in state["state"].items()}
    weights = dict(reversed(payload["model_state_dict"].items()))
    found = flat_optimizer_state({**state, "state": turned}, weights, tmp_path)
    torch.testing.assert_close(found["state"][0]["exp_avg"], expected["state"][0]["exp_avg"])


@pytest.fixture
def structures():
    rng = np.random.default_rng(1)
    s = golden_structure(CASE)
    return [
        Structure(
            s.positions + rng.normal(scale=0.05, size=s.positions.shape), s.species, -2482.0 + k / 9, None, s.cell
        )
        for k in range(8)
    ]


def checkpoint(tmp_path, name="checkpoint_epoch_0006.pt", method="adam", **changes):
    payload = model_payload(CASE)
    _, _, optimizer = theirs(payload, method)
    record = Adam(mu=2e-3, beta1=0.8, beta2=0.99, batchsize=4) if method == "adam" else SGD(lr=1e-3, momentum=0.9)
    payload |= {
        "optimizer_state_dict": optimizer.state_dict(),
        "training_config": {"iterations": 7, "seed": 5, "method": {"name": method, **record.to_params_dict()}},
        "training_history": {"train_energy_rmse": [0.1] * 7, "test_energy_rmse": [0.2] * 7},
        "extra_metadata": {"epoch": 6, "best_val_loss": 0.2},
        "best_val_loss": 0.2,
    }
    return write_model(tmp_path / name, payload | changes), record


@pytest.mark.parametrize("method", ["adam", "sgd"])
def test_training_goes_on(tmp_path, structures, method):
    path, record = checkpoint(tmp_path, method=method)
    potential = golden_potential(CASE)
    config = TorchTrainingConfig(iterations=2, method=record, testpercent=25, show_progress=False)
    with pytest.warns(UserWarning, match="do not tell what was trained on"):
        out = potential.train(
            structures, config=config, resume_from=path, run=RunConfig(name="a", storage_path=str(tmp_path))
        )
    history = potential.history
    assert history["epoch"] == list(range(9))
    assert history["train_energy_rmse"][:7] == [0.1] * 7
    assert np.isfinite(out.errors.iloc[-1]["RMSE_train"])
    assert potential.metadata["seed"] == 5
    after = read_model_file(tmp_path / "a" / "model.pt")
    steps = after["optimizer_state_dict"]["state"][0].get("step")
    assert method == "sgd" or float(steps) == 4 + 2 * 2
    expected = CASE["atomic_energies"]
    assert {s: potential.atomic_energies[s] for s in expected} == expected, "the references come along"


def test_without_iterations_nothing_is_lost(tmp_path, structures):
    path, record = checkpoint(tmp_path)
    potential = golden_potential(CASE)
    config = TorchTrainingConfig(iterations=0, method=record, testpercent=25, show_progress=False)
    with pytest.warns(UserWarning, match="do not tell what was trained on"):
        potential.train(
            structures, config=config, resume_from=path, run=RunConfig(name="a", storage_path=str(tmp_path))
        )
    out = potential.predict([golden_structure(CASE)], eval_forces=True)
    assert out.total_energy[0] == pytest.approx(CASE["total_energy"], abs=1e-9)
    np.testing.assert_allclose(out.forces[0], CASE["forces"], rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "changes", "epoch"),
    [
        ("checkpoint_epoch_0006.pt", {"epoch": 3}, 3),
        ("checkpoint_epoch_0006.pt", {}, 6),
        ("checkpoint_epoch_0011.pt", {"extra_metadata": {}}, 11),
        ("best_model.pt", {"extra_metadata": None}, 0),
    ],
)
def test_where_the_epoch_is_found(tmp_path, name, changes, epoch):
    path, _ = checkpoint(tmp_path, name, **changes)
    assert read_model_file(path)["epoch"] == epoch


def test_another_method_is_refused_with_the_remedy(tmp_path, structures):
    path, _ = checkpoint(tmp_path)
    config = TorchTrainingConfig(iterations=1, method=SGD(), testpercent=25, show_progress=False)
    with pytest.raises(TrainingError, match=r"trained with method 'adam'.*'sgd'"):
        golden_potential(CASE).train(
            structures, config=config, resume_from=path, run=RunConfig(name="a", storage_path=str(tmp_path))
        )


def test_a_potential_without_an_optimizer_cannot_go_on(model_file, structures, tmp_path):
    with pytest.raises(CheckpointError, match=r"a potential, but no training to go on with .*from_file"):
        golden_potential(CASE).train(structures, resume_from=model_file, run=RunConfig(storage_path=str(tmp_path)))


# what is refused


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_class_in_a_model_is_named_and_not_run(tmp_path):
    path = write_model(tmp_path / "m.pt", model_payload(CASE, extra_metadata={"x": Evil(tmp_path / "made")}))
    with pytest.raises(
        CheckpointError, match=r"m\.pt: cannot be read as a model file: it asks for '(posix|nt)\.mkdir'"
    ):
        TorchANNPotential.from_file(path)
    assert not (tmp_path / "made").exists()
    assert not legacy.is_aenet_python_file(path)


def test_numpy_arrays_of_objects_are_refused(tmp_path):
    odd = np.array([Evil(tmp_path / "made")], dtype=object)
    path = write_model(tmp_path / "m.pt", model_payload(CASE, extra_metadata={"x": odd}))
    with pytest.raises(CheckpointError, match=r"asks for 'numpy\._?core\.multiarray\._reconstruct'"):
        TorchANNPotential.from_file(path)
    assert not (tmp_path / "made").exists()


def test_our_own_payload_is_not_theirs(tmp_path):
    potential = golden_potential(CASE)
    potential.save(tmp_path / "ours.pt")
    ours = read_model_file(tmp_path / "ours.pt")
    write_model_file(tmp_path / "old.pt", ours | {"schema_version": "1.0"})
    with pytest.raises(CheckpointError, match=r"version 1\.0, this aenet_ray reads 2\.0"):
        read_model_file(tmp_path / "old.pt")
