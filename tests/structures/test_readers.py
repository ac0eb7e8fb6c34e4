"""One door: paths of every format, archives, objects; and refusals that name the file."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from structure_samples import RUTILE, TIO2, assert_same, labelled, tar_of, water

from aenet_ray.errors import StoreError, StructureError
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.store import write_store


def test_objects_paths_and_mixtures(tmp_path: Path) -> None:
    (tmp_path / "a.xsf").write_text(RUTILE)
    mixed = [water(), Atoms("H2", [[0, 0, 0], [0, 0, 0.7]]), tmp_path / "a.xsf", [str(tmp_path / "a.xsf")]]
    assert [s.n_atoms for s in read_structures(mixed)] == [3, 2, 3, 3]
    assert next(iter(read_structures(water()))).energy == -16.5
    with pytest.raises(StructureError, match="cannot read structures from int"):
        list(read_structures(3))


@pytest.mark.parametrize("name", ["a.xsf", "a.xsf.gz", "a.xsf.bz2", "no_suffix", "odd.dat"])
def test_xsf_by_suffix_and_by_content(name: str, tmp_path: Path) -> None:
    pack = {".gz": gzip.compress, ".bz2": bz2.compress}.get(Path(name).suffix, bytes)
    (tmp_path / name).write_bytes(pack(RUTILE.encode()))
    (s,) = read_structures(tmp_path / name)
    assert (s.energy, s.source) == (-19517.09425849, str(tmp_path / name))


def test_directories_by_name(tmp_path: Path) -> None:
    for name, energy in (("b.xsf", "-2"), ("a.xsf", "-1"), (".hidden", "-3")):
        (tmp_path / name).write_text(RUTILE.replace("-19517.09425849", energy))
    assert [s.energy for s in read_structures(tmp_path)] == [-1.0, -2.0]
    (tmp_path / "empty").mkdir()
    with pytest.raises(StructureError, match="no files in this directory"):
        list(read_structures(tmp_path / "empty"))


@pytest.mark.parametrize("format_", ["traj", "vasp", "cif", "json"])
def test_formats_of_ase(format_: str, tmp_path: Path) -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    atoms.rattle(0.05, seed=1)
    atoms.set_constraint(FixAtoms([0]))
    atoms.get_forces()
    path = tmp_path / ("POSCAR" if format_ == "vasp" else f"cu.{format_}")
    ase.io.write(path, atoms, format=format_)
    (s,) = read_structures(path)
    assert s.species == ["Cu"] * 4
    assert s.cell is not None
    if format_ in ("traj", "json"):
        assert s.energy == atoms.get_potential_energy()
        assert np.array_equal(s.forces, atoms.calc.results["forces"])  # of the atom held fixed, too


def test_a_store_is_a_source(tmp_path: Path) -> None:
    write_store(labelled(), tmp_path / "a.h5")
    for a, b in zip(labelled(), read_structures(tmp_path / "a.h5"), strict=True):
        assert_same(a, b)


def test_archive_ids(tmp_path: Path) -> None:
    files = [("x/a.xsf", RUTILE), ("readme.txt", "no"), ("x/b.XSF", RUTILE), ("x/a.xsf", RUTILE)]
    path = tar_of(tmp_path / "set.tar", files)
    structures = list(read_structures(path))
    assert [s.source for s in structures] == [
        f"{path}::member={k}:{n}" for k, n in enumerate(["x/a.xsf", "x/b.XSF", "x/a.xsf"])
    ]
    assert [s.name for s in structures] == ["set.tar:x/a.xsf", "set.tar:x/b.XSF", "set.tar:x/a.xsf@member=2"]


def test_real_archive() -> None:
    structures = list(read_structures(TIO2))
    assert len(structures) == 100
    assert all(s.energy is not None and s.forces is not None and s.is_periodic() for s in structures)
    assert all(s.species[0] == "Ti" and np.abs(s.forces).max() < 10 for s in structures)


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.999])
@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_truncated_archives(suffix: str, keep: float, tmp_path: Path) -> None:
    whole = tar_of(tmp_path / f"whole{suffix}", [(f"{k}.xsf", RUTILE + f"# {k}\n") for k in range(40)])
    data = whole.read_bytes()
    size = int(len(data) * keep) if suffix != ".tar" else int(40 * keep) * 1024  # between two members
    (tmp_path / f"cut{suffix}").write_bytes(data[:size])
    with pytest.raises(StructureError, match=rf"cut{suffix}: truncated, or no tar archive"):
        list(read_structures(tmp_path / f"cut{suffix}"))


def test_archives_without_structures(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match=r"no member ends in \.xsf"):
        list(read_structures(tar_of(tmp_path / "a.tar.gz", [("a.txt", "no")])))
    (tmp_path / "b.tar").write_text("this is no archive" * 100)
    with pytest.raises(StructureError, match=r"b\.tar: truncated, or no tar archive"):
        list(read_structures(tmp_path / "b.tar"))


def test_truncated_gzip(tmp_path: Path) -> None:
    text = "".join(f"2\nenergy={k}\nH 0 0 0\nH 0 {k} 1.{k}\n" for k in range(500))
    (tmp_path / "a.xyz.gz").write_bytes(gzip.compress(text.encode())[:-200])
    with pytest.raises(StructureError, match=r"a\.xyz\.gz: truncated or damaged"):
        list(read_structures(tmp_path / "a.xyz.gz"))
    (tmp_path / "a.xsf.gz").write_bytes(gzip.compress(RUTILE.encode())[:-20])
    with pytest.raises(StructureError, match=r"a\.xsf\.gz: truncated or damaged"):
        list(read_structures(tmp_path / "a.xsf.gz"))


def test_files_nobody_can_read(tmp_path: Path) -> None:
    (tmp_path / "notes.docx").write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(StructureError, match=r"notes\.docx: unknown format.*aenet_ray reads XSF") as caught:
        list(read_structures(tmp_path / "notes.docx"))
    assert "\n" not in str(caught.value)
    (tmp_path / "POSCAR").write_text("Cu\n1.0\n1 0 0\n0 1\n")
    with pytest.raises(StructureError, match="POSCAR, frame 0: ASE cannot read it"):
        list(read_structures(tmp_path / "POSCAR"))
    (tmp_path / "empty.xyz").touch()
    with pytest.raises(StructureError, match=r"empty\.xyz: the file is empty"):
        list(read_structures(tmp_path / "empty.xyz"))
    with pytest.raises(StructureError, match="missing: no such file"):
        list(read_structures(tmp_path / "missing"))
    (tmp_path / "other.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(StoreError, match=r"other\.h5: not an HDF5 file, or damaged"):
        list(read_structures(tmp_path / "other.h5"))


def test_cells_ase_leaves_open() -> None:
    slab = Atoms("Cu", cell=[[2.5, 0, 0], [0, 2.5, 0], [0, 0, 0]], pbc=[True, True, False])
    (s,) = read_structures(slab)
    assert s.cell is not None
    assert abs(np.linalg.det(s.cell)) > 1
    (molecule,) = read_structures(Atoms("H"))
    assert molecule.cell is None


def test_a_folder_may_hold_other_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "README.md").write_text("# where these come from\n")
    with pytest.raises(StructureError, match="no file of a known format in this directory"):
        list(read_structures(tmp_path))
    (tmp_path / "a.xsf").write_text("ATOMS\nH 0 0 0\nH 0 0 1\n")
    (tmp_path / "notes.txt").write_text("none\n")
    assert [Path(s.source).name for s in read_structures(tmp_path)] == ["a.xsf"]
    assert "2 of 3 files left out, of no known format: README.md, notes.txt" in caplog.text
    with pytest.raises(StructureError, match=r"README\.md"):  # named itself, it is not passed over
        list(read_structures(tmp_path / "README.md"))
