"""docs/tuning.md: its file is a search, and its Python runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml
from searches import TIO2

from aenet_ray.experiment import split_group
from aenet_ray.tuning.config import TuneConfig
from aenet_ray.tuning.plan import check_search

PAGE = (Path(__file__).parents[2] / "docs" / "tuning.md").read_text()


def block(language: str) -> str:
    return "\n".join(re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    shutil.copy(TIO2, tmp_path / "tio2.tar.gz")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_file_is_a_search(folder):
    values, group = split_group(yaml.safe_load(block("yaml")), "tune", "page", "space")
    check_search(values, TuneConfig.from_mapping(group, "tune"))


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_the_python_runs(folder, ray_local):
    exec(compile(block("python"), "tuning.md", "exec"), {"__name__": "page"})
    assert (folder / "runs" / "search" / "best.yaml").exists()
    assert (folder / "runs" / "folds" / "summary.csv").exists()
