"""The page on calibration and selection: its examples run as they stand, in the order of the page."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/selection.md"


def test_examples(data_dir, tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(blocks) == 2
    shutil.copy(data_dir / "tio2_ci100_xsf.tar.gz", tmp_path / "tio2.tar.gz")
    monkeypatch.chdir(tmp_path)
    code = "\n".join(blocks).replace("iterations=50", "iterations=3")
    exec(compile(code, str(PAGE), "exec"), {})
    out = capsys.readouterr().out
    assert "spread x" in out
    assert "uncertainty" in out
    made = ("committee_run/calibration.json", "reliability.png", "selected.extxyz", "selected.csv", "selected.png")
    assert all((tmp_path / name).exists() for name in made)
