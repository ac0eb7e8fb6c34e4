"""The folder of a run: made, or found, before anything expensive is imported or started."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from aenet_ray.errors import TrainingError
from aenet_ray.training.config import RunConfig, ScalingConfig

SPEC, COMMITTEE_FILE, SEARCH_FILE = "run.json", "committee_metadata.json", "search.json"
KINDS = {SPEC: "a run of 'aenet-ray train'", COMMITTEE_FILE: "a committee", SEARCH_FILE: "a search of 'aenet-ray tune'"}
"""By which of its files a folder is known for what it holds."""


def run_path(run: RunConfig) -> Path:
    """Folder of a run, absolute: workers have other working directories. One without a name is named after the time.

    Raises:
        TrainingError: It would lie in a copy of the working directory that Ray deletes.
    """
    return lasting_path(run.storage_path, "run.storage_path") / (run.name or time_name())


def lasting_path(path: str | Path, setting: str) -> Path:
    """The path of what is to outlast a job, absolute.

    Args:
        setting: Name of the setting that gives it.

    Raises:
        TrainingError: It would lie in a copy of the working directory that Ray deletes.
    """
    if "working_dir_files" in str(Path.cwd()) and not Path(path).is_absolute():
        raise TrainingError(
            f"{setting} is {str(path)!r}, relative to the job's copy of the working directory, which Ray "
            f"deletes. Give an absolute path that all nodes share: {setting}=/shared/runs."
        )
    return Path(path).absolute()


def time_name() -> str:
    """What a run without a name is called."""
    return datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")


def new_run_dir(run: RunConfig) -> Path:
    """Folder of a new run, made.

    Raises:
        TrainingError: As of ``run_path``; it cannot be made; or it holds a run or none, against ``run.resume``.
    """
    path = run_path(run)
    check_kind(path, SPEC)  # before anything is made or touched
    holds_run(path, run.resume)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{path}: the run's folder cannot be made: {error}") from None
    return path


def check_kind(folder: Path, own: str) -> None:
    """Raises:
    TrainingError: The folder holds something of another kind than ``own``, of ``KINDS``.
    """
    for file, what in KINDS.items():
        if file != own and (folder / file).exists():
            raise TrainingError(f"{folder}: holds {what}. Choose another run.name.")


def holds_run(run_dir: Path, mode: str) -> bool:
    """Whether the folder holds a run that is to go on.

    Args:
        mode: ``RunConfig.resume``.

    Raises:
        TrainingError: It holds a run that may not be resumed; or none, and one must be there.
    """
    # One that failed before any worker wrote may begin again.
    there = (run_dir / SPEC).exists() and (run_dir / "history.csv").exists()
    if mode == "must" and not there:
        raise TrainingError(f"{run_dir}: nothing to resume (run.resume is 'must').")
    if mode == "never" and there:
        raise TrainingError(
            f"{run_dir}: holds a run already. Go on with it by run.resume=auto, or choose another run.name."
        )
    return there


def ray_for(scaling: ScalingConfig | None, warm: Sequence[str] = ()) -> AbstractContextManager[Any]:
    """One Ray for featurizing and training, which takes seconds to start; nothing where there is no scaling.

    Args:
        warm: Modules to import while it starts.
    """
    if scaling is None:
        return nullcontext()
    from aenet_ray.ray_session import ensure_ray

    return ensure_ray(scaling.num_workers * scaling.cpus_per_worker, warm=warm)


def ray_for_trials(scaling: ScalingConfig) -> AbstractContextManager[Any]:
    """One Ray for featurizing and for trials on Ray Tune that have these workers each."""
    from aenet_ray.ray_session import ensure_ray

    # Trials of several workers are trainers, and what frees the workers of one that is stopped asks Ray's dashboard.
    return ensure_ray(scaling.num_workers * scaling.cpus_per_worker, dashboard=scaling.num_workers > 1)
