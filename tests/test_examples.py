"""Every script in examples/ runs as a user would run it."""

from __future__ import annotations

from pathlib import Path

import pytest
from user_runs import ROOT, run_script

SCRIPTS = sorted(ROOT.glob("examples/*.py"))


@pytest.mark.ray  # one of them starts it
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_example(script: Path, tmp_path: Path) -> None:
    done = run_script(script, tmp_path, "error::DeprecationWarning:__main__")
    assert done.stdout.strip()


def test_the_walk_throughs_are_there() -> None:
    assert {s.stem for s in SCRIPTS} >= {"energies", "forces", "committee", "active_learning", "hdf5_dataset", "resume"}
