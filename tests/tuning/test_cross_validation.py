"""Cross-validation as trials, trials of several workers, and a committee of what was best."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from searches import TIO2, experiment

import aenet_ray
from aenet_ray.cli.main import main
from aenet_ray.structures.ase_io import write_ase
from aenet_ray.structures.readers import read_structures
from aenet_ray.training.checkpoint import numbered
from aenet_ray.tuning.config import TuneConfig
from aenet_ray.tuning.plan import open_search
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
    report = sorted(p.name for p in (tmp_path / "folds" / "report").iterdir())
    assert report == ["folds.png", "folds_over_epochs.png"], "one configuration: nothing to compare"
    table = pd.read_csv(tmp_path / "folds" / "results.csv")
    assert table.test_energy_rmse.tolist() == pytest.approx(last)
    text = (tmp_path / "folds" / "best.yaml").read_text()
    assert f"{row['test_energy_rmse_mean']:.6g} ± {row['test_energy_rmse_std']:.3g}, mean of 3 folds" in text
    best = yaml.safe_load(text)
    assert "split" not in best["data"], "the best configuration of folds is for all data"
    assert best["training"]["testpercent"] == 20


def test_sources_from_the_command_line(tmp_path, ray_local, capsys):
    """Three files, each held out once; the last two of them are one source by their names."""
    structures = list(read_structures(TIO2))[:60]
    for k, name in enumerate(("bulk", "md_300K", "md_600K")):
        write_ase(structures[20 * k : 20 * k + 20], tmp_path / f"{name}.extxyz")
    values = experiment(tmp_path, "sources", iterations=2)
    values["data"]["files"] = [str(path) for path in sorted(tmp_path.glob("*.extxyz"))]
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(values))
    assert main(["tune", str(tmp_path / "run.yaml"), "--cv", "source", "--quiet"]) == 0
    said = capsys.readouterr().out
    results = TuneResults.from_folder(tmp_path / "sources")
    assert [t.split for t in results.trials] == ["bulk.extxyz", "md_300K.extxyz", "md_600K.extxyz"]
    sources = results.search.store.sources()
    for trial in results.trials:
        assert trial.state == "finished"
        with np.load(trial.run_dir / "split.npz") as ids:
            held_out, rest = ids["test"], ids["train"]
        assert {Path(sources[i]).name for i in held_out} == {trial.split}
        assert len(held_out) == 20
        assert len(rest) == 40
        assert trial.split in said
    assert "mean of 3" in said
    values["run"]["name"] = "kinds"
    search = open_search(values, TuneConfig(cv="source", source_pattern=r"(bulk|md)[^/]*$"))
    assert {s.name: len(s.load(search.store).test_ids) for s in search.splits} == {"bulk": 20, "md": 40}


@pytest.fixture
def without_cleaner(ray_local):
    """Ray frees the workers of a stopped trainer by its dashboard, which the Ray of the session has not."""
    from ray._raylet import PlacementGroupID
    from ray.util import placement_group_table, remove_placement_group
    from ray.util.placement_group import PlacementGroup

    yield
    for name, group in placement_group_table().items():
        if group["state"] == "CREATED":
            remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(name))))


@pytest.mark.slow
def test_trials_of_two_workers_and_a_committee(tmp_path, ray_local, without_cleaner):
    """Each a trainer of its own; ASHA takes the workers of a bad one away, and leaves its checkpoint."""
    values = experiment(tmp_path, "two", iterations=200)
    values["scaling"] = {"num_workers": 2}
    search = {"space": {"training.method.mu": {"grid": [0.01, 1e-6]}}, "grace_period": 2, "reduction_factor": 2}
    results = aenet_ray.tune(values, search, max_concurrent=1, committee=2)
    good, bad = results.trials
    assert (good.state, bad.state) == ("finished", "stopped")
    assert not bad.error
    assert len(good.rows) == 200
    assert 2 <= len(bad.rows) < 200
    assert numbered(bad.run_dir / "checkpoints")
    assert all((t.run_dir / "ray").is_dir() for t in results.trials), "not trained by Ray Train"
    assert results.best.index == good.index
    committee = aenet_ray.TorchCommitteePotential.from_directory(tmp_path / "two" / "committee")
    assert committee.num_members == 2
    assert len(list((tmp_path / "features").iterdir())) == 1, "the committee made features of its own"
