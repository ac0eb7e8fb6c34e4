"""The driver of a selection on Ray killed in the middle: the same command goes on, and selects what it would have."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from selections import members, saved, shaken
from test_faults import gone

from aenet_ray.cli.main import main
from aenet_ray.selection import candidates as cutting
from aenet_ray.structures.ase_io import write_ase
from aenet_ray.structures.store import write_store

pytestmark = [pytest.mark.ray, pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(600)]

SMALL = 200
"""Atoms of a chunk."""

# Chunks of few structures that take their time: what is defined in the main module goes to the actors with its code.
DRIVER = f"""
import sys, time
from pathlib import Path
from aenet_ray.cli.main import main
from aenet_ray.selection import candidates, run
from aenet_ray.selection.score import Scorer

class Small(candidates.Source):
    def chunks(self):
        from aenet_ray.selection import candidates
        candidates.CHUNK_ATOMS = {SMALL}
        yield from super().chunks()

class Slow(Scorer):
    def __call__(self, chunk):
        time.sleep(0.2)
        with Path("scored.txt").open("a") as file:
            file.write(f"{{chunk.key[0]}} {{chunk.key[1]}}\\n")
        return super().__call__(chunk)

listed = candidates.list_sources
run.list_sources = lambda given: [Small(s.number, s.given) for s in listed(given)]
run.Scorer, run.CHUNK_ATOMS, run.SAVE_SECONDS = Slow, {SMALL}, 0.5
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def folder(data_dir, tmp_path):
    """A committee, and candidates in a store and in a file."""
    structures = shaken(data_dir, 6)
    write_store(structures[:110], tmp_path / "c.h5")
    write_ase(structures[110:], tmp_path / "c.extxyz")
    saved(members(), tmp_path / "committee")
    return tmp_path


def command(*more: str, output: str = "s.extxyz") -> list[str]:
    return ["select", "committee", "c.h5", "c.extxyz", "--top", "12", "--diverse", "-o", output, *more]


def start(folder: Path, log: str) -> subprocess.Popen:
    arguments = [sys.executable, "-c", DRIVER, *command("--workers", "2")]
    with (folder / log).open("w") as output:
        return subprocess.Popen(arguments, stdout=output, stderr=output, cwd=folder, env=os.environ)


def done(folder: Path) -> int:
    """Chunks that the progress on disk knows."""
    try:
        with np.load(folder / "s.extxyz.progress") as file:
            return len(file["done"])
    except FileNotFoundError:
        return 0


def scored(folder: Path) -> list[str]:
    path = folder / "scored.txt"
    return path.read_text().splitlines() if path.exists() else []


def test_driver_killed(folder, monkeypatch):
    with monkeypatch.context() as m:  # processes are told apart by their folder: ours must not stay in it
        m.chdir(folder)
        m.setattr(cutting, "CHUNK_ATOMS", SMALL)
        assert main(command(output="undisturbed.extxyz")) == 0
        n_chunks = sum(1 for s in cutting.list_sources(["c.h5", "c.extxyz"]) for _ in s.chunks())

    process = start(folder, "first.log")
    deadline = time.monotonic() + 200
    while done(folder) < n_chunks // 4:
        assert process.poll() is None, (folder / "first.log").read_text()
        assert time.monotonic() < deadline, f"{done(folder)} of {n_chunks} chunks in 200 s"
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert gone(folder, "ray"), "actors outlive their driver"
    before, first = done(folder), scored(folder)
    assert n_chunks // 4 <= before < n_chunks, "nearly over, a kill would prove little"
    assert not (folder / "s.extxyz").exists()

    (folder / "scored.txt").unlink()
    again = start(folder, "second.log")
    assert again.wait(timeout=240) == 0, (folder / "second.log").read_text()
    assert len(scored(folder)) == n_chunks - before, "what was done was done once more"
    assert len({*first, *scored(folder)}) == n_chunks
    for suffix in ("extxyz", "csv"):
        assert (folder / f"s.{suffix}").read_text() == (folder / f"undisturbed.{suffix}").read_text()
    assert not (folder / "s.extxyz.progress").exists()
    assert gone(folder, "ray"), "something is left running"
