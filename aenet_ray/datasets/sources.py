"""Where the structures of a database come from: files, archives, records with a loader, structures in memory."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, final

from aenet_ray.errors import ConfigError, InputTypeError, StructureError
from aenet_ray.structures.archives import is_archive, iter_members
from aenet_ray.structures.readers import Piece, cut, files_of, read_file, read_structures
from aenet_ray.structures.structure import Structure
from aenet_ray.structures.xsf import parse_xsf

Path = str | os.PathLike[str]

LOADER_BYTES = 1 << 17
"""What a record counts for in a task: nobody knows before it is loaded."""


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """One source: every structure that its loader gives becomes an entry.

    Args:
        source_id: Stable text, unique in a database.
        loader: Called without arguments, gives a Structure or several. One that other processes can import is called
            there, others in threads.
        source_kind: Short label.
        display_name: What stands for it in output files; empty: ``source_id``.
    """

    source_id: str
    loader: Callable[[], Structure | Iterable[Structure]]
    source_kind: str = "record"
    display_name: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.source_id, str) or not self.source_id:
            raise ConfigError(f"SourceRecord: source_id is {self.source_id!r}, expected a text that is not empty.")
        if not callable(self.loader):
            raise ConfigError(f"SourceRecord {self.source_id!r}: loader is {self.loader!r}, expected a function.")


class SourceCollection(ABC):
    """Records in a fixed order. Derive from it for sources of another kind.

    Attributes:
        multiple_passes: Can be iterated again.
        random_access: Records can be had in any order.
        parallel_build: Loaders may run at the same time.
    """

    multiple_passes = True
    random_access = True
    parallel_build = True

    @abstractmethod
    def __iter__(self) -> Iterator[SourceRecord]: ...

    def pieces(self) -> Iterator[tuple[SourceRecord | None, Piece]]:
        """What is parsed, piece by piece, and the record it belongs to (None: a file, with nothing to note)."""
        for record in self:
            if not isinstance(record, SourceRecord):
                raise InputTypeError(f"{type(self).__name__}: gives {type(record).__name__}, expected SourceRecord.")
            yield record, Piece("loader", record.source_id, content=record.loader, n_bytes=LOADER_BYTES)


@final
class FileSources(SourceCollection):
    """Files, of which every frame is an entry; directories stand for their files, archives for their members."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = [name for path in paths for name in files_of(os.fspath(path))]

    def __iter__(self) -> Iterator[SourceRecord]:
        for path in self.paths:
            if is_archive(path):
                yield from TarSources(path)
            else:
                yield SourceRecord(path, partial(read_file, path), "file")

    def pieces(self) -> Iterator[tuple[SourceRecord | None, Piece]]:
        """Files are cut where they are long, so that several processes can work on one."""
        for path in self.paths:
            if is_archive(path) and os.path.exists(path):
                yield from TarSources(path).pieces()
            else:
                yield from ((None, piece) for piece in cut(path))


@final
class TarSources(SourceCollection):
    """The members of a tar archive with one of the suffixes, in its order, read as a stream.

    Args:
        archive: ``.tar``, ``.tar.gz``, ``.tar.bz2`` or ``.tar.xz``.
        suffixes: Of the members, in lower case; XSF text.
    """

    random_access = False

    def __init__(self, archive: Path, suffixes: Sequence[str] = (".xsf",)) -> None:
        self.archive, self.suffixes = os.fspath(archive), tuple(s.lower() for s in suffixes)

    def __iter__(self) -> Iterator[SourceRecord]:
        return (record for record, _ in self._members())

    def pieces(self) -> Iterator[tuple[SourceRecord | None, Piece]]:
        try:
            yield from self._members()
        except StructureError as error:
            yield None, Piece("error", self.archive, content=error)

    def _members(self) -> Iterator[tuple[SourceRecord, Piece]]:
        for member in iter_members(self.archive, self.suffixes):
            loader = partial(_parse_xsf, member.data, member.source)
            record = SourceRecord(member.source, loader, "tar_xsf_member", member.name)
            yield record, Piece("xsf", member.source, 0, member.data, n_bytes=member.n_bytes)


def _parse_xsf(data: bytes, source: str) -> list[Structure]:
    return list(parse_xsf(data.decode(errors="replace"), source))


@final
class RecordSources(SourceCollection):
    """Records given one by one."""

    def __init__(self, records: Iterable[SourceRecord]) -> None:
        self.records = list(records)

    def __iter__(self) -> Iterator[SourceRecord]:
        return iter(self.records)


@final
class StructureSources(SourceCollection):
    """Structures (or ASE Atoms) in memory."""

    def __init__(self, structures: Iterable[Any]) -> None:
        self.structures = list(structures)

    def __iter__(self) -> Iterator[SourceRecord]:
        for i, structure in enumerate(self.structures):
            name = getattr(structure, "name", None) or ""
            yield SourceRecord(f"structure_{i:06d}", partial(_read_all, structure), "memory", name)


def _read_all(structure: Any) -> list[Structure]:
    return list(read_structures([structure]))


def as_collection(sources: Any) -> SourceCollection:
    """Sources of whatever kind: a path, a list of paths, records or structures, or a collection.

    Raises:
        InputTypeError: Of different kinds, or of none that is known.
        ConfigError: There is none.
    """
    if isinstance(sources, SourceCollection):
        return sources
    if isinstance(sources, str | os.PathLike):
        return TarSources(sources) if is_archive(sources) else FileSources([sources])
    if isinstance(sources, SourceRecord | Structure) or not isinstance(sources, Iterable):
        sources = [sources]
    items = list(sources)
    if not items:
        raise ConfigError("sources: none given; expected paths, SourceRecords, Structures, or a SourceCollection.")
    kinds = {_kind(item): item for item in reversed(items)}
    if len(kinds) > 1:
        raise InputTypeError(f"sources: {' and '.join(sorted(kinds))} in one list; expected all of one kind.")
    return _COLLECTIONS[next(iter(kinds))](items)


_COLLECTIONS: dict[str, Callable[[list[Any]], SourceCollection]] = {
    "paths": FileSources,
    "records": RecordSources,
    "structures": StructureSources,
}


def _kind(item: Any) -> str:
    if isinstance(item, str | os.PathLike):
        return "paths"
    if isinstance(item, SourceRecord):
        return "records"
    if isinstance(item, Structure) or hasattr(item, "get_chemical_symbols"):
        return "structures"
    raise InputTypeError(
        f"sources: {type(item).__name__} is no source; expected paths, SourceRecords, Structures or a collection."
    )
