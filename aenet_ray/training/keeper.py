"""What worker 0 writes of a run: history, numbered checkpoints, best and final model."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from aenet_ray.errors import CheckpointError
from aenet_ray.files import write_json
from aenet_ray.models.model_file import write_model_file
from aenet_ray.structures.structure import IntArray
from aenet_ray.training import checkpoint
from aenet_ray.training.comm import Comm
from aenet_ray.training.evaluation import ErrorSums, error_columns, evaluate
from aenet_ray.training.history import Row
from aenet_ray.training.loggers import LOGGERS, finite
from aenet_ray.training.spec import RunSpec
from aenet_ray.training.state import TrainState

logger = logging.getLogger(__name__)

EVALUATION = "evaluation.json"
"""In the folder of a run of no epochs: errors of its first weights, under the names of the history's columns."""


def parts_of(spec: RunSpec) -> tuple[tuple[str, IntArray], ...]:
    """What a full pass goes over, under the names of the history's columns."""
    return (("train", spec.train_ids), ("test", spec.test_ids))


class Keeper:
    """What worker 0 writes: history, numbered checkpoints, best and final model. Other workers write nothing.

    A block that it is entered for tells the trackers of an error that ends it.
    """

    def __init__(self, state: TrainState, run_dir: Path, comm: Comm) -> None:
        self.state, self.run_dir, self.active = state, run_dir, comm.rank == 0
        self.folder = state.spec.checkpoint_folder(run_dir)
        self.history = state.history
        if self.active:
            self.history.path = run_dir / "history.csv"
            self.history.rewrite()
        self.last_written = time.monotonic()
        self.loggers = [LOGGERS[name](run_dir) for name in state.spec.loggers] if self.active else []

    def after_epoch(self, row: Row) -> None:
        state, config = self.state, self.state.spec.config
        self.history.append(row)
        for tracker in self.loggers:
            tracker.log(finite(row), state.epoch)
        better = row["test_loss"] < state.best  # never true of NaN, which must not stick as the best
        if better:
            state.best = float(row["test_loss"])
        state.epoch += 1
        if not self.active or self.folder is None:
            return
        due = config.checkpoint_interval and state.epoch % config.checkpoint_interval == 0
        due = due and time.monotonic() - self.last_written >= config.checkpoint_seconds
        payload = state.payload() if due or state.done or (better and config.save_best) else {}
        if due or state.done:
            self._save(self.folder, payload)
        if better and config.save_best:
            self._try(checkpoint.save_best, self.folder, payload)

    def leave(self) -> None:
        """End before the run's end, with a checkpoint to go on from."""
        if self.active and self.folder is not None:
            self._save(self.folder, self.state.payload())
        self.close()

    def __enter__(self) -> Keeper:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self.close(error)

    def close(self, error: BaseException | None = None) -> None:
        """End the run in its trackers, once; of an error, none of theirs takes the place."""
        trackers, self.loggers = self.loggers, []
        for tracker in trackers:
            try:
                tracker.close(error)
            except Exception as failure:
                if error is None:
                    raise
                logger.warning("%s: the tracker was not told of the run's end: %s", type(tracker).__name__, failure)

    def _save(self, folder: Path, payload: dict[str, Any]) -> None:
        """The numbered checkpoint of the epoch just done."""
        state = self.state
        self._try(checkpoint.save, folder, state.epoch - 1, payload, state.spec.config.max_checkpoints)
        self.last_written = time.monotonic()

    def _try(self, write: Any, *arguments: Any) -> None:
        """A full disk must not end a run that may still write its model."""
        try:
            write(*arguments)
        except (CheckpointError, OSError) as error:
            logger.warning("epoch %d: %s Training goes on without this checkpoint.", self.state.epoch, error)

    def finish(self, comm: Comm) -> None:
        """Replace the last row by a full pass with the final weights, and write the model."""
        state, errors = self.state, {}
        for kind, ids in parts_of(state.spec):
            errors[kind] = evaluate(
                state.model,
                state.maker,
                ids,
                comm,
                forces=state.spec.config.force_weight > 0,
                batch_size=state.spec.reported_batch(ids),
            )
        self.write_end(errors)

    def write_end(self, errors: dict[str, ErrorSums]) -> None:
        """As ``finish``, of errors with the final weights, of the training and the validation part."""
        state = self.state
        row: Row = self.history.last if len(self.history) else {}
        for kind, found in errors.items():
            row |= error_columns(kind, found, state.spec.config.force_weight)
        if len(self.history):
            self.history.replace_last(row)
        if not self.active:
            return
        if not len(self.history):
            write_json(self.run_dir / EVALUATION, row)
        self.history.rewrite()
        self.history.write_json(self.run_dir / "history.json")
        write_model_file(self.run_dir / "model.pt", state.payload())
        self.close()
