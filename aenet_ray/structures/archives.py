"""Tar archives of XSF files, read as a stream."""

from __future__ import annotations

import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aenet_ray.errors import StructureError

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz")


@dataclass(slots=True)
class Member:
    """One file of an archive.

    Args:
        source: ``archive::member=index:member``.
        name: ``archive file name:member``, and ``@member=index`` where the member's name comes again.
        data: Its bytes.
    """

    source: str
    name: str
    data: bytes

    def text(self) -> str:
        return self.data.decode(errors="replace")


def is_archive(path: str | os.PathLike[str]) -> bool:
    return str(path).lower().endswith(ARCHIVE_SUFFIXES)


def iter_members(path: str | os.PathLike[str], suffixes: tuple[str, ...] = (".xsf",)) -> Iterator[Member]:
    """Regular members with one of the suffixes, in the archive's order.

    Raises:
        StructureError: No tar archive, truncated, or without such members.
    """
    seen: Counter[str] = Counter()
    index = 0
    try:
        with tarfile.open(path, "r|*") as archive:
            for info in archive:
                if not info.isfile() or not info.name.lower().endswith(suffixes):
                    continue
                file = archive.extractfile(info)
                assert file is not None
                data = file.read()
                name = f"{Path(path).name}:{info.name}"
                if seen[info.name]:
                    name += f"@member={index}"
                seen[info.name] += 1
                yield Member(f"{path}::member={index}:{info.name}", name, data)
                index += 1
    except (tarfile.TarError, EOFError, OSError) as error:
        raise StructureError(
            f"{path}: truncated or no tar archive: {error} (after {index} files of it)."
        ) from None
    if index == 0:
        raise StructureError(f"{path}: no member ending in {' or '.join(suffixes)}.")
