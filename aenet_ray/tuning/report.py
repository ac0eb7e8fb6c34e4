"""What a search found, on the terminal."""

from __future__ import annotations

from aenet_ray.tuning.progress import metric_text, values_text
from aenet_ray.tuning.results import TuneResults

SHOWN = 10


def print_results(results: TuneResults) -> None:
    """The best trials, and where everything lies."""
    tune = results.search.tune
    found = [(row, trial) for trial in results.trials if (row := trial.best_row(tune.metric, tune.sign))]
    found.sort(key=lambda pair: tune.sign * pair[0][tune.metric])
    print(f"{len(results.trials)} trials by {tune.metric}, {'lowest' if tune.mode == 'min' else 'highest'} first")
    for row, trial in found[:SHOWN]:
        value, epoch = metric_text(tune.metric, row[tune.metric]), row["epoch"] + 1
        state = f"{trial.state:8s}  epoch {epoch:4.0f}"
        print(f"  trial {trial.index:4d}  {state}  {value:>16s}  {values_text(trial.values)}")
    failed = [trial for trial in results.trials if trial.error]
    if failed:
        print(f"{len(failed)} failed; trial {failed[0].index}: {failed[0].error}")
    print(f"table, best.yaml and trials in {results.folder}")
