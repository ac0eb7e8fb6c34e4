"""Training on datasets gives what training on their structures gives, whichever way they come."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from dataset_samples import REFERENCES
from torch.utils.data import Subset

from aenet_ray import (
    Adam,
    ChebyshevDescriptor,
    HDF5StructureDataset,
    RunConfig,
    ScalingConfig,
    TorchANNPotential,
    TorchTrainingConfig,
)
from aenet_ray.datasets import CachedStructureDataset, StructureDataset, train_test_split, train_test_split_dataset
from aenet_ray.errors import ConfigError, TrainingError
from aenet_ray.features import compute
from aenet_ray.models.model_file import read_model_file
from aenet_ray.structures.structure import Structure

ARCH = {"Ti": [(4, "tanh")], "O": [(4, "tanh")]}


def settings(**changes):
    values = {
        "iterations": 2,
        "method": Adam(mu=0.01, batchsize=5),
        "seed": 3,
        "split_seed": 5,
        "testpercent": 25,
        "show_progress": False,
    }
    return TorchTrainingConfig(**(values | changes))


@pytest.fixture
def train(tmp_path, descriptor):
    """Trains; gives weights, split, energies and the folder of the run."""

    def run(config=None, name="run", **data):
        potential = TorchANNPotential(ARCH, descriptor)
        out = potential.train(config=config or settings(), run=RunConfig(name=name, storage_path=str(tmp_path)), **data)
        payload = read_model_file(out.run_dir / "model.pt")
        with np.load(out.run_dir / "split.npz") as ids:
            split = (ids["train"].tolist(), ids["test"].tolist())
        weights = torch.cat([v.reshape(-1) for v in payload["model_state_dict"].values()])
        return weights, split, payload["atomic_energies"], out.run_dir

    return run


@pytest.fixture
def plain(train, tio2):
    return train(settings(atomic_energies=REFERENCES), "plain", structures=tio2)


@pytest.mark.parametrize("kind", [StructureDataset, CachedStructureDataset])
def test_a_dataset_trains_as_its_structures_do(train, plain, tio2, descriptor, kind):
    weights, split, energies, _ = train(dataset=kind(tio2, descriptor, atomic_energies=REFERENCES))
    assert split == plain[1]
    assert energies == REFERENCES == plain[2]
    torch.testing.assert_close(weights, plain[0], rtol=0, atol=1e-12)


def test_a_dataset_given_as_structures(train, plain, tio2, descriptor):
    weights, *_ = train(structures=StructureDataset(tio2, descriptor, atomic_energies=REFERENCES))
    torch.testing.assert_close(weights, plain[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("split", [train_test_split, train_test_split_dataset])
def test_parts_of_one_dataset_share_store_and_features(train, plain, tio2, descriptor, split):
    dataset = StructureDataset(tio2, descriptor, atomic_energies=REFERENCES)
    first, second = split(dataset, 0.25, seed=5)
    weights, ids, _, run_dir = train(train_dataset=first, test_dataset=second)
    assert ids == plain[1]
    torch.testing.assert_close(weights, plain[0], rtol=0, atol=1e-12)
    assert len(list(run_dir.glob("structures*.h5"))) == 1
    assert len([p for p in (run_dir.parent / "features").iterdir() if p.is_dir()]) == 1


def test_a_dataset_of_its_own_for_validation(train, tio2, descriptor):
    kind = CachedStructureDataset
    separate = train(
        settings(atomic_energies=REFERENCES),
        train_dataset=kind(tio2[:12], descriptor),
        test_dataset=kind(tio2[12:], descriptor),
    )
    one = StructureDataset(tio2, descriptor, atomic_energies=REFERENCES)
    shared = train(name="shared", train_dataset=Subset(one, range(12)), test_dataset=Subset(one, range(12, 16)))
    assert separate[1] == shared[1] == (list(range(12)), list(range(12, 16)))
    torch.testing.assert_close(separate[0], shared[0], rtol=0, atol=1e-12)
    mixed = train(name="mixed", train_dataset=Subset(one, range(12)), test_dataset=tio2[12:])
    torch.testing.assert_close(mixed[0], shared[0], rtol=0, atol=1e-12)


def test_no_test_dataset_is_no_validation(train, tio2, descriptor):
    dataset = StructureDataset(tio2, descriptor, atomic_energies=REFERENCES)
    assert train(train_dataset=dataset)[1] == (list(range(16)), [])
    first, empty = train_test_split(dataset, 0.0)
    assert train(name="empty", train_dataset=first, test_dataset=empty)[1] == (list(range(16)), [])


def test_a_subset_is_split_in_its_own_order(train, tio2, descriptor):
    order = [9, 2, 14, 0, 7, 11, 5, 3]
    dataset = Subset(StructureDataset(tio2, descriptor, atomic_energies=REFERENCES), order)
    first, second = train_test_split_dataset(dataset, 0.25, seed=5)
    ids = train(dataset=dataset)[1]
    assert ids == (sorted(order[i] for i in first.indices), sorted(order[i] for i in second.indices))


def test_features_that_are_there_are_not_computed(train, tio2, descriptor, monkeypatch):
    cached = CachedStructureDataset(tio2, descriptor, atomic_energies=REFERENCES, show_progress=False)
    other = CachedStructureDataset(tio2[:3], descriptor, show_progress=False)

    def refuse(*_):
        raise AssertionError("features are computed again")

    monkeypatch.setattr(compute, "block_features", refuse)
    train(dataset=cached)
    train(name="two", train_dataset=Subset(cached, range(3, 16)), test_dataset=other)
    with pytest.raises(AssertionError, match="computed again"):
        train(name="plain", dataset=StructureDataset(tio2[:7], descriptor, atomic_energies=REFERENCES))


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_database_trains_with_the_features_it_keeps(train, tio2, descriptor, tmp_path, monkeypatch, precision):
    config = settings(precision=precision)
    path = tmp_path / "d.h5"
    dataset = HDF5StructureDataset(descriptor, path, tio2, atomic_energies=REFERENCES)
    dataset.build_database(False, persist_force_derivatives=True)
    part = HDF5StructureDataset(descriptor, path, atomic_energies=REFERENCES)
    monkeypatch.setattr(compute, "block_features", lambda *_: pytest.fail("computed again"))
    first = train(config, train_dataset=Subset(dataset, range(12)), test_dataset=Subset(part, range(12, 16)))
    assert first[1] == (list(range(12)), list(range(12, 16)))
    assert not list(first[3].glob("structures*"))
    assert (first[3].parent / "features").exists() == (precision == "float32")
    monkeypatch.undo()
    in_memory = StructureDataset(tio2, descriptor, atomic_energies=REFERENCES)
    again = train(config, "memory", train_dataset=Subset(in_memory, range(12)), test_dataset=tio2[12:])
    torch.testing.assert_close(first[0], again[0], rtol=0, atol=1e-12 if precision == "float64" else 1e-5)


def test_error_weighting_adapts_with_cached_features(train, tio2, descriptor):
    """aenet-python's samples of this kind have no index there, so its scores never change."""
    dataset = CachedStructureDataset(tio2, descriptor, atomic_energies=REFERENCES, show_progress=False)
    *_, run_dir = train(settings(sampling_policy="error_weighted", testpercent=0), dataset=dataset)
    newest = sorted((run_dir / "checkpoints").glob("checkpoint_epoch_*.pt"))[-1]
    scores = torch.load(newest, weights_only=True)["policy_state"]
    assert len(scores) == 16
    assert len(set(scores.tolist())) > 8


def test_forces_come_from_a_dataset(train, tio2, descriptor):
    config = settings(force_weight=0.2, atomic_energies=REFERENCES)
    with_forces = train(config, dataset=StructureDataset(tio2, descriptor))
    same = train(config, "same", structures=tio2)
    torch.testing.assert_close(with_forces[0], same[0], rtol=0, atol=1e-12)
    with pytest.raises(ConfigError, match=r"CachedStructureDataset is for energies only, and force_weight is 0.2"):
        train(config, "cached", dataset=CachedStructureDataset(tio2, descriptor, show_progress=False))


def test_atomic_energies_have_one_owner(train, tio2, descriptor):
    own = StructureDataset(tio2, descriptor, atomic_energies=REFERENCES)
    others = {"Ti": -1600.0, "O": -430.0}
    with pytest.raises(ConfigError, match=r"config.atomic_energies is .*-1600.* and the dataset has .*-1604"):
        train(settings(atomic_energies=others), dataset=own)
    with pytest.raises(ConfigError, match=r"train_dataset has atomic_energies .*-1604.* test_dataset has .*-1600"):
        train(train_dataset=own, test_dataset=StructureDataset(tio2, descriptor, atomic_energies=others))
    assert train(settings(atomic_energies=REFERENCES), dataset=own)[2] == REFERENCES
    # aenet-python ignores the configuration's with a warning where the dataset has none, and trains on totals.
    bare = StructureDataset(tio2, descriptor)
    assert train(settings(atomic_energies=REFERENCES), "bare", dataset=bare)[2] == REFERENCES
    with pytest.warns(UserWarning, match="no atomic_energies: training on total energies"):
        assert train(name="none", dataset=bare)[2] == {"Ti": 0.0, "O": 0.0}


def test_filters_of_the_configuration_apply(train, tio2, descriptor):
    """aenet-python warns that it ignores them."""
    energies = sorted((s.energy - sum(REFERENCES[x] for x in s.species)) / s.n_atoms for s in tio2)
    dataset = StructureDataset(tio2, descriptor, atomic_energies=REFERENCES)
    first, second = train(settings(max_energy=energies[7]), dataset=dataset)[1]
    assert len(first) + len(second) == 8


def test_only_the_subset_counts(tio2, tmp_path):
    """What is not in a Subset needs no energy and no reference."""
    descriptor = ChebyshevDescriptor(["Ti", "O", "Si"], 2, 3.5, 1, 3.0)
    silicon = Structure([[0, 0, 0], [2.2, 0, 0]], ["Si", "Si"])
    dataset = StructureDataset([silicon, *tio2[:8]], descriptor)
    potential = TorchANNPotential({**ARCH, "Si": [(2, "tanh")]}, descriptor)
    run = RunConfig(name="run", storage_path=str(tmp_path))
    potential.train(dataset=Subset(dataset, range(1, 9)), config=settings(atomic_energies=REFERENCES), run=run)
    with pytest.raises(ConfigError, match="atomic_energies: none for Si"):
        potential.train(dataset=dataset, config=settings(atomic_energies=REFERENCES))


def test_refused_before_a_run_begins(train, tio2, descriptor, tmp_path):
    dataset = StructureDataset(tio2, descriptor)
    other = replace_cutoff(descriptor)
    cases = [
        ({"dataset": StructureDataset(tio2, other)}, "train: dataset has features of .*the potential needs"),
        ({"dataset": Subset(dataset, [0, 1, 1])}, "dataset holds structure 1 2 times; expected each once"),
        ({"dataset": torch.utils.data.ConcatDataset([dataset])}, "dataset: ConcatDataset is no dataset of aenet_ray"),
        ({"structures": tio2, "dataset": dataset}, "structures and dataset are given; expected exactly one"),
        ({"test_dataset": dataset}, "nothing is given but test_dataset; train_dataset is missing"),
        ({"structures": []}, "structures is empty; expected paths"),
        ({"dataset": dataset, "test_dataset": dataset}, "test_dataset goes with train_dataset, but dataset is given"),
    ]
    for data, message in cases:
        with pytest.raises(ConfigError, match=message):
            train(**data)
    assert not (tmp_path / "run").exists()


def replace_cutoff(descriptor):
    return ChebyshevDescriptor(descriptor.species, descriptor.rad_order, 4.0, descriptor.ang_order, 3.0)


def test_overlap_is_said(train, tio2, descriptor):
    dataset = StructureDataset(tio2, descriptor, atomic_energies=REFERENCES)
    with pytest.warns(UserWarning, match="have 4 structures in common"):
        train(train_dataset=dataset, test_dataset=Subset(dataset, [3, 4, 5, 6]))


def test_a_run_on_a_dataset_is_resumed(train, tio2, descriptor, tmp_path):
    dataset = StructureDataset(tio2, descriptor, atomic_energies=REFERENCES)
    potential = TorchANNPotential(ARCH, descriptor)
    potential.train(dataset=dataset, config=settings(), run=RunConfig(name="again", storage_path=str(tmp_path)))
    again = RunConfig(name="again", storage_path=str(tmp_path), resume="must")
    same = StructureDataset(tio2, descriptor, atomic_energies=REFERENCES)
    out = potential.train(dataset=same, config=settings(iterations=4), run=again)
    assert len(out.history["epoch"]) == 4
    fewer = StructureDataset([replace(s) for s in tio2[:9]], descriptor, atomic_energies=REFERENCES)
    with pytest.raises(TrainingError, match="began with other settings"):
        potential.train(dataset=fewer, config=settings(iterations=4), run=again)


@pytest.mark.ray
def test_workers_train_on_a_database(train, tio2, descriptor, tmp_path, ray_local, monkeypatch):
    """Two workers on Ray, with the features of the file: the weights of one process without Ray."""
    monkeypatch.setattr(
        "aenet_ray.training.run_features._on_ray", lambda _: lambda *_: pytest.fail("features are made again")
    )
    dataset = HDF5StructureDataset(descriptor, tmp_path / "d.h5", tio2, atomic_energies=REFERENCES)
    dataset.build_database(False, persist_features=True)
    part = Subset(dataset, [12, 3, 4, 9, 1, 0, 7, 15, 10, 2])
    config = settings(force_weight=0.3)
    alone = train(config, dataset=part)
    scaling = ScalingConfig(num_workers=2)
    together = train(config, "ray", dataset=part, scaling=scaling)
    assert together[1] == alone[1]
    torch.testing.assert_close(together[0], alone[0], rtol=0, atol=1e-9)
