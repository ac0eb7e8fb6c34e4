"""What a search found, on the terminal and as figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from aenet_ray.errors import PlotError
from aenet_ray.plots.folds import Configuration, fold_curves, fold_spread
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


Drawing = tuple[str, Callable[[Path], Any]]
"""Name of the file, and what draws it there."""


def write_figures(results: TuneResults) -> list[Path]:
    """``report/`` in the search's folder: the metric in time, parallel coordinates, importance; of a cross-validation
    the metric of all folds by epochs and at the end, and the rest of its configurations."""
    folder = results.folder / "report"
    folder.mkdir(exist_ok=True)
    written = []
    for name, draw in _fold_figures(results) if results.search.tune.cv is not None else _trial_figures(results):
        try:
            draw(folder / name)
        except PlotError:  # too few trials, or none that got anywhere: the table says so
            continue
        written.append(folder / name)
    return written


def _trial_figures(results: TuneResults) -> list[Drawing]:
    curves, label = trial_curves(results), _label(results.search.tune.metric)
    over_time: Drawing = ("metric_over_time.png", lambda file: search_curves(curves, label, file))
    return [over_time, *_setting_figures(results, curves)]


def _fold_figures(results: TuneResults) -> list[Drawing]:
    """Settings are compared by the means of configurations; there is nothing to compare in a single one."""
    found, label = configurations(results), _label(results.search.tune.metric)
    means = [TrialCurve(c.name, np.zeros(1), np.array([c.mean]), True, c.values) for c in found]
    figures: list[Drawing] = [
        ("folds_over_epochs.png", lambda file: fold_curves(found, label, file)),
        ("folds.png", lambda file: fold_spread(found, label, file)),
    ]
    return [*figures, *(_setting_figures(results, means, "Mean of validation") if len(found) > 1 else ())]


def _setting_figures(results: TuneResults, curves: list[TrialCurve], of: str = "Validation") -> list[Drawing]:
    """Of each setting: what its values led to, and how much it mattered."""
    tune = results.search.tune
    label = _label(tune.metric).replace("Validation", of, 1)
    short = {path: path.split(".", 1)[-1] for path in tune.space}
    log = [short[path] for path, domain in tune.domains.items() if domain.is_log]
    renamed = [
        TrialCurve(c.name, c.seconds, c.metric, c.finished, {short[k]: v for k, v in c.values.items()}) for c in curves
    ]
    importance = {short[name]: share for name, share in results.importance().items()}
    return [
        ("parallel_coordinates.png", lambda file: parallel_coordinates(renamed, log, label, file)),
        ("importance.png", lambda file: importance_bars(importance, file)),
    ]


def configurations(results: TuneResults) -> list[Configuration]:
    """Those of a cross-validation with a finished fold; the metric as ``trial_curves`` has it."""
    tune, found = results.search.tune, []
    for group in results.configurations():
        done = results.measured(group)
        if not done:
            continue
        metric = [_factor(results) * np.array([row[tune.metric] for row in t.rows]) for t in done]
        last = np.array([t.rows[-1][tune.metric] for t in done])
        text = mean_text(tune.metric, last.mean(), last.std(ddof=1) if len(last) > 1 else np.nan)
        text += f", {len(done)} of {len(group)} folds" if len(done) < len(group) else ""
        values = group[0].values
        found.append(Configuration(values_text(values), text, [t.split for t in done], metric, values))
    return found


def _factor(results: TuneResults) -> float:
    """Errors in thousandths, less is better."""
    return results.search.tune.sign * (1.0 if "loss" in results.search.tune.metric else 1000.0)


def _label(metric: str) -> str:
    name = metric.replace("test_", "validation_").replace("_batch_mean", " (mean of batches)").replace("_", " ")
    name = name.replace("rmse", "RMSE").replace("mae", "MAE")
    unit = "" if "loss" in metric else " (meV/atom)" if "energy" in metric else " (meV/Å)"
    return name[0].upper() + name[1:] + unit


def trial_curves(results: TuneResults) -> list[TrialCurve]:
    """Each trial's metric (in thousandths for errors, times −1 where more is better) after every epoch.

    Only some epochs are events; between these, epochs are spread evenly over the time.
    """
    tune = results.search.tune
    factor = _factor(results)
    times: dict[str, dict[int, float]] = {}
    began = None
    for event in read_events(results.folder):
        began = event["time"] if began is None else began
        if event["event"] == "start":
            times.setdefault(event["trial"], {0: event["time"] - began})
        elif event["event"] == "epoch":
            times.setdefault(event["trial"], {})[event["epoch"]] = event["time"] - began
    curves = []
    for trial in results.trials:
        known = sorted(times.get(trial.run_dir.name, {0: 0.0}).items())
        epochs = [row["epoch"] + 1 for row in trial.rows] or [0]
        seconds = np.interp(epochs, [epoch for epoch, _ in known], [time for _, time in known])
        metric = factor * np.array([row[tune.metric] for row in trial.rows] or [np.nan])
        curves.append(TrialCurve(f"trial {trial.index}", seconds, metric, trial.state == "finished", trial.values))
    return curves
