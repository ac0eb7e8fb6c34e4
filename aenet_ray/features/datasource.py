"""A structure store as a Ray Data source: ranges of structures, read in parallel.

Imports no descriptors, and so no torch: a task that reads is ready in half the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from aenet_ray.features.arrow_blocks import to_table
from aenet_ray.structures.store import StructureStore


class StructureRanges(Datasource):
    """Ranges of a structure store, one read task and one table each; the file is opened inside the task.

    Args:
        store: Structures.
        ranges: First structure and end of each range. A column ``start`` names the range in its table.
    """

    def __init__(self, store: StructureStore, ranges: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self._store, self._ranges = store, list(ranges)

    def estimate_inmemory_data_size(self) -> int | None:
        """Bytes of all tables, about: 50 an atom with its forces."""
        n = sum(stop - start for start, stop in self._ranges)
        return 50 * self._store.n_atoms * n // max(1, self._store.n_structures)

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """One task a range, whatever the parallelism asked for: what is done with a range needs all of it."""
        return [
            ReadTask(
                _reader(self._store, start, stop),
                BlockMetadata(num_rows=stop - start, size_bytes=None, input_files=None, exec_stats=None),
            )
            for start, stop in self._ranges
        ]


def _reader(store: StructureStore, start: int, stop: int) -> Callable[[], Iterable[pa.Table]]:
    def read() -> Iterator[pa.Table]:
        with store:
            yield to_table(store.read(start, stop), start=start)

    return read
