"""Candidates in any number, cut into chunks that can be read again: by whom and in which order does not matter."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from aenet_ray import legacy
from aenet_ray.errors import AenetRayError, InputTypeError, StoreError, StructureError, UnsafeFileError
from aenet_ray.structures.block import StructureBlock, chunks_by_atoms
from aenet_ray.structures.checks import MIN_DISTANCE, find_problems
from aenet_ray.structures.files import file_format
from aenet_ray.structures.parsing import ParseOptions, Skipped, tasks
from aenet_ray.structures.readers import Piece, cut, files_of, parse_piece
from aenet_ray.structures.records import Records
from aenet_ray.structures.store import StructureStore
from aenet_ray.structures.structure import IntArray, Structure

OnError = Literal["raise", "skip"]
CHUNK_ATOMS = 1 << 15
BLOCK_ATOMS = 1 << 13
OFFSETS_AT_ONCE = 1 << 16


@dataclass(frozen=True, slots=True)
class Part:
    """Structures of a chunk that are in memory together, and those that cannot be used.

    Args:
        index: Place of each structure of the block in its chunk, (n,).
        places: Source and frame of each, or a store and the first one's row.
    """

    index: IntArray
    block: StructureBlock
    skipped: list[Skipped]
    places: list[tuple[str, int]] | tuple[StructureStore, int]

    def place(self, i: int) -> tuple[str, int]:
        if isinstance(self.places, list):
            return self.places[i]
        store, row = self.places[0], self.places[1] + i
        return store.sources(row, row + 1)[0], int(store.frames(row, row + 1)[0])


@dataclass(frozen=True, slots=True)
class Chunk:
    """What is scored in one go: rows [start, stop) of a store, or pieces of other files.

    Args:
        key: Number of the source, and of the chunk in it.
    """

    key: tuple[int, int]
    store: StructureStore | None = None
    start: int = 0
    stop: int = 0
    pieces: tuple[Piece, ...] = ()

    def parts(self) -> Iterator[Part]:
        """Its structures in blocks of bounded memory. Those of a store were checked when it was built."""
        if self.store is None:
            yield from self._parsed()
            return
        with self.store as store:
            block = store.read(self.start, self.stop, labels=())
            yield Part(np.arange(block.n_structures), block, [], (store, self.start))

    def _parsed(self) -> Iterator[Part]:
        group: list[tuple[int, Structure]] = []
        skipped: list[Skipped] = []
        n_atoms = 0
        for i, found in enumerate(self._read()):
            if isinstance(found, Skipped):
                skipped.append(found)
                continue
            group.append((i, found))
            n_atoms += found.n_atoms
            if n_atoms >= BLOCK_ATOMS:
                yield _checked(group, skipped)
                group, skipped, n_atoms = [], [], 0
        if group or skipped:
            yield _checked(group, skipped)

    def _read(self) -> Iterator[Structure | Skipped]:
        for piece in self.pieces:
            try:
                if piece.kind == "error":
                    raise StructureError(piece.content)
                yield from parse_piece(piece)
            except AenetRayError as error:
                if isinstance(error, UnsafeFileError | InputTypeError):
                    raise
                yield Skipped(piece.source, piece.frame if piece.kind in ("extxyz", "memory") else "rest", str(error))

    def structures(self, wanted: set[int]) -> dict[int, Structure]:
        """Structures by their places in the chunk, with all their labels."""
        if self.store is not None:
            with self.store as store:
                return {i: store.structure(self.start + i) for i in wanted}
        return {i: s for i, s in enumerate(self._read()) if i in wanted and isinstance(s, Structure)}


def _checked(group: list[tuple[int, Structure]], skipped: list[Skipped]) -> Part:
    """Without the structures that no potential can make sense of."""
    index = np.array([i for i, _ in group], dtype=np.int64)
    records = Records.from_structures([s for _, s in group])
    places = [(s.source, s.frame) for _, s in group]
    problems = find_problems(records, MIN_DISTANCE)
    for k, problem in sorted(problems.items()):
        source, frame = places[k]
        what = f"structure {index[k]}" if source == "<memory>" else f"frame {frame}"
        skipped.append(Skipped(source, frame, f"{source}, {what}: {problem}"))
    if problems:
        sound = np.array([k for k in range(len(group)) if k not in problems], dtype=np.int64)
        return Part(index[sound], records.block.select(sound), skipped, [places[k] for k in sound])
    return Part(index, records.block, skipped, places)


@dataclass(frozen=True, slots=True)
class Source:
    """A store, or a run of other files or of structures in memory.

    Args:
        number: Among the sources.
    """

    number: int
    given: Any

    def chunks(self) -> Iterator[Chunk]:
        """Always the same ones in the same order, however often they are cut."""
        if isinstance(self.given, StructureStore):
            ranges = _ranges(self.given)
            yield from (Chunk((self.number, k), self.given, a, b) for k, (a, b) in enumerate(ranges))
            return
        for k, task in enumerate(tasks(cut(self.given), ParseOptions())):
            yield Chunk((self.number, k), pieces=tuple(task.pieces))

    @property
    def n_structures(self) -> int | None:
        """None where only reading would tell."""
        return len(self.given) if isinstance(self.given, StructureStore) or not self.paths else None

    @property
    def paths(self) -> list[Path]:
        if isinstance(self.given, StructureStore):
            return [self.given.path]
        return [Path(p) for p in self.given if isinstance(p, str)]

    def states(self) -> dict[Path, str | None]:
        """What tells whether its files are still the same: of a store the content, else size and time; None: gone."""
        state = _store_state if isinstance(self.given, StructureStore) else _file_state
        return {path: state(path) for path in self.paths}

    def fingerprint(self) -> str:
        """Of what is in it: for files that are no stores, their names, sizes and times."""
        if isinstance(self.given, StructureStore):
            return self.given.content_hash
        digest = hashlib.sha256()
        for path, state in self.states().items():
            digest.update(f"{path} {state}\n".encode())
        for item in (item for item in self.given if not isinstance(item, str)):
            digest.update(np.ascontiguousarray(item.positions).tobytes() + np.asarray(item.numbers).tobytes())
        return digest.hexdigest()


def _store_state(path: Path) -> str | None:
    try:
        with StructureStore(path) as store:
            return store.content_hash
    except Exception:  # whatever a damaged file makes of itself
        return "damaged" if path.exists() else None


def _file_state(path: Path) -> str | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return f"{status.st_size} {status.st_mtime_ns}"


@contextmanager
def unchanged(sources: Sequence[Source], note: Path | None) -> Iterator[None]:
    """While this lasts, the files of the sources must stay: they are read in parts, and some of them again.

    Args:
        note: Progress, deleted where they did not: it may hold what came of a file that was damaged by then.

    Raises:
        StoreError: One was deleted, truncated or changed; in place of whatever came of it.
    """
    before = [s.states() for s in sources]
    cause: Exception | None = None
    try:
        yield
    except Exception as error:
        cause = error
    changed = _first_change(sources, before)
    if changed is not None:
        if note is not None:
            note.unlink(missing_ok=True)
        raise StoreError(
            f"{changed} while the candidates were scored. Put it back or leave it out, and select again, from the "
            "beginning."
        ) from cause
    if cause is not None:
        raise cause


def _first_change(sources: Sequence[Source], before: Sequence[dict[Path, str | None]]) -> str | None:
    """The first file that is not as it was, and what became of it."""
    for source, then in zip(sources, before, strict=True):
        for path, state in source.states().items():
            if state != then[path]:
                return f"{path}: {'deleted' if state is None else 'truncated or changed'}"
    return None


def _ranges(store: StructureStore) -> Iterator[tuple[int, int]]:
    """Rows with about ``CHUNK_ATOMS`` atoms together, without reading all offsets at once."""
    for first in range(0, len(store), OFFSETS_AT_ONCE):
        counts = store.n_atoms_per_structure(first, min(first + OFFSETS_AT_ONCE, len(store)))
        for part in chunks_by_atoms(counts, CHUNK_ATOMS):
            yield first + part.start, first + part.stop


def chunks_left(sources: Sequence[Source], done: Collection[tuple[int, int]], most: int) -> int:
    """How many chunks are not done, counted up to ``most``; this number where only reading files would tell."""
    if any(s.n_structures is None for s in sources):
        return most
    left = (chunk for s in sources for chunk in s.chunks() if chunk.key not in done)
    return sum(1 for _ in islice(left, most))


def list_sources(candidates: Any) -> list[Source]:
    """What is given, looked at before any work starts.

    Args:
        candidates: Path of a file or folder, StructureStore, Structure, ASE Atoms, or a list or tuple of these.

    Raises:
        StructureError: A file is missing, empty or given twice, or there is none.
        StoreError: A store is damaged.
        InputTypeError: Something else.
    """
    groups: list[Any] = []
    for item in _flat(candidates):
        store = _as_store(item)
        if store is not None:
            groups.append(store)
        elif groups and isinstance(groups[-1], list) and isinstance(groups[-1][0], str) == isinstance(item, str):
            groups[-1].append(item)
        else:
            groups.append([item])
    sources = [Source(k, group) for k, group in enumerate(groups)]
    if not sources:
        raise StructureError("no candidates to select from; give files, a structure store, or structures.")
    paths = [p.resolve() for s in sources for p in s.paths]
    for path in paths if len(set(paths)) < len(paths) else ():
        if paths.count(path) > 1:
            raise StructureError(f"{path}: given twice; its structures would be selected twice.")
    return sources


def _flat(candidates: Any) -> Iterator[Any]:
    if isinstance(candidates, str | os.PathLike):
        yield from files_of(os.path.abspath(os.fspath(candidates)))
    elif isinstance(candidates, Structure | StructureStore) or hasattr(candidates, "get_chemical_symbols"):
        yield candidates
    elif isinstance(candidates, Sequence):
        for item in candidates:
            yield from _flat(item)
    else:
        raise InputTypeError(
            f"candidates: {type(candidates).__name__} given; expected paths, a StructureStore, structures, or a list "
            "of these: what is selected is read a second time."
        )


def _as_store(item: Any) -> StructureStore | None:
    if isinstance(item, StructureStore):
        return item
    if isinstance(item, str) and file_format(item) == "hdf5" and legacy.kind_of(item) is None:
        return StructureStore(item)
    return None
