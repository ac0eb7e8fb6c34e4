"""Candidates deleted, truncated or changed during a selection: one error that names the file and says what to do."""

from __future__ import annotations

import os

import pytest
from selections import assert_same, members, saved, shaken

from aenet_ray.cli.main import main
from aenet_ray.errors import StoreError
from aenet_ray.selection import candidates as cutting
from aenet_ray.selection import run as module
from aenet_ray.selection.run import select_structures
from aenet_ray.selection.score import Scorer
from aenet_ray.structures.ase_io import write_ase
from aenet_ray.structures.store import write_store

DAMAGES = {
    "deleted": lambda path: path.unlink(),
    "truncated or changed": lambda path: os.truncate(path, path.stat().st_size // 2),
}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(cutting, "CHUNK_ATOMS", 60)
    monkeypatch.setattr(module, "SAVE_SECONDS", 0.0)


@pytest.fixture(scope="module")
def structures(data_dir):
    return shaken(data_dir, 2)


@pytest.fixture
def files(structures, tmp_path):
    """A store, an extended XYZ file, and a trajectory that ASE reads."""
    write_store(structures[:20], tmp_path / "c.h5")
    write_ase(structures[20:40], tmp_path / "c.extxyz")
    write_ase(structures[40:], tmp_path / "c.traj", format="traj")
    return [tmp_path / "c.h5", tmp_path / "c.extxyz", tmp_path / "c.traj"]


def before_call(owner, name, n, act):
    """A method that does ``act`` before its n-th call, counted from 0."""
    original, calls = getattr(owner, name), []

    def call(*arguments, **options):
        if len(calls) == n:
            act()
        calls.append(1)
        return original(*arguments, **options)

    return call


MOMENTS = {
    "the first chunk": (Scorer, "__call__", 0),
    "later": (Scorer, "__call__", 3),
    "read again": (module, "read_again", 0),
}


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", ["c.h5", "c.extxyz", "c.traj"])
@pytest.mark.parametrize("what", DAMAGES)
def test_named_whatever_came_of_it(files, tmp_path, monkeypatch, what, name, moment, on_error):
    owner, method, n = MOMENTS[moment]
    path, out = tmp_path / name, tmp_path / "s.extxyz"
    content, times = path.read_bytes(), path.stat()
    committee = members()
    with monkeypatch.context() as m:
        m.setattr(owner, method, before_call(owner, method, n, lambda: DAMAGES[what](path)))
        with pytest.raises(
            StoreError, match=f"/{name}: {what} while the candidates were scored. Put it back or leave it"
        ):
            select_structures(committee, files, top=8, on_error=on_error, output=out, progress=False)
    assert not out.exists()
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    found = select_structures(committee, files, top=8, output=out, progress=False)
    assert_same(found, select_structures(committee, files, top=8, progress=False))


def test_a_store_built_anew_is_noticed(structures, files, monkeypatch):
    rebuilt = before_call(Scorer, "__call__", 1, lambda: write_store(structures[1:21], files[0]))
    monkeypatch.setattr(Scorer, "__call__", rebuilt)
    with pytest.raises(StoreError, match=r"c\.h5: truncated or changed while the candidates were scored"):
        select_structures(members(), files, top=8, progress=False)


def test_a_file_that_grows_is_noticed(files, tmp_path, monkeypatch):
    def grow():
        with (tmp_path / "c.extxyz").open("a") as file:
            file.write("\n")

    monkeypatch.setattr(Scorer, "__call__", before_call(Scorer, "__call__", 0, grow))
    with pytest.raises(StoreError, match=r"c\.extxyz: truncated or changed while"):
        select_structures(members(), files, top=8, progress=False)


def test_other_errors_stay_what_they_are(files, monkeypatch):
    def broken(self, chunk):
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(Scorer, "__call__", broken)
    with pytest.raises(ZeroDivisionError, match="of ours"):
        select_structures(members(), files, top=8, progress=False)


def test_command(files, tmp_path, monkeypatch, capsys):
    folder = saved(members(), tmp_path / "committee")
    monkeypatch.setattr(Scorer, "__call__", before_call(Scorer, "__call__", 0, files[1].unlink))
    arguments = ["select", str(folder), *map(str, files), "--top", "7", "-o", str(tmp_path / "s.extxyz")]
    assert main([*arguments, "--on-error", "skip"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {files[1]}: deleted while the candidates were scored. Put it back or leave it out")
    assert main([*arguments[:2], str(files[0]), *arguments[-4:]]) == 0, "from what is there"
