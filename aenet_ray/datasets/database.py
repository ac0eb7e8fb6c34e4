"""Writing the file behind an HDF5StructureDataset: sources in, a structure store with what the dataset knows out."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from aenet_ray.datasets.references import checked_references
from aenet_ray.datasets.sources import SourceCollection, SourceRecord
from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.errors import ConfigError, StoreError, StructureError, UnknownSpeciesError
from aenet_ray.progress import progress_bar
from aenet_ray.structures.build import process_map, windowed
from aenet_ray.structures.parsing import Parsed, ParseOptions, Task, parse_task, tasks
from aenet_ray.structures.readers import Piece
from aenet_ray.structures.writer import BuildReport, Compression, StoreWriter

SETTINGS = "dataset"
"""Attribute of the file that keeps what the dataset was told."""

PROCESS_BYTES = 24 << 20
"""Less input is parsed in threads: starting processes would cost more than they save."""


class Settings(NamedTuple):
    """What a database remembers of its dataset.

    Args:
        max_energy: Limit of (E − Σε)/N, eV/atom, or None. All structures are in the file; the limit is applied when
            it is opened, and may be another one then.
        atomic_energies: eV, or None.
        descriptor: ``ChebyshevDescriptor.config()``, or None.
    """

    max_energy: float | None = None
    atomic_energies: dict[str, float] | None = None
    descriptor: dict[str, Any] | None = None

    @classmethod
    def read(cls, attributes: Any, path: Path) -> Settings:
        """Raises:
        StoreError: They are damaged.
        """
        if SETTINGS not in attributes:
            return cls()
        try:
            values = json.loads(attributes[SETTINGS])
            return cls(**{name: values[name] for name in cls._fields})
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path}: attribute {SETTINGS!r} is damaged: {error}. Build the database anew.") from None


def write_database(
    path: Path,
    sources: SourceCollection,
    settings: Settings,
    *,
    known_species: Sequence[str] | None,
    workers: int,
    compression: Compression,
    show_progress: bool,
) -> BuildReport:
    """Parse all sources, in their order, and write the file; an existing one is replaced when the new one is whole.

    Args:
        known_species: Of the descriptor; None where there is none.

    Raises:
        StoreError: A source cannot be loaded or used, which is named; or the file cannot be written.
        InputTypeError: A loader gives something else than structures.
        ConfigError: A source comes twice, or an atomic energy is missing.
        UnknownSpeciesError: The descriptor does not know a species.
    """
    notes: dict[str, SourceRecord] = {}
    run = _runner(sources, workers)
    with (
        StoreWriter(path, compression) as writer,
        progress_bar("building", None, "structures", show=show_progress) as bar,
    ):
        writer.attributes[SETTINGS] = json.dumps(settings._asdict())
        try:
            for parsed in run(parse_task, tasks(_noted(sources, notes), ParseOptions())):
                records = parsed.records
                found = [notes.get(source) for source in records.sources]
                writer.append(records)
                writer.append_texts("display_names", [r.display_name if r else "" for r in found])
                writer.append_texts("source_kinds", [r.source_kind if r else "file" for r in found])
                bar(len(records))
        except StructureError as error:
            raise StoreError(f"{path}: not built: {error}") from None
        checked_references(settings.atomic_energies, writer.species)
        _check_species(path, writer.species, known_species)
        return writer.finish()


def _check_species(path: Path, species: list[str], known: Sequence[str] | None) -> None:
    unknown = [] if known is None else [s for s in species if s not in known]
    if known is not None and unknown:
        raise UnknownSpeciesError(
            f"{path}: not built: the structures hold {', '.join(unknown)}; the descriptor knows {', '.join(known)}."
        )


def _noted(sources: SourceCollection, notes: dict[str, SourceRecord]) -> Iterator[Piece]:
    """The pieces, each noted under its source; a source that comes again later is refused."""
    last, seen = None, set()
    for record, piece in sources.pieces():
        if record is not None or piece.source != last:
            if piece.source in seen:
                raise ConfigError(f"sources: {piece.source!r} comes twice; expected each source once.")
            seen.add(piece.source)
            last = piece.source
        if record is not None:
            notes[piece.source] = record
        yield piece


def _runner(sources: SourceCollection, workers: int) -> Callable[..., Iterable[Parsed]]:
    if workers <= 1:
        return map
    return lambda function, items: _by_kind(function, items, workers)


def _by_kind(function: Callable[[Task], Parsed], items: Iterable[Task], workers: int) -> Iterator[Parsed]:
    """In processes, unless the input is small, or a loader cannot be sent to one."""
    items = iter(items)
    first: list[Task] = []
    size = 0
    for task in items:
        first.append(task)
        size += sum(PROCESS_BYTES if piece.kind == "loader" else piece.n_bytes for piece in task.pieces)
        if size > PROCESS_BYTES:
            break
    everything = chain(first, items)
    sendable = size > PROCESS_BYTES and all(_can_be_sent(piece) for task in first for piece in task.pieces)
    yield from process_map(workers)(function, everything) if sendable else _in_threads(function, everything, workers)


def _can_be_sent(piece: Piece) -> bool:
    if piece.kind != "loader":
        return True
    inner = getattr(piece.content, "func", piece.content)
    if getattr(inner, "__module__", None) in (None, "__main__"):  # another process would import the script again
        return False
    try:
        pickle.dumps(piece.content)
    except Exception:
        return False
    return True


def _in_threads(function: Callable[[Task], Parsed], items: Iterable[Task], workers: int) -> Iterator[Parsed]:
    with ThreadPoolExecutor(workers) as pool:
        yield from windowed(pool, function, items, 3 * workers)


def checked_compression(name: str | None, level: int) -> Compression:
    """How columns are compressed, in h5py's words. 'zlib' and 'gzip' are the same.

    Raises:
        ConfigError: h5py has no such method, or the level is not 0 to 9.
    """
    if isinstance(level, bool) or not isinstance(level, int) or not 0 <= level <= 9:
        raise ConfigError(f"compression_level: found {level!r}, expected 0 (none) to 9.")
    if name is None or level == 0:
        return Compression(None, None)
    if name in ("zlib", "gzip"):
        return Compression("gzip", level)
    if name == "lzf":
        return Compression("lzf", None)
    raise ConfigError(
        f"compression: found {name!r}, expected 'zlib', 'gzip' (the same), 'lzf' (which has no levels) or None."
    )


def check_is_there(path: Path) -> None:
    """Raises:
    FileNotFoundError: Nothing is there.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file. Build it by mode='build' and build_database().")


def chosen_descriptor(given: ChebyshevDescriptor | None, known: dict[str, Any] | None, path: Path) -> Any:
    """The descriptor to use: the given one, else the file's, else None.

    Raises:
        StoreError: Both are there, and differ.
    """
    kept = None if known is None else ChebyshevDescriptor.from_config({**known, "device": "cpu"})
    if given is not None and kept is not None and given.fingerprint() != kept.fingerprint():
        raise StoreError(
            f"{path}: was built for {kept}, and {given} is given. Give the same, or descriptor=None for the file's."
        )
    return kept if given is None else given
