"""HDF5StructureDataset on a file that aenet-python wrote: a script goes on with its import lines changed."""

from __future__ import annotations

import json
import logging
import os
import pickle

import numpy as np
import pytest
from legacy_files import changed, pickled, unpacked, with_pickle

from aenet_ray import HDF5StructureDataset, RunConfig, TorchANNPotential, TorchTrainingConfig
from aenet_ray.datasets.aenet_python import convert_training_file
from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.errors import StoreError, UnsafeFileError
from aenet_ray.legacy.caches import feature_cache
from aenet_ray.legacy.training_hdf5 import TrainingFile
from aenet_ray.structures.store import StructureStore


@pytest.fixture
def old(tmp_path):
    """Without its limit, so that the structure without energy stays."""

    def no_limit(file):
        file.attrs["energy_filter_enabled"] = np.uint8(0)
        file.attrs["energy_filter_max_referenced_energy_per_atom"] = np.nan

    return changed(unpacked("training.h5", tmp_path), no_limit)


def test_it_loads_with_everything_the_file_knows(old):
    with HDF5StructureDataset(None, old, mode="load") as dataset, TrainingFile(old) as file:
        assert len(dataset) == 5
        assert dataset.descriptor.species == ["Ti", "O"]
        assert dataset.atomic_energies == {"Ti": -1604.604515075, "O": -432.503149303}
        assert dataset.max_energy is None
        for i, entry in enumerate(file.entries()):
            known = dataset.get_entry_metadata(i)
            found = {k: getattr(entry, k) for k in known}
            np.testing.assert_equal(known, found)  # NaN equals NaN here
            stored = feature_cache(file)[i]
            np.testing.assert_allclose(dataset[i]["features"].numpy(), stored, rtol=0, atol=1e-10)
        assert [dataset.get_structure_identifier(i) for i in range(5)] == [
            "set/rutile.traj#frame=0",
            "set/rutile.traj#frame=2",
            "set/rutile.traj#frame=4",
            "set.tar:m.xsf#frame=0",
            "shown#frame=0",
        ]
        assert dataset.get_structure(3).name == "molécule"
        assert pickle.loads(pickle.dumps(dataset)).get_structure(1).energy == -4984.9 - 1 / 7


def test_the_limit_comes_along(tmp_path):
    old = unpacked("training.h5", tmp_path)
    with pytest.warns(UserWarning, match="energ"):  # one has none
        dataset = HDF5StructureDataset(None, old)
    assert (len(dataset), dataset.max_energy) == (4, 5.0)


def test_it_is_converted_once_and_again_when_it_has_changed(old, caplog):
    caplog.set_level(logging.INFO)
    HDF5StructureDataset(None, old, mode="load").close()
    store = old.with_name("training.h5.converted.h5")
    before = store.stat().st_mtime_ns
    assert f"its 5 structures are now in {store}" in caplog.text
    HDF5StructureDataset(None, old, mode="load").close()
    assert store.stat().st_mtime_ns == before
    os.utime(old, ns=(1, 1))
    HDF5StructureDataset(None, old, mode="load").close()
    assert store.stat().st_mtime_ns > before
    store.write_bytes(b"damaged")
    assert len(HDF5StructureDataset(None, old, mode="load")) == 5


def test_another_descriptor_is_refused(old):
    descriptor = ChebyshevDescriptor(["Ti", "O"], 4, 3.0, 2, 2.5)
    with pytest.raises(StoreError, match="was built for"):
        HDF5StructureDataset(descriptor, old, mode="load")


def test_a_smuggled_class_is_refused(old):
    class Evil:
        def __reduce__(self):
            return os.system, ("exit 1",)

    with_pickle(old, 4, pickled(name=Evil()))
    with pytest.raises(UnsafeFileError, match=r"training\.h5, entry 4: refused: .*system"):
        HDF5StructureDataset(None, old)
    assert not old.with_name("training.h5.converted.h5").exists()


def test_processes_give_the_same_store(old, tmp_path, monkeypatch):
    monkeypatch.setattr("aenet_ray.datasets.aenet_python.TASK_ENTRIES", 2)
    one, two = (convert_training_file(old, tmp_path / f"{n}.h5", workers=n) for n in (0, 2))
    assert one.content_hash == two.content_hash
    with StructureStore(one.path) as a, StructureStore(two.path) as b:
        assert a.identifiers() == b.identifiers()
        assert json.loads(a.file.attrs["dataset"])["descriptor"]["species"] == ["Ti", "O"]


def test_training_on_it(tmp_path):
    old = unpacked("training.h5", tmp_path)
    with pytest.warns(UserWarning, match="energ"):
        dataset = HDF5StructureDataset(None, old, mode="load")
    potential = TorchANNPotential({s: [(3, "tanh")] for s in ("Ti", "O")}, dataset.descriptor)
    config = TorchTrainingConfig(iterations=2, seed=1, force_weight=0.5, testpercent=0, show_progress=False)
    potential.train(dataset=dataset, config=config, run=RunConfig(name="a", storage_path=str(tmp_path)))
    assert potential.atomic_energies == {"Ti": -1604.604515075, "O": -432.503149303}
    assert np.isfinite(potential.history["train_force_rmse"]).all()
