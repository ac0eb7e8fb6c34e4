"""Metrics to experiment trackers, beside our own history; worker 0 speaks."""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, final

from aenet_ray.errors import ConfigError
from aenet_ray.training.history import Row


class Logger(ABC):
    """A tracker of one run."""

    @abstractmethod
    def __init__(self, run_dir: Path) -> None: ...

    @abstractmethod
    def log(self, metrics: dict[str, float], epoch: int) -> None: ...

    @abstractmethod
    def close(self, error: BaseException | None = None) -> None:
        """Args:
        error: What ended the run, where it did not come to its end.
        """


@final
class TensorBoard(Logger):
    """Event files in ``<run>/tensorboard``."""

    def __init__(self, run_dir: Path) -> None:
        self._writer: Any = _module("torch.utils.tensorboard", "tensorboard").SummaryWriter(
            str(run_dir / "tensorboard")
        )

    def log(self, metrics: dict[str, float], epoch: int) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, epoch)

    def close(self, error: BaseException | None = None) -> None:
        self._writer.close()


@final
class MLflow(Logger):
    """A run of MLflow's, where MLFLOW_TRACKING_URI says; below the caller's, if one is active.

    It is not MLflow's active run, of which a process has one: members that train together each have their own.
    """

    def __init__(self, run_dir: Path) -> None:
        self._mlflow: Any = _module("mlflow", "mlflow")
        nested = self._mlflow.active_run() is not None
        self._id = self._mlflow.start_run(run_name=run_dir.name, nested=nested).info.run_id
        self._mlflow.end_run()  # active no more
        self._client = self._mlflow.MlflowClient()
        self._client.update_run(self._id, status="RUNNING")

    def log(self, metrics: dict[str, float], epoch: int) -> None:
        self._mlflow.log_metrics(metrics, step=epoch, run_id=self._id)

    def close(self, error: BaseException | None = None) -> None:
        status = "FINISHED" if error is None else "FAILED" if isinstance(error, Exception) else "KILLED"
        self._client.set_terminated(self._id, status=status)


@final
class WandB(Logger):
    """A run of Weights & Biases."""

    def __init__(self, run_dir: Path) -> None:
        # Members that train together each have their own: not the run that is there, and not in its place.
        self._run: Any = _module("wandb", "wandb").init(name=run_dir.name, dir=str(run_dir), reinit="create_new")

    def log(self, metrics: dict[str, float], epoch: int) -> None:
        self._run.log(metrics, step=epoch)

    def close(self, error: BaseException | None = None) -> None:
        self._run.finish(exit_code=0 if error is None else 1)


LOGGERS: dict[str, type[Logger]] = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WandB}


def _module(name: str, package: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(
            f"loggers: {package!r} is not installed here; pip install {package}, or leave it out of run.loggers."
        ) from None


def check_loggers(names: tuple[str, ...]) -> None:
    """Raises:
    ConfigError: A tracker's package is missing.
    """
    for name in names:
        _module("torch.utils.tensorboard" if name == "tensorboard" else name, name)


def finite(row: Row) -> dict[str, float]:
    """What of a row is a measurement."""
    return {k: v for k, v in row.items() if k != "epoch" and math.isfinite(v)}
