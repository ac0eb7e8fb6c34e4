"""The feature store: made once, repaired where damaged, read by structure index."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.errors import DescriptorError, StoreError
from aenet_ray.features import featurize as featurize_module
from aenet_ray.features import shards as shards_module
from aenet_ray.features.featurize import featurize, in_process
from aenet_ray.features.shards import missing_shards, plan_shards, write_shard
from aenet_ray.features.store import FeatureStore
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.store import StructureStore, write_store

TIO2 = Path(__file__).parents[1] / "data" / "tio2_ci100_xsf.tar.gz"
N = 25


def descriptor(**changes) -> ChebyshevDescriptor:
    settings = {"species": ["Ti", "O"], "rad_order": 4, "rad_cutoff": 4.0, "ang_order": 2, "ang_cutoff": 3.0}
    return ChebyshevDescriptor(**(settings | changes))


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Shards of a few structures."""
    monkeypatch.setattr(shards_module, "SHARD_BYTES", 12_000)


@pytest.fixture(scope="module")
def structures():
    found = [s for s, _ in zip(read_structures(TIO2), range(N), strict=False)]
    for s in found[::4]:
        s.forces = None
    return found


@pytest.fixture(scope="module")
def store(structures, tmp_path_factory):
    return StructureStore(write_store(structures, tmp_path_factory.mktemp("store") / "data.h5").path)


@pytest.fixture
def entry(store, tmp_path):
    return featurize(store, descriptor(), tmp_path / "features", progress=False)


@pytest.fixture(scope="module")
def direct(structures):
    """Features of each structure alone."""
    return [descriptor().forward_from_positions(s.positions, s.species, s.cell).numpy() for s in structures]


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()
    }


def contents(folder: Path) -> dict[str, bytes]:
    """Of what is read; times are part of records."""
    return {name: data for name, (_, data) in files(folder).items() if name.endswith(".npy")}


class Counting:
    """Makes shards in this process and remembers which."""

    def __init__(self) -> None:
        self.made: list[int] = []

    def __call__(self, store, entry, chosen, dtype, shards, done) -> None:
        self.made += [s.number for s in shards]
        in_process(store, entry, chosen, dtype, shards, done)


def again(store, entry: Path, **changes) -> tuple[Path, list[int]]:
    run = Counting()
    return featurize(store, descriptor(**changes), entry.parent, run=run, progress=False), run.made


def test_there_are_several_shards(store, entry):
    shards = plan_shards(store, descriptor().n_features, "float64")
    assert len(shards) > 3
    assert [s.start for s in shards[1:]] == [s.stop for s in shards[:-1]]
    assert (shards[0].start, shards[-1].stop) == (0, N)
    assert len(list(entry.glob("shard_*"))) == len(shards)


def test_no_shard_is_empty_where_structures_are_larger_than_shards(store, structures, tmp_path, monkeypatch):
    monkeypatch.setattr(shards_module, "SHARD_BYTES", 100)
    shards = plan_shards(store, descriptor().n_features, "float64")
    assert [(s.start, s.stop) for s in shards] == [(i, i + 1) for i in range(N)]
    features = FeatureStore(featurize(store, descriptor(), tmp_path, progress=False))
    np.testing.assert_array_equal(features.n_atoms, [s.n_atoms for s in structures])


RACER = """
import json, shutil, sys, time
from pathlib import Path
import numpy as np
from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.features import featurize as module, shards
from aenet_ray.features.store import FeatureStore
from aenet_ray.structures.store import StructureStore

store, folder, me, rounds = StructureStore(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
shards.SHARD_BYTES, module.PATIENCE = 12_000, float(sys.argv[5])
descriptor = ChebyshevDescriptor(["Ti", "O"], 4, 4.0, 2, 3.0)
made = []

def run(store, entry, chosen, dtype, shards, done):
    made.extend(s.number for s in shards)
    module.in_process(store, entry, chosen, dtype, shards, done)

def meet(k):
    (folder / f"ready{k}.{me}").touch()
    end = time.monotonic() + 30
    while not (folder / f"ready{k}.{1 - me}").exists():
        assert time.monotonic() < end, "the other one died"
        time.sleep(0.0005)

module.featurize(store, descriptor, folder / f"warm{me}", progress=False)
for k in range(rounds):
    meet(f"{k}-")
    if me == 0 and k % 3 == 2:  # two that find damage at once
        shutil.copytree(folder / f"round{k - 1}", folder / f"round{k}")
        for path in folder.glob(f"round{k}/*/shard_00000[0-3]/features.npy"):
            path.write_bytes(b"damaged")
    meet(k)
    features = FeatureStore(module.featurize(store, descriptor, folder / f"round{k}", run=run, progress=False))
    one = np.ones(features.n_features)
    features.features(np.arange(len(features)), one, 0 * one)
    assert features.index["shards"][-1]["stop"] == len(store)
print(json.dumps(made))
"""


def race(store, folder, rounds: int, patience: float) -> list[list[int]]:
    """Two processes featurize the same, again and again; the shards that each made."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(store.path), str(folder), str(me), str(rounds), str(patience)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for me in (0, 1)
    ]
    try:
        said = [p.communicate(timeout=60) for p in started]
    finally:
        for p in started:
            p.kill()
    assert [p.returncode for p in started] == [0, 0], said[0][1] + said[1][1]
    return [json.loads(out) for out, _ in said]


@pytest.mark.timeout(120)
def test_two_processes_do_not_break_each_other(store, tmp_path):
    """As on a file system without locks, where both do all the work."""
    race(store, tmp_path, 9, 0)
    for folder in tmp_path.glob("round*/*"):
        assert not list(folder.glob(".shard_*"))
        assert len(list(folder.glob("shard_*"))) == len(plan_shards(store, descriptor().n_features, "float64"))


@pytest.mark.timeout(120)
def test_one_of_two_processes_waits_for_the_other(store, tmp_path):
    made = race(store, tmp_path, 2, 900)
    n = len(plan_shards(store, descriptor().n_features, "float64"))
    assert sorted(made[0] + made[1]) == sorted([*range(n)] * 2)


def test_a_holder_that_was_killed_or_hangs_stops_nobody(store, tmp_path, monkeypatch, caplog):
    import fcntl

    entry = featurize(store, descriptor(), tmp_path, progress=False)
    holder = [sys.executable, "-c", "import fcntl, time\nf = open(input(), 'a')\nfcntl.flock(f, fcntl.LOCK_EX)\n"
              "print('held', flush=True)\ntime.sleep(60)"]  # fmt: skip
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdin.write(f"{entry / '.entry.lock'}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "held\n"
        (entry / "index.json").unlink()
        monkeypatch.setattr(featurize_module, "PATIENCE", 0.3)
        with caplog.at_level(logging.INFO, logger="aenet_ray"):
            again(store, entry)
        assert "another process is making" in caplog.text
        assert len(FeatureStore(entry)) == N
        process.kill()
    monkeypatch.undo()
    monkeypatch.setattr(shards_module, "SHARD_BYTES", 12_000)
    (entry / "index.json").unlink()
    start = time.monotonic()
    again(store, entry)
    assert time.monotonic() - start < 10
    # nor does a file system without locks
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(37, "no locks")))
    (entry / "index.json").unlink()
    again(store, entry)
    assert len(FeatureStore(entry)) == N


def test_a_whole_shard_is_left_to_its_readers(store, entry):
    shard = plan_shards(store, descriptor().n_features, "float64")[1]
    before = files(entry)
    record = write_shard(store.read(shard.start, shard.stop), shard, entry, descriptor(), "float64")
    after = files(entry)
    assert {k: v for k, v in after.items() if not k.endswith(".lock")} == {
        k: v for k, v in before.items() if not k.endswith(".lock")
    }
    assert record == json.loads(after["shard_000001/record.json"][1])


def test_an_index_needs_every_shard(store, entry):
    """One lost between looking and writing is an error, no index of less."""
    shutil.rmtree(entry / "shard_000002")
    shards = plan_shards(store, descriptor().n_features, "float64")
    shutil.copytree(entry / "shard_000001", entry / "shard_000002")
    with pytest.raises(StoreError, match=r"shard_000002: missing or damaged"):
        featurize_module.write_index(entry, store, descriptor(), "float64", shards)


def test_a_second_call_does_nothing_and_says_so(store, entry, caplog):
    before = files(entry)
    with caplog.at_level(logging.INFO, logger="aenet_ray"):
        same, made = again(store, entry)
    assert (same, made) == (entry, [])
    assert files(entry) == before
    assert f"{N} structures already there" in caplog.text


@pytest.mark.parametrize(
    "changes", [{"rad_cutoff": 4.1}, {"rad_order": 5}, {"min_cutoff": 0.6}, {"species": ["O", "Ti"]}], ids=str
)
def test_another_descriptor_makes_another_entry(store, entry, changes):
    before = files(entry)
    other, made = again(store, entry, **changes)
    assert other != entry
    assert len(made) > 3
    assert files(entry) == before
    assert {p.name for p in entry.parent.iterdir()} == {entry.name, other.name}


def test_other_data_and_other_types_make_other_entries(store, structures, entry, tmp_path):
    moved = [type(s)(s.positions, s.species, s.energy, s.forces, s.cell) for s in structures]
    moved[3].positions[0, 0] += 1e-9
    other = StructureStore(write_store(moved, tmp_path / "moved.h5").path)
    names = {entry.name, featurize(other, descriptor(), entry.parent, progress=False).name}
    names.add(featurize(store, descriptor(), entry.parent, "float32", progress=False).name)
    assert len(names) == 3
    # Where the numbers are the same, so is the entry.
    assert featurize(store, descriptor(backend="torch"), entry.parent, progress=False) == entry
    copy = shutil.copy(store.path, tmp_path / "copy.h5")
    assert featurize(StructureStore(copy), descriptor(), entry.parent, progress=False) == entry


def test_a_truncated_shard_is_made_again(store, entry):
    before = contents(entry)
    path = entry / "shard_000001" / "features.npy"
    path.write_bytes(path.read_bytes()[:-8])
    same, made = again(store, entry)
    assert (same, made) == (entry, [1])
    assert contents(entry) == before


@pytest.mark.parametrize("column", ["features", "positions", "composition", "moments"])
def test_a_flipped_bit_is_found_and_mended(store, entry, column):
    before = contents(entry)
    path = entry / "shard_000002" / f"{column}.npy"
    data = bytearray(path.read_bytes())
    data[-5] ^= 4
    path.write_bytes(data)
    os.utime(path, ns=(1, 1))  # a clock too coarse to tell the two writes apart must not hide it
    _, made = again(store, entry)
    assert made == [2]
    assert contents(entry) == before


@pytest.mark.parametrize("what", ["shard_000000", "shard_000001/record.json", "shard_000003/cell.npy"])
def test_lost_files_are_made_again(store, entry, what):
    before = contents(entry)
    shutil.rmtree(entry / what) if (entry / what).is_dir() else (entry / what).unlink()
    _, made = again(store, entry)
    assert made == [int(what[6:12])]
    assert contents(entry) == before


def test_a_lost_or_broken_index_is_written_again(store, entry):
    def index() -> dict:
        return json.loads((entry / "index.json").read_text()) | {"columns": "hold times"}

    expected = index()
    (entry / "index.json").unlink()
    with pytest.raises(StoreError, match=r"no feature store here \(no index\.json\); run featurize first"):
        FeatureStore(entry)
    _, made = again(store, entry)
    assert made == []
    assert index() == expected
    (entry / "index.json").write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        FeatureStore(entry)
    again(store, entry)
    assert index() == expected
    (entry / "index.json").write_text(json.dumps(expected | {"schema": 99}))
    with pytest.raises(StoreError, match="feature store version 99, expected 1; featurize again"):
        FeatureStore(entry)


@pytest.mark.parametrize("how", ["cut", "flipped", "lost"])
@pytest.mark.parametrize("column", ["energy", "composition"])
def test_joined_columns_are_watched_as_well(store, entry, column, how):
    """They stand beside the index and are what training reads first."""
    before = contents(entry)
    path = entry / f"{column}.npy"
    data = path.read_bytes()
    path.write_bytes({"cut": data[:-8], "flipped": data[:-1] + bytes([data[-1] ^ 1]), "lost": b""}[how])
    os.utime(path, ns=(1, 1))
    if how == "lost":
        path.unlink()
    _, made = again(store, entry)
    assert made == []
    assert contents(entry) == before


def test_a_killed_featurization_is_finished(store, tmp_path):
    class Killed(BaseException):
        pass

    def dies(store, entry, chosen, dtype, shards, done) -> None:
        in_process(store, entry, chosen, dtype, shards[:2], done)
        (entry / ".shard_000003.abcd").mkdir()
        (entry / ".shard_000003.abcd" / "features.npy").write_bytes(b"half")
        raise Killed

    with pytest.raises(Killed):
        featurize(store, descriptor(), tmp_path, run=dies, progress=False)
    (entry,) = tmp_path.iterdir()
    with pytest.raises(StoreError, match="run featurize first"):
        FeatureStore(entry)
    shards = plan_shards(store, descriptor().n_features, "float64")
    assert [s.number for s in missing_shards(entry, shards)] == [s.number for s in shards[2:]]
    _, made = again(store, entry)
    assert made == [s.number for s in shards[2:]]
    assert len(FeatureStore(entry)) == N


def test_shards_that_do_not_come_are_an_error(store, tmp_path):
    with pytest.raises(StoreError, match=r"shards could not be made \(the first is shard_000000\)"):
        featurize(store, descriptor(), tmp_path, run=lambda *_: None, progress=False)


def test_unknown_species_are_refused_before_anything_is_written(store, tmp_path):
    with pytest.raises(DescriptorError, match=r"holds species O, which the descriptor \(species Ti, Si\) does not"):
        featurize(store, descriptor(species=["Ti", "Si"]), tmp_path / "features", progress=False)
    assert not (tmp_path / "features").exists()


def test_columns(entry, structures):
    features = FeatureStore(entry)
    assert (len(features), features.n_atoms_total) == (N, sum(s.n_atoms for s in structures))
    np.testing.assert_array_equal(features.energy, [s.energy for s in structures])
    np.testing.assert_array_equal(features.has_forces, [s.forces is not None for s in structures])
    np.testing.assert_array_equal(features.n_atoms, [s.n_atoms for s in structures])
    np.testing.assert_array_equal(features.composition, [[s.species.count(x) for x in ("Ti", "O")] for s in structures])
    largest = [np.nan if s.forces is None else np.linalg.norm(s.forces, axis=1).max() for s in structures]
    np.testing.assert_allclose(features.max_force, largest, rtol=1e-14)


IDS = [
    np.arange(N),
    np.array([7]),
    np.array([], dtype=int),
    np.sort(np.random.default_rng(0).integers(0, N, 60)),
    np.array([0, 0, N - 1, N - 1, N - 1]),
]


@pytest.mark.parametrize("ids", IDS, ids=lambda i: f"{len(i)} structures")
def test_gathered_rows_are_the_features(entry, structures, direct, ids):
    """Over several shards, with repeats, normalised, sorted by species, every row in its place."""
    features = FeatureStore(entry)
    rng = np.random.default_rng(1)
    scale, offset = rng.uniform(0.5, 2, features.n_features), rng.normal(size=features.n_features)
    gathered = features.features(ids, scale, offset)
    n_atoms = sum(structures[i].n_atoms for i in ids)
    assert gathered.x.shape == (n_atoms, features.n_features)
    expected = np.concatenate([direct[i] for i in ids]) if len(ids) else np.empty((0, features.n_features))
    np.testing.assert_allclose(gathered.x[gathered.row_of_atom], (expected - offset) * scale, atol=1e-12)
    species = np.array([("Ti", "O").index(x) for i in ids for x in structures[i].species], dtype=int)
    assert gathered.counts == np.bincount(species, minlength=2).tolist()
    np.testing.assert_array_equal(species[np.argsort(gathered.row_of_atom)], np.repeat([0, 1], gathered.counts))
    of_atom = np.repeat(np.arange(len(ids)), [structures[i].n_atoms for i in ids])
    np.testing.assert_array_equal(gathered.structure[gathered.row_of_atom], of_atom)
    np.testing.assert_array_equal(np.sort(gathered.row_of_atom), np.arange(n_atoms))


@pytest.mark.parametrize("ids", [i for i in IDS if len(i)], ids=lambda i: f"{len(i)} structures")
def test_geometry_is_that_of_the_structures(entry, structures, ids):
    block, species = FeatureStore(entry).geometry(ids)
    for k, i in enumerate(ids):
        atoms = slice(block.offsets[k], block.offsets[k + 1])
        s = structures[i]
        np.testing.assert_array_equal(block.positions[atoms], s.positions)
        np.testing.assert_array_equal(block.cell[k], s.cell)
        np.testing.assert_array_equal(species[atoms], [("Ti", "O").index(x) for x in s.species])
        assert block.has_forces[k] == (s.forces is not None)
        if s.forces is not None:
            np.testing.assert_array_equal(block.forces[atoms], s.forces)


@pytest.mark.parametrize("ids", [i for i in IDS if len(i)], ids=lambda i: f"{len(i)} structures")
def test_moments_of_any_part(entry, direct, ids):
    moments = FeatureStore(entry).moments(ids)
    rows = np.concatenate([direct[i] for i in ids])
    assert moments.count == len(rows)
    np.testing.assert_allclose(moments.mean, rows.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(moments.std, np.sqrt(rows.var(axis=0) + 1e-12), atol=1e-9)
    np.testing.assert_allclose(moments.minimum, rows.min(axis=0), atol=1e-14)
    np.testing.assert_allclose(moments.maximum, rows.max(axis=0), atol=1e-14)


def test_float32_stores_features_alone_in_float32(store, entry, direct):
    features = FeatureStore(featurize(store, descriptor(), entry.parent, "float32", progress=False))
    one = np.ones(features.n_features, dtype=np.float32)
    gathered = features.features(np.arange(N), one, 0 * one)
    assert gathered.x.dtype == np.float32
    np.testing.assert_allclose(gathered.x[gathered.row_of_atom], np.concatenate(direct), rtol=1e-6, atol=1e-6)
    double = FeatureStore(entry)
    means = [f.moments(np.arange(N)).mean for f in (features, double)]
    np.testing.assert_allclose(*means, rtol=1e-13)
    np.testing.assert_array_equal(
        features.geometry(np.arange(3))[0].positions, double.geometry(np.arange(3))[0].positions
    )


def test_pickled_it_reopens_by_path(entry, monkeypatch, tmp_path):
    features = FeatureStore(entry)
    features.features(np.arange(N), np.ones(features.n_features), np.zeros(features.n_features))
    data = pickle.dumps(features)
    assert len(data) < 1000, "maps do not travel"
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(pickle.loads(data).energy, features.energy)
    shutil.rmtree(entry)
    with pytest.raises(StoreError, match="no feature store here"):
        pickle.loads(data)


def test_a_shard_lost_while_reading_is_said(entry):
    features = FeatureStore(entry)
    shutil.rmtree(entry / "shard_000001")
    with pytest.raises(StoreError, match=r"shard_000001.*cannot be read .*; featurize again"):
        features.features(np.arange(N), np.ones(features.n_features), np.zeros(features.n_features))


def test_one_structure_and_no_periodicity(structures, tmp_path):
    s = type(structures[0])(structures[0].positions, structures[0].species, 1.0)
    store = StructureStore(write_store([s], tmp_path / "one.h5").path)
    features = FeatureStore(featurize(store, descriptor(), tmp_path, progress=False))
    block, _ = features.geometry(np.array([0]))
    assert not block.pbc.any()
    assert not block.has_forces.any()
