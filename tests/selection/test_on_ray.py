"""Selection on Ray gives what it gives in process, and survives the death of an actor."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from selections import assert_same, candidate_files, members

from aenet_ray.errors import StoreError, StructureError
from aenet_ray.selection import candidates as cutting
from aenet_ray.selection import pipeline
from aenet_ray.selection.run import select_structures
from aenet_ray.selection.score import Scorer
from aenet_ray.structures.store import StructureStore, write_store

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180), pytest.mark.usefixtures("ray_local")]


class SmallChunks(cutting.Source):
    """Ranges of few structures, also where this module is not patched."""

    def chunks(self):
        before = cutting.CHUNK_ATOMS
        cutting.CHUNK_ATOMS = 200
        try:
            yield from super().chunks()
        finally:
            cutting.CHUNK_ATOMS = before


class Slow(Scorer):
    """Takes its time over a chunk, and says which process it runs in."""

    folder = ""

    def __call__(self, chunk):
        (Path(self.folder) / str(os.getpid())).touch()
        time.sleep(0.1)
        return super().__call__(chunk)


@pytest.fixture
def files(data_dir, tmp_path):
    return candidate_files(data_dir, tmp_path)


@pytest.fixture(autouse=True)
def small_and_slow(monkeypatch, tmp_path):
    from ray import cloudpickle

    from aenet_ray.selection import run

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    (tmp_path / "pids").mkdir()

    def slow(*arguments, **options):
        scorer = Slow(*arguments, **options)
        scorer.folder = str(tmp_path / "pids")
        return scorer

    monkeypatch.setattr(run, "Scorer", slow)
    listed = cutting.list_sources
    monkeypatch.setattr(run, "list_sources", lambda c: [SmallChunks(s.number, s.given) for s in listed(c)])


def test_same_as_in_process(files, tmp_path):
    here = select_structures(members(), files, top=9, diverse=True, progress=False)
    pids = tmp_path / "pids"
    (pids / str(os.getpid())).unlink()
    there = select_structures(members(), files, top=9, diverse=True, workers=2, progress=False)
    assert_same(there, here)
    assert len(list(pids.iterdir())) == 2, "both actors had work"
    assert str(os.getpid()) not in {p.name for p in pids.iterdir()}


@pytest.mark.parametrize(("n", "actors"), [(1, 1), (60, 4)])
def test_no_more_actors_than_chunks(files, monkeypatch, n, actors):
    """Of four processors; a Ray of our own would be made no larger either."""
    asked, pools = [], []
    ensure, pool = pipeline.ensure_ray, pipeline.ray.data.ActorPoolStrategy
    monkeypatch.setattr(pipeline, "ensure_ray", lambda n: (asked.append(n), ensure(n))[1])
    monkeypatch.setattr(pipeline.ray.data, "ActorPoolStrategy", lambda size: (pools.append(size), pool(size=size))[1])
    write_store(list(StructureStore(files[0]))[:n], files[0])
    n_chunks = len(list(SmallChunks(0, StructureStore(files[0])).chunks()))
    found = select_structures(members(), files[0], top=3, workers=64, progress=False)
    assert found.n_candidates == n
    assert pools == [min(n_chunks, 4)] == [actors]
    assert asked == [n_chunks]


def test_an_actor_that_dies_is_replaced(files, tmp_path):
    pids, killed = tmp_path / "pids", []

    def kill() -> None:
        while not (found := list(pids.iterdir())):
            time.sleep(0.01)
        time.sleep(0.3)
        killed.append(int(found[0].name))
        os.kill(killed[0], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    found = select_structures(members(), files, top=9, workers=2, progress=False)
    thread.join()
    assert killed
    assert killed[0] != os.getpid()
    assert_same(found, select_structures(members(), files, top=9, progress=False))


def test_bad_candidates_are_told_as_in_process(files, tmp_path):
    with (tmp_path / "c.extxyz").open("a") as file:
        file.write("2\nProperties=species:S:1:pos:R:3\nTi 0 0 0\nO 0 0 far\n")
    with pytest.raises(StructureError, match=r"c\.extxyz, frame 40: .*'far' .atom 1. is not a number"):
        select_structures(members(), files, workers=2, progress=False)
    found = select_structures(members(), files, workers=2, on_error="skip", progress=False)
    assert (found.n_candidates, found.n_skipped) == (100, 1)


@pytest.mark.parametrize("name", ["c.h5", "c.extxyz"])
def test_a_lost_file_is_told_as_in_process(files, tmp_path, name):
    """Deleted when the first actor works: by then a file may be on its way already, ranges of a store are not."""
    pids = tmp_path / "pids"

    def delete() -> None:
        while not list(pids.iterdir()):
            time.sleep(0.01)
        (tmp_path / name).unlink()

    thread = threading.Thread(target=delete)
    thread.start()
    with pytest.raises(StoreError, match=f"/{name}: deleted while the candidates were scored. Put it back or leave it"):
        select_structures(members(), files, workers=2, progress=False)
    thread.join()


def test_a_store_given_as_an_object(files):
    found = select_structures(members(), StructureStore(files[0]), top=3, workers=1, progress=False)
    assert found.n_candidates == 60
