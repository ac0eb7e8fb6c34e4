"""Both split helpers draw what aenet-python draws."""

from __future__ import annotations

import json

import pytest
from torch.utils.data import Subset

from aenet_ray import train_test_split, train_test_split_dataset
from aenet_ray.datasets import CachedStructureDataset, StructureDataset, resolve_dataset
from aenet_ray.errors import ConfigError
from aenet_ray.structures.structure import Structure


def rows(data_dir):
    return [row for row in json.loads((data_dir / "golden" / "splits.json").read_text())["rows"] if row["n"] <= 40]


def test_golden_splits(data_dir, descriptor):
    checked = 0
    for row in rows(data_dir):
        dataset = StructureDataset([Structure([[0, 0, 0.0]], ["O"], float(i)) for i in range(row["n"])], descriptor)
        train, test = train_test_split_dataset(dataset, row["test_fraction"], row["seed"])
        assert list(test.indices) == row["shuffled"][: row["n_test"]]
        assert list(train.indices) == row["shuffled"][row["n_test"] :]
        train, test = train_test_split(dataset, row["test_fraction"], row["seed"])
        assert [s.energy for s in train.structures] == row["train_sorted"]
        assert [s.energy for s in test.structures] == row["test_sorted"]
        checked += 1
    assert checked > 5
    seven = StructureDataset([Structure([[0, 0, 0.0]], ["O"], float(i)) for i in range(7)], descriptor)
    assert [len(train_test_split(seven, fraction)[1]) for fraction in (0.0, 0.1, 0.14, 0.15, 0.28, 0.99)] == [
        0,
        0,
        0,
        1,
        1,
        6,
    ]


def test_parts_keep_kind_settings_features_and_names(tio2, descriptor, tmp_path):
    dataset = CachedStructureDataset(tio2, descriptor, max_energy=1e9, max_forces=1e9, seed=4, show_progress=False)
    train, test = train_test_split(dataset, 0.25, seed=3)
    assert (type(train), len(train), len(test)) == (CachedStructureDataset, 12, 4)
    assert (train.max_energy, train.max_forces, train.seed) == (1e9, 1e9, 4)
    unnamed = StructureDataset([Structure(s.positions, s.species, s.energy) for s in tio2], descriptor)
    _, held_out = train_test_split(unnamed, 0.25, seed=3)
    names = [s.name for s in tio2]
    at = [names.index(s.name) for s in test.structures]
    assert at == sorted(at)
    assert [held_out.get_structure_identifier(i) for i in range(4)] == [f"structure_{i:06d}" for i in at]
    assert resolve_dataset(train, tmp_path).store.path == resolve_dataset(test, tmp_path).store.path
    assert resolve_dataset(test, tmp_path).ids.tolist() == at


def test_subsets_of_subsets(tio2, descriptor):
    part = Subset(StructureDataset(tio2, descriptor), range(4, 14))
    train, test = train_test_split_dataset(part, 0.3, seed=1)
    assert (len(train), len(test)) == (7, 3)
    names = {part.dataset.get_structure_identifier(part.indices[i]) for i in (*train.indices, *test.indices)}
    assert names == {s.name for s in tio2[4:14]}


def test_what_cannot_be_split(tio2, descriptor):
    dataset = StructureDataset(tio2, descriptor)
    with pytest.raises(ConfigError, match="Subset is no StructureDataset; train_test_split_dataset"):
        train_test_split(Subset(dataset, [0]))
    with pytest.raises(ConfigError, match="list is no dataset"):
        train_test_split_dataset([1, 2])
    for fraction in (1.0, -0.1, "0.1", float("nan")):
        with pytest.raises(ConfigError, match=r"test_fraction: found .*expected a number from 0"):
            train_test_split_dataset(dataset, fraction)
