"""Ray as featurization and training need it: there within seconds, quiet, and gone afterwards.

Starting Ray and its workers is a matter of processor time: a dozen Python processes import ray, pyarrow, pandas and
torch. So the driver imports while Ray's own processes come up, a private cluster gets no more than it needs, and
no runtime environment stands between Ray and a worker: those cost a second start of Python each.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import secrets
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aenet_ray.errors import TrainingError
from aenet_ray.waiting import saying

logger = logging.getLogger(__name__)

# Settings that Ray reads from the environment; what the user has set stays. Train hands its own on to all workers.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # A report returns when the controller looks next: 2 s by default. Five looks a second take 2 % of a core, and 1 %
    # of each worker's.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # Workers stay in the driver's directory, so that relative paths in a run file mean what they say.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Otherwise every line that a worker prints is shown twice.
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    # Prometheus gauges nobody scrapes, set at every report.
    "RAY_TRAIN_METRICS_ENABLED": "0",
    # Our own bars count structures and epochs.
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}

# Ray Data sets the level of its own logger anew at every use, these below it stay as they are set.
NOISY_LOGGERS = (
    "ray",
    "ray.data",
    "ray.data._internal.execution.streaming_executor",
    "ray.train",
    "ray.tune",
)

# For Ray Tune, by which searches and committees run their trials.
TUNE_ENVIRONMENT = {
    # Snapshots of what is going on, from which a killed search is restored; 10 s by default.
    "TUNE_GLOBAL_CHECKPOINT_S": "1",
    # Our own history and trackers are enough.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    # The older output says nothing where it is told to say nothing.
    "RAY_AIR_NEW_OUTPUT": "0",
}
# They miss files we asked Tune not to write, or tell of its own ways to restore.
TUNE_LOGGERS = (
    "ray.tune.tune",
    "ray.tune.analysis.experiment_analysis",
    "ray.tune.tuner",
    "ray.tune.impl.tuner_internal",
)

# These say what an exception says as well, or that Ray Data's bars are off, as we asked.
REPEATING_LOGGERS = (
    "ray.data.exceptions",
    "ray.data._internal.execution.streaming_executor_state",
    "ray.data._internal.progress",
)

# Only for a cluster of our own, which holds this one run and ends with it.
LOCAL_ENVIRONMENT = {
    # An actor that watches for machines being taken away.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_enable_metrics_collection": "0",
}

# Imported by the driver in a thread, while Ray's own processes start. Nothing of Ray itself: it imports in circles,
# and two threads that go round one from different ends can meet half a module.
WARM_IMPORTS = ("torch", "pandas", "pyarrow.fs")

# Blocks on their way to the featurizers are small, and features live in files: no need for a third of the memory.
OBJECT_STORE_BYTES = 1 << 30

_own_cluster = False


@dataclass(frozen=True, slots=True)
class RaySession:
    """What ``ensure_ray`` found or started.

    Args:
        local: Started by us, on this machine, and stopped at the end.
        cpus: Logical processors of the cluster.
        gpus: GPUs of the cluster.
        seconds: Time to connect or start.
        directory: Where this session's logs are.
    """

    local: bool
    cpus: float
    gpus: float
    seconds: float
    directory: str


@contextlib.contextmanager
def ensure_ray(
    num_cpus: int | None = None, *, quiet: bool = True, warm: Sequence[str] = (), dashboard: bool = False
) -> Iterator[RaySession]:
    """A running Ray: the one connected already, the cluster that RAY_ADDRESS or a job names, else one of our own.

    Only one of our own is stopped at the end, and then nothing of it is left running. It never joins a cluster that
    merely happens to run on this machine. Nested calls share the outermost one, so wrap featurization and training
    together. Start it in the main thread: the processes of a local Ray end with the thread that started them.

    Args:
        num_cpus: Logical processors of a cluster of our own, at least; None: those of the machine. More than it has
            are started, with a warning.
        quiet: Ray's own lines stay in its log files, and so does what workers print.
        warm: Modules to import meanwhile, besides torch; none that imports ray.
        dashboard: A cluster of our own gets Ray's dashboard, which some of Ray's helpers ask.

    Raises:
        TrainingError: The cluster that RAY_ADDRESS names cannot be reached, or a local one does not start.
    """
    started = time.monotonic()
    local = os.environ.get("RAY_ADDRESS") in (None, "", "local")
    for name, value in (ENVIRONMENT | (LOCAL_ENVIRONMENT if local else {})).items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield _session(_own_cluster, started)
        return
    if local:
        _warn_of_sharing(num_cpus or 1)
    if quiet:
        quiet_ray_logs()
    with _token_of_our_own() if local else contextlib.nullcontext():
        with saying(lambda: "a local Ray to start" if local else f"the cluster at {os.environ['RAY_ADDRESS']}"):
            _connect(local, num_cpus, quiet, (*WARM_IMPORTS, *warm), dashboard)
        try:
            session = _session(local, started)
            logger.info(
                "%s Ray: %g CPUs, %g GPUs, ready in %.1f s",
                "local" if local else "connected to",
                session.cpus,
                session.gpus,
                session.seconds,
            )
            yield session
        finally:
            _disconnect()


def _warn_of_sharing(num_cpus: int) -> None:
    """Two workers on one core are good for a try; 64 on two cores are more likely a slip."""
    there = os.cpu_count() or 1
    if num_cpus > there:
        logger.warning(
            "%d CPUs are asked for, this machine has %d: workers will share them, and be slower than fewer of them "
            "would be. Ask for at most %d: scaling.num_workers times scaling.cpus_per_worker, or --workers.",
            num_cpus,
            there,
            there,
        )


def _connect(local: bool, num_cpus: int | None, quiet: bool, modules: Sequence[str], dashboard: bool) -> None:
    global _own_cluster
    import ray

    if not local:
        _check_reachable(os.environ["RAY_ADDRESS"])
    level: dict[str, Any] = {"log_to_driver": not quiet} | ({"logging_level": logging.ERROR} if quiet else {})
    importer = threading.Thread(target=_import_all, args=(modules,), daemon=True)
    importer.start()
    try:
        if not local:
            ray.init(**level)
        else:
            ray.init(
                address="local",
                num_cpus=max(num_cpus or 1, os.cpu_count() or 1),
                include_dashboard=dashboard,
                object_store_memory=OBJECT_STORE_BYTES,
                **level,
            )
    except Exception as error:
        what = (
            "a local Ray cannot be started" if local else f"RAY_ADDRESS={os.environ['RAY_ADDRESS']}: cannot be joined"
        )
        raise TrainingError(f"{what}: {error}") from error
    finally:
        importer.join()
    _own_cluster = local


def _check_reachable(address: str) -> None:
    """Ray itself would try for minutes, without a word."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return  # "auto" and the like
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise TrainingError(
            f"RAY_ADDRESS={address}: no cluster answers there ({error}). Start it, or unset RAY_ADDRESS to use this "
            "machine alone."
        ) from None


def _disconnect() -> None:
    global _own_cluster
    import ray

    processes = _processes_of(_directory()) if _own_cluster else []
    ray.shutdown()
    _own_cluster = False
    _wait_until_gone(processes)


def _session(local: bool, started: float) -> RaySession:
    import ray

    total = ray.cluster_resources()
    return RaySession(local, total.get("CPU", 0), total.get("GPU", 0), time.monotonic() - started, _directory())


def _directory() -> str:
    from ray._private.worker import _global_node

    return _global_node.get_session_dir_path() if _global_node is not None else ""


@contextlib.contextmanager
def _token_of_our_own() -> Iterator[None]:
    """A secret for this cluster alone, handed on in the environment.

    Ray would write one for the account into the home directory, and ``ray start`` would ask for it from then on.
    """
    names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
    if any(os.environ.get(name) for name in (*names, "RAY_AUTH_TOKEN_PATH")):
        yield
        return
    os.environ.update(zip(names, ("token", secrets.token_hex(32)), strict=True))
    _reread_ray_settings()
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        _reread_ray_settings()


def _reread_ray_settings() -> None:
    """Ray keeps mode and token from its first import on; other clusters this process joins have others."""
    with contextlib.suppress(Exception):
        raylet: Any = importlib.import_module("ray._raylet")
        raylet.Config.initialize("")
        raylet.AuthenticationTokenLoader.instance().reset_cache()


def _import_all(names: Sequence[str]) -> None:
    for name in names:
        with contextlib.suppress(Exception):  # shows where it is imported for its use
            importlib.import_module(name)


def free_resources() -> str:
    """What of the cluster nobody holds, such as '1 CPU'."""
    import ray

    free = {k: v for k, v in ray.available_resources().items() if k in ("CPU", "GPU")}
    return ", ".join(f"{v:g} {k}" for k, v in free.items()) or "nothing"


def let_go(error: Exception, handled: BaseException | None) -> None:
    """Let go of the processes of a pipeline, or of trials, that failed with this.

    Ray Data and Tune wait until nobody names what holds them. Exceptions do, by the frames that they came through and
    those behind them: the processors would stay taken, and what comes next on the cluster would wait for them.

    Args:
        handled: What the caller was handling when the pipeline began; its traceback is none of Ray's.
    """
    error.__traceback__ = None
    links, seen = [error.__cause__, error.__context__], {id(None), id(handled), id(error)}
    for link in links:  # grows while we walk it
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            link.__traceback__ = None
            links += [link.__cause__, link.__context__]
    gc.collect()


def owns_cluster() -> bool:
    """Whether the running Ray was started here, by ``ensure_ray``, for this process alone."""
    return _own_cluster


def prepare_tune() -> None:
    """Ray Tune as we use it: quiet, and without what our own files do."""
    for name, value in TUNE_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    quiet_ray_logs()
    for name in TUNE_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)


def quiet_ray_logs() -> None:
    """Silence Ray's own lines in this process, driver or worker; warnings and errors still show."""
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in REPEATING_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for category in (DeprecationWarning, FutureWarning):  # Ray warns of what its own code does
        warnings.filterwarnings("ignore", category=category, module=r"ray\.")
    # The line "Reporting training result …" of every report comes from a logger named after its file.
    context: Any = sys.modules.get("ray.train.v2._internal.execution.context")
    if context is not None:
        logging.getLogger(context.__file__).setLevel(logging.WARNING)


def process_age() -> float:
    """Seconds since this process was started, imports included; nan where the system does not tell."""
    try:
        fields = Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        return uptime - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return float("nan")


def _processes_of(directory: str) -> list[int]:
    """The processes of a Ray that we started: our children that name its session, and all their descendants."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
    session = os.path.basename(directory).encode()
    found = []
    for pid, parent in parents.items():
        with contextlib.suppress(OSError):
            if parent == os.getpid() and session in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    for pid in found:  # grows while we walk it
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def _wait_until_gone(processes: list[int], seconds: float = 3.0) -> None:
    """Wait for a stopped cluster's processes, and end by id those that stay: its agents can take half a minute."""
    deadline = time.monotonic() + seconds
    while processes := [p for p in processes if _is_alive(p)]:
        if time.monotonic() > deadline:
            for pid in processes:
                with contextlib.suppress(OSError):
                    os.kill(pid, 9)
            return
        time.sleep(0.02)


def _is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False
