"""The progress bar of a build."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def build_progress(n_bytes: int, show: bool) -> Iterator[Callable[[int, int, int], None]]:
    """A bar over the bytes of input, on a terminal; call it with (bytes more, structures, left out)."""
    if not show or not sys.stderr.isatty():
        yield lambda more, structures, skipped: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("building"),
        BarColumn(),
        TextColumn("{task.fields[structures]:,} structures{task.fields[skipped]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("build", total=n_bytes or None, structures=0, skipped="")

        def advance(more: int, structures: int, skipped: int) -> None:
            left_out = f", {skipped:,} left out" if skipped else ""
            bar.update(task, advance=more, structures=structures, skipped=left_out)

        yield advance
        if n_bytes:
            bar.update(task, completed=n_bytes)
