"""One trial: an ordinary run in its own folder, over the search's store, split and features."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from aenet_ray.errors import AenetRayError, ConfigError, SharedDataError, StoreError
from aenet_ray.files import write_text
from aenet_ray.structures.store import StructureStore
from aenet_ray.training import checkpoint
from aenet_ray.training.choose import Split
from aenet_ray.training.comm import Solo
from aenet_ray.training.driver import choose_device
from aenet_ray.training.engine import run_training
from aenet_ray.training.history import HistoryTail, Row
from aenet_ray.training.run_folder import SPEC
from aenet_ray.training.spec import RunSpec
from aenet_ray.tuning.plan import Search
from aenet_ray.workflow import begin

TRIAL, ERROR = "trial.json", "error.json"
"""In a trial's folder; an error of what all trials share is in the search's folder."""
Report = Callable[[dict[str, Any], Path | None], None]
"""Takes a trial's numbers, and the checkpoint that they belong to where the scheduler hands it on."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial's own part of a search.

    Args:
        index: Its number.
        split: Name of the split in use.
        values: Sampled settings by their dotted names.
    """

    index: int
    split: str
    values: dict[str, Any]

    @classmethod
    def of(cls, sampled: Mapping[str, Any]) -> Trial:
        """From what Tune hands a trial: index, split and settings in one flat mapping."""
        values = {k: v for k, v in sampled.items() if k not in ("index", "split")}
        return cls(int(sampled["index"]), str(sampled["split"]), values)


def train_trial(
    search: Search, trial: Trial, report: Report, threads: int, use_gpu: bool, inherited: Path | None
) -> None:
    """Train a trial to its end, in this process.

    An error that would come again at every try, such as training that diverges, ends the trial with the worst value
    of the metric; it stands in the trial's folder. One of the store that all trials share ends the search.

    Args:
        report: Called after every epoch; may raise SystemExit to stop the trial, which keeps its checkpoints.
        inherited: Checkpoint of another trial to go on from, in place of its own.

    Raises:
        SharedDataError: What all trials share is gone or damaged.
    """
    torch.set_num_threads(threads)
    run_dir = search.trial_dir(trial.index)
    told = Told(search, trial, report)
    try:
        prepare_trial(search, trial, inherited)
        if inherited is None:
            told.last_row()
        run_training(run_dir, Solo(), choose_device(None if use_gpu else "cpu"), told.epoch)
        told.last_row()
    except AenetRayError as error:
        told.failed(error)


def prepare_trial(search: Search, trial: Trial, inherited: Path | None = None) -> Path:
    """The trial's run folder, ready to train or to go on."""
    run_dir = search.trial_dir(trial.index)
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / ERROR).unlink(missing_ok=True)
    note(run_dir, trial, "features")
    config = search.config(trial.index, trial.values, trial.split)
    store, split = shared_data(search, trial)
    if inherited is not None and (run_dir / SPEC).exists():
        _take_over(run_dir, config.training, inherited)
    else:
        begin(config, run_dir, store, split, None)
    note(run_dir, trial, "training")
    return run_dir


def shared_data(search: Search, trial: Trial) -> tuple[StructureStore, Split]:
    """Raises:
    SharedDataError: Store or split is gone, damaged or another one.
    """
    try:
        store = search.store
        return store, search.split(trial.split).load(store)
    except (ConfigError, StoreError) as error:
        raise SharedDataError(str(error)) from None


def _cause(error: AenetRayError, search: Search, trial: Trial) -> AenetRayError:
    """What the trial failed of: features are its own, unless what they are made of was lost meanwhile."""
    if isinstance(error, StoreError):
        try:
            shared_data(search, trial)
        except SharedDataError as lost:
            return lost
    return error


def _take_over(run_dir: Path, training: Any, inherited: Path) -> None:
    """Put another trial's checkpoint, and settings that were changed, in place of this run's own."""
    spec = RunSpec.load(run_dir)
    config = training.model_copy(update={"precision": spec.config.precision})
    replace(spec, config=config).save(run_dir)
    folder = run_dir / (spec.config.checkpoint_dir or "checkpoints")
    for _, path in checkpoint.numbered(folder):
        path.unlink()
    folder.mkdir(exist_ok=True)
    (run_dir / "model.pt").unlink(missing_ok=True)
    shutil.copy(inherited, folder / inherited.name)


def note(run_dir: Path, trial: Trial, stage: str) -> None:
    """Leave in the folder what the trial is, and what it is doing."""
    known = read_note(run_dir)
    values = {"index": trial.index, "split": trial.split, "values": trial.values}
    started = known.get("started", time.time())
    write_text(run_dir / TRIAL, json.dumps({**values, "stage": stage, "started": started}))


def read_note(run_dir: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((run_dir / TRIAL).read_text()))
    except (FileNotFoundError, ValueError):
        return {}


BEST = "best_so_far"
"""Beside the metric in what is told: its best value in any epoch until then."""


class Told:
    """What a trial tells the search: every epoch that its scheduler decides at, and others as often as takes no more
    than a tenth of the time, since Tune takes some 20 ms to hear of one."""

    def __init__(self, search: Search, trial: Trial, report: Report) -> None:
        self.search, self.trial, self.report = search, trial, report
        self.run_dir = search.trial_dir(trial.index)
        self.metric, self.sign = search.tune.metric, search.tune.sign
        self.scheduling = search.tune.scheduling
        self.rungs = search.rungs
        self.next_report = 0.0
        self.best = math.inf  # of all epochs, told or not; times the sign that makes less better

    def epoch(self, row: Row, last: bool) -> None:
        """An epoch; the last one is told when the model is written, since a scheduler may stop the trial there."""
        self._know(row)
        decides = self.scheduling not in ("none", "asha") or int(row["epoch"]) + 1 in self.rungs
        if not last and (decides or time.monotonic() >= self.next_report):
            self.row(row)

    def row(self, row: Row) -> None:
        value = float(row[self.metric])
        if not math.isfinite(value):
            value = self.sign * math.inf
        numbers = {k: float(v) for k, v in row.items() if k not in ("epoch", self.metric)}
        path = self._newest() if self.scheduling in ("pbt", "bohb") else None
        began = time.monotonic()
        told = {"epoch": int(row["epoch"]) + 1, self.metric: value, BEST: self.sign * self.best}
        self.report({**told, "index": self.trial.index, **numbers}, path)
        now = time.monotonic()
        self.next_report = now + 9 * (now - began)

    def _newest(self) -> Path | None:
        found = checkpoint.numbered(self.run_dir / "checkpoints")
        return found[-1][1] if found else None

    def last_row(self) -> None:
        """Where the trial is by its files: at its end, or where it goes on, of which the search may not have heard."""
        rows = HistoryTail(self.run_dir / "history.csv").read()
        for row in rows:
            self._know(row)
        if rows:
            self.row(rows[-1])

    def _know(self, row: Row) -> None:
        value = self.sign * float(row[self.metric])
        if math.isfinite(value):
            self.best = min(self.best, value)

    def failed(self, error: AenetRayError) -> None:
        """Raises:
        SharedDataError: The error is one, or comes of one; the others would all fail of it, too.
        """
        error = _cause(error, self.search, self.trial)
        ends_all = isinstance(error, SharedDataError)
        text = json.dumps({"class": type(error).__name__, "text": str(error)})
        write_text((self.search.folder if ends_all else self.run_dir) / ERROR, text)
        if ends_all:
            raise error
        rows = HistoryTail(self.run_dir / "history.csv").read()
        epoch = int(rows[-1]["epoch"]) + 2 if rows else 1
        self.report(
            {"epoch": epoch, self.metric: self.sign * math.inf, "index": self.trial.index, "failed": True}, None
        )
