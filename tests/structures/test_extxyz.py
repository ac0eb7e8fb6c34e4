"""Extended XYZ: the same as ASE's reader, only faster; and clear refusals."""

from __future__ import annotations

import logging
from pathlib import Path

import ase.io
import numpy as np
import pytest
from structure_samples import DATA, assert_same, labelled

from aenet_ray.errors import StructureError
from aenet_ray.structures.ase_io import from_ase, to_ase, write_ase
from aenet_ray.structures.labels import LabelKeys
from aenet_ray.structures.readers import read_structures

FRAME = """2
Lattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.5 pbc="T T F" name=pair
H 0 0 0 0 0 1
H 0 0 0.74 0 0 -1
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["si_mlearn.extxyz", "ions_aimnet.extxyz"])
def test_equal_to_ase(name: str) -> None:
    ours = list(read_structures(DATA / name))
    for k, (a, atoms) in enumerate(zip(ours, ase.io.read(DATA / name, ":"), strict=True)):
        assert_same(a, from_ase(atoms, source=str(DATA / name), frame=k))
    if "ions" in name:
        assert ours[0].charge == -1.0
        assert ours[0].charges is not None
    else:
        assert [s.stress is None for s in ours] == [False, True]


def test_written_by_ase(tmp_path: Path) -> None:
    structures = [s for s in labelled() if s.energy is not None]
    write_ase(structures, tmp_path / "a.extxyz")
    for a, b in zip(structures, read_structures(tmp_path / "a.extxyz"), strict=True):
        for name in ("species", "energy", "name", "fidelity", "charge", "multiplicity"):
            assert getattr(a, name) == getattr(b, name), name
        if a.forces is not None:
            assert np.allclose(a.forces, b.forces)
        if a.stress is not None:
            assert b.stress is not None
            assert np.allclose(a.stress, b.stress)


def test_fields_and_keys(tmp_path: Path) -> None:
    text = FRAME.replace("forces", "dft_f").replace("energy=-1.5", 'dft_e=-2.5 virial="1 0 0 0 2 0 0 0 3"')
    path = write(tmp_path / "a.xyz", text)
    (s,) = read_structures(path, keys=LabelKeys(energy="dft_e", forces="dft_f", fidelity="PBE"))
    assert (s.energy, s.name, s.fidelity) == (-2.5, "pair", "PBE")
    assert s.forces is not None
    assert s.forces[1, 2] == -1
    assert s.stress is not None
    assert np.allclose(np.diag(s.stress), [-1 / 125, -2 / 125, -3 / 125])
    assert s.pbc is not None
    assert s.pbc.tolist() == [True, True, False]


def test_labels_under_another_key_are_pointed_at(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "hint.xyz", FRAME.replace("energy=", "REF_energy=") * 2)
    with caplog.at_level(logging.WARNING):
        structures = list(read_structures(path))
    assert [s.energy for s in structures] == [None, None]
    assert caplog.text.count("'REF_energy'") == 1  # once a file
    assert "--energy-key" in caplog.text
    path = write(tmp_path / "other.xyz", FRAME)
    list(read_structures(path, keys=LabelKeys(energy="dft_energy")))
    assert "no 'dft_energy', but 'energy'" in caplog.text


def test_plain_xyz(tmp_path: Path) -> None:
    (s,) = read_structures(write(tmp_path / "a.xyz", "2\nany comment\nH 0 0 0\nH 0 0 0.74\n\n"))
    assert (s.energy, s.cell, s.n_atoms) == (None, None, 2)


BAD = {
    "": "the file is empty",
    "two\n\nH 0 0 0\n": "frame 0: expected the number of atoms, found 'two'",
    FRAME + "2\n\nH 0 0 0\n": "frame 1: 2 atoms announced, 1 atom lines follow; truncated",
    FRAME.replace("H 0 0 0.74 0 0 -1", "H 0 0 0.74 0 0"): "frame 0: atom 1 has 6 columns, expected 7",
    FRAME.replace("0.74", "zero"): r"frame 0: pos: 'zero' \(atom 1\) is not a number",
    FRAME.replace("H 0 0 0 ", "Xx 0 0 0 "): "frame 0: unknown species 'Xx'",
    FRAME.replace("energy=-1.5", "energy=low"): "energy='low' is not made of numbers",
    FRAME.replace('0 0 0 5"', '0 0"'): "Lattice has 7 numbers, expected 9",
    FRAME.replace('Lattice="5 0 0 0 5 0 0 0 5" ', ""): "pbc='T T F' without a Lattice",
    FRAME.replace("forces:R:3", "forces:R:2"): r"forces have shape \(2, 2\), expected \(2, 3\)",
    FRAME.replace("forces:R:3", "forces:R"): "is not a list of name:type:columns",
    FRAME.replace("species:S:1:pos", "kind:S:1:pos"): "Properties name no 'species'",
}


@pytest.mark.parametrize("text", BAD, ids=list(BAD.values()))
def test_bad_files_are_named(text: str, tmp_path: Path) -> None:
    path = write(tmp_path / "bad.extxyz", text)
    with pytest.raises(StructureError, match=BAD[text]) as caught:
        list(read_structures(path))
    assert str(caught.value).startswith(str(path))


def test_to_ase_and_back() -> None:
    for structure in labelled():
        again = from_ase(to_ase(structure), source=structure.source, frame=structure.frame)
        assert_same(structure, again)
