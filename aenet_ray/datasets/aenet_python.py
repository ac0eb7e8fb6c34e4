"""aenet-python's training HDF5 as the file of an HDF5StructureDataset: every label, name and setting of it."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from aenet_ray.datasets.database import SETTINGS, Settings
from aenet_ray.errors import StoreError, StructureError
from aenet_ray.legacy.training_hdf5 import DESCRIPTOR_KEYS, Entry, TrainingFile
from aenet_ray.structures.build import process_map, write_skipped
from aenet_ray.structures.checks import find_problems
from aenet_ray.structures.parsing import Skipped
from aenet_ray.structures.progress import build_progress
from aenet_ray.structures.readers import from_entry
from aenet_ray.structures.records import Records
from aenet_ray.structures.store import StructureStore
from aenet_ray.structures.writer import BuildReport, StoreWriter

logger = logging.getLogger(__name__)

ORIGIN = "converted_from"
"""Attribute that tells the size and time of the file a store was made of."""
TASK_ENTRIES = 256
PARALLEL_ENTRIES = 20_000
"""So many are read in a few seconds by one process."""


class Parsed(NamedTuple):
    """Some entries, read and checked; the texts are those of the records."""

    records: Records
    display_names: list[str]
    source_kinds: list[str]
    skipped: list[Skipped]


def convert_training_file(
    source: Path, output: Path, *, skip_errors: bool = False, workers: int | None = 0, progress: bool = False
) -> BuildReport:
    """Write a store with all that a training HDF5 holds: structures with their names, sources, frames and kinds,
    energy limit, atomic energies and descriptor. Features are not taken over.

    Args:
        source: The training HDF5. It stays as it is.
        output: Replaced when complete.
        skip_errors: Leave out structures that cannot be used, and list them in ``<output>.skipped.csv``.
        workers: Processes that read records; None: as many as there are cores, for many.

    Raises:
        FileNotFoundError: No such file.
        UnsafeFileError: A record asks for anything but plain data.
        StructureError: A structure cannot be used, or none can.
        StoreError: A file is damaged, or cannot be written.
    """
    start = time.perf_counter()
    skipped: list[Skipped] = []
    with TrainingFile(source) as file, StoreWriter(output) as writer:
        writer.attributes |= {SETTINGS: json.dumps(settings_of(file)._asdict()), ORIGIN: _state(source)}
        size = source.stat().st_size
        with build_progress(size, progress) as bar:
            for parsed in _run(file, skip_errors, workers):
                writer.append(parsed.records)
                writer.append_texts("display_names", parsed.display_names)
                writer.append_texts("source_kinds", parsed.source_kinds)
                skipped += parsed.skipped
                n = len(parsed.records) + len(parsed.skipped)
                bar(size * n // len(file), writer.n_structures, len(skipped))
        report = write_skipped(output, skipped)
        if writer.n_structures == 0:
            raise StructureError(f"{source}: no structure of it can be used, first because of: {skipped[0].reason}")
        built = writer.finish()
    return replace(built, seconds=time.perf_counter() - start, n_skipped=len(skipped), skipped_report=report)


def settings_of(file: TrainingFile) -> Settings:
    """What an HDF5StructureDataset remembers, from what a training HDF5 says.

    Raises:
        StoreError: It is malformed, or of an unknown version.
    """
    known, config = file.filter_settings, file.descriptor_config
    descriptor = None if config is None else {k: config[k] for k in (*DESCRIPTOR_KEYS, "dtype") if k in config}
    limit = known.max_referenced_energy_per_atom if known.enabled else None
    return Settings(limit, known.atomic_energies, descriptor)


def _run(file: TrainingFile, skip: bool, workers: int | None) -> Iterable[Parsed]:
    if workers is None:
        workers = os.cpu_count() or 1 if len(file) > PARALLEL_ENTRIES else 0
    run: Any = map if workers <= 1 else process_map(workers)
    return run(partial(parse_entries, skip=skip), _batches(file))


def _batches(file: TrainingFile) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    for entry in file.entries():
        batch.append(entry)
        if len(batch) == TASK_ENTRIES:
            yield batch
            batch = []
    if batch:
        yield batch


def parse_entries(entries: list[Entry], *, skip: bool) -> Parsed:
    """Read and check.

    Raises:
        UnsafeFileError: A record asks for anything but plain data, ``skip`` or not.
        StructureError: A structure cannot be used, unless such are skipped.
    """
    structures, kept, skipped = [], [], []
    for entry in entries:
        try:
            # What it was displayed by is kept beside its name, not in the place of it.
            structures.append(replace(from_entry(entry), name=entry.name or None))
            kept.append(entry)
        except StructureError as error:
            if not skip:
                raise
            skipped.append(Skipped(entry.path, entry.index, str(error)))
    problems = find_problems(Records.from_structures(structures))
    for i, problem in sorted(problems.items()):
        reason = f"{kept[i].where} ({structures[i].source}, frame {structures[i].frame}): {problem}"
        if not skip:
            raise StructureError(reason)
        skipped.append(Skipped(kept[i].path, kept[i].index, reason))
    good = [i for i in range(len(kept)) if i not in problems]
    return Parsed(
        Records.from_structures([structures[i] for i in good]),
        [kept[i].display_name for i in good],
        [kept[i].source_kind for i in good],
        skipped,
    )


def converted_beside(source: Path) -> Path:
    """The store made of a training HDF5, in the file ``NAME.converted.h5`` beside it; made if it is not there, or if
    the training HDF5 has changed since.

    Raises:
        StoreError: It cannot be written there.
    """
    output = source.with_name(f"{source.name}.converted.h5")
    if _origin(output) == _state(source):
        return output
    try:
        report = convert_training_file(source, output, workers=None)
    except StoreError as error:
        if "cannot write" not in str(error):
            raise
        raise StoreError(
            f"{source}: aenet-python's training HDF5, and its conversion cannot be kept beside it ({error}) Give what "
            f"'aenet-ray convert {source} -o NEW.h5' writes elsewhere."
        ) from None
    logger.info("%s: aenet-python's; its %d structures are now in %s", source, report.n_structures, output)
    return output


def _state(path: Path) -> str:
    status = path.stat()
    return json.dumps([status.st_size, status.st_mtime_ns])


def _origin(path: Path) -> Any:
    """What an earlier conversion was made of; None where there is none that can be read."""
    if not path.is_file():
        return None
    try:
        with StructureStore(path) as store:
            return store.file.attrs.get(ORIGIN)
    except (StoreError, OSError):
        return None
