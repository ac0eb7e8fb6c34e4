"""What trials on Ray Tune have in common, those of a search and those of a committee: what they hold, how many go at a
time, and how one sees them go."""

from __future__ import annotations

import gc
import logging
import sys
import time
from abc import abstractmethod
from pathlib import Path
from typing import Any

import ray
from ray import tune

from aenet_ray.errors import AenetRayError, TrainingError
from aenet_ray.ray_session import free_resources, let_go
from aenet_ray.training.config import ScalingConfig
from aenet_ray.training.launch import check_one_node, check_resources
from aenet_ray.waiting import PATIENCE

logger = logging.getLogger(__name__)

HELD = {"memory": 1e6}
"""What Tune's process of a trial of several workers holds: something, and no CPU."""
LOOK_SECONDS = 0.5


def held_by_one(scaling: ScalingConfig, gpus_per_trial: float) -> dict[str, float]:
    """What a trial of one worker holds."""
    return {"CPU": float(scaling.cpus_per_worker)} | ({"GPU": gpus_per_trial} if scaling.use_gpu else {})


def check_trials_fit(scaling: ScalingConfig, gpus_per_trial: float, setting: str) -> None:
    """Args:
        setting: Name of ``gpus_per_trial``.

    Raises:
        ConfigError: The cluster can never hold a trial; said before anything is waited for.
    """
    if scaling.num_workers > 1:
        check_resources(scaling)
        return
    need = held_by_one(scaling, gpus_per_trial)
    check_one_node(need, "a trial", f"scaling.cpus_per_worker, scaling.use_gpu, {setting}")


def with_resources(function: Any, scaling: ScalingConfig, gpus_per_trial: float) -> Any:
    """The function of a trial, and what Tune's process for it holds."""
    held = HELD if scaling.num_workers > 1 else held_by_one(scaling, gpus_per_trial)
    return tune.with_resources(function, tune.PlacementGroupFactory([held]))


def trials_at_a_time(scaling: ScalingConfig, gpus_per_trial: float) -> int:
    """As many as the cluster holds, at least one."""
    total, n = ray.cluster_resources(), scaling.num_workers
    fits = total.get("CPU", 0) // (n * scaling.cpus_per_worker)
    if scaling.use_gpu:
        fits = min(fits, total.get("GPU", 0) // (n if n > 1 else gpus_per_trial))
    return max(int(fits), 1)


def run_trials(tuner: Any, folder: Path, what: str) -> None:
    """Raises:
    TrainingError: Tune itself failed; ``what`` says of what in the folder.
    """
    handled = sys.exc_info()[1]
    try:
        tuner.fit()
    except Exception as error:
        let_go(error, handled)
        if isinstance(error, AenetRayError):
            raise
        raise TrainingError(f"{folder}: {what} failed: {error}") from error
    gc.collect()  # its controller, which gives back the resources of trials when it is gone, names itself


class TrialWatch(tune.Callback):
    """Shows the trials: a table that renews itself on a terminal, else a line every half minute; and says what is
    waited for where nothing was heard for as long.

    Args:
        show: Whether to show them; what is waited for is said in any case.
    """

    def __init__(self, show: bool) -> None:
        self.show = show
        self.said = self.heard = self.looked = time.monotonic()
        self.live: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"live": None}

    @abstractmethod
    def table(self) -> Any:
        """All trials, for a terminal."""

    @abstractmethod
    def status(self) -> str:
        """All trials in one line."""

    @abstractmethod
    def doing(self, running: list[Any]) -> list[str]:
        """What each of the running trials is waited for to do."""

    def look(self) -> bool:
        """Whether there is news of which Tune did not tell."""
        return False

    def setup(self, *_: Any, **__: Any) -> None:
        self.said = self.heard = self.looked = time.monotonic()
        if self.show and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self.live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
            self.live.start()

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        now = time.monotonic()
        if now - self.looked > LOOK_SECONDS:
            self.looked = now
            if self.look():
                self.heard = now
            if self.live is not None:
                self.live.update(self.table(), refresh=True)
        if self.live is None and self.show and now - self.said > PATIENCE:
            self.said = now
            logger.info("%s", self.status())
        if now - self.heard > PATIENCE:
            self.heard = now
            for text in self._waited_for(trials):
                logger.warning("%s", text)

    def on_experiment_end(self, trials: list[Any], **_: Any) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None

    def _waited_for(self, trials: list[Any]) -> list[str]:
        running = [t for t in trials if t.status == "RUNNING"]
        pending = sum(t.status == "PENDING" for t in trials)
        if running or not pending:
            return self.doing(running)
        return [f"waiting for {pending} trials to start; free for them: {free_resources()}"]
