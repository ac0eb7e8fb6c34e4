"""Waiting for another process that does the same work in the same folder."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)

INTERVAL = 0.05


@contextmanager
def held(path: Path, patience: float, message: str | None = None) -> Iterator[bool]:
    """Hold an advisory lock, or go on without it: a lock saves work here, it protects nothing.

    The system takes the lock from a process that ends, however it ends. A holder that hangs, and a file system
    without locks, must not stop anybody: once nothing has changed in the folder for ``patience`` seconds, the
    wait is over.

    Args:
        path: The lock's file, made if it is missing and left behind.
        patience: Seconds.
        message: Logged once, if somebody else holds the lock.

    Yields:
        Whether the lock is held.
    """
    with path.open("a") as file:
        taken = _take(file.fileno())
        if taken is False and message:
            logger.info("%s", message)
        seen, since = path.parent.stat().st_mtime_ns, time.monotonic()
        while taken is False and time.monotonic() - since < patience:
            time.sleep(INTERVAL)
            taken = _take(file.fileno())
            if (now := path.parent.stat().st_mtime_ns) != seen:
                seen, since = now, time.monotonic()
        try:
            yield bool(taken)
        finally:
            if taken:  # not by closing alone: a child may have inherited the file
                fcntl.flock(file, fcntl.LOCK_UN)


def _take(descriptor: int) -> bool | None:
    """True: taken. False: somebody else has it. None: there are no locks here."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        logger.debug("no locks on this file system: %s", os.strerror(error.errno or 0))
        return None
    return True
