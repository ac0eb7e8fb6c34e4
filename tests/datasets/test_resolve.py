"""Datasets and Subsets of them as rows of one structure store."""

from __future__ import annotations

import numpy as np
import pytest
from dataset_samples import REFERENCES
from torch.utils.data import ConcatDataset, Subset

from aenet_ray.datasets import CachedStructureDataset, StructureDataset, resolve_dataset
from aenet_ray.errors import ConfigError


@pytest.mark.parametrize("kind", [StructureDataset, CachedStructureDataset])
def test_subsets_of_one_dataset_have_one_store(tio2, descriptor, tmp_path, kind):
    dataset = kind(tio2, descriptor, atomic_energies=REFERENCES)
    whole = resolve_dataset(dataset, tmp_path)
    part = resolve_dataset(Subset(Subset(dataset, [9, 3, 5, -1]), [3, 0, 1]), tmp_path)
    assert part.store.path == whole.store.path
    assert list(tmp_path.iterdir()) == [whole.store.path]
    assert whole.ids.tolist() == list(range(16))
    assert part.ids.tolist() == [15, 9, 3]
    assert part.ids.dtype == np.int64
    assert part.atomic_energies == REFERENCES
    for k, i in enumerate((15, 9, 3)):
        np.testing.assert_array_equal(part.store.structure(int(part.ids[k])).positions, tio2[i].positions)


def test_the_store_holds_what_passed_the_filter(tio2, descriptor, tmp_path):
    limit = float(np.median([s.energy / s.n_atoms for s in tio2]))
    dataset = StructureDataset(tio2, descriptor, max_energy=limit)
    store, ids, energies = resolve_dataset(dataset, tmp_path)
    assert 0 < len(dataset) < len(tio2)
    assert energies is None
    for i, row in enumerate(ids.tolist()):
        assert store.structure(row).energy == dataset.get_structure(i).energy
        assert store.structure(row).energy / store.structure(row).n_atoms <= limit


def test_datasets_in_one_folder_do_not_disturb_each_other(tio2, descriptor, tmp_path):
    first, second = StructureDataset(tio2[:5], descriptor), StructureDataset(tio2[5:9], descriptor)
    one, other = resolve_dataset(first, tmp_path).store, resolve_dataset(second, tmp_path).store
    assert one.path != other.path
    assert (len(one), len(other)) == (5, 4)
    one.verify()
    again = resolve_dataset(StructureDataset(tio2[:5], descriptor), tmp_path).store
    assert again.path == one.path


@pytest.mark.parametrize("index", [16, -17])
def test_an_index_outside_is_refused(tio2, descriptor, tmp_path, index):
    with pytest.raises(ConfigError, match=f"names structure {index}, the StructureDataset under it has 16"):
        resolve_dataset(Subset(StructureDataset(tio2, descriptor), [0, index]), tmp_path)


def test_other_datasets_are_refused(tio2, descriptor, tmp_path):
    dataset = StructureDataset(tio2, descriptor)
    with pytest.raises(ConfigError, match="ConcatDataset is no dataset of aenet_ray"):
        resolve_dataset(ConcatDataset([dataset]), tmp_path)
