"""Tar archives of XSF files, read as a stream."""

from __future__ import annotations

import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from aenet_ray.errors import StructureError
from aenet_ray.structures.files import open_binary

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


@dataclass(slots=True)
class Member:
    """One file of an archive.

    Args:
        source: ``archive::member=index:member``.
        name: ``archive file name:member``, and ``@member=index`` where the member's name comes again.
        data: Its bytes.
        n_bytes: Bytes of the archive file read for it.
    """

    source: str
    name: str
    data: bytes
    n_bytes: int


def is_archive(path: str | os.PathLike[str]) -> bool:
    return str(path).lower().endswith(ARCHIVE_SUFFIXES)


def iter_members(path: str | os.PathLike[str], suffixes: tuple[str, ...] = (".xsf",)) -> Iterator[Member]:
    """Regular members with one of the suffixes, in the archive's order.

    Raises:
        StructureError: No tar archive, truncated, or without such members. Members before the damage
            were yielded by then.
    """
    seen: Counter[str] = Counter()
    position = 0
    try:
        with open_binary(path) as (raw, plain):
            stream = _Stream(plain)
            for index, (name, data) in enumerate(_members(stream, suffixes)):
                again = f"@member={index}" if seen[name] else ""
                seen[name] += 1
                n_bytes, position = raw.tell() - position, raw.tell()
                yield Member(f"{path}::member={index}:{name}", f"{Path(path).name}:{name}{again}", data, n_bytes)
            stream.finish()
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        n = sum(seen.values())
        raise StructureError(f"{path}: truncated, or no tar archive: {error} (after {n} files of it).") from None
    if not seen:
        raise StructureError(f"{path}: no member ends in {' or '.join(suffixes)}.")


def _members(stream: _Stream, suffixes: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=stream, mode="r|") as archive:  # type: ignore[call-overload]
        for info in archive:
            if info.isfile() and info.name.lower().endswith(suffixes):
                yield info.name, archive.extractfile(info).read()


class _Stream:
    """Remembers how the archive ends: tarfile takes one cut between two members for complete."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.tail = file, b""

    def read(self, size: int) -> bytes:
        data = self.file.read(size)
        self.tail = (self.tail + data[-1024:])[-1024:]
        return data

    def finish(self) -> None:
        while self.read(1 << 20):  # to the end, where compressed files keep their checksum
            pass
        if self.tail.strip(b"\0") or len(self.tail) < 1024:
            raise EOFError("the end-of-archive mark is missing")
