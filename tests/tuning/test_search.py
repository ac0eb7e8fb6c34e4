"""A search from its file to its results, on real trials."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from searches import experiment

import aenet_ray
from aenet_ray.cli.main import main
from aenet_ray.errors import TrainingError
from aenet_ray.structures.split import SplitFile
from aenet_ray.training.checkpoint import numbered
from aenet_ray.tuning.results import TuneResults

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

SPACE = {
    "training.method.mu": {"loguniform": [1e-4, 0.05]},
    "descriptor.rad_order": {"choice": [3, 4]},
    "network.width": {"randint": [3, 8]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("search")


@pytest.fixture(scope="module")
def found(folder, ray_local) -> TuneResults:
    search = {"space": SPACE, "num_samples": 7, "seed": 2, "grace_period": 1}
    return aenet_ray.tune(experiment(folder), search)


def test_trials_are_runs(found, folder):
    """Each with history and checkpoints, also those that the scheduler stopped; all on one split."""
    assert len(found.trials) == 7
    split = SplitFile.load(folder / "search" / "split.json")
    for trial in found.trials:
        assert trial.rows
        assert numbered(trial.run_dir / "checkpoints"), "no checkpoint left"
        assert json.loads((trial.run_dir / "run.json").read_text())["config"]["seed"] == 3
        with pd.io.common.get_handle(trial.run_dir / "split.npz", "rb", is_text=False) as file:
            import numpy as np

            ids = np.load(file.handle)
            assert ids["train"].tolist() == split["train"].tolist()
            assert ids["test"].tolist() == split["validation"].tolist()
    states = {trial.state for trial in found.trials}
    assert states == {"finished", "stopped"}, "ASHA stops some, others come to their end"
    assert all(len(t.rows) == 9 for t in found.trials if t.state == "finished")
    assert all(len(t.rows) < 9 for t in found.trials if t.state == "stopped")


def test_features_are_made_once_per_descriptor(found, folder):
    """Before the trials: none of them found any missing."""
    entries = sorted(p.name for p in (folder / "features").iterdir())
    orders = {trial.values["descriptor.rad_order"] for trial in found.trials}
    assert len(entries) == len(orders) == 2
    first = min(trial.started for trial in found.trials)
    assert all((folder / "features" / e / "index.json").stat().st_mtime < first for e in entries)


def test_table_and_events(found, folder):
    table = found.table()
    assert {"trial", "state", "epochs", "test_energy_rmse", "seconds", *SPACE} <= set(table.columns)
    best = table.loc[table.test_energy_rmse.idxmin()]
    assert found.best.index == best.trial
    assert len(pd.read_csv(folder / "search" / "results.csv")) == 7
    events = [json.loads(line) for line in (folder / "search" / "events.jsonl").read_text().splitlines()]
    assert {e["event"] for e in events} == {"start", "epoch", "end"}
    assert sum(e["event"] == "end" for e in events) == 7


def test_best_is_ready_to_run(found, folder, monkeypatch):
    """It gives the trial again: the same split, seeds and settings."""
    monkeypatch.chdir(folder)
    file = folder / "search" / "best.yaml"
    again = yaml.safe_load(file.read_text())
    again["training"]["show_progress"] = False
    again["export"] = True
    (folder / "again.yaml").write_text(yaml.safe_dump(again))
    assert main(["train", "again.yaml"]) == 0
    history = pd.read_csv(folder / "search" / "best" / "history.csv")
    trial = found.best
    n = min(len(trial.rows), len(history)) - 1  # the last row of a finished run is a full pass
    column = [row["test_energy_rmse"] for row in trial.rows[:n]]
    assert history.test_energy_rmse[:n].tolist() == pytest.approx(column, rel=1e-7)


def test_a_finished_search_is_not_begun_again(found, folder):
    search = {"space": SPACE, "num_samples": 7, "seed": 2, "grace_period": 1}
    with pytest.raises(TrainingError, match="holds a search already"):
        aenet_ray.tune(experiment(folder), search)
    values = experiment(folder)
    values["run"]["resume"] = "auto"
    with pytest.raises(TrainingError, match=r"began with other settings \(tune.num_samples: 7 -> 9\)"):
        aenet_ray.tune(values, search | {"num_samples": 9})
