"""The page on committees: its example runs as it stands, with fewer epochs."""

from __future__ import annotations

import shutil

from user_runs import ROOT, blocks, run_block

PAGE = ROOT / "docs/committees.md"


def test_example(data_dir, tmp_path, monkeypatch, capsys):
    (code,) = blocks(PAGE, "python")
    assert "iterations=200" in code
    shutil.copy(data_dir / "tio2_ci100_xsf.tar.gz", tmp_path)
    monkeypatch.chdir(tmp_path)
    run_block(code.replace("iterations=200", "iterations=3"), PAGE)
    assert "final_RMSE_test" in capsys.readouterr().out
    assert (tmp_path / "uncertainty.png").exists()
    assert (tmp_path / "committee_run/member_003/model.pt").exists()
