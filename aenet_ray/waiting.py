"""Nothing hangs in silence: what takes long says what it waits for."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

PATIENCE = 30.0
"""Seconds without a word after which we say what is waited for."""


@contextmanager
def saying(what: Callable[[], str]) -> Iterator[Callable[[], None]]:
    """Log what is waited for whenever nothing has come for ``PATIENCE`` seconds, and again after as many.

    Args:
        what: Completes "waiting for …"; called from a thread of its own.

    Yields:
        What to call when something has come.
    """
    heard, came, stop = time.monotonic(), threading.Event(), threading.Event()

    def watch() -> None:
        nonlocal heard
        while not stop.is_set():
            if came.wait(PATIENCE):
                came.clear()
                heard = time.monotonic()
            elif not stop.is_set():
                logger.warning("waiting for %s, for %.0f s", _told(what), time.monotonic() - heard)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield came.set
    finally:
        stop.set()
        came.set()
        thread.join(timeout=1.0)  # what is waited for may be gone, and asking it not end


def _told(what: Callable[[], str]) -> str:
    try:
        return what()
    except Exception as error:
        return f"what cannot be told ({error})"
