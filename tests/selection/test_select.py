"""What is selected is what sorting everything would give: from any format, in any cuts, with any bad structure."""

from __future__ import annotations

import csv
import logging

import numpy as np
import pandas as pd
import pytest
from selections import members, saved, shaken

from aenet_ray.committee.predict_result import METRICS
from aenet_ray.selection import candidates as cutting
from aenet_ray.selection.run import select_structures
from aenet_ray.selection.score import Scorer
from aenet_ray.selection.table import Kept, farthest_points
from aenet_ray.structures.ase_io import write_ase
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.store import StructureStore, write_store
from aenet_ray.structures.structure import Structure


@pytest.fixture(scope="module")
def committee():
    return members()


@pytest.fixture(scope="module")
def structures(data_dir):
    return shaken(data_dir, 4)


@pytest.fixture(scope="module")
def store(structures, tmp_path_factory):
    return StructureStore(write_store(structures, tmp_path_factory.mktemp("store") / "c.h5").path)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(cutting, "CHUNK_ATOMS", 200)
    monkeypatch.setattr(cutting, "BLOCK_ATOMS", 90)
    monkeypatch.setattr(cutting, "OFFSETS_AT_ONCE", 30)


def names(selection):
    return [s.name for s in selection.structures]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("metric", METRICS)
def test_the_least_certain_as_by_sorting_all(committee, structures, store, metric):
    everything = committee.predict(structures, eval_forces=True)
    expected = everything.top_uncertain(12, metric=metric)
    found = select_structures(committee, store, top=12, metric=metric, progress=False)
    assert names(found) == expected.identifiers
    np.testing.assert_allclose(found.uncertainty, getattr(expected, metric), rtol=1e-9)
    assert (found.n_candidates, found.n_skipped, found.counts.sum()) == (100, 0, 100)
    assert found.structures[0].energy == structures[everything.identifiers.index(names(found)[0])].energy


@pytest.mark.usefixtures("small_chunks")
def test_chunks_are_counted_where_no_file_need_be_read(structures, store, tmp_path):
    sources = cutting.list_sources([store, structures])
    keys = [c.key for s in sources for c in s.chunks()]
    assert len(keys) > 8
    assert cutting.chunks_left(sources, (), 64) == len(keys)
    assert cutting.chunks_left(sources, keys[2:5], 64) == len(keys) - 3
    assert cutting.chunks_left(sources, keys, 64) == 0
    assert cutting.chunks_left(sources, (), 3) == 3
    write_ase(structures[:1], tmp_path / "a.extxyz")
    assert cutting.chunks_left(cutting.list_sources([store, tmp_path / "a.extxyz"]), (), 64) == 64


@pytest.mark.usefixtures("small_chunks")
def test_any_format_and_any_mixture_of_them(committee, structures, store, tmp_path):
    expected = names(select_structures(committee, store, top=9, progress=False))
    write_ase(structures[:30], tmp_path / "a.extxyz")
    write_ase(structures[30:50], tmp_path / "b.traj", format="traj")
    write_store(structures[50:80], tmp_path / "c.h5")
    mixture = [tmp_path / "a.extxyz", str(tmp_path / "b.traj"), tmp_path / "c.h5", structures[80:]]
    found = select_structures(committee, mixture, top=9, progress=False)
    assert names(found) == expected
    for s in found.structures:
        assert s.forces is not None


def test_a_folder_of_files(committee, structures, tmp_path):
    for i, s in enumerate(structures[:10]):
        write_ase([s], tmp_path / f"{i}.extxyz")
    found = select_structures(committee, tmp_path, top=3, progress=False)
    assert found.n_candidates == 10
    assert set(names(found)) <= {s.name for s in structures[:10]}


def test_what_is_no_structure_in_a_folder_is_left_out_and_told(committee, structures, tmp_path, caplog):
    write_ase(structures[:5], tmp_path / "five.extxyz")
    (tmp_path / "README.md").write_text("five structures")
    assert select_structures(committee, tmp_path, top=3, progress=False).n_candidates == 5
    assert "1 of 2 files left out, of no known format: README.md" in caplog.text


def test_all_where_there_are_fewer(committee, structures):
    assert len(select_structures(committee, structures[:5], top=50, progress=False)) == 5
    assert len(select_structures(committee, structures[:5], top=50, diverse=True, progress=False)) == 5


def test_equal_ones_in_the_order_of_the_candidates(committee, structures):
    same = [
        Structure(structures[0].positions, structures[0].species, cell=structures[0].cell, name=str(i))
        for i in range(8)
    ]
    assert names(select_structures(committee, same, top=3, progress=False)) == ["0", "1", "2"]


@pytest.mark.usefixtures("small_chunks")
def test_a_scorer_holds_back_only_what_cannot_be_selected(committee, store):
    source = cutting.list_sources(store)[0]
    free, strict = Scorer(committee, METRICS[0], 1000, vectors=False), Scorer(committee, METRICS[0], 4, vectors=False)
    chunks = list(source.chunks())
    parts = [[scorer(c).kept for c in chunks] for scorer in (free, strict)]
    kept = [sum(map(len, p)) for p in parts]
    assert kept[0] == 100
    assert kept[1] < 50
    best = [Kept.joined(p).best(4, METRICS[0]).place.tolist() for p in parts]
    assert best[0] == best[1]


# spread out in feature space


def test_farthest_points():
    line = np.array([[0.0], [0.1], [10.0], [5.2], [0.0], [9.9]])
    rows, distances = farthest_points(line, 4)
    assert rows.tolist() == [0, 2, 3, 1]
    np.testing.assert_allclose(distances, [np.nan, 10.0, 4.8, 0.1])
    assert sorted(farthest_points(line, 99)[0].tolist()) == list(range(6)), "copies come last, each once"


@pytest.mark.usefixtures("small_chunks")
def test_diverse_picks_among_the_uncertain_and_no_near_copies(committee, structures):
    near = [
        Structure(s.positions + 1e-6 * k, s.species, cell=s.cell, name=f"{s.name}+{k}")
        for s in structures[75:80]
        for k in range(10)
    ]
    plain = select_structures(committee, near, top=5, progress=False)
    spread = select_structures(committee, near, top=5, diverse=True, pool=10, progress=False)
    families = [len({n.split("+")[0] for n in names(x)}) for x in (plain, spread)]
    assert families == [1, 5]
    assert names(spread)[0] == names(plain)[0], "the least certain is always there"
    best = select_structures(committee, structures, top=20, progress=False)
    few = select_structures(committee, structures, top=4, diverse=True, pool=5, progress=False)
    assert set(names(few)) < set(names(best))
    assert few.distances[0] != few.distances[0]
    assert (np.diff(few.distances[1:]) <= 0).all(), "ever nearer"


# files


def test_what_is_written(committee, store, tmp_path):
    found = select_structures(committee, store, top=6, diverse=True, output=tmp_path / "s.extxyz", progress=False)
    again = list(read_structures(tmp_path / "s.extxyz"))
    assert [s.name for s in again] == names(found)
    np.testing.assert_allclose([s.energy for s in again], [s.energy for s in found.structures])
    np.testing.assert_allclose(again[2].forces, found.structures[2].forces)
    assert f"uncertainty={found.uncertainty[0]}"[:18] in (tmp_path / "s.extxyz").read_text()
    table = pd.read_csv(tmp_path / "s.csv")
    assert table["rank"].tolist() == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(table["uncertainty"], found.uncertainty)
    np.testing.assert_allclose(table["energy_std_per_atom"], found.uncertainty)
    assert {"source", "frame", "name", "n_atoms", "distance"} < set(table)
    assert (tmp_path / "s.png").stat().st_size > 5_000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.csv", "s.extxyz", "s.png"], "no progress left behind"


def test_calibrated(structures, data_dir):
    committee = members()
    committee.calibrate(list(read_structures(data_dir / "tio2_ci100_xsf.tar.gz"))[:20])
    scale = committee.calibration().energy.scale
    raw, scaled = (select_structures(committee, structures, top=4, calibrated=c, progress=False) for c in (False, True))
    assert names(raw) == names(scaled)
    np.testing.assert_allclose(scaled.uncertainty, scale * raw.uncertainty)


# candidates that cannot be used


@pytest.fixture
def bad_files(structures, tmp_path):
    """One good file, one with atoms on top of each other, a foreign species and a frame that does not parse."""
    write_ase(structures[:5], tmp_path / "good.extxyz")
    close, foreign = structures[5], structures[6]
    close = Structure(np.repeat(close.positions[:1], close.n_atoms, 0), close.species, cell=close.cell)
    foreign = Structure(foreign.positions, ["Au", *foreign.species[1:]], cell=foreign.cell)
    write_ase([structures[7], close, foreign], tmp_path / "bad.extxyz")
    with (tmp_path / "bad.extxyz").open("a") as file:
        file.write("2\nProperties=species:S:1:pos:R:3\nTi 0 0 0\nO 0 0 far\n")
    return [tmp_path / "good.extxyz", tmp_path / "bad.extxyz"]


def test_bad_ones_are_skipped_with_a_report(committee, bad_files, tmp_path):
    out = tmp_path / "s.extxyz"
    found = select_structures(committee, bad_files, on_error="skip", output=out, progress=False)
    assert (found.n_candidates, found.n_skipped, len(found)) == (6, 3, 6)
    rows = list(csv.DictReader(found.skipped_report.open()))
    assert [r["frame"] for r in sorted(rows, key=lambda r: r["frame"])] == ["1", "2", "3"]
    text = " ".join(r["reason"] for r in rows)
    assert "Å apart" in text
    assert "Au" not in text
    assert "species the committee (of Ti, O) does not know" in text
    assert "'far' (atom 1) is not a number" in text


def test_bad_ones_stop_a_selection_that_does_not_skip(committee, bad_files, tmp_path):
    from aenet_ray.errors import StructureError

    with pytest.raises(StructureError, match=r"bad\.extxyz, frame [123]: .*on_error='skip'"):
        select_structures(committee, bad_files, output=tmp_path / "s.extxyz", progress=False)
    assert not (tmp_path / "s.extxyz").exists()


def test_foreign_species_in_a_store_are_skipped(committee, structures, tmp_path):
    foreign = [Structure(structures[0].positions, ["Au"] * structures[0].n_atoms, cell=structures[0].cell, name="Au")]
    write_store([structures[0], *foreign, structures[1]], tmp_path / "c.h5")
    found = select_structures(committee, tmp_path / "c.h5", on_error="skip", progress=False)
    assert set(names(found)) == {structures[0].name, structures[1].name}
    assert found.n_skipped == 1


# the command


def test_command(structures, tmp_path, capsys, caplog):
    from aenet_ray.cli.main import main

    caplog.set_level(logging.WARNING)
    folder = saved(members(), tmp_path / "committee")
    write_store(structures, tmp_path / "c.h5")
    out = tmp_path / "selected.extxyz"
    assert main(["select", str(folder), str(tmp_path / "c.h5"), "--top", "7", "--diverse", "-o", str(out)]) == 0
    assert "7 of 100 candidates" in capsys.readouterr().out
    assert len(list(read_structures(out))) == 7
    assert main(["calibrate", str(folder), str(tmp_path / "c.h5")]) == 0
    assert "n = 100" in capsys.readouterr().out
    assert (folder / "reliability.png").exists()
    assert main(["select", str(folder), str(tmp_path / "c.h5"), "--calibrated", "-o", str(out), "--top", "0"]) == 2
    assert "top is 0, expected a whole number" in capsys.readouterr().err
