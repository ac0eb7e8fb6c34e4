"""The example of docs/datasets.md runs as it stands there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import aenet_ray
from aenet_ray import datasets

PAGE = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text()


def test_the_example_runs_twice(tmp_path, monkeypatch, data_dir, capsys):
    """The second time with the file, and its features, that the first time built."""
    shutil.copy(data_dir / "tio2_ci100_xsf.tar.gz", tmp_path)
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(example, "docs/datasets.md", "exec"), {})
    assert "tio2_ci100_xsf.tar.gz:tio2_ci100_xsf/structure" in capsys.readouterr().out
    assert (tmp_path / "runs" / "from_file" / "model.pt").exists()
    assert not (tmp_path / "runs" / "features").exists(), "the features beside the file were not used"
    before = (tmp_path / "tio2.h5").stat().st_mtime_ns
    exec(compile(example.replace("from_file", "again"), "docs/datasets.md", "exec"), {})
    assert (tmp_path / "tio2.h5").stat().st_mtime_ns == before


def test_names_on_the_page_exist():
    for name in ("SourceRecord", "SourceCollection", "CachedStructureDataset", "ScalingConfig"):
        assert f"`{name}" in PAGE or name in PAGE
        assert hasattr(aenet_ray, name)
    assert hasattr(datasets, "collate")
