"""Searchers and schedulers other than the default, and trackers; those whose packages are not here are skipped."""

from __future__ import annotations

import sys

import pandas as pd
import pytest
from searches import experiment

import aenet_ray
from aenet_ray.errors import ConfigError

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

MU = {"training.method.mu": {"loguniform": [1e-4, 1e-1]}}
MORE = {
    "network": {"choice": [[[4, "tanh"]], [[8, "tanh"], [4, "tanh"]]]},
    "training.method.batchsize": {"qrandint": [8, 32, 8]},
}


@pytest.mark.parametrize("name", ["optuna", "hyperopt", "bohb"])
def test_searchers(name, tmp_path, ray_local):
    """Proposals keep to steps and lists, whatever the library makes of them."""
    for package in {"bohb": ("hpbandster", "ConfigSpace")}.get(name, (name,)):
        pytest.importorskip(package)
    results = aenet_ray.tune(experiment(tmp_path, name), space=MU | MORE, searcher=name, num_samples=5, seed=1)
    assert len(results.trials) == 5
    for trial in results.trials:
        assert trial.rows
        assert trial.values["network"] in MORE["network"]["choice"]
        assert trial.values["training.method.batchsize"] in (8, 16, 24, 32)
    assert len({t.values["training.method.mu"] for t in results.trials}) == 5


@pytest.mark.parametrize("name", ["optuna", "hyperopt", "bohb"])
def test_missing_packages_are_named(name, tmp_path, monkeypatch):
    package = {"bohb": "hpbandster"}.get(name, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ConfigError, match=rf"tune.searcher: '{name}' needs the package {package}.*pip install {package}"
    ):
        aenet_ray.tune(experiment(tmp_path), space=MU, searcher=name)
    assert not (tmp_path / "search").exists()


def test_pbt_goes_on_from_better_trials(tmp_path, ray_local):
    """A bad trial takes the weights and the history of a good one, and other settings from there on."""
    search = {"space": MU, "scheduler": "pbt", "num_samples": 4, "grace_period": 3, "seed": 1}
    results = aenet_ray.tune(experiment(tmp_path, "pbt", iterations=6), search)
    assert [t.state for t in results.trials] == ["finished"] * 4
    histories = [pd.read_csv(t.run_dir / "history.csv") for t in results.trials]
    assert all(h.epoch.tolist() == list(range(6)) for h in histories)
    taken = [h for h in histories if h.learning_rate.nunique() > 1]
    assert taken, "no trial took over another"
    firsts = [h.test_energy_rmse[0] for h in histories]
    another = [firsts.count(h.test_energy_rmse[0]) >= 2 for h in taken]
    assert any(another), "not the history of another trial"
    # The one that was taken from may have taken over a third since.
    assert all(another) or len(taken) > 1, "not the history of another trial"


def test_diverging_trials_fail_alone(tmp_path, ray_local):
    """One that comes to no numbers is told as failed, with its error, and is not tried again."""
    space = {"training.method": {"grid": [{"name": "sgd", "lr": 1e200}, {"name": "adam", "mu": 0.01}]}}
    values = experiment(tmp_path, iterations=4) | {"network": [[4, "linear"]]}
    results = aenet_ray.tune(values, space=space, scheduler="median", max_failures=3)
    bad, good = results.trials
    assert (bad.state, good.state) == ("failed", "finished")
    assert "training has diverged" in bad.error
    assert results.best.index == good.index
    events = (tmp_path / "search" / "events.jsonl").read_text()
    assert '"state": "failed"' in events
    assert '"retry"' not in events


def test_what_never_fits_is_said_at_once(tmp_path, ray_local):
    values = experiment(tmp_path)
    values["scaling"] = {"num_workers": 500}
    with pytest.raises(ConfigError, match="500 workers need 500 CPUs, the cluster has 4"):
        aenet_ray.tune(values, space=MU)
    assert not (tmp_path / "features").exists(), "features were made first"


@pytest.mark.parametrize(
    ("name", "package"), [("tensorboard", "tensorboard"), ("mlflow", "mlflow"), ("wandb", "wandb")]
)
def test_trackers(name, package, tmp_path, ray_local, monkeypatch):
    """Each trial is a run of the tracker's, through Ray's callbacks, without a network."""
    pytest.importorskip(package)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("WANDB_MODE", "offline")
    values = experiment(tmp_path, iterations=2)
    values["run"]["loggers"] = [name]
    aenet_ray.tune(values, space=MU, num_samples=2, scheduler="none")
    if name == "tensorboard":
        assert len(list((tmp_path / "search" / "ray").glob("trial_*/*tfevents*"))) == 2
    elif name == "wandb":
        assert len(list(tmp_path.glob("search/wandb/offline-run-*"))) == 2
    else:
        import sqlite3

        with sqlite3.connect(tmp_path / "mlflow.db") as database:
            assert database.execute("select count(*) from runs").fetchone() == (2,)
            assert database.execute("select count(distinct step) from metrics").fetchone()[0] >= 2
