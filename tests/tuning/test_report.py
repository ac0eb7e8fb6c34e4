"""What is told of a cross-validation: folds are no trials of their own, configurations are compared by their means."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from aenet_ray.errors import TrainingError
from aenet_ray.tuning import report
from aenet_ray.tuning.config import TuneConfig
from aenet_ray.tuning.report import configurations, write_figures
from aenet_ray.tuning.results import TrialResult, TuneResults

MU = "training.method.mu"


def results(folder: Path, *lasts: list[float], failed: tuple[int, ...] = (), space: bool = True) -> TuneResults:
    """A cross-validation: of each configuration, mu 0.1, 0.2 ..., the last errors of its folds, eV/atom.

    The best epoch of each fold is the one before.
    """
    trials = []
    for k, errors in enumerate(lasts):
        for fold, last in enumerate(errors):
            rows = [
                {"epoch": float(e), "test_energy_rmse": v, "epoch_time": 1.0}
                for e, v in enumerate((2 * last, 0.5 * last, last))
            ]
            index = len(trials)
            state = "failed" if index in failed else "finished"
            values = {MU: (k + 1) / 10} if space else {}
            trials.append(TrialResult(index, f"fold_{fold + 1}", values, state, rows, "", folder / f"{index}", 0.0))
    domains = {MU: {"grid": [(k + 1) / 10 for k in range(len(lasts))]}} if space else {}
    tune = TuneConfig(cv=len(lasts[0]), space=domains)
    return TuneResults(SimpleNamespace(folder=folder, tune=tune), trials)


def test_figures_of_a_single_configuration(tmp_path):
    """There is nothing to compare."""
    alone = results(tmp_path, [0.1, 0.2, 0.3], space=False)
    names = [p.name for p in write_figures(alone)]
    assert names == ["folds_over_epochs.png", "folds.png"]
    assert sorted(p.name for p in (tmp_path / "report").iterdir()) == sorted(names)
    assert alone.importance() == {}
    grid_of_one = results(tmp_path, [0.1, 0.2, 0.3])
    assert [p.name for p in write_figures(grid_of_one)] == names


def test_figures_compare_configurations_by_their_means(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(report, "parallel_coordinates", lambda trials, log, label, file: drawn.update(of=trials))
    monkeypatch.setattr(report, "importance_bars", lambda shares, file: drawn.update(importance=shares))
    some = results(tmp_path, *([v, 2 * v] for v in (0.5, 0.4, 0.3, 0.2, 0.1)))
    names = [p.name for p in write_figures(some)]
    assert names == ["folds_over_epochs.png", "folds.png", "parallel_coordinates.png", "importance.png"]
    assert [(t.values["method.mu"], t.best) for t in drawn["of"]] == [
        (pytest.approx((k + 1) / 10), pytest.approx(150 * (5 - k))) for k in range(5)
    ]
    assert set(drawn["importance"]) == {"method.mu"}


def test_importance_is_of_means(tmp_path):
    """One very bad fold of each is more than lies between configurations: their means still tell them apart."""
    many = results(tmp_path, *([v, v, v, 10 + v] for v in (1.0, 1.1, 1.2, 5.0, 5.1, 5.2)))
    assert many.importance()[MU] > 0.5
    few = results(tmp_path, *([v] * 4 for v in (1.0, 2.0, 3.0, 4.0)))
    assert few.importance() == {}, "four configurations, though 16 folds"


def test_configurations_have_their_finished_folds(tmp_path):
    first, second = configurations(results(tmp_path, [0.1, 0.2, 0.6], [0.2, 0.3, 0.4], failed=(2,)))
    assert (first.name, first.text) == ("mu 0.1", "150 ± 70.7 meV/atom, 2 of 3 folds")
    assert (second.name, second.text) == ("mu 0.2", "300 ± 100 meV/atom")
    assert second.last.tolist() == pytest.approx([200, 300, 400]), "after the last epoch"
    assert (second.mean, second.spread) == pytest.approx((300, 100))
    assert first.folds == ["fold_1", "fold_2"]


def test_the_table_has_the_last_epoch_of_folds(tmp_path):
    """The best epoch would be chosen on the structures held out."""
    table = results(tmp_path, [0.1, 0.2], [0.3, 0.4]).table()
    assert table["test_energy_rmse"].tolist() == [0.1, 0.2, 0.3, 0.4]
    assert "best_epoch" not in table
    assert np.array_equal(table["split"], ["fold_1", "fold_2"] * 2)


def test_a_fold_without_the_metric_is_no_fold_of_its_mean(tmp_path):
    """Of forces there is none where a source has none: table, figures and best.yaml say of how many folds."""
    some = results(tmp_path, [0.1, np.nan, 0.3], [0.3, 0.4, 0.5])
    first, second = configurations(some)
    assert (first.text, second.text) == ("200 ± 141 meV/atom, 2 of 3 folds", "400 ± 100 meV/atom")
    assert first.folds == ["fold_1", "fold_3"]
    assert some.summary()["folds"].tolist() == [2, 3]
    assert some.best.index == 0
    assert some._found(some.best) == "test_energy_rmse 0.2 ± 0.141, mean of 2 folds"
    names = [p.name for p in write_figures(some)]
    assert names[:2] == ["folds_over_epochs.png", "folds.png"]
    assert [p.name for p in write_figures(results(tmp_path, [0.1, np.nan, 0.3], space=False))] == names[:2]


def test_without_a_whole_fold_the_best_trial_speaks(tmp_path):
    """What is left of folds that failed, and of such without the metric."""
    some = results(tmp_path, [0.1, 0.2], [0.3, 0.4], failed=(0, 1, 2, 3))
    assert some._found(some.best) == "test_energy_rmse 0.05 in epoch 2"
    assert some.summary()["folds"].tolist() == [0, 0]
    nothing = results(tmp_path, [np.nan, np.nan])
    assert nothing.summary()["folds"].tolist() == [0]
    with pytest.raises(TrainingError, match="no trial has finished an epoch"):
        _ = nothing.best


def test_curves_have_every_epoch(tmp_path, monkeypatch):
    """Also those of which no event tells: the best may be among them. A start once more is no new beginning."""
    some = results(tmp_path, [0.2, 0.4])
    events = [
        {"time": 100.0, "event": "start", "trial": "0"},
        {"time": 101.0, "event": "epoch", "trial": "0", "epoch": 1},
        {"time": 103.0, "event": "start", "trial": "0"},
        {"time": 105.0, "event": "epoch", "trial": "0", "epoch": 3},
    ]
    monkeypatch.setattr(report, "read_events", lambda folder: events)
    first, second = report.trial_curves(some)
    assert first.seconds.tolist() == [1.0, 3.0, 5.0]
    assert first.metric.tolist() == pytest.approx([400, 100, 200])
    assert first.best == pytest.approx(100)
    assert len(second.metric) == 3
