"""The example of docs/datasets.md runs as it stands there."""

from __future__ import annotations

import shutil

from user_runs import ROOT, blocks, run_block

import aenet_ray
from aenet_ray import datasets

PAGE = ROOT / "docs" / "datasets.md"


def test_the_example_runs_twice(tmp_path, monkeypatch, data_dir, capsys):
    """The second time with the file, and its features, that the first time built."""
    shutil.copy(data_dir / "tio2_ci100_xsf.tar.gz", tmp_path)
    monkeypatch.chdir(tmp_path)
    (example,) = blocks(PAGE, "python")
    run_block(example, PAGE)
    assert "tio2_ci100_xsf.tar.gz:tio2_ci100_xsf/structure" in capsys.readouterr().out
    assert (tmp_path / "runs" / "from_file" / "model.pt").exists()
    assert not (tmp_path / "runs" / "features").exists(), "the features beside the file were not used"
    before = (tmp_path / "tio2.h5").stat().st_mtime_ns
    run_block(example.replace("from_file", "again"), PAGE)
    assert (tmp_path / "tio2.h5").stat().st_mtime_ns == before


def test_names_on_the_page_exist():
    text = PAGE.read_text()
    for name in ("SourceRecord", "SourceCollection", "CachedStructureDataset", "ScalingConfig"):
        assert f"`{name}" in text or name in text
        assert hasattr(aenet_ray, name)
    assert hasattr(datasets, "collate")
