"""How a search goes: a line of JSON for everything that happens, and what the trials are doing."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.tune import Callback

from aenet_ray.training.launch import worker_error
from aenet_ray.training.trials import TrialWatch
from aenet_ray.tuning.events import EVENTS, read_events
from aenet_ray.tuning.plan import Search
from aenet_ray.tuning.progress import TrialLine, progress_table, status_line, trial_text
from aenet_ray.tuning.searchers import flat
from aenet_ray.tuning.trial import BEST, Trial, read_note
from aenet_ray.waiting import PATIENCE

if TYPE_CHECKING:
    from rich.table import Table

logger = logging.getLogger(__name__)


class Watch(TrialWatch):
    """Writes ``events.jsonl``, and a line for each trial that ends.

    Args:
        folder: Of the search.
        sign: 1 where less of the metric is better, −1 where more is.
        workers: Of a trial.
    """

    def __init__(self, folder: Path, metric: str, sign: float, workers: int, show: bool = True) -> None:
        super().__init__(show)
        self.folder, self.metric, self.sign, self.workers = folder, metric, sign, workers
        self.lines: dict[str, TrialLine] = {}
        self.changed: dict[str, float] = {}

    def get_state(self) -> dict[str, Any]:
        return {"lines": self.lines}

    def set_state(self, state: dict[str, Any]) -> None:
        self.lines = state["lines"]

    def setup(self, *_: Any, **__: Any) -> None:
        super().setup()
        self.changed = {}

    def table(self) -> Table:
        return progress_table(list(self.lines.values()), self.metric, self.sign)

    def status(self) -> str:
        return status_line(list(self.lines.values()), self.metric, self.sign)

    def look(self) -> bool:
        """Raises:
        SharedDataError: A trial has found that the data all of them share are gone: Tune ends, and its state stays.
        """
        if (said := worker_error(self.folder)) is not None:
            raise said
        return super().look()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        known, line = Trial.of(flat(trial.config)), self._line(trial)
        line.values, line.state = known.values, "running"
        self._write("start", trial, split=known.split, values=known.values)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        value, line = float(result[self.metric]), self._line(trial)
        line.epoch, line.last = int(result["epoch"]), value
        line.best = min(line.best, self.sign * float(result.get(BEST, value)))
        line.failed = bool(result.get("failed"))
        self._write("epoch", trial, epoch=line.epoch, **{self.metric: value if math.isfinite(value) else None})

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._end(trial, "failed" if self._line(trial).failed else self._ended(trial))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._end(trial, "failed")

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._line(trial).state = "waiting"
        self._write("retry", trial)
        logger.warning("%s: its process died; it is started again and goes on from its checkpoint", trial)

    def _ended(self, trial: Any) -> str:
        folder = self.folder / "trials" / str(trial)
        return "finished" if (folder / "model.pt").exists() else "stopped"

    def _end(self, trial: Any, state: str) -> None:
        line = self._line(trial)
        line.state = state
        self._write("end", trial, state=state, epoch=line.epoch)
        if self.show:
            text = trial_text(line, self.metric, self.sign)
            print(text, file=sys.stderr, flush=True) if self.live is None else self.live.console.print(text)

    def _line(self, trial: Any) -> TrialLine:
        return self.lines.setdefault(str(trial), TrialLine(str(trial)))

    def _write(self, event: str, trial: Any, **more: Any) -> None:
        self.heard = self.changed[str(trial)] = time.monotonic()
        text = json.dumps({"time": time.time(), "event": event, "trial": str(trial), **more}, allow_nan=False)
        with (self.folder / EVENTS).open("a") as file:
            file.write(text + "\n")

    def doing(self, running: list[Any]) -> list[str]:
        now, texts = time.monotonic(), []
        for trial in running:
            stage = read_note(self.folder / "trials" / str(trial)).get("stage", "start of its process")
            doing = {"features": "features of its descriptor", "training": "next epoch"}.get(stage, stage)
            waited = now - self.changed.get(str(trial), now - PATIENCE)
            if doing == "next epoch" and self.workers > 1 and not self._line(trial).epoch:
                doing = f"{self.workers} workers, or their first epoch"
            texts.append(f"waiting for {trial}: {doing}, for {waited:.0f} s")
        return texts


def open_trials(folder: Path, since: float) -> list[str]:
    """Trials that were begun since that time and of which no end was heard."""
    last = {event["trial"]: event["event"] for event in read_events(folder) if event["time"] >= since}
    return sorted(trial for trial, event in last.items() if event != "end")


def tracker_callbacks(search: Search) -> list[Callback]:
    """Ray's callbacks for the trackers of ``run.loggers``: one run of theirs for each trial."""
    made: list[Callback] = []
    for name in search.base["run"]["loggers"]:
        if name == "tensorboard":
            from ray.tune.logger import TBXLoggerCallback

            made.append(TBXLoggerCallback())
        elif name == "mlflow":
            from ray.air.integrations.mlflow import MLflowLoggerCallback

            made.append(MLflowLoggerCallback(experiment_name=search.folder.name))
        else:
            from ray.air.integrations.wandb import WandbLoggerCallback

            # Its processes run in Ray's, which do not have this one's environment.
            mode: dict[str, Any] = {"mode": os.environ["WANDB_MODE"]} if "WANDB_MODE" in os.environ else {}
            made.append(WandbLoggerCallback(project=search.folder.name, dir=str(search.folder), **mode))
    return made
