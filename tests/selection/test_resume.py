"""A selection that was killed goes on where it was, and gives what an undisturbed one gives."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from selections import assert_same, candidate_files, members, saved

from aenet_ray.errors import StoreError, StructureError
from aenet_ray.selection import candidates as cutting
from aenet_ray.selection import run as module
from aenet_ray.selection.run import select_structures
from aenet_ray.selection.score import Scorer


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(cutting, "CHUNK_ATOMS", 200)
    monkeypatch.setattr(module, "SAVE_SECONDS", 0.0)


@pytest.fixture
def files(data_dir, tmp_path):
    return candidate_files(data_dir, tmp_path)


class Interrupted(Exception):
    pass


def interrupted_after(monkeypatch, n):
    """Scoring that stops at its n-th chunk; returns the keys of the chunks scored."""
    score, seen = Scorer.__call__, []

    def call(self, chunk):
        seen.append(chunk.key)
        if n is not None and len(seen) > n:
            raise Interrupted
        return score(self, chunk)

    monkeypatch.setattr(Scorer, "__call__", call)
    return seen


def test_only_what_is_missing_is_scored(files, tmp_path, monkeypatch):
    committee, out = members(), tmp_path / "s.extxyz"
    expected = select_structures(committee, files, top=8, diverse=True, progress=False)
    with monkeypatch.context() as m:
        first = interrupted_after(m, 3)
        with pytest.raises(Interrupted):
            select_structures(committee, files, top=8, diverse=True, output=out, progress=False)
    note = tmp_path / "s.extxyz.progress"
    assert note.exists()
    rest = interrupted_after(monkeypatch, None)
    found = select_structures(committee, files, top=8, diverse=True, output=out, progress=False)
    assert_same(found, expected)
    assert not set(rest) & set(first[:3])
    assert len(rest) + 3 == sum(1 for s in cutting.list_sources(files) for _ in s.chunks())
    assert not note.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"top": 9}, r"progress of another selection \(n_keep 8, now 9\)"),
        ({"metric": "energy_std"}, "metric 'energy_std_per_atom', now 'energy_std'"),
        ({"committee": 4}, "members '.*', now '"),
        ({"candidates": 1}, r"candidates \["),
        ({"damaged": True}, r"damaged .*--restart"),
    ],
)
def test_progress_of_something_else_is_refused(files, tmp_path, monkeypatch, change, message):
    out = tmp_path / "s.extxyz"
    with monkeypatch.context() as m:
        interrupted_after(m, 2)
        with pytest.raises(Interrupted):
            select_structures(members(), files, top=8, output=out, progress=False)
    if "damaged" in change:
        (tmp_path / "s.extxyz.progress").write_bytes(b"PK nothing")
    committee = members(change.pop("committee", 3))
    given = files[: change.pop("candidates", 2)]
    change.pop("damaged", None)
    with pytest.raises(StoreError, match=message):
        select_structures(committee, given, **{"top": 8, **change}, output=out, progress=False)
    found = select_structures(committee, given, **{"top": 8, **change}, output=out, restart=True, progress=False)
    assert_same(found, select_structures(committee, given, **{"top": 8, **change}, progress=False))


def test_nothing_usable(tmp_path):
    (tmp_path / "bad.extxyz").write_text("2\n\nTi 0 0 0\nO 0 0 x\n")
    with pytest.raises(StructureError, match=r"no candidate can be used; the first: .*'x'"):
        select_structures(members(), tmp_path / "bad.extxyz", on_error="skip", progress=False)


@pytest.mark.fault
def test_killed(files, tmp_path):
    folder, out = saved(members(), tmp_path / "committee"), tmp_path / "s.extxyz"
    code = (
        "import sys, time\n"
        "from aenet_ray.selection import candidates, run\n"
        "from aenet_ray.selection.score import Scorer\n"
        "from aenet_ray.cli.main import main\n"
        "candidates.CHUNK_ATOMS, run.SAVE_SECONDS = 200, 0.0\n"
        "score = Scorer.__call__\n"
        "Scorer.__call__ = lambda self, chunk: (time.sleep(0.2), score(self, chunk))[1]\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ["select", str(folder), *map(str, files), "--top", "8", "--diverse", "-o", str(out)]
    note = Path(f"{out}.progress")
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], env=os.environ)
    deadline = time.monotonic() + 60
    while not note.exists() or note.stat().st_mtime_ns == 0:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.5)
    process.kill()
    process.wait()
    assert not out.exists()
    with np.load(note) as file:
        n_done = len(file["done"])
    seen: list[object] = []
    score = Scorer.__call__
    with pytest.MonkeyPatch.context() as m:
        m.setattr(Scorer, "__call__", lambda self, chunk: (seen.append(chunk.key), score(self, chunk))[1])
        found = select_structures(folder, files, top=8, diverse=True, output=out, progress=False)
    assert_same(found, select_structures(folder, files, top=8, diverse=True, progress=False))
    n_chunks = sum(1 for s in cutting.list_sources(files) for _ in s.chunks())
    assert 0 < n_done < n_chunks
    assert len(seen) == n_chunks - n_done
