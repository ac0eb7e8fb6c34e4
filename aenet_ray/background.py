"""Work done ahead, in threads beside the one that uses the results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Background:
    """Threads that apply a function to items ahead of their use: same results, same order, whatever their number.

    Threads rather than processes: what they are used for spends its time in compiled code that releases the GIL, and
    its results need not be copied from one process to another.

    Args:
        threads: 0 does each item when its turn comes, in the calling thread.
        ahead: Items under way for each thread, those included that wait to be used.
        persistent: Keep the threads from one ``map`` to the next; else each starts its own.
    """

    def __init__(self, threads: int = 0, ahead: int = 2, *, persistent: bool = True) -> None:
        self.threads, self.ahead, self.persistent = threads, ahead, persistent
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Background:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """``function`` of each item, in the order of the items; what it raises is raised where its result would be."""
        if self.threads == 0:
            yield from map(function, items)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="aenet_ray-background")
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(self._pool.submit(function, item))
                if len(waiting) == self.threads * self.ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
            if not self.persistent:
                self.close()

    def close(self) -> None:
        """End the threads, after what they are just doing. Another ``map`` would start new ones."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
