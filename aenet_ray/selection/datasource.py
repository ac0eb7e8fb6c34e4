"""Chunks of candidates as a Ray Data source: files are cut where they are read, and parsed where they are scored."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from aenet_ray.selection.candidates import Source


class CandidateChunks(Datasource):
    """Chunks that are not done, one row each: of a store only its range, of other files the text.

    Args:
        sources: One read task each.
        done: Keys of the chunks to leave out.
    """

    def __init__(self, sources: Sequence[Source], done: Collection[tuple[int, int]]) -> None:
        super().__init__()
        self._sources, self._done = list(sources), frozenset(done)

    def estimate_inmemory_data_size(self) -> int | None:
        """Not known."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """One task a source."""
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(_reader(source, self._done), unknown) for source in self._sources]


def _reader(source: Source, done: frozenset[tuple[int, int]]) -> Callable[[], Iterable[pa.Table]]:
    def read() -> Iterator[pa.Table]:
        for chunk in source.chunks():
            if chunk.key not in done:
                # Between two processes of one cluster, never from a file.
                yield pa.table({"chunk": pa.array([pickle.dumps(chunk)], pa.large_binary())})

    return read
