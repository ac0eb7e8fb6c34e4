"""Cross-validation as trials, trials of several workers, and a committee of what was best."""

from __future__ import annotations

import pandas as pd
import pytest
import yaml
from searches import experiment

import aenet_ray
from aenet_ray.cli.main import main
from aenet_ray.training.checkpoint import numbered
from aenet_ray.tuning.results import TuneResults

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


def test_folds_from_the_command_line(tmp_path, ray_local, capsys):
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(experiment(tmp_path, "folds", iterations=3)))
    assert main(["tune", str(tmp_path / "run.yaml"), "--cv", "3", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "3-fold cross-validation" in said
    results = TuneResults.from_folder(tmp_path / "folds")
    last = [t.rows[-1]["test_energy_rmse"] for t in results.trials]
    (row,) = results.summary().to_dict("records")
    assert row["folds"] == row["of"] == 3
    assert row["test_energy_rmse_mean"] == pytest.approx(sum(last) / 3)
    assert row["test_energy_rmse_std"] == pytest.approx(pd.Series(last).std())
    assert f"{1000 * row['test_energy_rmse_mean']:.3g}"[:3] in said
    assert [t.split for t in results.trials] == ["fold_1", "fold_2", "fold_3"]
    best = yaml.safe_load((tmp_path / "folds" / "best.yaml").read_text())
    assert "split" not in best["data"], "the best configuration of folds is for all data"
    assert best["training"]["testpercent"] == 20


def test_trials_of_two_workers_and_a_committee(tmp_path, ray_local):
    """Two trainers of two workers each at a time on four CPUs, whose drivers hold none of them."""
    values = experiment(tmp_path, "two", iterations=4)
    values["scaling"] = {"num_workers": 2}
    search = {"space": {"training.method.mu": {"grid": [0.01, 1e-5]}}, "scheduler": "none", "committee": 2}
    results = aenet_ray.tune(values, search)
    assert [t.state for t in results.trials] == ["finished"] * 2
    assert all(len(t.rows) == 4 and numbered(t.run_dir / "checkpoints") for t in results.trials)
    assert all((t.run_dir / "ray").is_dir() for t in results.trials), "not trained by Ray Train"
    assert results.best.values["training.method.mu"] > 0.005
    committee = aenet_ray.TorchCommitteePotential.from_directory(tmp_path / "two" / "committee")
    assert committee.num_members == 2
    assert len(list((tmp_path / "features").iterdir())) == 1, "the committee made features of its own"
