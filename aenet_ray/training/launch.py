"""A prepared run on Ray Train: the local loop, started once on every worker."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train.torch import TorchConfig

from aenet_ray import errors
from aenet_ray.errors import AenetRayError, ConfigError, TrainingError
from aenet_ray.files import write_text
from aenet_ray.training.comm import Comm, Group, Solo
from aenet_ray.training.config import RunConfig, ScalingConfig, TorchTrainingConfig
from aenet_ray.training.driver import OnStart, epoch_printer
from aenet_ray.training.early_stopping import is_last
from aenet_ray.training.engine import OnEpoch, run_training
from aenet_ray.training.history import HistoryTail, Row
from aenet_ray.training.ray_runtime import ensure_ray, free_resources, process_age, quiet_ray_logs, torch_trainer
from aenet_ray.training.spec import RunSpec
from aenet_ray.training.state import Start
from aenet_ray.waiting import saying

logger = logging.getLogger(__name__)

# A report is a barrier of 50 ms to 2 s: metrics go to Ray this often, to our own history every epoch.
REPORT_SECONDS = 30.0

ERROR = "error.json"
"""In the run's folder: an error of a worker that would come again however often the run were started."""


def train_worker(settings: dict[str, Any]) -> None:
    """What every worker runs. A restarted one goes on from the newest checkpoint in the run's folder.

    An AenetRayError comes again at every trial: the worker leaves it in the run's folder for the driver, then fails,
    so that Ray ends the others, which may wait in a sum. The group that Ray then starts finds the file and ends.
    """
    quiet_ray_logs()
    torch.set_num_threads(settings["threads"])
    context = ray.train.get_context()
    comm: Comm = Group() if context.get_world_size() > 1 else Solo()
    device = ray.train.torch.get_device() if settings["use_gpu"] else torch.device("cpu")
    run_dir = Path(settings["run_dir"])
    if (run_dir / ERROR).exists():
        return
    try:
        run_training(run_dir, comm, device, _reporter(comm, device))
    except AenetRayError as error:
        write_text(run_dir / ERROR, json.dumps({"class": type(error).__name__, "text": str(error)}))
        raise


def worker_error(run_dir: Path) -> AenetRayError | None:
    """What a worker left in the run's folder, as it was raised there."""
    try:
        found = json.loads((run_dir / ERROR).read_text())
    except FileNotFoundError:
        return None
    cls = getattr(errors, found["class"], TrainingError)
    error: AenetRayError = cls(found["text"])
    return error


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
    ConfigError: The cluster can never hold the workers, or none of its nodes one of them; without this, Ray would
        wait for ever.
    """
    total = ray.cluster_resources()
    need = {"CPU": scaling.num_workers * scaling.cpus_per_worker}
    if scaling.use_gpu:
        need["GPU"] = scaling.num_workers
    for kind, amount in need.items():
        if total.get(kind, 0) < amount:
            other = "scaling.use_gpu: false to train on CPUs" if kind == "GPU" else "a larger cluster"
            raise ConfigError(
                f"scaling: {scaling.num_workers} workers need {amount} {kind}s, the cluster has "
                f"{total.get(kind, 0):g}. Use fewer workers (scaling.num_workers), or {other}."
            )

    one = {kind: amount / scaling.num_workers for kind, amount in need.items()}
    check_one_node(one, "a worker", "scaling.cpus_per_worker, scaling.use_gpu")


def check_one_node(need: Mapping[str, float], what: str, settings: str) -> None:
    """Whether some node holds ``what``: a process does not stretch over several.

    Args:
        settings: Names of those that decide ``need``.

    Raises:
        ConfigError: None does.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(all(node.get(kind, 0) >= amount for kind, amount in need.items()) for node in nodes):
        return
    wanted = ", ".join(f"{amount:g} {kind}" for kind, amount in need.items())
    found = "; ".join(f"{n.get('CPU', 0):g} CPU, {n.get('GPU', 0):g} GPU" for n in nodes)
    raise ConfigError(
        f"scaling: {what} needs {wanted} on one node, the cluster's nodes have {found}. Ask for less ({settings}), or "
        "use a larger cluster."
    )


def train_on_ray(
    run_dir: Path,
    scaling: ScalingConfig,
    run: RunConfig,
    *,
    show_progress: bool,
    on_start: OnStart | None = None,
    on_epoch: OnEpoch | None = None,
) -> None:
    """Train the prepared run with ``scaling.num_workers`` workers.

    Connects to the cluster it runs in, or starts a local Ray and stops it again.

    Args:
        on_epoch: Told of every epoch, in a thread of its own, in place of printing it.

    Raises:
        ConfigError: The cluster is too small.
        TrainingError: Workers failed more than ``run.max_failures`` times.
        AenetRayError: What a worker raised; it is not tried again.
    """
    spec = RunSpec.load(run_dir)
    (run_dir / ERROR).unlink(missing_ok=True)
    first = Start.of(run_dir, spec).epoch
    if on_start is not None:
        on_start(spec, first)
    if first:  # the workers print nothing
        logger.info("going on after epoch %d of %d", first, spec.epochs)
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
            epoch_printer(spec.epochs, show=show_progress, first=first) as printed,
            _follow(run_dir, on_epoch or printed, spec, scaling.num_workers),
        ):
            try:
                trainer.fit()
            except Exception as error:
                raise worker_error(run_dir) or TrainingError(_reason(error, run_dir)) from error
            if (said := worker_error(run_dir)) is not None:
                raise said


def _reason(error: Exception, run_dir: Path) -> str:
    failures = getattr(error, "worker_failures", None) or {}
    texts = [f"worker {rank}: {failure}" for rank, failure in failures.items()] or [str(error)]
    return f"{run_dir}: training on Ray failed. " + " | ".join(t.strip().splitlines()[-1] for t in texts if t.strip())


class Follower:
    """Shows epochs as worker 0 writes them to the history: workers print nothing, and nothing goes through Ray.

    Args:
        path: ``history.csv``; epochs that are there already are not shown.
        epochs: Epoch at which the run ends.
        config: Settings of the run, which may end it early.
    """

    def __init__(self, path: Path, on_epoch: OnEpoch, epochs: int, config: TorchTrainingConfig) -> None:
        self.tail, self.on_epoch, self.epochs, self.config = HistoryTail(path), on_epoch, epochs, config
        self.tail.read()
        self.shown = self.tail.n_rows
        self.begun = self.ended = False

    def poll(self) -> None:
        """Show what is new: an epoch once, or once more where a restarted group did it once more; the last once."""
        files = self.tail.n_files
        rows = self.tail.read()
        self.shown = min(self.shown, self.tail.n_rows)
        if self.begun and self.tail.n_files > files and self.tail.n_rows < self.epochs and not self.ended:
            logger.info("the workers were started again and are back at epoch %d/%d", self.shown, self.epochs)
        fresh = rows[len(rows) - (self.tail.n_rows - self.shown) :]
        self.shown = self.tail.n_rows
        for row in fresh:
            if not self.begun:
                logger.info("first step %.1f s after the command started", process_age() - row["epoch_time"])
            self.begun = True
            last = is_last(row, self.config, self.epochs)
            if not self.ended:
                self.on_epoch(row, last)
            self.ended = self.ended or last


@contextmanager
def _follow(run_dir: Path, on_epoch: OnEpoch, spec: RunSpec, workers: int) -> Iterator[None]:
    """A follower in a thread of its own, which also says what is waited for."""
    follower = Follower(run_dir / "history.csv", on_epoch, spec.epochs, spec.config)
    stop = threading.Event()

    def waited_for() -> str:
        if follower.ended:
            return "the errors with the final weights"
        if follower.begun:
            return f"epoch {follower.shown + 1} of {workers} workers"
        return f"{workers} workers to start, or their first epoch; free for them: {free_resources()}"

    def follow() -> None:
        with saying(waited_for) as came:
            while not stop.wait(0.1):
                shown = follower.shown
                follower.poll()
                if follower.shown != shown:
                    came()
        follower.poll()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
