"""A decided search on Ray Tune: its trials, on what resources, from where it was.

A trial of one worker trains in Tune's own process for it: starting a Ray trainer for each would take seconds and
twice the memory. A trial of several workers starts a trainer, whose workers get a placement group of their own; Tune's
process for it then must hold no CPU, or the drivers of waiting trials take those that the workers wait for.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune

from aenet_ray.errors import AenetRayError, SharedDataError
from aenet_ray.ray_session import prepare_tune, quiet_ray_logs
from aenet_ray.training.history import Row
from aenet_ray.training.launch import train_on_ray, worker_error
from aenet_ray.training.trials import run_trials, trials_at_a_time, with_resources
from aenet_ray.tuning.plan import Search
from aenet_ray.tuning.searchers import ENTRY, flat, flat_entries, make_scheduler, make_searcher
from aenet_ray.tuning.trial import ERROR, Told, Trial, prepare_trial, train_trial
from aenet_ray.tuning.watch import Watch, open_trials, tracker_callbacks

logger = logging.getLogger(__name__)

STATE = "ray"


def solo_trial(sampled: dict[str, Any], folder: str, threads: int, use_gpu: bool) -> None:
    """What Tune runs for a trial of one worker."""
    quiet_ray_logs()
    search = Search.load(Path(folder))
    trial = _this_trial(sampled)
    train_trial(search, trial, _report(search), threads, use_gpu, _of_another(trial))


def group_trial(sampled: dict[str, Any], folder: str) -> None:
    """What Tune runs for a trial of several workers: a trainer that goes on where the trial was."""
    quiet_ray_logs()
    search = Search.load(Path(folder))
    trial = _this_trial(sampled)
    told = Told(search, trial, _report(search))
    stopped = threading.Event()

    def on_epoch(row: Row, last: bool) -> None:
        try:
            told.epoch(row, last)
        except SystemExit:  # Tune has stopped the trial, and takes the workers away
            stopped.set()
            raise

    try:
        run_dir = prepare_trial(search, trial)
        told.last_row()
        run = search.config(trial.index, trial.values, trial.split).run
        run = run.model_copy(update={"max_failures": search.tune.max_failures})
        train_on_ray(run_dir, search.scaling, run, show_progress=False, on_epoch=on_epoch)
        told.last_row()
    except AenetRayError as error:
        if not stopped.is_set():
            told.failed(error)


def _this_trial(sampled: dict[str, Any]) -> Trial:
    """The trial by its own name: pbt hands on all settings of another one, its number among them."""
    number = int(tune.get_context().get_trial_name().rpartition("_")[2])
    return Trial.of(flat(sampled) | {"index": number})


def _report(search: Search) -> Callable[[dict[str, Any], Path | None], None]:
    every = search.grace

    def report(numbers: dict[str, Any], path: Path | None) -> None:
        if path is None or numbers["epoch"] % every:
            tune.report(numbers)
            return
        with tempfile.TemporaryDirectory() as folder:
            # Under the number of its trial: which may not be the one that goes on from it.
            target = Path(folder) / str(numbers["index"])
            target.mkdir()
            os.link(path, target / path.name) if _same_disk(path, target) else _copy(path, target / path.name)
            tune.report(numbers, checkpoint=tune.Checkpoint.from_directory(folder))

    return report


def _same_disk(a: Path, b: Path) -> bool:
    return a.stat().st_dev == b.stat().st_dev


def _copy(a: Path, b: Path) -> None:
    b.write_bytes(a.read_bytes())


def _of_another(trial: Trial) -> Path | None:
    """The checkpoint that Tune tells the trial to go on from, if it is not the trial's own."""
    given = tune.get_checkpoint()
    if given is None:
        return None
    found = sorted(Path(given.path).glob("*/checkpoint_epoch_*.pt"))
    return found[0] if found and found[0].parent.name != str(trial.index) else None


def concurrency(search: Search) -> int:
    """Trials at a time: as many as the cluster holds, at most those asked for."""
    fits = trials_at_a_time(search.scaling, search.tune.gpus_per_trial)
    wanted = search.tune.max_concurrent or fits
    if wanted > fits:
        logger.info("tune.max_concurrent is %d, the cluster holds %d trials at a time", wanted, fits)
    return min(wanted, fits)


def trainable(search: Search) -> Any:
    """The function of a trial, and what it holds."""
    scaling, folder = search.scaling, str(search.folder)
    if scaling.num_workers > 1:
        function = tune.with_parameters(group_trial, folder=folder)
    else:
        settings = {"threads": scaling.cpus_per_worker, "use_gpu": scaling.use_gpu}
        function = tune.with_parameters(solo_trial, folder=folder, **settings)
    return with_resources(function, scaling, search.tune.gpus_per_trial)


def run_search(search: Search, *, show_progress: bool) -> None:
    """Run the trials that are left, on the Ray that is there.

    Raises:
        SharedDataError: What all trials share is gone or damaged; the search can go on when it is back.
        TrainingError: Tune itself failed.
        KeyboardInterrupt: It was interrupted, and can go on.
    """
    prepare_tune()
    (search.folder / ERROR).unlink(missing_ok=True)
    function, state = trainable(search), search.folder / STATE
    if list(state.glob("experiment_state-*.json")) and (state / "tuner.pkl").exists():
        logger.info("going on with the search in %s", search.folder)
        tuner = tune.Tuner.restore(str(state), function, resume_unfinished=True, restart_errored=True)
    else:
        tuner = tune.Tuner(
            function,
            param_space=_param_space(search),
            tune_config=_tune_config(search),
            run_config=_run_config(search, show_progress),
        )
    began, failure = time.time(), None
    try:
        run_trials(tuner, search.folder, "the search")
    except AenetRayError as error:
        failure = error
    if (said := worker_error(search.folder)) is not None:  # of the last trial, maybe, at which nobody looked again
        raise SharedDataError(
            f"{said} Put it back as it was; the same command with run.resume=auto then goes on with the search in "
            f"{search.folder}."
        ) from failure
    if failure is not None:
        raise failure
    if open_trials(search.folder, began):  # Tune takes an interrupt for an end like any other
        raise KeyboardInterrupt


def _tune_config(search: Search) -> Any:
    settings = search.tune
    taken = len(list((search.folder / "trials").glob("trial_*"))) if search.entries is None else 0
    own = settings.scheduling != "pbt"
    n_samples = settings.num_samples if search.entries is None else len(search.entries)
    return tune.TuneConfig(
        search_alg=make_searcher(search, taken) if own else None,
        scheduler=make_scheduler(search),
        num_samples=n_samples if own else 1,
        # pbt's trials take turns: it compares those it knows, so that all have to be there from the start.
        max_concurrent_trials=concurrency(search) if own else None,
        time_budget_s=settings.time_budget_s,
        # A trainer that is stopped ends with the process that started it.
        reuse_actors=search.scaling.num_workers == 1,
        trial_name_creator=_name,
        trial_dirname_creator=_name,
    )


def _param_space(search: Search) -> dict[str, Any]:
    if search.tune.scheduling != "pbt" or search.entries is None:
        return {}
    return {ENTRY: tune.grid_search(flat_entries(search.entries))}


def _name(trial: Any) -> str:
    return f"trial_{flat(trial.config)['index']:04d}"


def _run_config(search: Search, show_progress: bool) -> Any:
    callbacks: list[Any] = [
        Watch(search.folder, search.tune.metric, search.tune.sign, search.scaling.num_workers, show_progress)
    ]
    callbacks += tracker_callbacks(search)
    return tune.RunConfig(
        name=STATE,
        storage_path=str(search.folder),
        failure_config=tune.FailureConfig(max_failures=search.tune.max_failures),
        callbacks=callbacks,
        verbose=0,
    )
