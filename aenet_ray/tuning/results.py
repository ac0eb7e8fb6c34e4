"""What a search found, read from its trials' folders: also of one that is still going, or was killed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from aenet_ray.errors import TrainingError
from aenet_ray.files import write_text
from aenet_ray.training.history import HistoryTail, Row
from aenet_ray.tuning.importance import setting_importance
from aenet_ray.tuning.plan import TRIALS, Search
from aenet_ray.tuning.trial import ERROR, read_note

if TYPE_CHECKING:
    from pandas import DataFrame

SHOWN_METRICS = ("test_energy_rmse", "test_energy_mae", "test_force_rmse", "test_force_mae", "test_loss")


@dataclass(frozen=True, slots=True)
class TrialResult:
    """A trial as its folder tells it.

    Args:
        index: Its number.
        split: Name of the split it used.
        values: Sampled settings.
        state: finished, stopped (early, or interrupted), or failed.
        rows: Its history.
        error: What ended a failed one.
        run_dir: Its folder.
        started: Unix time, s.
    """

    index: int
    split: str
    values: dict[str, Any]
    state: str
    rows: list[Row]
    error: str
    run_dir: Path
    started: float

    @property
    def finished(self) -> bool:
        """It came to its end, and has epochs."""
        return self.state == "finished" and bool(self.rows)

    def best_row(self, metric: str, sign: float) -> Row | None:
        """The epoch with the best value of the metric."""
        rows = [row for row in self.rows if math.isfinite(row[metric])]
        return min(rows, key=lambda row: sign * row[metric], default=None)


@dataclass(frozen=True, slots=True)
class TuneResults:
    """All trials of a search.

    Args:
        search: What was searched.
        trials: In their order.
    """

    search: Search
    trials: list[TrialResult]

    @classmethod
    def from_folder(cls, folder: str | Path) -> TuneResults:
        """Raises:
        TrainingError: The folder holds no search.
        """
        search = Search.load(Path(folder))
        return cls(search, list(_read_trials(search.folder / TRIALS)))

    @property
    def folder(self) -> Path:
        return self.search.folder

    def table(self) -> DataFrame:
        """One row a trial: state, epochs, seconds, settings, and the metrics of its best epoch; of a fold, of its last.

        Energies in eV/atom, forces in eV/Å.
        """
        import pandas as pd

        return pd.DataFrame([self._row(trial) for trial in self.trials])

    def _row(self, trial: TrialResult) -> dict[str, Any]:
        tune = self.search.tune
        best = self._telling(trial) or {}
        metrics = dict.fromkeys((tune.metric, *SHOWN_METRICS))
        shown = {name: best.get(name, math.nan) for name in metrics}
        if "force" not in tune.metric and all(math.isnan(shown.get(n, math.nan)) for n in SHOWN_METRICS[2:4]):
            shown = {k: v for k, v in shown.items() if "force" not in k}
        return {
            "trial": trial.index,
            **({"split": trial.split} if tune.cv is not None else {}),
            "state": trial.state,
            "epochs": len(trial.rows),
            **({"best_epoch": int(best["epoch"]) + 1 if best else None} if tune.cv is None else {}),
            **shown,
            "seconds": sum(row["epoch_time"] for row in trial.rows if math.isfinite(row["epoch_time"])),
            **trial.values,
            "error": trial.error,
        }

    def _telling(self, trial: TrialResult) -> Row | None:
        """The epoch that stands for a trial; of a fold the last: the best is chosen on the structures held out."""
        tune = self.search.tune
        if tune.cv is None:
            return trial.best_row(tune.metric, tune.sign)
        return trial.rows[-1] if trial.rows else None

    @property
    def best(self) -> TrialResult:
        """The trial with the best value of the metric in any epoch; of a cross-validation, the first of the
        configuration with the best mean.

        Raises:
            TrainingError: No trial has finished an epoch.
        """
        tune = self.search.tune
        if tune.cv is not None:
            leading = self._leading()
            if leading is not None:
                return self.trials[int(leading.name)]
        found = [(row[tune.metric] * tune.sign, t) for t in self.trials if (row := t.best_row(tune.metric, tune.sign))]
        if not found:
            errors = [trial.error for trial in self.trials if trial.error]
            raise TrainingError(f"{self.folder}: no trial has finished an epoch. {errors[0] if errors else ''}".strip())
        return min(found, key=lambda pair: pair[0])[1]

    def summary(self) -> DataFrame:
        """One row a configuration of a cross-validation, best first: mean and standard deviation over its folds.

        Of the last epoch of each fold, not of its best: that would be chosen on the structures held out. The spread is
        that of single folds (n − 1); energies in eV/atom, forces in eV/Å.
        """
        import pandas as pd

        tune, rows = self.search.tune, {}
        for group in self.configurations():
            last = [t.rows[-1] for t in self.measured(group)]
            measured = pd.DataFrame(last, columns=list(dict.fromkeys((tune.metric, *SHOWN_METRICS))), dtype=float)
            measured = measured.dropna(axis=1, how="all") if len(measured) else measured
            numbers = {f"{c}_{kind}": getattr(measured[c], kind)() for c in measured for kind in ("mean", "std")}
            rows[self.trials.index(group[0])] = {**group[0].values, "folds": len(last), "of": len(group), **numbers}
        table = pd.DataFrame.from_dict(rows, orient="index")
        return table.sort_values(f"{tune.metric}_mean", ascending=tune.mode == "min") if len(table) else table

    def measured(self, folds: list[TrialResult]) -> list[TrialResult]:
        """Those that came to their end with a value of the metric: of forces there is none where none were given."""
        return [t for t in folds if t.finished and math.isfinite(t.rows[-1][self.search.tune.metric])]

    def _leading(self) -> Any:
        """The row of the best configuration of a cross-validation; None where none was measured."""
        summary = self.summary()
        known = len(summary) and math.isfinite(summary[f"{self.search.tune.metric}_mean"].iloc[0])
        return summary.iloc[0] if known else None

    def configurations(self) -> list[list[TrialResult]]:
        """Trials of the same settings: those of one cross-validation."""
        groups: dict[str, list[TrialResult]] = {}
        for trial in self.trials:
            groups.setdefault(json.dumps(trial.values, sort_keys=True), []).append(trial)
        return list(groups.values())

    def best_settings(self) -> dict[str, Any]:
        """Settings of a run as the best trial: the same data, split, seeds and configuration; of a cross-validation,
        the best configuration on all its data."""
        trial = self.best
        settings = self.search.settings(trial.values, trial.split)
        if self.search.tune.cv is not None:
            del settings["data"]["split"]
        settings["run"] = {"name": "best", "storage_path": str(self.folder)}
        return settings

    def importance(self) -> dict[str, float]:
        """Share of the rank variance of the metric that each setting explains alone; see ``tuning.importance``.

        Of a cross-validation, the metric is the mean of each configuration.
        """
        tune = self.search.tune
        if not tune.space:
            return {}
        if tune.cv is not None:
            summary, means = self.summary(), f"{tune.metric}_mean"
            values = [self.trials[int(index)].values for index in summary.index]
            return setting_importance(values, (tune.sign * summary[means]).fillna(math.inf).to_list())
        rows = [trial.best_row(tune.metric, tune.sign) for trial in self.trials]
        metric = [tune.sign * row[tune.metric] if row else math.inf for row in rows]
        return setting_importance([trial.values for trial in self.trials], metric)

    def _found(self, trial: TrialResult) -> str:
        """What speaks for the best trial: its best epoch, or the mean over all folds of its configuration."""
        tune = self.search.tune
        row = self._leading() if tune.cv is not None else None
        if row is not None:
            mean, std = row[f"{tune.metric}_mean"], row[f"{tune.metric}_std"]
            return f"{tune.metric} {mean:.6g} ± {std:.3g}, mean of {row['folds']:.0f} folds"
        best = trial.best_row(tune.metric, tune.sign) or {}
        return f"{tune.metric} {best[tune.metric]:.6g} in epoch {best['epoch'] + 1:.0f}"

    def write(self) -> dict[str, Path]:
        """``results.csv`` and ``best.yaml`` in the search's folder; file by name."""
        written = {"table": self.folder / "results.csv", "best": self.folder / "best.yaml"}
        write_text(written["table"], self.table().to_csv(index=False))
        trial = self.best
        head = f"# trial {trial.index} of the search in {self.folder}: {self._found(trial)}\n"
        text = yaml.safe_dump(self.best_settings(), sort_keys=False, allow_unicode=True)
        write_text(written["best"], head + "#   aenet-ray train best.yaml\n" + text)
        if self.search.tune.cv is not None:
            written["summary"] = self.folder / "summary.csv"
            write_text(written["summary"], self.summary().to_csv(index_label="trial"))
        return written


def _read_trials(folder: Path) -> Iterator[TrialResult]:
    for run_dir in sorted(folder.glob("trial_*")):
        note = read_note(run_dir)
        if not note:
            continue
        rows = HistoryTail(run_dir / "history.csv").read()
        error = _error(run_dir)
        state = "failed" if error else "finished" if (run_dir / "model.pt").exists() else "stopped"
        yield TrialResult(note["index"], note["split"], note["values"], state, rows, error, run_dir, note["started"])


def _error(run_dir: Path) -> str:
    try:
        return str(json.loads((run_dir / ERROR).read_text())["text"])
    except FileNotFoundError:
        return ""
