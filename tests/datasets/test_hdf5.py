"""A dataset in a file: what it holds, in which order, who may read it, and what it refuses."""

from __future__ import annotations

import io
import math
import os
import pickle
import tarfile
from functools import partial

import numpy as np
import pytest
import torch
from dataset_samples import REFERENCES, TIO2
from torch.utils.data import DataLoader, Subset

from aenet_ray import ChebyshevDescriptor, HDF5StructureDataset, SourceCollection, SourceRecord, StructureStore
from aenet_ray.datasets import TarSources, database, resolve_dataset
from aenet_ray.errors import ConfigError, DescriptorError, InputTypeError, StoreError
from aenet_ray.features import compute
from aenet_ray.structures.ase_io import write_ase
from aenet_ray.structures.structure import Structure
from aenet_ray.structures.xsf import format_xsf


def built(descriptor, path, sources, *, build=None, **options):
    dataset = HDF5StructureDataset(descriptor, path, sources, mode="build", **options)
    dataset.build_database(show_progress=False, **(build or {}))
    return dataset


@pytest.fixture
def files(tio2, tmp_path):
    """Single structures and a file of five frames, in an order that is not that of their names."""
    folder = tmp_path / "in"
    folder.mkdir()
    paths = []
    for k, s in enumerate(tio2[:6]):
        path = folder / f"{(k * 5) % 7}.xsf"
        path.write_text(format_xsf(s))
        paths.append(path)
    write_ase(tio2[6:11], folder / "frames.extxyz")
    return [*paths[:4], folder / "frames.extxyz", *paths[4:]]


def contents(dataset):
    return [
        (
            dataset.get_structure_identifier(i),
            dataset.get_entry_metadata(i),
            dataset.get_structure(i).positions.tolist(),
        )
        for i in range(len(dataset))
    ]


def test_every_frame_is_an_entry_in_order(descriptor, tmp_path, tio2, files):
    with built(descriptor, tmp_path / "d.h5", files) as dataset:
        assert len(dataset) == 11
        at = [0, 1, 2, 3, 6, 7, 8, 9, 10, 4, 5]
        for i, k in enumerate(at):
            structure = dataset.get_structure(i)
            np.testing.assert_allclose(structure.positions, tio2[k].positions, atol=1e-7)
            assert structure.energy == pytest.approx(tio2[k].energy, abs=1e-7)
        assert [dataset.get_structure_identifier(i) for i in (0, 4, 8)] == [
            f"{files[0]}#frame=0",
            f"{files[4]}#frame=0",
            f"{files[4]}#frame=4",
        ]
        assert dataset.get_entry_metadata(5) == {
            "source_id": str(files[4]),
            "frame_idx": 1,
            "source_kind": "file",
            "display_name": "",
            "has_forces": True,
            "n_atoms": tio2[7].n_atoms,
            "energy": pytest.approx(tio2[7].energy),
            "name": tio2[7].name or "",
        }
        assert dataset.get_force_indices() == list(range(11))


@pytest.mark.parametrize("processes", [False, True])
def test_parallel_builds_give_what_serial_ones_do(descriptor, tmp_path, files, monkeypatch, processes):
    serial = built(descriptor, tmp_path / "serial.h5", [*files, TIO2])
    started = []
    original = database.process_map
    monkeypatch.setattr(database, "process_map", lambda n: started.append(n) or original(n))
    monkeypatch.setattr(database, "PROCESS_BYTES", 1000 if processes else 1 << 40)
    monkeypatch.setattr("aenet_ray.structures.parsing.TASK_PIECES", 3)
    parallel = built(descriptor, tmp_path / "parallel.h5", [*files, TIO2], build={"build_workers": 2})
    assert started == ([2] if processes else [])
    assert len(serial) == 111
    assert contents(parallel) == contents(serial)
    assert parallel.store.content_hash == serial.store.content_hash


def repeated(name: str, energy: float) -> list[Structure]:
    return [Structure([[0, 0, 0], [0, 0, 1.9]], ["Ti", "O"], energy + k, name=name) for k in range(2)]


def test_records_and_identifiers(descriptor, tmp_path):
    records = [
        SourceRecord("b", partial(repeated, "same", -1.0), display_name="shown"),
        SourceRecord("a", partial(repeated, "same", -5.0), "calculation"),
        SourceRecord("c", lambda: repeated("", -7.0)[0]),
    ]
    one = built(descriptor, tmp_path / "d.h5", records)
    two = built(descriptor, tmp_path / "e.h5", records, build={"build_workers": 3})
    assert contents(one) == contents(two)
    assert [one.get_structure_identifier(i) for i in range(5)] == [
        "shown#frame=0", "shown#frame=1", "a#frame=0", "a#frame=1", "c#frame=0",
    ]  # fmt: skip
    kinds = [(m["source_id"], m["source_kind"], m["display_name"], m["name"]) for _, m, _ in contents(one)]
    assert kinds[1:3] == [("b", "record", "shown", "same"), ("a", "calculation", "", "same")]
    assert [one[i]["energy"] for i in range(5)] == [-1, 0, -5, -4, -7]


def test_archives_with_repeated_member_names(descriptor, tmp_path, tio2):
    path = tmp_path / "set.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for s, name in zip(tio2[:4], ("a/one.XSF", "b.xsf", "notes.txt", "a/one.XSF"), strict=True):
            data = format_xsf(s).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    for sources in (path, [path], TarSources(path)):
        dataset = built(descriptor, tmp_path / "d.h5", sources)
        assert [dataset.get_structure_identifier(i) for i in range(3)] == [
            "set.tar.gz:a/one.XSF#frame=0",
            "set.tar.gz:b.xsf#frame=0",
            "set.tar.gz:a/one.XSF@member=2#frame=0",
        ]
        metadata = dataset.get_entry_metadata(2)
        assert metadata["source_id"] == f"{path}::member=2:a/one.XSF"
        assert metadata["source_kind"] == "tar_xsf_member"
        np.testing.assert_allclose(dataset.get_structure(2).positions, tio2[3].positions, atol=1e-7)


def test_long_names_are_kept_whole(descriptor, tmp_path):
    long = "é" * 5000
    dataset = built(descriptor, tmp_path / "d.h5", [SourceRecord(long, partial(repeated, long, 0.0), long, long)])
    metadata = dataset.get_entry_metadata(0)
    assert {metadata[k] for k in ("source_id", "source_kind", "display_name", "name")} == {long}


def test_a_folder_stands_for_its_structures(descriptor, tmp_path, files, caplog):
    """A file beside them that holds none is left out, as everywhere, and told."""
    (files[0].parent / "README.md").write_text("where these come from")
    with built(descriptor, tmp_path / "d.h5", [files[0].parent]) as dataset:
        assert len(dataset) == 11
    assert "1 of 8 files left out, of no known format: README.md" in caplog.text


def test_structures_in_memory_are_sources(descriptor, tmp_path, tio2):
    dataset = built(descriptor, tmp_path / "d.h5", tio2[:3])
    assert [dataset.get_structure_identifier(i) for i in range(3)] == [f"{s.name}#frame=0" for s in tio2[:3]]
    unnamed = built(descriptor, tmp_path / "e.h5", Structure([[0, 0, 0.0]], ["O"], 1.0))
    assert unnamed.get_structure_identifier(0) == "structure_000000#frame=0"
    assert unnamed.get_entry_metadata(0)["source_kind"] == "memory"


def test_the_filter_is_on_referenced_energy_and_can_be_changed(descriptor, tmp_path, tio2, monkeypatch):
    per_atom = [(s.energy - sum(REFERENCES[x] for x in s.species)) / s.n_atoms for s in tio2]
    limit = sorted(per_atom)[8]
    low = [s.name for s, e in zip(tio2, per_atom, strict=True) if e <= limit]
    path = tmp_path / "d.h5"
    dataset = built(descriptor, path, tio2, max_energy=limit, atomic_energies=REFERENCES)
    assert [dataset.get_structure(i).name for i in range(len(dataset))] == low
    again = HDF5StructureDataset(descriptor, path, mode="load")
    monkeypatch.setattr("aenet_ray.datasets.hdf5._ROWS_AT_ONCE", 5)
    atoms = [x for s in tio2 if s.name in low for x in s.species]
    assert again.get_statistics()["species"] == {"O": atoms.count("O"), "Ti": atoms.count("Ti")}
    assert (again.max_energy, again.atomic_energies, len(again)) == (limit, REFERENCES, 9)
    total = [s.energy / s.n_atoms for s in tio2]
    zero = HDF5StructureDataset(descriptor, path, max_energy=sorted(total)[2], atomic_energies={"Ti": 0, "O": 0})
    assert len(zero) == 3
    assert len(HDF5StructureDataset(descriptor, path, max_energy=math.inf)) == 16
    _, ids, energies = resolve_dataset(Subset(again, [8, 0]), tmp_path)
    assert [tio2[i].name for i in ids] == [low[8], low[0]]
    assert energies == REFERENCES


def test_atomic_energies_given_at_loading_are_honoured(descriptor, tmp_path, tio2):
    """aenet-python replaces them by what the file has, even by nothing."""
    path = tmp_path / "d.h5"
    built(descriptor, path, tio2).close()
    assert HDF5StructureDataset(descriptor, path).atomic_energies is None
    assert HDF5StructureDataset(descriptor, path, mode="load", atomic_energies=REFERENCES).atomic_energies == REFERENCES
    with pytest.raises(ConfigError, match="atomic_energies: none for O"):
        HDF5StructureDataset(descriptor, path, atomic_energies={"Ti": 1.0})


def test_structures_without_energy_do_not_pass_a_limit_silently(descriptor, tmp_path, tio2):
    bare = Structure(tio2[0].positions, tio2[0].species)
    path = tmp_path / "d.h5"
    assert len(built(descriptor, path, [bare, *tio2[:3]])) == 4
    with pytest.warns(UserWarning, match=r"1 of 4 structures have no energy \(the first is number 0\); max_energy=0"):
        assert len(HDF5StructureDataset(descriptor, path, max_energy=0.0)) == 3


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_persisted_features(tmp_path, tio2, monkeypatch, dtype):
    made = ChebyshevDescriptor(["Ti", "O"], 3, 3.5, 2, 3.0, dtype=torch.float64)
    path = tmp_path / "d.h5"
    dataset = built(made, path, tio2, build={"persist_features": True})
    direct = [dataset.descriptor.forward_from_positions(s.positions, s.species, s.cell, s.pbc) for s in tio2]
    monkeypatch.setattr(compute, "block_features", lambda *_: pytest.fail("computed again"))
    reader = ChebyshevDescriptor(["Ti", "O"], 3, 3.5, 2, 3.0, dtype=dtype)
    for dataset in (HDF5StructureDataset(reader, path), HDF5StructureDataset(None, path)):
        for i in (5, 0, -1):
            kept = dataset.load_persisted_features(i)
            torch.testing.assert_close(kept.double(), direct[i], rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-12)
            torch.testing.assert_close(dataset[i]["features"], kept)
        np.testing.assert_allclose(dataset.kept_rows(np.array([7, 2, 7])), torch.cat([direct[k] for k in (7, 2, 7)]))
    other = ChebyshevDescriptor(["Ti", "O"], 4, 3.5, 2, 3.0)
    with pytest.raises(StoreError, match=r"d.h5: was built for ChebyshevDescriptor\(.*rad 3.* and .*rad 4.* is given"):
        HDF5StructureDataset(other, path)


def test_the_descriptor_is_recovered(descriptor, tmp_path, tio2):
    built(descriptor, tmp_path / "with.h5", tio2[:3], build={"persist_descriptor": True})
    found = HDF5StructureDataset(None, tmp_path / "with.h5")
    assert found.descriptor.fingerprint() == descriptor.fingerprint()
    with pytest.raises(StoreError, match="no features of this descriptor are kept; build with persist_features"):
        found.load_persisted_features(0)
    built(descriptor, tmp_path / "without.h5", tio2[:3])
    bare = HDF5StructureDataset(None, tmp_path / "without.h5")
    assert bare.get_structure(1).species == tio2[1].species
    with pytest.raises(StoreError, match="has no descriptor, so there are no features"):
        bare[0]


def test_relative_paths_outlive_a_change_of_folder(descriptor, tmp_path, tio2, monkeypatch):
    """In aenet-python a worker that opens the file anew looks for it in its own folder."""
    monkeypatch.chdir(tmp_path)
    dataset = built(descriptor, "d.h5", tio2[:4], build={"persist_features": True})
    sent = pickle.dumps(dataset)
    (tmp_path / "elsewhere").mkdir()
    os.chdir(tmp_path / "elsewhere")
    dataset.close()
    assert dataset.get_structure(2).name == tio2[2].name
    again = pickle.loads(sent)
    assert again.get_structure(3).name == tio2[3].name
    assert again.load_persisted_features(3).shape == (tio2[3].n_atoms, descriptor.n_features)


def test_pickles_are_small_and_whole(descriptor, tmp_path, tio2):
    dataset = built(descriptor, tmp_path / "d.h5", tio2, max_energy=1e9, atomic_energies=REFERENCES)
    assert [s.name for s in dataset.iter_structures()] == [s.name for s in tio2]
    sent = pickle.dumps(dataset)
    assert len(sent) < 5000
    again = pickle.loads(sent)
    assert (again.max_energy, again.atomic_energies, len(again)) == (1e9, REFERENCES, 16)
    torch.testing.assert_close(again[3]["features"], dataset[3]["features"])


def test_loader_workers_read_the_file(descriptor, tmp_path, tio2):
    dataset = built(descriptor, tmp_path / "d.h5", tio2)
    dataset[0]  # open here before the workers are made
    loader = DataLoader(dataset, batch_size=3, num_workers=1, collate_fn=list, multiprocessing_context="forkserver")
    samples = [sample for batch in loader for sample in batch]
    assert [s["name"] for s in samples] == [s.name for s in tio2]


def test_those_used_last_stay_in_memory(descriptor, tmp_path, tio2, monkeypatch):
    """In aenet-python the first one in is the first one out, however often it is used."""
    dataset = HDF5StructureDataset(
        descriptor, built(descriptor, tmp_path / "d.h5", tio2).database_file, in_memory_cache_size=2
    )
    read = []
    original = StructureStore.structure
    monkeypatch.setattr(StructureStore, "structure", lambda self, i: read.append(i) or original(self, i))
    for i in (0, 1, 0, 2, 0, 1, 0):
        assert dataset.get_structure(i).name == tio2[i].name
    assert read == [0, 1, 2, 1]
    dataset.get_structure(0).positions[:] = 0  # the caller's own
    np.testing.assert_array_equal(dataset.get_structure(0).positions, tio2[0].positions)


def test_closing(descriptor, tmp_path, tio2):
    with built(descriptor, tmp_path / "d.h5", tio2[:3]) as dataset:
        dataset.get_structure(0)
        assert dataset.store._file is not None
    dataset.close()
    dataset.close()
    assert dataset.store._file is None
    assert dataset.get_structure(1).name == tio2[1].name


def test_modes(descriptor, tmp_path, tio2):
    path = tmp_path / "d.h5"
    with pytest.raises(FileNotFoundError, match=r"d.h5: no such file. Build it"):
        HDF5StructureDataset(descriptor, path, mode="load")
    dataset = HDF5StructureDataset(descriptor, path, tio2[:3])
    with pytest.raises(StoreError, match="not built yet; call build_database"):
        len(dataset)
    dataset.build_database(show_progress=False)
    assert len(dataset) == len(HDF5StructureDataset(descriptor, path)) == 3
    unopened = HDF5StructureDataset(descriptor, path, tio2[:5], mode="build")
    with pytest.raises(StoreError, match="not built yet"):
        unopened.get_structure(0)
    unopened.build_database(show_progress=False)
    assert len(unopened) == 5


def fails() -> list[Structure]:
    raise KeyError("no such calculation")


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (fails, StoreError, "second: cannot be loaded: KeyError: 'no such calculation'"),
        (dict, StoreError, "second: its loader gives no structure, expected one or several"),
        (partial(int, 3), InputTypeError, "second: its loader gives int, expected Structure"),
        (partial(list, ["a.xsf"]), InputTypeError, "second: its loader gives str, expected Structure"),
        (partial(Structure, [[0, 0, 0.0]], ["Si"], 1.0), DescriptorError, "hold Si; the descriptor knows Ti, O"),
        (partial(Structure, [[0, 0, 0.0]], ["Ti"], math.nan), StoreError, "second, frame 0: energy is NaN"),
    ],
)
@pytest.mark.parametrize("workers", [0, 2])
def test_a_failing_build_leaves_the_old_file(descriptor, tmp_path, tio2, bad, error, message, workers):
    path = tmp_path / "d.h5"
    built(descriptor, path, tio2[:3]).close()
    before = path.read_bytes()
    records = [SourceRecord("first", partial(repeated, "", 0.0)), SourceRecord("second", bad)]
    with pytest.raises(error, match=message):
        built(descriptor, path, records, build={"build_workers": workers}, atomic_energies=None)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["d.h5"]


class OneAtATime(SourceCollection):
    parallel_build = False

    def __iter__(self):
        yield SourceRecord("only", partial(repeated, "", 0.0))


def test_compression_is_real(descriptor, tmp_path, tio2):
    """aenet-python's filters do not act on what it stores, which stays as large as it was."""
    sizes = {}
    for name, level in (("zlib", 9), ("lzf", 5), (None, 5), ("gzip", 0)):
        path = tmp_path / f"{name}{level}.h5"
        sizes[name, level] = (
            built(descriptor, path, tio2 * 1, compression=name, compression_level=level).database_file.stat().st_size
        )
    assert sizes["zlib", 9] < sizes[None, 5]
    assert abs(sizes["gzip", 0] - sizes[None, 5]) < 2000


def test_a_collection_can_forbid_parallel_builds(descriptor, tmp_path):
    assert len(built(descriptor, tmp_path / "d.h5", OneAtATime())) == 2
    with pytest.raises(ConfigError, match="build_workers=2: OneAtATime forbids it; use 0"):
        built(descriptor, tmp_path / "d.h5", OneAtATime(), build={"build_workers": 2})


def test_any_structure_store_is_a_dataset(descriptor, tmp_path, tio2):
    from aenet_ray.structures.store import write_store

    write_store(tio2, tmp_path / "s.h5")
    dataset = HDF5StructureDataset(descriptor, tmp_path / "s.h5", atomic_energies=REFERENCES)
    assert len(dataset) == 16
    assert dataset[3]["features"].shape == (tio2[3].n_atoms, descriptor.n_features)


def test_printed_as_what_it_holds(tio2, descriptor, tmp_path):
    dataset = HDF5StructureDataset(descriptor, tmp_path / "data.h5", tio2, mode="build")
    path = str(tmp_path / "data.h5")
    assert repr(dataset) == f"HDF5StructureDataset({path!r}: not built yet; {descriptor})"
    dataset.build_database(show_progress=False)
    assert f"{path!r}: 16 structures, 16 with forces for training" in repr(dataset)


def test_arguments_of_the_past_and_misspelt_ones(descriptor, tmp_path):
    with pytest.raises(TypeError, match=r"unknown argument 'file_paths'; give the files as sources="):
        HDF5StructureDataset(descriptor, tmp_path / "a.h5", file_paths=["a.xsf"], parser=None)
    with pytest.raises(TypeError, match="unknown argument 'rad_cutof'; did you mean 'rad_cutoff'"):
        ChebyshevDescriptor(["Ti"], rad_order=3, rad_cutof=4.0, ang_order=2, ang_cutoff=3.0)
