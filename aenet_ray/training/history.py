"""One row an epoch: exact metrics and where the time went."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from aenet_ray.files import replacing, write_json
from aenet_ray.structures.structure import FloatArray

COLUMNS = (
    "epoch",
    "train_energy_rmse",
    "test_energy_rmse",
    "train_energy_mae",
    "test_energy_mae",
    "train_force_rmse",
    "test_force_rmse",
    "train_force_mae",
    "test_force_mae",
    "train_loss",
    "test_loss",
    "learning_rate",
    "epoch_time",
    "data_time",
    "step_time",
    "validation_time",
    "between_time",
    "epochs_without_improvement",
    "train_energy_rmse_batch_mean",
    "test_energy_rmse_batch_mean",
    "train_energy_mae_batch_mean",
    "test_energy_mae_batch_mean",
    "train_force_rmse_batch_mean",
    "test_force_rmse_batch_mean",
    "forward_time",
    "backward_time",
    "epoch_data_loading_time_train",
    "epoch_data_loading_time_val",
    "epoch_loss_time_train",
    "epoch_loss_time_val",
    "epoch_optimizer_time_train",
    "epoch_optimizer_time_val",
    "epoch_train_time",
    "epoch_val_time",
)
"""Energies in eV/atom, forces in eV/Å, times in s; NaN where there is nothing to measure, as without a validation set.

Errors are exact over all that they name: every structure, every component of every labelled force, also where
``force_fraction`` supervises fewer. Training values are running ones, measured before each update, over what the
epoch drew, until the last row, which is a full pass over the training structures with the final weights.
``…_batch_mean`` are means of the values of single batches, as aenet-python reports them: a last, smaller batch counts
as much as the others, and ``force_scale_unbiased`` scales them while training.

Times beginning with ``epoch_`` and ``forward_time``, ``backward_time`` have aenet-python's names; the latter two are
those of training. ``between_time`` is what passed since the epoch before: history, checkpoint, reports.
"""

Row = dict[str, float]


class History:
    """A table in memory and in ``history.csv``, which grows by a line an epoch.

    Args:
        path: The file; None keeps none.
        columns: Earlier epochs, as ``columns()`` gives them.
    """

    def __init__(self, path: Path | None = None, columns: Mapping[str, Sequence[float]] | None = None) -> None:
        self.path = path
        known = columns or {}
        self._n = len(next(iter(known.values()), ()))
        self._table = np.full((max(64, 2 * self._n), len(COLUMNS)), np.nan)
        for j, name in enumerate(COLUMNS):
            if name in known:
                self._table[: self._n, j] = np.asarray(known[name])
        self.rewrite()

    def __len__(self) -> int:
        return self._n

    @property
    def table(self) -> FloatArray:
        """All epochs, (n_epochs, n_columns)."""
        return self._table[: self._n]

    @property
    def last(self) -> Row:
        return dict(zip(COLUMNS, self.table[-1].tolist(), strict=True))

    def rewrite(self) -> None:
        """Make the file say what the table says, at once; needed at the start, on resume and for the final row."""
        if self.path is None:
            return
        with replacing(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(_cells(row) for row in self.table)

    def append(self, row: Row) -> None:
        if self._n == len(self._table):
            self._table = np.concatenate([self._table, np.full_like(self._table, np.nan)])
        self._n += 1
        self.replace_last(row)
        if self.path is not None:
            with self.path.open("a", newline="") as file:
                csv.writer(file).writerow(_cells(self.table[-1]))

    def replace_last(self, row: Row) -> None:
        """Set the last row, in the table only."""
        self._table[self._n - 1] = [row.get(name, math.nan) for name in COLUMNS]

    def columns(self) -> dict[str, FloatArray]:
        """Column name to one value an epoch."""
        return {name: self.table[:, j].copy() for j, name in enumerate(COLUMNS)}

    def write_json(self, path: Path) -> None:
        """Valid JSON: what is not a number is null."""
        write_json(path, {k: c.tolist() for k, c in self.columns().items()})


class HistoryTail:
    """Reads a ``history.csv`` that grows, or will be there later: each row once.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_rows = 0
        """Complete rows of the file as it was when last read."""
        self.n_files = 0
        """How often the file was a new one."""
        self._names: list[str] = []
        self._file: tuple[int, int] | None = None
        self._offset = 0

    def read(self) -> list[Row]:
        """Complete rows that are new; all of them where the file was replaced or cut."""
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                if (status.st_dev, status.st_ino) != self._file or status.st_size < self._offset:
                    self._file, self._offset, self.n_rows = (status.st_dev, status.st_ino), 0, 0
                    self.n_files += 1
                file.seek(self._offset)
                text = file.read()
        except OSError:  # not there yet, or the file system lost it from under us: there is another time
            return []
        complete = text[: text.rfind(b"\n") + 1]
        lines = complete.decode().splitlines()
        if self._offset == 0 and lines:
            self._names = lines.pop(0).split(",")
        self._offset += len(complete)
        self.n_rows += len(lines)
        return [self._row(cells) for cells in csv.reader(lines)]

    def _row(self, cells: list[str]) -> Row:
        return {name: float(cell) if cell else math.nan for name, cell in zip(self._names, cells, strict=False)}


def _cells(row: FloatArray) -> Iterator[str]:
    for name, value in zip(COLUMNS, row.tolist(), strict=True):
        yield str(int(value)) if name == "epoch" else "" if math.isnan(value) else f"{value:.9g}"


def line(row: Row, epochs: int) -> str:
    """One readable line of RMSE: ``epoch 12/200  train E 3.1 meV/atom  F 41 meV/Å  valid E 3.4 … lr 0.001  1.8 s``."""

    def pair(kind: str) -> str:
        energy, force = row[f"{kind}_energy_rmse"], row[f"{kind}_force_rmse"]
        text = f"{shown[kind]} E {1000 * energy:8.2f} meV/atom"
        return text if math.isnan(force) else f"{text}  F {1000 * force:7.1f} meV/Å"

    shown = {"train": "train", "test": "valid"}
    width = len(str(epochs))
    parts = [f"epoch {int(row['epoch']) + 1:{width}d}/{epochs}", pair("train")]
    if not math.isnan(row["test_energy_rmse"]):
        parts.append(pair("test"))
    parts += [f"lr {row['learning_rate']:.2g}", f"{row['epoch_time']:.2f} s"]
    return "  ".join(parts)
