"""The page on calibration and selection: its examples run as they stand, in the order of the page."""

from __future__ import annotations

import shutil

from user_runs import ROOT, blocks, run_block

PAGE = ROOT / "docs/selection.md"


def test_examples(data_dir, tmp_path, monkeypatch, capsys):
    found = blocks(PAGE, "python")
    assert len(found) == 2
    shutil.copy(data_dir / "tio2_ci100_xsf.tar.gz", tmp_path / "tio2.tar.gz")
    monkeypatch.chdir(tmp_path)
    run_block("\n".join(found).replace("iterations=50", "iterations=3"), PAGE)
    out = capsys.readouterr().out
    assert "spread x" in out
    assert "uncertainty" in out
    made = ("committee_run/calibration.json", "reliability.png", "selected.extxyz", "selected.csv", "selected.png")
    assert all((tmp_path / name).exists() for name in made)
