"""The store keeps every bit, opens without scanning, and says what is wrong with a file."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structure_samples import TIO2, assert_same, crystal, labelled, water

from aenet_ray.errors import StoreError, StructureError
from aenet_ray.structures import writer
from aenet_ray.structures.block import StructureBlock
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.records import LABELS
from aenet_ray.structures.store import StructureStore, write_blocks, write_store
from aenet_ray.structures.structure import Structure


@pytest.fixture
def store(tmp_path: Path) -> StructureStore:
    return StructureStore(write_store(labelled(), tmp_path / "a.h5").path)


def test_every_field_comes_back(store: StructureStore) -> None:
    for i, structure in enumerate(labelled()):
        assert_same(structure, store.structure(i))
    for a, b in zip(labelled()[1:3], store.structures(1, 3), strict=True):
        assert_same(a, b)
    assert (len(store), store.n_structures, store.n_atoms, store.species) == (4, 4, 12, ("H", "O", "Ti"))
    counts = {"energy": 3, "forces": 2, "stress": 1, "charges": 1, "charge": 1, "multiplicity": 1}
    assert store.label_counts == counts
    assert store.has_forces_any
    assert store.has("forces").tolist() == [False, True, True, False]
    assert store.fidelities == ("PBE", "wB97M")
    assert store.names() == ["bulk", "slab é", "ion", None]
    assert store.identifiers(1, 4) == ["slab é#frame=0", "ion#frame=0", "bare.xyz#frame=7"]
    store.verify()


def test_blocks(store: StructureStore) -> None:
    block = store.read(1, 4)
    assert block.offsets.tolist() == [0, 3, 6, 9]
    assert (block.numbers.dtype, block.pbc.dtype) == (np.int16, bool)
    assert block.has_energy.tolist() == [True, True, False]
    assert np.isnan(block.energy[2])
    assert np.isnan(block.forces[6:]).all()
    assert not block.cell[2].any()
    assert block.stress is None
    everything = store.read(labels=LABELS)
    assert everything.stress is not None
    assert np.isnan(everything.stress[1:]).all()
    assert not store.read(labels=()).has_energy.any()
    assert store.read(2, 2).n_structures == 0
    with pytest.raises(IndexError, match=r"structures \[2, 5\) asked for, there are 4"):
        store.read(2, 5)
    with pytest.raises(IndexError, match="structure -1 asked for"):
        store.structure(-1)


def test_ranges_equal_the_whole(tmp_path: Path) -> None:
    store = StructureStore(write_store(read_structures(TIO2), tmp_path / "a.h5").path)
    whole = store.read()
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = sorted(rng.integers(0, 101, 2))
        part, expected = store.read(a, b), whole.take(a, b)
        for name in ("offsets", "positions", "numbers", "cell", "pbc", "energy", "forces", "has_forces"):
            assert np.array_equal(getattr(part, name), getattr(expected, name)), name
        assert store.sources(a, b) == store.sources()[a:b]
        assert store.names(a, b) == store.names()[a:b]
        assert np.array_equal(store.n_atoms_per_structure(a, b), np.diff(expected.offsets))
    assert np.array_equal(store.energies(), whole.energy)


def test_what_nobody_has_is_not_stored(tmp_path: Path) -> None:
    path = write_store([water(energy=None, forces=None)] * 3, tmp_path / "a.h5").path
    with h5py.File(path) as file:
        assert set(file["atoms"]) == {"positions", "numbers"}
        assert set(file["structures"]) == {"offsets"}
        assert "names" not in file
    block = StructureStore(path).read()
    assert not block.has_energy.any()
    assert np.isnan(block.forces).all()


def test_compressed(tmp_path: Path) -> None:
    """Smaller than the plain columns, and far smaller than the text."""
    report = write_store(read_structures(TIO2), tmp_path / "a.h5")
    block = StructureStore(report.path).read()
    with h5py.File(report.path) as file:
        for name in ("atoms/positions", "atoms/forces"):
            assert (file[name].compression, file[name].shuffle, file[name].fletcher32) == ("gzip", True, True)
            assert file[name].id.get_storage_size() < 0.9 * file[name].nbytes
    assert report.n_bytes < 2.2 * block.positions.nbytes + 60_000


def test_opening_reads_no_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_store(labelled(), tmp_path / "a.h5").path

    def refuse(*_: object) -> None:
        raise AssertionError("a column was read")

    monkeypatch.setattr(h5py.Dataset, "__getitem__", refuse)
    store = StructureStore(path)
    assert (len(store), store.n_atoms, store.has_energy_any) == (4, 12, True)


class TestContentHash:
    def of(self, path: Path, structures: list[Structure]) -> str:
        return write_store(structures, path / "h.h5").content_hash

    def test_known_value(self, tmp_path: Path) -> None:
        """Feature stores are kept by this hash: it must not change by accident."""
        assert self.of(tmp_path, labelled()) == "c5d29384e7f234d3d9d6f7a3d7554c58"

    def test_depends_on_data_and_order(self, tmp_path: Path) -> None:
        hashes = [
            self.of(tmp_path, structures)
            for structures in (
                [water(), crystal()],
                [crystal(), water()],
                [water(energy=-16.5000001), crystal()],
                [water(forces=None), crystal()],
                [water(), crystal(fidelity="PBE")],
                [water(), crystal(pbc=np.array([True, True, False]))],
                [water()],
            )
        ]
        assert len(set(hashes)) == len(hashes)

    def test_not_on_names_chunks_or_compression(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = self.of(tmp_path, labelled())
        monkeypatch.setattr(writer, "CHUNK_BYTES", 64)
        renamed = [Structure(**{f: getattr(s, f) for f in s.__dataclass_fields__} | {"name": None}) for s in labelled()]
        for k, s in enumerate(renamed):
            s.source, s.frame = "elsewhere", k
        assert self.of(tmp_path, renamed) == before

    def test_not_on_the_way_in(self, tmp_path: Path) -> None:
        blocks = [StructureBlock.from_structures(part) for part in ([water(), crystal()], [water(0.1)])]
        assert write_blocks(blocks, tmp_path / "b.h5").content_hash == self.of(
            tmp_path, [water(), crystal(), water(0.1)]
        )

    def test_verify_finds_changed_data(self, tmp_path: Path) -> None:
        path = write_store(labelled(), tmp_path / "a.h5").path
        with h5py.File(path, "r+") as file:
            file["structures/energy"][0] = -101.0
        with pytest.raises(StoreError, match="content hash is"):
            StructureStore(path).verify()


def _energy(store: StructureStore) -> float:
    return float(store.energies()[1])


class TestProcesses:
    def test_pickled_and_opened_elsewhere(self, store: StructureStore, monkeypatch: pytest.MonkeyPatch) -> None:
        os.chdir(store.path.parent)
        relative = StructureStore("a.h5")
        text = pickle.dumps(relative)
        assert len(text) < 1500
        monkeypatch.chdir("/")
        assert _energy(pickle.loads(text)) == -100.0

    @pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # what fork is tested for
    @pytest.mark.parametrize("method", ["fork", "spawn"])
    def test_in_another_process(self, store: StructureStore, method: str) -> None:
        store.energies()  # open here, too
        with multiprocessing.get_context(method).Pool(1) as pool:
            assert pool.apply(_energy, (store,)) == -100.0
        assert _energy(store) == -100.0

    def test_a_replaced_store_is_noticed(self, store: StructureStore) -> None:
        text = pickle.dumps(store)
        write_store([water()], store.path)
        assert len(store.energies()) == 4  # the open file is still the old one
        with pytest.raises(StoreError, match="replaced since it was first opened"):
            pickle.loads(text).energies()

    def test_closing(self, store: StructureStore) -> None:
        with store:
            store.energies()
        store.close()
        store.close()
        assert _energy(store) == -100.0  # opens again

    def test_read_only_files_can_be_read(self, store: StructureStore) -> None:
        store.close()
        store.path.chmod(0o444)
        assert _energy(StructureStore(store.path)) == -100.0


class TestDamage:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match=r"no\.h5: no such file.*aenet-ray build"):
            StructureStore(tmp_path / "no.h5")

    def test_not_hdf5(self, tmp_path: Path) -> None:
        (tmp_path / "a.h5").write_text("text")
        with pytest.raises(StoreError, match="not an HDF5 file"):
            StructureStore(tmp_path / "a.h5")

    def test_truncated(self, store: StructureStore) -> None:
        store.close()
        cut = store.path.with_name("cut.h5")
        cut.write_bytes(store.path.read_bytes()[:-500])
        with pytest.raises(StoreError, match=r"cut\.h5: truncated"):
            StructureStore(cut)

    def test_other_hdf5(self, tmp_path: Path) -> None:
        h5py.File(tmp_path / "a.h5", "w").close()
        with pytest.raises(StoreError, match="no structure store"):
            StructureStore(tmp_path / "a.h5")

    def test_other_version(self, store: StructureStore) -> None:
        store.close()
        with h5py.File(store.path, "r+") as file:
            file.attrs["schema_version"] = 99
        with pytest.raises(StoreError, match="schema version 99, this aenet_ray reads version 1"):
            StructureStore(store.path)

    def test_flipped_bits(self, tmp_path: Path) -> None:
        path = write_store(read_structures(TIO2), tmp_path / "a.h5").path
        with h5py.File(path) as file:
            start = file["atoms/forces"].id.get_chunk_info(0).byte_offset
        data = bytearray(path.read_bytes())
        data[start + 100] ^= 0xFF
        path.write_bytes(data)
        with pytest.raises(StoreError, match="atoms/forces is damaged"):
            StructureStore(path).read()


class TestWriting:
    def test_a_failure_leaves_the_old_store(self, store: StructureStore) -> None:
        before = store.path.read_bytes()

        def broken():
            yield water()
            raise KeyboardInterrupt

        for structures, error in ((broken(), KeyboardInterrupt), ([water(energy=np.nan)], StructureError)):
            with pytest.raises(error):
                write_store(structures, store.path)
            assert store.path.read_bytes() == before
            assert os.listdir(store.path.parent) == ["a.h5"]

    def test_nothing_to_write(self, tmp_path: Path) -> None:
        with pytest.raises(StructureError, match="no structure to store, nothing written"):
            write_store([], tmp_path / "a.h5")
        assert not list(tmp_path.iterdir())

    def test_nowhere_to_write(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="cannot write a structure store here"):
            write_store([water()], tmp_path / "no" / "a.h5")

    def test_blocks_are_checked(self, tmp_path: Path) -> None:
        block = StructureBlock.from_structures([water(), water(energy=np.nan)])
        with pytest.raises(StructureError, match="<memory>, structure 1: energy is NaN"):
            write_blocks([block], tmp_path / "a.h5")

    def test_moved_stores_open(self, store: StructureStore) -> None:
        shutil.move(store.path, store.path.with_name("b.h5"))
        assert _energy(StructureStore(store.path.with_name("b.h5"))) == -100.0


floats = st.floats(-1e6, 1e6)


@st.composite
def structures(draw: st.DrawFn) -> Structure:
    n = draw(st.integers(1, 4))

    def array(*shape: int) -> np.ndarray:
        size = int(np.prod(shape))
        return np.array(draw(st.lists(floats, min_size=size, max_size=size))).reshape(shape)

    def maybe(value: object) -> object:
        return value if draw(st.booleans()) else None

    periodic = draw(st.booleans())
    return Structure(
        np.arange(3 * n).reshape(n, 3) + 0.01 * np.tanh(array(n, 3)),
        draw(st.lists(st.sampled_from(["H", "C", "Og", "Ti"]), min_size=n, max_size=n)),
        maybe(draw(floats)),
        maybe(array(n, 3)),
        np.eye(3) * 40 if periodic else None,
        np.array(draw(st.tuples(*[st.booleans()] * 3))) if periodic else None,
        maybe(draw(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8))),
        stress=maybe(array(3, 3)),
        charges=maybe(array(n)),
        charge=maybe(draw(floats)),
        multiplicity=maybe(1.0),
        fidelity=maybe(draw(st.sampled_from(["PBE", "ωB97M"]))),
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(structures(), min_size=1, max_size=6))
def test_any_structures_survive(tmp_path_factory: pytest.TempPathFactory, given_: list[Structure]) -> None:
    path = tmp_path_factory.mktemp("any") / "a.h5"
    write_store(given_, path, allow_duplicates=True)
    with StructureStore(path) as store:
        for i, structure in enumerate(given_):
            assert_same(structure, store.structure(i))
        store.verify()
