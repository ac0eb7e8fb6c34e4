from __future__ import annotations

import io
import math

import numpy as np
import pytest
from rich.console import Console

from aenet_ray.tables import ErrorRow, error_markdown, error_table, error_text

ROWS = [
    ErrorRow(name="train", n_structures=5974, n_atoms=125_000, energy_mae=0.0012345, energy_rmse=0.0034),
    ErrorRow(name="te|st", energy_mae=0.0021, energy_rmse=1.5, force_mae=0.1, force_rmse=0.23456),
]


def test_errors_of_predictions():
    row = ErrorRow.from_predictions(
        "test",
        energy=[-10.0, -40.0, math.nan],
        predicted_energy=[-9.98, -40.16, 3.0],
        n_atoms=[2, 4, 1],
        forces=np.array([[1.0, 0.0, math.nan]]),
        predicted_forces=np.array([[1.3, -0.4, 7.0]]),
    )
    assert (row.n_structures, row.n_atoms) == (3, 7)
    assert row.energy_mae == pytest.approx(0.025)
    assert row.energy_rmse == pytest.approx(math.sqrt((0.01**2 + 0.04**2) / 2))
    assert row.force_mae == pytest.approx(0.35)
    assert row.force_rmse == pytest.approx(math.sqrt(0.125))


def test_no_forces_and_no_labels():
    row = ErrorRow.from_predictions("x", [math.nan], [1.0], [1])
    assert all(math.isnan(v) for v in (row.energy_mae, row.energy_rmse, row.force_mae, row.force_rmse))


def test_a_prediction_that_is_not_finite_shows():
    assert math.isnan(ErrorRow.from_predictions("x", [1.0, 2.0], [1.0, math.nan], [1, 1]).energy_mae)


def test_plain_text():
    assert error_text(ROWS).splitlines() == [
        "       structures    atoms  E MAE (meV/atom)  E RMSE (meV/atom)  F MAE (meV/Å)  F RMSE (meV/Å)",
        "train       5,974  125,000              1.23               3.40              –               –",
        "te|st           –        –              2.10               1500         100.00          234.56",
    ]


def test_columns_that_nobody_fills_are_left_out():
    assert error_markdown([ErrorRow(name="test", energy_mae=0.001, energy_rmse=0.002)]).splitlines() == [
        "|  | E MAE (meV/atom) | E RMSE (meV/atom) |",
        "| --- | ---: | ---: |",
        "| test | 1.00 | 2.00 |",
    ]


def test_markdown_escapes_bars():
    assert "| te\\|st |" in error_markdown(ROWS)


def test_rich_table():
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(error_table([ErrorRow(name="[red]", energy_mae=0.001)], title="Errors"))
    text = console.export_text()
    assert "Errors" in text
    assert "[red]" in text
    assert "1.00" in text


def test_empty():
    assert "E MAE (meV/atom)" in error_text([])
