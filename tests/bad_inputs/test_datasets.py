"""Data that cannot be used: every one is refused before any worker starts, with its name and the remedy."""

# ruff: noqa: E501 - rows of a table

from __future__ import annotations

import math
import tarfile
from functools import partial

import h5py
import numpy as np
import pytest
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from aenet_ray import (
    CachedStructureDataset,
    ChebyshevDescriptor,
    HDF5StructureDataset,
    RunConfig,
    SourceRecord,
    Structure,
    StructureDataset,
    TorchANNPotential,
    TorchTrainingConfig,
    train_test_split,
    train_test_split_dataset,
)
from aenet_ray.datasets import RecordSources, TarSources, resolve_dataset
from aenet_ray.errors import ConfigError, DescriptorError, InputTypeError, StoreError, StructureError

DESCRIPTOR = ChebyshevDescriptor(["Ti", "O"], 2, 3.0, 1, 2.5)
OTHER = ChebyshevDescriptor(["Ti", "O"], 2, 3.5, 1, 2.5)
GOOD = [Structure([[0, 0, 0], [0, 0, 1.8 + 0.1 * k]], ["Ti", "O"], -10.0 - k) for k in range(4)]
REFERENCES = {"Ti": -6.0, "O": -4.0}


def atom(**changes):
    values = {"positions": [[0, 0, 0.0]], "species": ["O"], "energy": -1.0}
    return Structure(**(values | changes))


def memory(structures=None, **options):
    return StructureDataset(GOOD if structures is None else structures, DESCRIPTOR, **options)


def in_file(tmp, sources=GOOD, build=None, descriptor=DESCRIPTOR, **options):
    dataset = HDF5StructureDataset(descriptor, tmp / "d.h5", sources, mode="build", **options)
    dataset.build_database(False, **(build or {}))
    return dataset


def rebuilt(tmp, build=None, **options):
    in_file(tmp, build=build)
    return HDF5StructureDataset(options.pop("descriptor", DESCRIPTOR), tmp / "d.h5", **options)


def written(tmp, content, **options):
    (tmp / "d.h5").write_bytes(content)
    return HDF5StructureDataset(DESCRIPTOR, tmp / "d.h5", **options)


def truncated(tmp):
    in_file(tmp).close()
    return written(tmp, (tmp / "d.h5").read_bytes()[:-500])


def other_hdf5(tmp):
    with h5py.File(tmp / "d.h5", "w") as file:
        file["numbers"] = np.arange(3)
    return HDF5StructureDataset(DESCRIPTOR, tmp / "d.h5")


def damaged_settings(tmp):
    in_file(tmp).close()
    with h5py.File(tmp / "d.h5", "a") as file:
        file.attrs["dataset"] = "{"
    return HDF5StructureDataset(DESCRIPTOR, tmp / "d.h5")


def empty_tar(tmp):
    tarfile.open(tmp / "a.tar", "w").close()
    return in_file(tmp, TarSources(tmp / "a.tar"))


def train(tmp, config=None, **data):
    potential = TorchANNPotential({"Ti": [(2, "tanh")], "O": [(2, "tanh")]}, DESCRIPTOR)
    settings = TorchTrainingConfig(iterations=1, show_progress=False, **(config or {}))
    return potential.train(**data, config=settings, run=RunConfig(name="run", storage_path=str(tmp)))


def record(loader, name="a"):
    return SourceRecord(name, loader)


# id, what is tried in a folder, class, message
ROWS = [
    ("no structures", lambda tmp: memory([]), StructureError, "StructureDataset: no structures given"),
    ("a number", lambda tmp: memory(3), StructureError, "cannot read structures from int"),
    ("missing file", lambda tmp: memory(tmp / "a.xsf"), StructureError, r"a\.xsf: no such file"),
    ("list with none", lambda tmp: memory([GOOD[0], None]), StructureError, "cannot read structures from NoneType"),
    ("energy nan", lambda tmp: memory([GOOD[0], atom(energy=math.nan)]), StructureError, "<memory>, structure 1: energy is NaN"),
    ("force inf", lambda tmp: memory([atom(forces=[[0, 0, math.inf]])]), StructureError, "structure 0: forces are NaN or infinite"),
    ("position nan", lambda tmp: memory([atom(positions=[[0, 0, math.nan]])]), StructureError, "positions are NaN"),
    ("no atoms", lambda tmp: memory([Structure(np.empty((0, 3)), [], 0.0)]), StructureError, "has no atoms"),
    ("atoms on each other", lambda tmp: memory([Structure([[0, 0, 0]] * 2, ["O", "O"], 0.0)]), StructureError, "are 0.000 Å apart"),
    ("unknown species", lambda tmp: memory([atom(species=["Si"])]), DescriptorError, "the structures hold Si; the descriptor knows Ti, O"),
    ("descriptor missing", lambda tmp: StructureDataset(GOOD, None), ConfigError, "descriptor is None, expected a ChebyshevDescriptor"),
    ("descriptor class", lambda tmp: CachedStructureDataset(GOOD, ChebyshevDescriptor), ConfigError, "CachedStructureDataset: descriptor is <class"),
    ("max_energy text", lambda tmp: memory(max_energy="low"), ConfigError, "max_energy: found 'low', expected a number of eV/atom"),
    ("max_energy nan", lambda tmp: memory(max_energy=math.nan), ConfigError, "max_energy: found nan"),
    ("max_forces bool", lambda tmp: memory(max_forces=True), ConfigError, "max_forces: found True, expected a number of eV/Å"),
    ("filters leave none", lambda tmp: memory(max_energy=-1e6), ConfigError, r"max_energy=-1000000.0 and max_forces=None leave none of 4"),
    ("references list", lambda tmp: memory(atomic_energies=[1, 2]), ConfigError, r"atomic_energies: found \[1, 2\], expected a mapping"),
    ("references nan", lambda tmp: memory(atomic_energies={"Ti": math.nan}), ConfigError, "'Ti' has nan, expected a finite number in eV"),
    ("references text", lambda tmp: memory(atomic_energies={"Ti": "-6"}), ConfigError, "'Ti' has '-6'"),
    ("references missing", lambda tmp: memory(atomic_energies={"Ti": -6.0}), ConfigError, "atomic_energies: none for O; given are Ti"),
    ("index", lambda tmp: memory()[4], IndexError, "structure 4 asked for, there are 4"),
    ("features not kept", lambda tmp: memory().load_persisted_features(0), StoreError, "StructureDataset: keeps no features. Use Cached"),
    ("split a subset", lambda tmp: train_test_split(Subset(memory(), [0])), ConfigError, "train_test_split: Subset is no StructureDataset"),
    ("split a list", lambda tmp: train_test_split_dataset(GOOD), ConfigError, "list is no dataset of aenet_ray"),
    ("split fraction", lambda tmp: train_test_split(memory(), 1), ConfigError, "test_fraction: found 1, expected a number from 0"),
    ("subset index", lambda tmp: resolve_dataset(Subset(memory(), [9]), tmp), ConfigError, "names structure 9, the StructureDataset under it has 4"),
    ("subset fraction", lambda tmp: resolve_dataset(Subset(memory(), [0.5]), tmp), ConfigError, "indices are float64"),
    ("mode", lambda tmp: HDF5StructureDataset(DESCRIPTOR, tmp / "d.h5", mode="open"), ConfigError, "mode is 'open', expected 'build', 'load' or 'auto'"),
    ("file missing", lambda tmp: HDF5StructureDataset(DESCRIPTOR, tmp / "d.h5", mode="load"), FileNotFoundError, r"d\.h5: no such file. Build it"),
    ("not built", lambda tmp: HDF5StructureDataset(DESCRIPTOR, tmp / "d.h5")[0], StoreError, "not built yet; call build_database"),
    ("not hdf5", lambda tmp: written(tmp, b"energies"), StoreError, r"d\.h5: not an HDF5 file"),
    ("truncated", truncated, StoreError, r"d\.h5: truncated"),
    ("another hdf5", other_hdf5, StoreError, "an HDF5 file, but no structure store"),
    ("settings damaged", damaged_settings, StoreError, "attribute 'dataset' is damaged"),
    ("no sources", lambda tmp: HDF5StructureDataset(DESCRIPTOR, tmp / "d.h5").build_database(), ConfigError, "no sources to build from; give them"),
    ("empty sources", lambda tmp: in_file(tmp, []), ConfigError, "sources: none given; expected paths"),
    ("mixed sources", lambda tmp: in_file(tmp, ["a.xsf", GOOD[0]]), InputTypeError, "sources: paths and structures in one list"),
    ("unknown sources", lambda tmp: in_file(tmp, [3]), InputTypeError, "sources: int is no source"),
    ("sources twice", lambda tmp: in_file(tmp, [record(partial(list, GOOD))] * 2), ConfigError, "sources: 'a' comes twice"),
    ("source missing", lambda tmp: in_file(tmp, tmp / "no.xsf"), StoreError, r"not built: .*no\.xsf: no such file"),
    ("source id empty", lambda tmp: record(list, ""), ConfigError, "source_id is '', expected a text that is not empty"),
    ("loader", lambda tmp: record(3), ConfigError, "SourceRecord 'a': loader is 3, expected a function"),
    ("loader fails", lambda tmp: in_file(tmp, [record(partial(open, "none"))]), StoreError, "a: cannot be loaded: FileNotFoundError"),
    ("loader gives text", lambda tmp: in_file(tmp, [record(partial(str, "x"))]), InputTypeError, "a: its loader gives str, expected Structure"),
    ("loader gives nothing", lambda tmp: in_file(tmp, [record(list)]), StoreError, "a: its loader gives no structure"),
    ("collection gives paths", lambda tmp: in_file(tmp, RecordSources(["a.xsf"])), InputTypeError, "RecordSources: gives str, expected SourceRecord"),
    ("empty archive", empty_tar, StoreError, r"a\.tar: no member ends in \.xsf"),
    ("structure nan", lambda tmp: in_file(tmp, [atom(energy=math.nan)]), StoreError, "structure_000000, frame 0: energy is NaN"),
    ("source species", lambda tmp: in_file(tmp, [atom(species=["Si"])]), DescriptorError, "not built: the structures hold Si"),
    ("build_workers negative", lambda tmp: in_file(tmp, build={"build_workers": -1}), ConfigError, "build_workers: found -1"),
    ("build_workers fraction", lambda tmp: in_file(tmp, build={"build_workers": 1.5}), ConfigError, "build_workers: found 1.5"),
    ("cache size", lambda tmp: in_file(tmp, in_memory_cache_size=-1), ConfigError, "in_memory_cache_size: found -1"),
    ("compression", lambda tmp: in_file(tmp, compression="blosc"), ConfigError, "compression: found 'blosc', expected 'zlib'"),
    ("compression_level", lambda tmp: in_file(tmp, compression_level=10), ConfigError, r"compression_level: found 10, expected 0 \(none\) to 9"),
    ("no folder", lambda tmp: in_file(tmp / "none"), StoreError, r"none/d\.h5: cannot write a structure store here"),
    ("nothing to persist", lambda tmp: in_file(tmp, descriptor=None, build={"persist_features": True}), StoreError, "nothing to persist without a descriptor"),
    ("another descriptor", lambda tmp: rebuilt(tmp, {"persist_descriptor": True}, descriptor=OTHER), StoreError, "was built for .* and .* is given"),
    ("no descriptor", lambda tmp: rebuilt(tmp, descriptor=None)[0], StoreError, "has no descriptor, so there are no features"),
    ("limit leaves none", lambda tmp: rebuilt(tmp, max_energy=-1e6), ConfigError, "max_energy=-1000000.0 leaves none of 4"),
    ("references of the file", lambda tmp: rebuilt(tmp, atomic_energies={"O": 0.0}), ConfigError, "atomic_energies: none for Ti"),
    ("train on nothing", train, ConfigError, "train: nothing is given; expected exactly one of structures, dataset and train_dataset"),
    ("train on two", lambda tmp: train(tmp, structures=GOOD, dataset=memory()), ConfigError, "structures and dataset are given"),
    ("train, test alone", lambda tmp: train(tmp, test_dataset=memory()), ConfigError, "nothing is given"),
    ("train, another descriptor", lambda tmp: train(tmp, dataset=StructureDataset(GOOD, OTHER)), ConfigError, "dataset has features of .*the potential needs"),
    ("train, twice the same", lambda tmp: train(tmp, train_dataset=Subset(memory(), [1, 1])), ConfigError, "train_dataset holds structure 1 2 times"),
    ("train, concatenated", lambda tmp: train(tmp, dataset=ConcatDataset([memory()])), ConfigError, "dataset: ConcatDataset is no dataset of aenet_ray"),
    ("train, tensors", lambda tmp: train(tmp, dataset=TensorDataset()), ConfigError, "dataset: TensorDataset is no dataset"),
    ("train, cached forces", lambda tmp: train(tmp, {"force_weight": 0.1}, dataset=CachedStructureDataset(GOOD, DESCRIPTOR)), ConfigError, "for energies only, and force_weight is 0.1"),
    ("train, two references", lambda tmp: train(tmp, {"atomic_energies": {"Ti": 0.0, "O": 0.0}}, dataset=memory(atomic_energies=REFERENCES)), ConfigError, "config.atomic_energies is .* and the dataset has"),
    ("train, fitted references", lambda tmp: train(tmp, {"atomic_energies": "fit"}, dataset=memory(atomic_energies=REFERENCES)), ConfigError, "config.atomic_energies is fit, and the dataset has"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "kind", "message"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_refused(make, kind, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=message) as caught:
        make(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists() or list((tmp_path / "run").glob("*.pt")) == []


def test_classes_are_those_of_aenet_python():
    assert issubclass(ConfigError, ValueError)
    assert issubclass(StructureError, ValueError)
    assert issubclass(StoreError, RuntimeError)
    assert issubclass(InputTypeError, TypeError)


def test_rows_are_distinct_and_many():
    assert len({row[0] for row in ROWS}) == len(ROWS) >= 60
