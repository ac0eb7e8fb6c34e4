"""SIGTERM, by which batch systems announce the end: a run in this process ends between two epochs."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

NOTICE = b"\nSIGTERM: the run ends after this epoch; a second one ends it at once\n"
CODE = 128 + signal.SIGTERM
"""What a script ends with, as shells say it; ``aenet-ray train`` ends as after Control-C."""


@contextmanager
def between_epochs() -> Iterator[Callable[[], bool]]:
    """Note SIGTERM instead of dying of it; yields whether it came, after which the block should soon end.

    Only in the main thread, and where nobody handles it already: Ray does, and raises SystemExit at once.

    Raises:
        SystemExit: At the end of the block, if it came; or at once if it came again.
    """
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if came:
            raise SystemExit(CODE)
        came = True
        with suppress(OSError):  # who read it may have been terminated before
            os.write(2, NOTICE)  # print must not be called where it may be what was interrupted

    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, note)
    try:
        yield lambda: came
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if came:
        raise SystemExit(CODE)
