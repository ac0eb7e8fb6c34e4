"""Progress bars for long work; silent where nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")

_shown: list[Progress] = []
"""The display in use: a terminal has room for one, in which bars stand below each other."""


@contextmanager
def progress_bar(title: str, total: int | None, unit: str, *, show: bool = True) -> Iterator[Callable[[int], None]]:
    """A bar over ``total`` units (None: not known); yields what to call with the units done since the last call.

    Drawn on standard error if that is a terminal; a log file gets none of it. A bar within another one stands below
    it and goes when it is done.
    """
    if not show or not sys.stderr.isatty():
        yield lambda _: None
        return
    if _shown:
        outer = _shown[0]
        inner = outer.add_task(title, total=total, unit=unit)
        try:
            yield lambda n: outer.advance(inner, n)
        finally:
            outer.remove_task(inner)
        return
    with _display() as bar:
        _shown.append(bar)
        try:
            task = bar.add_task(title, total=total, unit=unit)
            yield lambda n: bar.advance(task, n)
        finally:
            _shown.remove(bar)


def counted(items: Iterable[T], title: str, total: int, unit: str, *, show: bool = True) -> Iterator[T]:
    """The items, with a bar that counts them; see ``progress_bar``."""
    with progress_bar(title, total, unit, show=show) as advance:
        for item in items:
            yield item
            advance(1)


def _display() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))
