"""TrnSet files, HDF5 and text: what is in them, what their energies are, and what cannot be told."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from legacy_files import unpacked
from trnset_text import ENERGIES, write_trnset_text

from aenet_ray import legacy
from aenet_ray.conversion import convert
from aenet_ray.errors import StructureError
from aenet_ray.legacy.trnset import TrnSet
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.store import StructureStore
from aenet_ray.structures.structure import Structure


def molecules(n: int = 3) -> list[Structure]:
    rng = np.random.default_rng(2)
    shape = np.array([[0.0, 0.0, 0.0], [1.6, 0.3, 0.0], [-0.9, 1.3, 0.2]])
    return [
        Structure(
            shape + rng.normal(scale=0.05, size=(3, 3)),
            ["Ti", "O", "O"],
            -2480.0 - k / 3,
            rng.normal(size=(3, 3)) if k else None,
            source=f"my set/m {k}.xsf",
        )
        for k in range(n)
    ]


def test_hdf5_becomes_the_structures_it_was_made_of(trnset_file, training_file, tmp_path):
    converted = convert(trnset_file, tmp_path / "new.h5")
    assert converted.built.n_structures == 3
    with StructureStore(tmp_path / "new.h5") as store:
        for old, new in zip(list(read_structures(training_file))[:3], store, strict=True):
            assert new.energy == pytest.approx(old.energy, abs=1e-9), "cohesive energies became total ones again"
            assert (new.source, new.species) == (old.source, old.species)
            np.testing.assert_array_equal(new.positions, old.positions)
            np.testing.assert_array_equal(new.cell, old.cell)
            assert (new.forces is None) == (old.forces is None)
            assert new.pbc.all()
    assert "Its energies are cohesive ones; atomic energies were added." in converted.notes
    assert any("1 structures have only zeros for forces" in note for note in converted.notes)


@pytest.mark.parametrize("total", [False, True])
@pytest.mark.parametrize("per_line", [1, 2])
def test_text_of_isolated_structures(tmp_path, total, per_line):
    path = write_trnset_text(tmp_path / "set.train", molecules(), total=total, per_line=per_line)
    assert TrnSet(path).energies_are() == ("total" if total else "cohesive")
    convert(path, tmp_path / "new.h5", isolated=True)
    with StructureStore(tmp_path / "new.h5") as store:
        assert len(store) == 3
        for old, new in zip(molecules(), store, strict=True):
            assert new.energy == pytest.approx(old.energy, abs=1e-9)
            np.testing.assert_allclose(new.positions, old.positions, rtol=0, atol=1e-14)
            assert new.source == old.source
            assert new.cell is None
            assert (new.forces is None) == (old.forces is None)


def test_features_and_header(trnset_file, tmp_path):
    found = TrnSet(trnset_file)
    assert found.header.species == ("Ti", "O")
    assert found.header.atomic_energies == ENERGIES
    assert found.header.name == "a set"
    assert [item.features.shape for item in found] == [(6, 10)] * 3
    text = TrnSet(write_trnset_text(tmp_path / "t", molecules()))
    assert [item.features.tolist() for item in text] == [[[0.1, 0.2, 0.3]] * 3] * 3
    assert len(text) == 3


def test_without_a_cell_it_must_be_said(tmp_path):
    for path in (unpacked("trnset_no_cells.h5", tmp_path), write_trnset_text(tmp_path / "t", molecules())):
        with pytest.raises(
            StructureError, match=r"structure 0 \(.*\) has no cell in it.*--isolated.*'aenet-ray build'"
        ):
            convert(path, tmp_path / "new.h5")
        assert not (tmp_path / "new.h5").exists()
        assert convert(path, tmp_path / "new.h5", isolated=True).built.n_structures >= 1
        (tmp_path / "new.h5").unlink()


def test_energies_that_fit_neither(tmp_path):
    path = write_trnset_text(tmp_path / "t", molecules())
    lines = path.read_text().splitlines()
    lines[11] = "-7.0 -6.0 -6.5"
    path.write_text("\n".join(lines))
    assert TrnSet(path).energies_are() == "unknown"
    with pytest.raises(StructureError, match=r"neither cohesive nor total ones by its header .*--energies cohesive"):
        convert(path, tmp_path / "new.h5", isolated=True)
    for which, shift in (("total", 0.0), ("cohesive", 1.0)):
        convert(path, tmp_path / "new.h5", isolated=True, energies=which)
        with StructureStore(tmp_path / "new.h5") as store:
            references = ENERGIES["Ti"] + 2 * ENERGIES["O"]
            assert store.energies()[0] == pytest.approx(-2480.0 - references + shift * references, abs=1e-9)


def test_without_atomic_energies_both_are_the_same(tmp_path):
    path = write_trnset_text(tmp_path / "t", molecules(), energies={"Ti": 0.0, "O": 0.0})
    assert TrnSet(path).energies_are() == "total"
    convert(path, tmp_path / "new.h5", isolated=True)
    with StructureStore(tmp_path / "new.h5") as store:
        assert store.energies().tolist() == pytest.approx([-2480.0, -2480.0 - 1 / 3, -2480.0 - 2 / 3])


def test_normalised_ones_are_refused(tmp_path):
    path = write_trnset_text(tmp_path / "t", molecules(), normalized=True)
    with pytest.raises(StructureError, match=r"energies are normalised \(scale 1, shift 0\).*original files"):
        convert(path, tmp_path / "new.h5", isolated=True)


def fortran(*records: bytes) -> bytes:
    return b"".join(struct.pack("<i", len(r)) + r + struct.pack("<i", len(r)) for r in records)


def test_fortrans_binary_form_is_known_and_refused(tmp_path):
    path = tmp_path / "set.train"
    path.write_bytes(fortran(b"name".ljust(1024), struct.pack("<i", 0), struct.pack("<d", 1.0)))
    assert legacy.kind_of(path) == "trnset-fortran"
    with pytest.raises(
        StructureError, match=r"Fortran binary\), which is not read.*trnset2ASCII\.x.*'aenet-ray build'"
    ):
        convert(path, tmp_path / "new.h5")


def test_told_by_content(tmp_path):
    assert legacy.kind_of(write_trnset_text(tmp_path / "anything.xyz", molecules())) == "trnset-ascii"
    (tmp_path / "other").write_text("a set\nT\n1.0\n0.0\nmany\n")
    assert legacy.kind_of(tmp_path / "other") is None
    (tmp_path / "empty").write_bytes(b"")
    assert legacy.kind_of(tmp_path / "empty") is None


def test_readers_of_structures_name_the_command(trnset_file):
    with pytest.raises(StructureError, match=r"trnset\.h5: a TrnSet file \(HDF5\); read it with 'aenet-ray convert"):
        list(read_structures(trnset_file))


@pytest.mark.parametrize("line", range(1, 30))
def test_cut_anywhere_it_is_said(tmp_path, line):
    path = write_trnset_text(tmp_path / "t", molecules())
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:line]))
    with pytest.raises(StructureError, match=r"truncated|no TrnSet|no file of aenet-python"):
        convert(path, tmp_path / "new.h5", isolated=True)
