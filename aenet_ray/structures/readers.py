"""One door to structures in files, archives and memory.

A source is first cut into pieces, cheaply and in order, and then parsed piece by piece: in this process
(:func:`read_structures`) or in several (:mod:`aenet_ray.structures.build`).
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aenet_ray import legacy
from aenet_ray.errors import InputTypeError, StoreError, StructureError
from aenet_ray.structures.archives import iter_members
from aenet_ray.structures.extxyz import parse_frame, split_frames
from aenet_ray.structures.files import READABLE, file_format, known_to_ase, open_binary
from aenet_ray.structures.labels import DEFAULT_KEYS, LabelKeys
from aenet_ray.structures.structure import Structure
from aenet_ray.structures.xsf import parse_xsf

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from aenet_ray.legacy.training_hdf5 import Entry


@dataclass(slots=True)
class Piece:
    """What one call of :func:`parse_piece` turns into structures.

    Args:
        kind: 'xsf', 'extxyz', 'ase', 'hdf5', 'aenet-python', 'memory', 'loader', or 'error'.
        source: Path, or archive and member.
        frame: First frame in it, where the source was cut.
        content: Text, an entry, structures, a function that gives some, or an error; None if the file is
            still to be opened.
        name: Name to give to its structures.
        n_bytes: Bytes of input it stands for.
    """

    kind: str
    source: str
    frame: int = 0
    content: Any = None
    name: str | None = None
    n_bytes: int = 0


def read_structures(source: Any, *, keys: LabelKeys = DEFAULT_KEYS) -> Iterator[Structure]:
    """Structures of a path, a Structure, an ASE Atoms, or any iterable of these, in order.

    Paths: XSF, extended XYZ, tar archives of XSF, what ASE reads, compressed ones too, structure stores,
    aenet-python's training HDF5, and directories of these. The format is told by the suffix, then by the content.
    Read lazily.

    Args:
        source: One or many of the above.
        keys: Names of the labels in extended XYZ files and ASE objects.

    Raises:
        StructureError: A file is missing (a FileNotFoundError as well), of unknown format, or cannot be read; names
            file and frame.
        StoreError: A structure store among them is damaged.
    """
    for piece in cut(source):
        if piece.kind == "error":
            raise piece.content
        yield from parse_piece(piece, keys)


def cut(source: Any) -> Iterator[Piece]:
    """The pieces of a source, in order. What cannot be cut becomes a piece of kind 'error'."""
    given = 0
    for piece in _cut(source):
        if piece.kind == "memory":  # counted, so that a message can say which one
            piece.frame, given = given, given + 1
        yield piece


def _cut(source: Any) -> Iterator[Piece]:
    if isinstance(source, str | os.PathLike):
        yield from _cut_path(os.fspath(source))
    elif isinstance(source, Structure) or hasattr(source, "get_chemical_symbols"):
        yield Piece("memory", "<memory>", content=source)
    elif isinstance(source, Iterable):
        for item in source:
            yield from _cut(item)
    else:
        raise StructureError(
            f"cannot read structures from {type(source).__name__}; expected paths, Structure records, ASE "
            "Atoms, or an iterable of them."
        )


def _cut_path(path: str) -> Iterator[Piece]:
    try:
        if os.path.isdir(path):
            for file in files_of(path):
                yield from _cut_path(file)
        else:
            yield from _cut_file(path)
    except StructureError as error:
        yield Piece("error", path, content=error)
    except (OSError, EOFError) as error:
        yield Piece("error", path, content=StructureError(f"{path}: cannot be read: {error}."))


def list_directory(path: str) -> list[str]:
    """The files of a directory by name, hidden ones and subdirectories left out."""
    names = sorted(n for n in os.listdir(path) if not n.startswith("."))
    files = [os.path.join(path, n) for n in names if os.path.isfile(os.path.join(path, n))]
    if not files:
        raise StructureError(
            f"{path}: no files in this directory (folders in it are not searched); aenet_ray reads {READABLE}."
        )
    return files


def files_of(path: str) -> Iterator[str]:
    """A file itself, of a directory the files in known formats; one line says which others there are.

    Raises:
        StructureError: There are none in the directory.
    """
    if not os.path.isdir(path):
        yield path
        return
    unknown = []
    files = list_directory(path)
    for file in files:
        if os.path.getsize(file) and file_format(file) == "ase" and not known_to_ase(file):
            unknown.append(os.path.basename(file))
        else:
            yield file
    if len(unknown) == len(files):
        raise StructureError(f"{path}: no file of a known format in this directory; aenet_ray reads {READABLE}.")
    if unknown:
        shown = ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else "")
        logger.warning("%s: %d of %d files left out, of no known format: %s", path, len(unknown), len(files), shown)


def _cut_file(path: str) -> Iterator[Piece]:
    kind = file_format(path)
    if kind == "tar":
        for member in iter_members(path):
            yield Piece("xsf", member.source, 0, member.data, member.name, member.n_bytes)
    elif kind == "extxyz":
        yield from cut_extxyz(path)
    elif kind == "hdf5" and (found := legacy.kind_of(path)) is not None:
        yield from _cut_training_file(path, found)
    else:
        yield Piece(kind, path, n_bytes=os.path.getsize(path))


def cut_extxyz(path: str) -> Iterator[Piece]:
    position = 0
    with open_binary(path) as (raw, plain), io.TextIOWrapper(plain, errors="replace") as lines:
        try:
            for frame, text in enumerate(split_frames(lines, path)):
                n_bytes, position = raw.tell() - position, raw.tell()
                yield Piece("extxyz", path, frame, text, None, n_bytes)
        except (OSError, EOFError) as error:
            raise StructureError(f"{path}: truncated or damaged: {error}.") from None


def _cut_training_file(path: str, kind: str) -> Iterator[Piece]:
    """The entries of aenet-python's training HDF5, records unread: that is for the process that parses."""
    from aenet_ray.legacy.training_hdf5 import TrainingFile

    if kind != "training":
        raise legacy.only_for_convert(path, kind)
    try:
        with TrainingFile(path) as file:
            n_bytes = os.path.getsize(path) // len(file)
            for entry in file.entries():
                yield Piece("aenet-python", path, entry.index, entry, None, n_bytes)
    except StoreError as error:
        raise StructureError(str(error)) from None


def parse_piece(piece: Piece, keys: LabelKeys = DEFAULT_KEYS) -> Iterator[Structure]:
    """The structures of a piece.

    Raises:
        StructureError: It does not parse; names source and frame.
    """
    if piece.kind == "xsf":
        structures: Iterable[Structure] = parse_xsf(_text(piece), piece.source)
    elif piece.kind == "extxyz":
        structures = [parse_frame(piece.content, piece.source, piece.frame, keys)]
    elif piece.kind == "memory":
        structures = [_from_memory(piece.content, keys)]
    elif piece.kind == "aenet-python":
        structures = [from_entry(piece.content)]
    elif piece.kind == "loader":
        structures = _loaded(piece)
    elif piece.kind == "hdf5":
        from aenet_ray.structures.store import StructureStore

        structures = StructureStore(piece.source)
    else:
        from aenet_ray.structures.ase_io import read_ase

        structures = read_ase(piece.source, keys=keys)
    for structure in structures:
        name, fidelity = piece.name or structure.name, structure.fidelity or keys.fidelity
        if (name, fidelity) != (structure.name, structure.fidelity):
            structure = replace(structure, name=name, fidelity=fidelity)
        yield structure


def _loaded(piece: Piece) -> Iterator[Structure]:
    """What a loader gives, under the piece's source, frames counted."""
    try:
        loaded = piece.content()
        found = [loaded] if isinstance(loaded, Structure) or not isinstance(loaded, Iterable) else list(loaded)
    except Exception as error:
        message = str(error) if isinstance(error, StructureError) else f"{type(error).__name__}: {error}"
        raise StructureError(f"{piece.source}: cannot be loaded: {message}") from None
    if not found:
        raise StructureError(f"{piece.source}: its loader gives no structure, expected one or several.")
    for frame, structure in enumerate(found):
        if not isinstance(structure, Structure):
            raise InputTypeError(
                f"{piece.source}: its loader gives {type(structure).__name__}, expected Structure or several."
            )
        yield replace(structure, source=piece.source, frame=frame)


def _text(piece: Piece) -> str:
    if piece.content is not None:
        return piece.content.decode(errors="replace")
    try:
        with open_binary(piece.source) as (_, plain):
            return plain.read().decode(errors="replace")
    except (OSError, EOFError) as error:
        raise StructureError(f"{piece.source}: truncated or damaged: {error}.") from None


def from_entry(entry: Entry) -> Structure:
    """The structure of one row of aenet-python's training HDF5, with its source and frame.

    Its name is the record's own, else the name it was displayed by. Without a cell it is isolated.

    Raises:
        UnsafeFileError: The record asks for anything but plain data.
        StructureError: It is damaged.
    """
    record = entry.record()
    try:
        return Structure(
            record.positions,
            record.species,
            record.energy,
            record.forces if entry.has_forces else None,  # none at all, or an empty list of them
            record.cell,
            None if record.cell is None else record.pbc,
            record.name or entry.display_name or None,
            source=entry.source_id or str(entry.path),
            frame=entry.frame_idx,
        )
    except StructureError as error:
        raise StructureError(f"{entry.where}: {error}") from None


def _from_memory(item: Any, keys: LabelKeys) -> Structure:
    if isinstance(item, Structure):
        return item
    from aenet_ray.structures.ase_io import from_ase

    return from_ase(item, keys=keys)


def read_file(path: str | os.PathLike[str], *, keys: LabelKeys = DEFAULT_KEYS) -> list[Structure]:
    """All structures of one file. Raises StructureError as :func:`read_structures` does."""
    return list(read_structures(Path(path), keys=keys))
