"""End a run whose validation loss no longer falls."""

from __future__ import annotations

import math

from aenet_ray.training.config import TorchTrainingConfig
from aenet_ray.training.history import Row


class EarlyStopping:
    """Counts epochs since the validation loss was last lower than before by more than ``min_delta``.

    Whether to stop follows from the count and the settings in use: a run that ended early goes on where
    it is resumed with more patience, or with none asked for.

    Args:
        patience: Epochs without improvement that end the run; None: it never ends early.
        min_delta: In units of the loss.
    """

    def __init__(self, patience: int | None, min_delta: float) -> None:
        self.patience, self.min_delta = patience, min_delta
        self.best, self.waited = math.inf, 0

    def observe(self, loss: float) -> None:
        """The validation loss of an epoch; NaN counts as no improvement."""
        if loss < self.best - self.min_delta:
            self.best, self.waited = loss, 0
        else:
            self.waited += 1

    @property
    def stopped(self) -> bool:
        return self.patience is not None and self.waited >= self.patience

    def state(self) -> dict[str, float]:
        return {"best": self.best, "waited": self.waited}

    def restore(self, state: dict[str, float] | None) -> None:
        if state is not None:
            self.best, self.waited = float(state["best"]), int(state["waited"])


def is_last(row: Row, config: TorchTrainingConfig, epochs: int) -> bool:
    """Whether a run ends after the epoch of this row, by its length or early."""
    patience = config.early_stopping_patience
    early = patience is not None and row["epochs_without_improvement"] >= patience
    return early or int(row["epoch"]) + 1 >= epochs
