"""A prepared run on Ray Train: the local loop, started once on every worker."""

from __future__ import annotations

import csv
import logging
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train.torch import TorchConfig

from aenet_ray.errors import ConfigError, TrainingError
from aenet_ray.training.comm import Comm, Group, Solo
from aenet_ray.training.config import RunConfig, ScalingConfig
from aenet_ray.training.driver import epoch_printer
from aenet_ray.training.engine import OnEpoch, run_training
from aenet_ray.training.history import Row
from aenet_ray.training.ray_runtime import ensure_ray, process_age, quiet_ray_logs, torch_trainer
from aenet_ray.training.spec import RunSpec

logger = logging.getLogger(__name__)

# A report is a barrier of 50 ms to 2 s: metrics go to Ray this often, to our own history every epoch.
REPORT_SECONDS = 30.0


def train_worker(settings: dict[str, Any]) -> None:
    """What every worker runs. A restarted one goes on from the newest checkpoint in the run's folder."""
    quiet_ray_logs()
    torch.set_num_threads(settings["threads"])
    context = ray.train.get_context()
    comm: Comm = Group() if context.get_world_size() > 1 else Solo()
    device = ray.train.torch.get_device() if settings["use_gpu"] else torch.device("cpu")
    run_training(Path(settings["run_dir"]), comm, device, _reporter(comm, device))


def _reporter(comm: Comm, device: torch.device) -> OnEpoch:
    """Tells Ray the metrics now and then; all workers agree when, by worker 0's clock."""
    last_report = time.monotonic()

    def on_epoch(row: Row, last: bool) -> None:
        nonlocal last_report
        due = comm.rank == 0 and time.monotonic() - last_report > REPORT_SECONDS
        flag = comm.sum_(torch.tensor(float(due or last), device=device))
        if flag > 0:
            ray.train.report({k: float(v) for k, v in row.items()})
            last_report = time.monotonic()

    return on_epoch


def check_resources(scaling: ScalingConfig) -> None:
    """Raises:
    ConfigError: The cluster can never hold the workers; without this, Ray would wait for ever.
    """
    total = ray.cluster_resources()
    need = {"CPU": scaling.num_workers * scaling.cpus_per_worker}
    if scaling.use_gpu:
        need["GPU"] = scaling.num_workers
    for kind, amount in need.items():
        if total.get(kind, 0) < amount:
            raise ConfigError(
                f"scaling: {scaling.num_workers} workers need {amount} {kind}s, the cluster has "
                f"{total.get(kind, 0):g}. Use fewer workers (scaling.num_workers) or a larger cluster."
            )


def train_on_ray(run_dir: Path, scaling: ScalingConfig, run: RunConfig, *, show_progress: bool) -> None:
    """Train the prepared run with ``scaling.num_workers`` workers.

    Connects to the cluster it runs in, or starts a local Ray and stops it again.

    Raises:
        ConfigError: The cluster is too small.
        TrainingError: Workers failed more than ``run.max_failures`` times.
    """
    spec = RunSpec.load(run_dir)
    with ensure_ray(num_cpus=scaling.num_workers * scaling.cpus_per_worker):
        check_resources(scaling)
        # A group that cannot start is a failure like any other; Ray would try for ever.
        failures: dict[str, Any] = dict.fromkeys(("max_failures", "controller_failure_limit"), run.max_failures)
        trainer = torch_trainer(
            train_worker,
            train_loop_config={
                "run_dir": str(run_dir),
                "use_gpu": scaling.use_gpu,
                "threads": scaling.cpus_per_worker,
            },
            scaling_config=ray.train.ScalingConfig(
                num_workers=scaling.num_workers,
                use_gpu=scaling.use_gpu,
                resources_per_worker={"CPU": scaling.cpus_per_worker} | ({"GPU": 1} if scaling.use_gpu else {}),
            ),
            run_config=ray.train.RunConfig(
                name=f"ray-{time.time_ns()}",
                storage_path=str(run_dir / "ray"),
                failure_config=ray.train.FailureConfig(**failures),
            ),
            torch_config=TorchConfig(backend="nccl" if scaling.use_gpu else "gloo", timeout_s=300),
        )
        with (
            epoch_printer(spec.epochs, show=show_progress) as on_epoch,
            _follow(run_dir, on_epoch, spec.epochs),
        ):
            try:
                trainer.fit()
            except Exception as error:
                raise TrainingError(_reason(error, run_dir)) from error


def _reason(error: Exception, run_dir: Path) -> str:
    failures = getattr(error, "worker_failures", None) or {}
    texts = [f"worker {rank}: {failure}" for rank, failure in failures.items()] or [str(error)]
    return f"{run_dir}: training on Ray failed. " + " | ".join(t.strip().splitlines()[-1] for t in texts if t.strip())


@contextmanager
def _follow(run_dir: Path, on_epoch: OnEpoch, epochs: int) -> Iterator[None]:
    """Show epochs as worker 0 writes them to the history: workers print nothing, and nothing goes through Ray."""
    path, stop = run_dir / "history.csv", threading.Event()
    seen = _rows(path)
    shown = len(seen)

    def follow() -> None:
        nonlocal shown
        while True:
            finished = stop.wait(0.1)
            rows = _rows(path)
            for row in rows[shown:]:
                if shown == len(seen):
                    first_step = process_age() - row["epoch_time"]
                    logger.info("first step %.1f s after the command started", first_step)
                on_epoch(row, int(row["epoch"]) + 1 == epochs)
                shown += 1
            # After a restart the history is shorter than what was shown: epochs are shown once more.
            shown = min(shown, len(rows))
            if finished:
                return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _rows(path: Path) -> list[Row]:
    """Complete rows of a history that may be growing."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return []
    lines = text[: text.rfind("\n") + 1].splitlines()
    rows = csv.DictReader(lines)
    return [{k: float(v) if v else math.nan for k, v in row.items()} for row in rows]
