"""Building a structure store from files: parse in parallel, check, count, refuse or report."""

from __future__ import annotations

import csv
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from aenet_ray.errors import StoreError, StructureError
from aenet_ray.structures.checks import MIN_DISTANCE
from aenet_ray.structures.duplicates import Identifiers
from aenet_ray.structures.labels import DEFAULT_KEYS, LabelKeys
from aenet_ray.structures.parsing import Parsed, ParseOptions, Skipped, Task, parse_task, tasks
from aenet_ray.structures.progress import build_progress
from aenet_ray.structures.readers import cut
from aenet_ray.structures.records import Records
from aenet_ray.structures.writer import BuildReport, StoreWriter

logger = logging.getLogger(__name__)

MapFunction = Callable[[Callable[[Task], Parsed], Iterable[Task]], Iterable[Parsed]]
_SERIAL_BYTES = 24 << 20  # below this, starting processes costs more than they save


def build_store(
    files: Any,
    output: str | os.PathLike[str],
    *,
    held_out: Any = (),
    workers: int | None = 0,
    on_error: Literal["raise", "skip"] = "raise",
    progress: bool = True,
    keys: LabelKeys = DEFAULT_KEYS,
    min_distance: float = MIN_DISTANCE,
    allow_duplicates: bool = False,
    map_function: MapFunction | None = None,
) -> BuildReport:
    """Read structures, check them and write a structure store.

    The store, and its content hash, do not depend on how many processes took part. An existing store is
    replaced when the new one is complete, and left as it is if anything goes wrong.

    Args:
        files: Paths (files, archives, directories), Structure records, ASE Atoms, or iterables of them.
        output: The store to write, usually ``*.h5``.
        held_out: More of the same, put last; the report tells how many of the store's structures they are.
        workers: Processes that parse and check, besides this one, which writes. 0 and 1: everything in
            this process. None: as many as there are cores, for input large enough. A script that asks for
            more than one keeps its own work under ``if __name__ == "__main__":``, as with every process pool.
        on_error: 'raise' ends the build at the first structure that cannot be used; 'skip' leaves it out and
            writes ``<output>.skipped.csv``: source, frame, reason.
        progress: Show a progress bar, on a terminal.
        keys: Names of the labels in extended XYZ and ASE files; fidelity of all structures.
        min_distance: Atoms closer than this are an error, Å.
        allow_duplicates: Take a structure whose identifier (name or source, and frame) came before.
        map_function: Like ``map``, ordered and lazy: runs the parsing elsewhere, instead of ``workers``.

    Raises:
        StructureError: A file or structure cannot be used, or none can.
        StoreError: The output cannot be written, or a worker process died.
        ValueError: ``workers`` or ``on_error`` make no sense.
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"on_error={on_error!r}, expected 'raise' or 'skip'.")
    if workers is not None and workers < 0:
        raise ValueError(f"workers={workers}, expected 0 or more, or None for one a core.")
    start = time.perf_counter()
    options = ParseOptions(on_error == "skip", keys, min_distance)
    n_bytes = _input_bytes([files, held_out])
    if workers is None:
        workers = _cores() if n_bytes > _SERIAL_BYTES else 0
    run = map_function or (map if workers <= 1 else process_map(workers))
    with StoreWriter(output) as writer, build_progress(n_bytes, progress) as bar:
        gate = _Gate(options.skip_errors, allow_duplicates)
        n_before = 0
        for part in (files, held_out):
            n_before = writer.n_structures
            for parsed in run(parse_task, tasks(cut(part), options)):
                writer.append(gate.admit(parsed))
                bar(parsed.n_bytes, writer.n_structures, len(gate.skipped))
        report = write_skipped(output, gate.skipped)
        if writer.n_structures == 0 and gate.skipped:
            raise StructureError(
                f"{output}: nothing to store, everything was left out, first because of: "
                f"{gate.skipped[0].reason} See {report} for all."
            )
        built = writer.finish()
    seconds = time.perf_counter() - start
    return replace(
        built,
        seconds=seconds,
        n_skipped=len(gate.skipped),
        skipped_report=report,
        n_held_out=built.n_structures - n_before,
    )


class _Gate:
    """Lets every structure through once, and keeps the list of what stayed outside."""

    def __init__(self, skip: bool, allow_duplicates: bool) -> None:
        self.skip, self.skipped = skip, list[Skipped]()
        self._identifiers = None if allow_duplicates else Identifiers()

    def admit(self, parsed: Parsed) -> Records:
        self.skipped += parsed.skipped
        records = parsed.records
        repeated = [] if self._identifiers is None else self._identifiers.add(records)
        for i in repeated:
            what = f"name {records.names[i]!r}" if records.names[i] else "source"
            reason = (
                f"{records.where(i)}: this {what} with frame {records.frames[i]} came before. Is a file given "
                "twice, or a name used twice?"
            )
            if not self.skip:
                raise StructureError(reason)
            self.skipped.append(Skipped(records.sources[i], int(records.frames[i]), reason))
        if repeated:
            records = records.select(sorted(set(range(len(records))) - set(repeated)))
        return records


def windowed(pool: Executor, function: Callable[[Task], Parsed], items: Iterable[Task], size: int) -> Iterator[Parsed]:
    """An ordered map over a pool that keeps only so many tasks and results in memory."""
    window: deque[Future[Parsed]] = deque()
    for item in items:
        window.append(pool.submit(function, item))
        if len(window) > size:
            yield window.popleft().result()
    while window:
        yield window.popleft().result()


def process_map(workers: int) -> MapFunction:
    """An ordered map over a few processes, as ``windowed``."""

    def run(function: Callable[[Task], Parsed], items: Iterable[Task]) -> Iterator[Parsed]:
        import multiprocessing

        # Not fork: this process may have threads, and an HDF5 file open.
        methods = multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        pool = ProcessPoolExecutor(workers, mp_context=context)
        try:
            yield from windowed(pool, function, items, 3 * workers)
        except BrokenProcessPool:
            raise StoreError(
                "a process that parsed files died: out of memory, killed, or the script that called build_store "
                "has no 'if __name__ == \"__main__\":'. Use workers=0 to see."
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    return run


def write_skipped(output: str | os.PathLike[str], skipped: list[Skipped]) -> Path | None:
    """The report beside the store; one of an earlier build is removed if nothing was left out now."""
    path = Path(f"{os.fspath(output)}.skipped.csv")
    if not skipped:
        path.unlink(missing_ok=True)
        return None
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(Skipped._fields)
        table.writerows(skipped)
    logger.warning("%d left out of %s; reasons in %s", len(skipped), output, path)
    return path


def _input_bytes(files: Any) -> int:
    """Size of the files, as far as it is known before reading."""
    if isinstance(files, str | os.PathLike):
        path = Path(files)
        if path.is_dir():
            return sum(entry.stat().st_size for entry in path.iterdir() if entry.is_file())
        return path.stat().st_size if path.exists() else 0
    return sum(map(_input_bytes, files)) if isinstance(files, list | tuple) else 0


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
