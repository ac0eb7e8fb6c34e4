"""The part of a build that runs anywhere: pieces of files in, checked records out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from aenet_ray.errors import AenetRayError, InputTypeError, StructureError, UnsafeFileError
from aenet_ray.structures.checks import MIN_DISTANCE, find_problems
from aenet_ray.structures.labels import DEFAULT_KEYS, LabelKeys
from aenet_ray.structures.readers import Piece, parse_piece
from aenet_ray.structures.records import Records
from aenet_ray.structures.structure import Structure

TASK_BYTES, TASK_PIECES = 1 << 20, 256


@dataclass(frozen=True, slots=True)
class ParseOptions:
    """What parsing depends on; see :func:`aenet_ray.structures.build.build_store`."""

    skip_errors: bool = False
    keys: LabelKeys = DEFAULT_KEYS
    min_distance: float = MIN_DISTANCE


class Skipped(NamedTuple):
    """Something left out: its source, the frame ('all' or 'rest' where there are several), and why."""

    source: str
    frame: int | str
    reason: str


@dataclass(slots=True)
class Parsed:
    """What became of a task."""

    records: Records
    skipped: list[Skipped]
    n_bytes: int


@dataclass(slots=True)
class Task:
    pieces: list[Piece]
    options: ParseOptions


def tasks(pieces: Iterable[Piece], options: ParseOptions) -> Iterator[Task]:
    """Consecutive pieces, grouped so that a task is worth sending to another process."""
    group: list[Piece] = []
    size = 0
    for piece in pieces:
        group.append(piece)
        size += len(piece.content) if isinstance(piece.content, str | bytes) else piece.n_bytes
        if size >= TASK_BYTES or len(group) >= TASK_PIECES:
            yield Task(group, options)
            group, size = [], 0
    if group:
        yield Task(group, options)


def parse_task(task: Task) -> Parsed:
    """Parse and check.

    Raises:
        StructureError: A structure cannot be used, unless errors are skipped.
    """
    structures: list[Structure] = []
    places: list[tuple[str, int]] = []
    skipped: list[Skipped] = []
    for piece in task.pieces:
        try:
            for structure in _structures(piece, task.options):
                structures.append(structure)
                places.append(_place(piece, structure))
        except StructureError as error:
            if not task.options.skip_errors:
                raise
            skipped.append(Skipped(piece.source, _lost(piece), str(error)))
    records = Records.from_structures(structures)
    problems = find_problems(records, task.options.min_distance)
    for i, problem in sorted(problems.items()):
        source, frame = places[i]
        message = f"{source}, {'structure' if source == '<memory>' else 'frame'} {frame}: {problem}"
        if not task.options.skip_errors:
            raise StructureError(message)
        skipped.append(Skipped(source, frame, message))
    if problems:
        records = Records.from_structures([s for i, s in enumerate(structures) if i not in problems])
    return Parsed(records, skipped, sum(piece.n_bytes for piece in task.pieces))


def _structures(piece: Piece, options: ParseOptions) -> Iterator[Structure]:
    if piece.kind == "error":
        raise piece.content
    try:
        yield from parse_piece(piece, options.keys)
    except AenetRayError as error:
        # The others end a build in any case.
        if isinstance(error, StructureError | UnsafeFileError | InputTypeError):
            raise
        raise StructureError(str(error)) from None  # a store that is damaged


def _place(piece: Piece, structure: Structure) -> tuple[str, int]:
    return (piece.source, piece.frame) if piece.kind == "memory" else (structure.source, structure.frame)


def _lost(piece: Piece) -> int | str:
    """Which frames an error takes along."""
    if piece.kind in ("extxyz", "memory", "aenet-python"):
        return piece.frame
    return "all" if piece.kind == "xsf" else "rest"
