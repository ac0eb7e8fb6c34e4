"""Committees on datasets and torch Subsets of them: shared splits, and which structure a prediction is of."""

from __future__ import annotations

import numpy as np
import pytest
from committees import REFERENCES, committee_of, descriptor, strict_json, tio2, training, untrained
from potentials import random_potential
from torch.utils.data import Subset

from aenet_ray import CachedStructureDataset, StructureDataset, TorchCommitteePotential
from aenet_ray.structures.structure import Structure


@pytest.fixture(scope="module")
def dataset(data_dir):
    structures = tio2(data_dir, 12)
    named = [
        Structure(s.positions, s.species, s.energy, s.forces, s.cell, s.pbc, f"cell-{i}")
        for i, s in enumerate(structures)
    ]
    return StructureDataset(named, descriptor(), atomic_energies=REFERENCES)


@pytest.fixture(scope="module")
def committee():
    return TorchCommitteePotential.from_members([random_potential(seed=s) for s in range(2)])


def test_an_explicit_split_is_preserved(dataset, tmp_path):
    train, test = Subset(dataset, [7, 0, 3, 9, 5]), Subset(dataset, [1, 2])
    config = training(iterations=1, atomic_energies=None)
    result = untrained().train(
        train_dataset=train, test_dataset=test, config=config, committee_config=committee_of(2, tmp_path / "run")
    )
    for member in result.members:
        split = np.load(member.member_dir / "split.npz")
        assert (split["train"].tolist(), split["test"].tolist()) == ([0, 3, 5, 7, 9], [1, 2])
    values = strict_json(result.metadata_path)
    assert values["resolved_train_dataset"] == values["resolved_test_dataset"] == "Subset[StructureDataset]"
    assert values["training_config"]["atomic_energies"] == REFERENCES, "the dataset's own"


def test_processes_train_on_a_dataset(dataset, tmp_path):
    """The reference sends the whole dataset to each process; here they read one store."""
    config = training(iterations=1, force_weight=0.1, atomic_energies=None)
    committee = committee_of(1, tmp_path / "run", max_parallel=2)
    result = untrained().train(dataset=Subset(dataset, range(2, 10)), config=config, committee_config=committee)
    assert len(result.completed_members) == 1
    split = np.load(result.members[0].member_dir / "split.npz")
    assert sorted([*split["train"], *split["test"]]) == list(range(2, 10))


def test_cached_features_are_not_computed_again(data_dir, tmp_path, monkeypatch):
    cached = CachedStructureDataset(tio2(data_dir, 8), descriptor(), atomic_energies=REFERENCES, show_progress=False)
    monkeypatch.setattr(
        "aenet_ray.descriptors.chebyshev.ChebyshevDescriptor.features", lambda *a: pytest.fail("computed")
    )
    committee = committee_of(2, tmp_path / "run")
    untrained().train(dataset=cached, config=training(iterations=1, atomic_energies=None), committee_config=committee)


def test_indices_of_the_root_through_subsets(committee, dataset):
    nested = Subset(Subset(dataset, [8, 2, 5, 11]), [3, 0, 2])
    result = committee.predict_dataset(nested, eval_forces=True)
    assert result.source_indices == [11, 8, 5]
    assert result.indices.tolist() == [0, 1, 2]
    assert result.identifiers == ["cell-11", "cell-8", "cell-5"]
    direct = committee.predict([dataset.get_structure(i) for i in (11, 8, 5)], eval_forces=True)
    assert np.array_equal(result.energy_std, direct.energy_std)
    assert np.array_equal(result[2].forces, direct[2].forces)
    top = result.top_uncertain(3, metric="energy_std_per_atom").to_dataframe()
    assert [f"cell-{i}" for i in top["source_index"]] == top["identifier"].tolist()
