"""Tables of errors, for the terminal, for plain text and for Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

ABSENT = "–"
WIDE = 10_000
"""Columns of what is no terminal: wider than any table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRow:
    """Errors of one split, or of one model on it. NaN marks what was not measured.

    Args:
        name: Name of the split or model.
        n_structures, n_atoms: How many were evaluated; None leaves the field empty.
        energy_mae, energy_rmse: Over structures, of the energy per atom, eV/atom.
        force_mae, force_rmse: Over force components, eV/Å.
    """

    name: str
    n_structures: int | None = None
    n_atoms: int | None = None
    energy_mae: float = math.nan
    energy_rmse: float = math.nan
    force_mae: float = math.nan
    force_rmse: float = math.nan

    @classmethod
    def from_predictions(
        cls,
        name: str,
        energy: ArrayLike,
        predicted_energy: ArrayLike,
        n_atoms: ArrayLike,
        forces: ArrayLike | None = None,
        predicted_forces: ArrayLike | None = None,
    ) -> ErrorRow:
        """Errors of predictions; references that are NaN count as absent.

        Args:
            name: Name of the split or model.
            energy, predicted_energy: Of the whole structure, (n_structures,), eV.
            n_atoms: Atoms of each structure, (n_structures,).
            forces, predicted_forces: The same shape, such as (n_atoms, 3), eV/Å.
        """
        counts = np.asarray(n_atoms, dtype=np.float64)
        per_atom = np.asarray(energy, float) / counts, np.asarray(predicted_energy, float) / counts
        energy_mae, energy_rmse = _mae_rmse(*per_atom)
        force_mae, force_rmse = math.nan, math.nan
        if forces is not None and predicted_forces is not None:
            force_mae, force_rmse = _mae_rmse(forces, predicted_forces)
        return cls(
            name=name,
            n_structures=counts.size,
            n_atoms=int(counts.sum()),
            energy_mae=energy_mae,
            energy_rmse=energy_rmse,
            force_mae=force_mae,
            force_rmse=force_rmse,
        )


def error_table(rows: Sequence[ErrorRow], title: str | None = None) -> Table:
    """The rows as a table for rich's ``console.print``."""
    from rich.table import Table
    from rich.text import Text

    header, cells = _cells(rows)
    table = Table(title=title, title_justify="left", header_style="bold")
    for i, name in enumerate(header):
        table.add_column(Text(name), justify="left" if i == 0 else "right", no_wrap=True)
    for row in cells:
        table.add_row(*map(Text, row))  # Text: names may hold rich's own brackets
    return table


def output_console() -> Console:
    """A console for tables on stdout; into a pipe or a file nothing is wrapped or cut to 80 columns."""
    import sys

    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)


def print_errors(rows: Sequence[ErrorRow], title: str) -> None:
    """Print the rows: framed on a terminal, else plain and never cut to a width."""
    from rich.console import Console

    console = Console()
    if console.is_terminal:
        console.print(error_table(rows, title=title))
    else:
        print(f"{title}\n{error_text(rows)}")


def error_text(rows: Sequence[ErrorRow]) -> str:
    """The rows in aligned columns, for logs and files."""
    header, cells = _cells(rows)
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    return "\n".join(_aligned(line, widths).rstrip() for line in (header, *cells))


def error_markdown(rows: Sequence[ErrorRow]) -> str:
    """The rows as a Markdown table."""
    header, cells = _cells(rows)
    cells = [[cell.replace("|", "\\|") for cell in row] for row in cells]
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *cells))


def _mae_rmse(reference: ArrayLike, prediction: ArrayLike) -> tuple[float, float]:
    expected, found = np.asarray(reference, float), np.asarray(prediction, float)
    error = (found - expected)[~np.isnan(expected)]
    if error.size == 0:
        return math.nan, math.nan
    return float(np.abs(error).mean()), float(np.sqrt((error**2).mean()))


def _cells(rows: Sequence[ErrorRow]) -> tuple[list[str], list[list[str]]]:
    """Header and body in meV. Columns that no row fills are left out, but for the energies."""
    columns: list[tuple[str, list[str], bool]] = [
        ("", [row.name for row in rows], True),
        ("structures", [_count(row.n_structures) for row in rows], False),
        ("atoms", [_count(row.n_atoms) for row in rows], False),
        ("E MAE (meV/atom)", [_milli(row.energy_mae) for row in rows], True),
        ("E RMSE (meV/atom)", [_milli(row.energy_rmse) for row in rows], True),
        ("F MAE (meV/Å)", [_milli(row.force_mae) for row in rows], False),
        ("F RMSE (meV/Å)", [_milli(row.force_rmse) for row in rows], False),
    ]
    kept = [(name, body) for name, body, always in columns if always or set(body) - {ABSENT}]
    return [name for name, _ in kept], [list(row) for row in zip(*(body for _, body in kept), strict=True)]


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0].ljust(widths[0])
    return "  ".join([first, *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))])


def _count(value: int | None) -> str:
    return ABSENT if value is None else f"{value:,}"


def _milli(value: float) -> str:
    """eV as meV: two digits after the point, and none beyond 1000."""
    if math.isnan(value):
        return ABSENT
    return f"{1000.0 * value:.2f}" if abs(value) < 1.0 else f"{1000.0 * value:.0f}"
