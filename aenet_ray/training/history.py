"""One row an epoch: exact metrics and where the time went."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

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
)
"""Energies in eV/atom, forces in eV/Å, times in s. Training values are running ones, measured before each
update, until the last row, which is a full pass; NaN where there is nothing to measure."""

Row = dict[str, float]


class History:
    """Rows in memory and in ``history.csv``, appended as they come."""

    def __init__(self, path: Path | None = None, rows: Sequence[Row] = ()) -> None:
        self.path = path
        self.rows = list(rows)
        self.rewrite()

    def rewrite(self) -> None:
        """Make the file say what the rows say; needed at the start, on resume and for the final row."""
        if self.path is None:
            return
        with self.path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(_cells(row) for row in self.rows)

    def append(self, row: Row) -> None:
        row = {name: float(value) for name, value in row.items()}  # plain numbers: checkpoints hold nothing else
        self.rows.append(row)
        if self.path is not None:
            with self.path.open("a", newline="") as file:
                csv.writer(file).writerow(_cells(row))

    def columns(self) -> dict[str, list[float]]:
        return {name: [row.get(name, math.nan) for row in self.rows] for name in COLUMNS}

    def write_json(self, path: Path) -> None:
        """Valid JSON: what is not a number is null."""
        values = {k: [None if math.isnan(v) else v for v in column] for k, column in self.columns().items()}
        path.write_text(json.dumps(values, indent=1))


def rows_of(columns: dict[str, list[float]]) -> list[Row]:
    n = len(next(iter(columns.values()), []))
    return [{k: v[i] for k, v in columns.items()} for i in range(n)]


def _cells(row: Row) -> Iterator[str]:
    for name in COLUMNS:
        value = row.get(name, math.nan)
        yield str(int(value)) if name == "epoch" else "" if math.isnan(value) else f"{value:.9g}"


def line(row: Row, epochs: int) -> str:
    """One readable line: ``epoch 12/200  train E 3.1 meV/atom F 41 meV/Å  test E 3.4 F 44  lr 1e-3  1.8 s``."""

    def pair(kind: str) -> str:
        energy, force = row[f"{kind}_energy_rmse"], row[f"{kind}_force_rmse"]
        text = f"{kind:<5} E {1000 * energy:8.2f} meV/atom"
        return text if math.isnan(force) else f"{text}  F {1000 * force:7.1f} meV/Å"

    width = len(str(epochs))
    parts = [f"epoch {int(row['epoch']) + 1:{width}d}/{epochs}", pair("train")]
    if not math.isnan(row["test_energy_rmse"]):
        parts.append(pair("test"))
    parts += [f"lr {row['learning_rate']:.2g}", f"{row['epoch_time']:.2f} s"]
    return "  ".join(parts)
