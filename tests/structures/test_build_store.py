"""From files to a store: one clear error each, or a report; parallel or not, the same."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structure_samples import DATA, RUTILE, TIO2, tar_of, water

from aenet_ray.errors import StoreError, StructureError
from aenet_ray.structures import parsing
from aenet_ray.structures.build import build_store
from aenet_ray.structures.labels import LabelKeys
from aenet_ray.structures.store import StructureStore

PAIR = "2\nenergy={energy}\nH 0 0 0\nH 0 0 {z}\n"


def skipped(report: Any) -> list[list[str]]:
    with open(report.skipped_report, newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["source", "frame", "reason"]
    return rows[1:]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three good structures, and eight ways to be bad."""
    files = {
        "a.xsf": RUTILE,
        "b.xsf": RUTILE.replace("O 3.19283", "Qq 3.19283"),
        "c.extxyz": "".join(
            PAIR.format(energy=e, z=z) for e, z in ((-1, 0.7), ("nan", 0.7), (-3, 0.01), (-4, "x"), (-5, 0.8))
        ),
        "d.xyz": PAIR.format(energy=-1, z=0.7) + "2\n\nH 0 0 0\n",
        "e.xsf": RUTILE.replace("2.959", "0.0"),
        "f.bin": "what is this?",
        "g.xsf": "",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    whole = tar_of(tmp_path / "z.tar.gz", [(f"{k}.xsf", RUTILE.replace("0.3", f"0.{k}")) for k in range(9)])
    whole.write_bytes(whole.read_bytes()[:-30])
    return tmp_path


def test_bad_input_is_left_out_and_listed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    output = tmp_path_factory.mktemp("out") / "data.h5"
    report = build_store(folder, output, on_error="skip")
    rows = [(Path(source).name, frame, reason) for source, frame, reason in skipped(report)]
    expected = [
        ("b.xsf", "all", "frame 0: unknown species 'Qq'"),
        ("c.extxyz", "3", "frame 3: pos: 'x' (atom 1) is not a number"),
        ("c.extxyz", "1", "frame 1: energy is NaN or infinite"),
        ("c.extxyz", "2", "frame 2: two atoms"),
        ("d.xyz", "rest", "frame 1: 2 atoms announced, 1 atom lines follow"),
        ("e.xsf", "0", "frame 0: the cell has no volume"),
        ("f.bin", "rest", "unknown format"),
        ("g.xsf", "rest", "the file is empty"),
        ("z.tar.gz", "rest", "truncated, or no tar archive"),
    ]
    assert len(rows) == report.n_skipped == len(expected)
    for name, frame, reason in expected:
        assert any((name, frame) == row[:2] and reason in row[2] for row in rows), (name, frame, reason, rows)
    with StructureStore(output) as store:
        assert store.identifiers()[:4] == [
            f"{folder}/a.xsf#frame=0",
            f"{folder}/c.extxyz#frame=0",
            f"{folder}/c.extxyz#frame=4",
            f"{folder}/d.xyz#frame=0",
        ]
        assert len(store) == report.n_structures >= 4


@pytest.mark.parametrize("name", ["b.xsf", "c.extxyz", "d.xyz", "e.xsf", "f.bin", "g.xsf", "z.tar.gz"])
def test_bad_input_raises(folder: Path, name: str) -> None:
    output = folder / "data.h5"
    with pytest.raises(StructureError, match=name.replace(".", r"\.")):
        build_store([folder / "a.xsf", folder / name], output)
    assert not output.exists()
    assert not list(folder.glob("*.tmp")) + list(folder.glob(".*.tmp"))


def test_a_failed_build_leaves_the_old_store(folder: Path) -> None:
    output = folder / "out.h5"
    before = build_store(folder / "a.xsf", output).content_hash
    with pytest.raises(StructureError):
        build_store([folder / "d.xyz"], output)
    with pytest.raises(StructureError, match=r"nothing to store, everything was left out.*Qq"):
        build_store([folder / "b.xsf"], output, on_error="skip")
    assert StructureStore(output).content_hash == before


def test_an_old_report_is_removed(folder: Path) -> None:
    output = folder / "out.h5"
    report = build_store([folder / "a.xsf", folder / "b.xsf"], output, on_error="skip").skipped_report
    assert report is not None
    assert report.exists()
    assert build_store([folder / "a.xsf"], output, on_error="skip").skipped_report is None
    assert not report.exists()


class TestDuplicates:
    def test_a_file_given_twice(self, folder: Path) -> None:
        again = folder / ".." / folder.name / "a.xsf"
        with pytest.raises(StructureError, match=r"a\.xsf, frame 0: this source with frame 0 came before"):
            build_store([folder / "a.xsf", again], folder / "out.h5")
        report = build_store([folder / "a.xsf", again], folder / "out.h5", on_error="skip")
        assert (report.n_structures, report.n_skipped) == (1, 1)
        assert build_store([folder / "a.xsf", again], folder / "out.h5", allow_duplicates=True).n_structures == 2

    def test_every_frame_of_an_archive_given_twice(self, tmp_path: Path) -> None:
        other = tar_of(tmp_path / TIO2.name, [("a.xsf", RUTILE)])  # same file name, so same names within
        report = build_store([TIO2, other, TIO2], tmp_path / "out.h5", on_error="skip")
        assert (report.n_structures, report.n_skipped) == (101, 100)

    def test_names(self, tmp_path: Path) -> None:
        with pytest.raises(StructureError, match="this name 'w' with frame 0 came before"):
            build_store([water(name="w"), water(0.1, name="w")], tmp_path / "out.h5")
        assert build_store([water(), water()], tmp_path / "out.h5").n_structures == 2  # unnamed, in memory


class TestParallel:
    def test_same_as_serial(self, folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: Any) -> None:
        out = tmp_path_factory.mktemp("out")
        files = [folder, TIO2, DATA / "si_mlearn.extxyz", DATA / "ions_aimnet.extxyz", water()]
        monkeypatch.setattr(parsing, "TASK_PIECES", 16)
        serial = build_store(files, out / "serial.h5", on_error="skip")
        parallel = build_store(files, out / "parallel.h5", on_error="skip", workers=2)
        assert parallel.content_hash == serial.content_hash
        assert skipped(parallel) == skipped(serial)
        a, b = StructureStore(serial.path), StructureStore(parallel.path)
        assert a.identifiers() == b.identifiers()
        assert a.path.read_bytes() == b.path.read_bytes()

    def test_errors_come_back(self, folder: Path) -> None:
        with pytest.raises(StructureError, match="unknown species 'Qq'"):
            build_store([TIO2, folder / "b.xsf"], folder / "out.h5", workers=2)

    def test_a_worker_that_dies(self, tmp_path: Path, monkeypatch: Any) -> None:
        import aenet_ray.structures.build as build

        monkeypatch.setattr(build, "parse_task", _die)
        with pytest.raises(StoreError, match="a process that parsed files died"):
            build_store(TIO2, tmp_path / "out.h5", workers=2)
        assert not list(tmp_path.iterdir())

    def test_any_ordered_map(self, tmp_path: Path) -> None:
        seen = []

        def own_map(function: Callable, items: Iterable) -> Iterator:
            for item in items:
                seen.append(item)
                yield function(item)

        build_store(TIO2, tmp_path / "out.h5", map_function=own_map)
        assert sum(len(task.pieces) for task in seen) == 100


def _die(_: object) -> None:
    import os

    os._exit(1)


def test_formats_give_one_hash(tmp_path: Path) -> None:
    """XSF and extended XYZ of the same numbers are the same data."""
    (tmp_path / "a.xsf").write_text(RUTILE)
    text = (
        '3\nLattice="4.594 0 0 0 4.594 0 0 0 2.959" Properties=species:S:1:pos:R:3:forces:R:3 energy=-19517.09425849\n'
        "Ti 0 0 0 .1 .2 .3\nO 1.40117 1.40117 0 -.1 0.0 0\nO 3.19283 3.19283 0 0 -.2 -.3\n"
    )
    (tmp_path / "a.extxyz.gz").write_bytes(gzip.compress(text.encode()))
    one, other = (build_store(tmp_path / n, tmp_path / f"{n}.h5") for n in ("a.xsf", "a.extxyz.gz"))
    assert one.content_hash == other.content_hash


def test_options(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text(PAIR.format(energy=-1, z=0.3).replace("energy", "e_dft"))
    report = build_store(tmp_path / "a.xyz", tmp_path / "a.h5", keys=LabelKeys(energy="e_dft", fidelity="PBE"))
    store = StructureStore(report.path)
    assert (store.energies()[0], store.fidelities) == (-1.0, ("PBE",))
    with pytest.raises(StructureError, match=r"0\.300 Å apart \(less than 0\.5 Å\)"):
        build_store(tmp_path / "a.xyz", tmp_path / "a.h5", min_distance=0.5)
    with pytest.raises(StructureError, match="<memory>, structure 1: energy is NaN"):
        build_store([water(), water(energy=np.nan)], tmp_path / "a.h5")
    for wrong in ({"workers": -1}, {"on_error": "ignore"}):
        with pytest.raises(ValueError, match="expected"):
            build_store(tmp_path / "a.xyz", tmp_path / "a.h5", **wrong)  # type: ignore[arg-type]
