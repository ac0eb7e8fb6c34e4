"""Training HDF5 as PyTables wrote it: structures, settings, features and derivatives, in both layouts."""

from __future__ import annotations

import hashlib
import json

import h5py
import numpy as np
import pytest
from legacy_files import Structure, changed, pickled, unpacked, with_pickle
from potentials import golden

from aenet_ray import legacy
from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.errors import StoreError, StructureError, UnsafeFileError
from aenet_ray.legacy.caches import derivative_cache, feature_cache
from aenet_ray.legacy.training_hdf5 import DESCRIPTOR_KEYS, FilterSettings, TrainingFile
from aenet_ray.structures.build import build_store
from aenet_ray.structures.readers import from_entry, read_structures
from aenet_ray.structures.store import StructureStore

RUTILE = golden("example_rutile_small")["structure"]


def test_structures_with_all_their_labels(training_file):
    found = list(read_structures(training_file))
    assert [s.source for s in found] == ["set/rutile.traj"] * 3 + ["set.tar::member=7:m.xsf", "no energy"]
    assert [s.frame for s in found] == [0, 2, 4, 0, 0]
    assert [s.name for s in found] == [None, None, None, "molécule", "shown"]
    assert [s.energy for s in found] == [-4984.9, -4984.9 - 1 / 7, -4984.9 - 2 / 7, -2480.25, None]
    assert [s.forces is not None for s in found] == [False, True, True, False, False]
    assert [s.cell is not None for s in found] == [True, True, True, False, False]
    np.testing.assert_array_equal(found[0].positions, RUTILE["positions"])
    np.testing.assert_array_equal(found[1].cell, RUTILE["cell"])
    assert found[2].species == RUTILE["species"]
    assert found[2].pbc.all()
    assert found[2].positions[2, 1] < 0, "outside the cell, and left there"


def test_where_entries_come_from(training_file):
    with TrainingFile(training_file) as file:
        assert len(file) == 5
        entry = file.entry(3)
        assert (entry.source_kind, entry.display_name, entry.name) == ("tar_xsf_member", "set.tar:m.xsf", "molécule")
        assert [e.index for e in file.entries(1, 3)] == [1, 2]
        assert file.filter_settings == FilterSettings(True, 5.0, {"Ti": -1604.604515075, "O": -432.503149303})
        assert file.descriptor_config["species"] == ["Ti", "O"]
        with pytest.raises(IndexError, match="entry 5 asked for, there are 5"):
            file.entry(5)


def test_no_filter_and_no_references(older_file):
    with TrainingFile(older_file) as file:
        assert file.filter_settings == FilterSettings(False, None, None)
        assert file.descriptor_config["species"] == ["H"], "from the derivatives: there is no manifest"


def test_build_takes_it_and_loses_nothing(training_file, tmp_path):
    report = build_store(training_file, tmp_path / "new.h5", allow_duplicates=True)
    assert report.n_structures == 5
    with StructureStore(tmp_path / "new.h5") as store:
        for old, new in zip(read_structures(training_file), store, strict=True):
            assert (old.name, old.source, old.frame, old.energy) == (new.name, new.source, new.frame, new.energy)
            np.testing.assert_array_equal(old.positions, new.positions)
            assert old.species == new.species
            assert (old.forces is None) == (new.forces is None)
            if old.forces is not None:
                np.testing.assert_array_equal(old.forces, new.forces)


def test_build_by_processes_gives_the_same(training_file, tmp_path):
    one, two = (build_store(training_file, tmp_path / f"{n}.h5", workers=n) for n in (0, 2))
    assert one.content_hash == two.content_hash


def descriptor_of(file: TrainingFile) -> ChebyshevDescriptor:
    return ChebyshevDescriptor(**{k: file.descriptor_config[k] for k in DESCRIPTOR_KEYS})


def test_stored_features_are_ours(training_file):
    with TrainingFile(training_file) as file:
        cache, descriptor = feature_cache(file), descriptor_of(file)
        assert len(cache) == 5
        for entry in file.entries():
            s = from_entry(entry)
            ours = descriptor.forward_from_positions(s.positions, s.species, s.cell, s.pbc).numpy()
            np.testing.assert_allclose(cache[entry.index], ours, rtol=0, atol=1e-10)
        assert cache[5] is None


@pytest.mark.parametrize(("name", "entries", "tolerance"), [("training.h5", [1, 2], 1e-10), ("older.h5", [0], 1e-6)])
def test_stored_derivatives_reproduce_our_jacobian(name, entries, tolerance, tmp_path):
    """Contracted with unit gradients they give the whole Jacobian. The older file is float32."""
    with TrainingFile(unpacked(name, tmp_path)) as file:
        cache, descriptor = derivative_cache(file), descriptor_of(file)
        assert len(cache) == len(entries)
        for i in entries:
            s = from_entry(file.entry(i))
            _, jacobian = descriptor.compute_feature_gradients(s.positions, s.species, s.cell, s.pbc)
            blocks = cache[i]
            n, f = s.n_atoms, descriptor.n_features
            for k in range(n * f):
                g = np.zeros((n, f))
                g.flat[k] = 1.0
                expected = jacobian.numpy().reshape(n * f, n, 3)[k]
                np.testing.assert_allclose(blocks.contract(g), expected, rtol=0, atol=tolerance)


def test_stored_derivatives_give_our_forces(training_file):
    """With a network on top, as in training."""
    import torch
    from potentials import random_potential

    with TrainingFile(training_file) as file:
        config = {k: v for k, v in file.descriptor_config.items() if k in DESCRIPTOR_KEYS}
        potential = random_potential(tuple(config.pop("species")), **config)
        for i in (1, 2):
            s = from_entry(file.entry(i))
            raw = torch.tensor(feature_cache(file)[i], requires_grad=True)
            order = np.argsort(potential.descriptor._index_of(s.species), kind="stable")
            counts = [s.species.count(symbol) for symbol in potential.descriptor.species]
            potential.model.net(raw[order], counts).sum().backward()
            forces = -derivative_cache(file)[i].contract(raw.grad.numpy()) / potential.model.normalization.E_scaling
            expected = potential.predict([s], eval_forces=True).forces[0]
            np.testing.assert_allclose(forces, expected, rtol=0, atol=1e-8)
            assert np.abs(expected).max() > 1e-3, "this tests nothing"


def test_entries_without_forces_have_no_derivatives(training_file):
    with TrainingFile(training_file) as file:
        assert derivative_cache(file)[0] is None


def test_files_without_caches(training_file):
    def without(file):
        del file["torch_cache"], file["descriptor_manifest"]

    with TrainingFile(changed(training_file, without)) as file:
        assert feature_cache(file) is None
        assert derivative_cache(file) is None
        assert file.descriptor_config is None


def test_told_by_content(training_file, trnset_file, tmp_path):
    assert legacy.kind_of(training_file) == "training"
    assert legacy.kind_of(trnset_file) == "trnset-hdf5"
    assert legacy.is_aenet_python_file(training_file)
    build_store(training_file, tmp_path / "ours.h5")
    assert not legacy.is_aenet_python_file(tmp_path / "ours.h5")
    assert legacy.kind_of(tmp_path / "missing.h5") is None
    other = training_file.with_suffix(".dat")
    training_file.rename(other)
    assert legacy.kind_of(other) == "training"
    assert len(list(read_structures(other))) == 5


def test_a_store_that_is_none_names_the_command(training_file):
    with pytest.raises(StoreError, match=r"training HDF5, not a structure store\. Convert it: 'aenet-ray convert "):
        StructureStore(training_file)


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return os.mkdir, (self.path,)


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_smuggled_class_ends_every_build(training_file, tmp_path, on_error):
    with_pickle(training_file, 2, pickled(energy=Evil(str(tmp_path / "made"))))
    with pytest.raises(UnsafeFileError, match=r"training\.h5, entry 2: refused: .*(posix|nt)\.mkdir"):
        build_store(training_file, tmp_path / "new.h5", on_error=on_error)
    assert not (tmp_path / "made").exists()
    assert not (tmp_path / "new.h5").exists()


def test_pickled_attributes_stay_bytes(training_file):
    """PyTables pickles what has no HDF5 type; such attributes are never looked into."""

    def put(file):
        file.attrs["energy_filter_atomic_energies_json"] = np.bytes_(b"\x80\x04cos\nmkdir\n\x8c\x01xR.")

    with (
        TrainingFile(changed(training_file, put)) as file,
        pytest.raises(StoreError, match=r"energy_filter_atomic_energies_json of / is b'.*expected JSON"),
    ):
        _ = file.filter_settings


def test_one_bad_entry_can_be_left_out(training_file, tmp_path):
    with_pickle(training_file, 1, pickled(n=1)[:-30])
    with pytest.raises(StructureError, match=r"training\.h5, entry 1: damaged: it ends early"):
        build_store(training_file, tmp_path / "new.h5")
    report = build_store(training_file, tmp_path / "new.h5", on_error="skip")
    assert (report.n_structures, report.n_skipped) == (4, 1)
    assert "entry 1: damaged" in report.skipped_report.read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"energy": -1.0}, r"the table says energy -4985\.04\d*, the record has -1\.0"),
        ({"forces": None}, "the table says has_forces True, the record has False"),
        ({"n": 3}, "the table says n_atoms 6, the record has 3"),
    ],
)
def test_a_record_is_what_the_table_says(training_file, change, message):
    fields = {
        "positions": np.array(RUTILE["positions"])[: change.pop("n", 6)],
        "energy": -4984.9 - 1 / 7,
        "forces": np.ones((6, 3)),
    }
    with_pickle(training_file, 1, pickled(**{**fields, **change}))
    with pytest.raises(StructureError, match=rf"entry 1: damaged: {message}"):
        list(read_structures(training_file))


def edit_json(file: h5py.File, node: str, name: str, change: dict) -> None:
    values = json.loads(file[node].attrs[f"{name}_json"]) | change
    text = json.dumps(values).encode()
    file[node].attrs[f"{name}_json"] = np.bytes_(text)
    file[node].attrs[f"{name}_sha256"] = np.bytes_(hashlib.sha256(text).hexdigest().encode())


def test_data_in_other_files_is_not_followed(training_file, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"x" * 100)

    def external(file):
        del file["torch_cache/features/values"]
        file.create_dataset("torch_cache/features/values", (5,), "f8", external=[(str(secret), 0, 40)])

    with (
        TrainingFile(changed(training_file, external)) as file,
        pytest.raises(StoreError, match="keeps its data in other files"),
    ):
        feature_cache(file)[0]


def test_an_external_link_is_not_followed(training_file, tmp_path):
    other = unpacked("training.h5", tmp_path / ".." / tmp_path.name).rename(tmp_path / "other.h5")
    mine = unpacked("training.h5", tmp_path)

    def link(file):
        del file["entries"]
        file["entries"] = h5py.ExternalLink(str(other), "/entries")

    with pytest.raises(StoreError, match="is a link out of its place"):
        TrainingFile(changed(mine, link))


def test_the_structure_helper_is_pickled_under_their_path():
    assert Structure.__module__ == "legacy_files"
    assert b"aenet.torch_training.config" in pickled()
