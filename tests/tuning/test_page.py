"""docs/tuning.md: its file is a search, and its Python runs."""

from __future__ import annotations

import shutil

import pytest
import yaml
from user_runs import ROOT, TIO2, blocks, run_block

from aenet_ray.experiment import split_groups
from aenet_ray.tuning.config import TuneConfig
from aenet_ray.tuning.plan import check_search

PAGE = ROOT / "docs" / "tuning.md"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    shutil.copy(TIO2, tmp_path / "tio2.tar.gz")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_file_is_a_search(folder):
    values, groups = split_groups(yaml.safe_load("\n".join(blocks(PAGE, "yaml"))), "page")
    check_search(values, TuneConfig.from_mapping(groups["tune"], "tune"))


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_the_python_runs(folder, ray_local):
    run_block("\n".join(blocks(PAGE, "python")), PAGE)
    assert (folder / "runs" / "search" / "best.yaml").exists()
    assert (folder / "runs" / "folds" / "summary.csv").exists()
