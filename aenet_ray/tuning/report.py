"""What a search found, on the terminal and as figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from aenet_ray.errors import PlotError
from aenet_ray.plots.search import TrialCurve, importance_bars, parallel_coordinates, search_curves
from aenet_ray.tuning.events import read_events
from aenet_ray.tuning.plan import COMMITTEE
from aenet_ray.tuning.progress import metric_text, values_text
from aenet_ray.tuning.results import TuneResults

SHOWN = 10


def print_results(results: TuneResults) -> None:
    """The best trials or configurations, and where everything lies."""
    if results.search.tune.cv is None:
        _print_trials(results)
    else:
        _print_folds(results)
    failed = [trial for trial in results.trials if trial.error]
    if failed:
        print(f"{len(failed)} failed; trial {failed[0].index}: {failed[0].error}")
    print(f"table, best.yaml, report and trials in {results.folder}")
    if results.search.tune.committee is not None:
        print(f"committee of {results.search.tune.committee} in {results.folder / COMMITTEE}")


def _print_trials(results: TuneResults) -> None:
    tune = results.search.tune
    found = [(row, trial) for trial in results.trials if (row := trial.best_row(tune.metric, tune.sign))]
    found.sort(key=lambda pair: tune.sign * pair[0][tune.metric])
    print(f"{len(results.trials)} trials by {tune.metric}, {'lowest' if tune.mode == 'min' else 'highest'} first")
    for row, trial in found[:SHOWN]:
        value, epoch = metric_text(tune.metric, row[tune.metric]), row["epoch"] + 1
        state = f"{trial.state:8s}  epoch {epoch:4.0f}"
        print(f"  trial {trial.index:4d}  {state}  {value:>16s}  {values_text(trial.values)}")
    if importance := results.importance():
        ordered = sorted(importance.items(), key=lambda item: -item[1])
        print("explained by " + ", ".join(f"{name} {100 * share:.0f} %" for name, share in ordered))


def _print_folds(results: TuneResults) -> None:
    """Each fold of a single configuration, then mean ± standard deviation of each configuration."""
    tune = results.search.tune
    metrics = [m for m in (tune.metric, "test_energy_mae", "test_force_rmse") if f"{m}_mean" in results.summary()]
    metrics = list(dict.fromkeys(metrics))
    print(f"{len(results.search.splits)}-fold cross-validation, errors of what was held out after the last epoch")
    if not tune.space:
        width = max(len(t.split) for t in results.trials)
        for trial in results.trials:
            last = trial.rows[-1] if trial.rows else {}
            texts = [f"{m.removeprefix('test_')} {metric_text(m, last.get(m, np.nan))}" for m in metrics]
            print(f"  {trial.split:{width}s}  {'  '.join(texts)}")
    for _, row in results.summary().head(SHOWN).iterrows():
        texts = [f"{m.removeprefix('test_')} {mean_text(m, row[f'{m}_mean'], row[f'{m}_std'])}" for m in metrics]
        settings = values_text({name: row[name] for name in tune.space})
        print(f"  mean of {row['folds']:.0f}  {'  '.join(texts)}  {settings}".rstrip())


def mean_text(metric: str, mean: float, std: float) -> str:
    """``12.3 ± 0.4 meV/atom``."""
    number, _, unit = metric_text(metric, mean).partition(" ")
    return f"{number} ± {metric_text(metric, std).partition(' ')[0]} {unit}".rstrip()


def write_figures(results: TuneResults) -> list[Path]:
    """``report/`` in the search's folder: metric against time, parallel coordinates, importance."""
    tune, folder = results.search.tune, results.folder / "report"
    folder.mkdir(exist_ok=True)
    curves = trial_curves(results)
    label = _label(tune.metric)
    log = [path for path, domain in tune.domains.items() if domain.is_log]
    short = {path: path.split(".", 1)[-1] for path in tune.space}
    renamed = [
        TrialCurve(c.name, c.seconds, c.metric, c.finished, {short[k]: v for k, v in c.values.items()}) for c in curves
    ]
    importance = {short[name]: share for name, share in results.importance().items()}
    figures: list[tuple[Path, Callable[[Path], Any]]] = [
        (folder / "metric_over_time.png", lambda file: search_curves(curves, label, file)),
        (
            folder / "parallel_coordinates.png",
            lambda file: parallel_coordinates(renamed, [short[p] for p in log], label, file),
        ),
        (folder / "importance.png", lambda file: importance_bars(importance, file)),
    ]
    written = []
    for file, draw in figures:
        try:
            draw(file)
        except PlotError:  # too few trials, or none that got anywhere: the table says so
            continue
        written.append(file)
    return written


def _label(metric: str) -> str:
    name = metric.replace("test_", "validation_").replace("_batch_mean", " (mean of batches)").replace("_", " ")
    name = name.replace("rmse", "RMSE").replace("mae", "MAE")
    unit = "" if "loss" in metric else " (meV/atom)" if "energy" in metric else " (meV/Å)"
    return name[0].upper() + name[1:] + unit


def trial_curves(results: TuneResults) -> list[TrialCurve]:
    """Each trial's metric (in thousandths for errors, times −1 where more is better) at the times it was reported."""
    tune = results.search.tune
    factor = tune.sign * (1.0 if "loss" in tune.metric else 1000.0)
    times: dict[str, list[tuple[float, float]]] = {}
    began = None
    for event in read_events(results.folder):
        began = event["time"] if began is None else began
        if event["event"] == "epoch" and event.get(tune.metric) is not None:
            times.setdefault(event["trial"], []).append((event["time"] - began, factor * event[tune.metric]))
    curves = []
    for trial in results.trials:
        seconds, metric = np.array(times.get(trial.run_dir.name, [(0.0, np.nan)])).T
        done = trial.state == "finished"
        curves.append(TrialCurve(f"trial {trial.index}", seconds, metric, done, trial.values))
    return curves
