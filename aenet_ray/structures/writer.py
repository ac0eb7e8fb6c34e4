"""Writing a structure store: streaming, atomic, column by column."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import h5py
import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from aenet_ray import __version__
from aenet_ray.errors import StoreError, StructureError
from aenet_ray.structures.layout import COLUMNS, FORMAT, SCHEMA_VERSION, ContentHash
from aenet_ray.structures.records import LABELS, Records

CHUNK_BYTES = 1 << 17  # one chunk is what a small read decompresses: about half a millisecond


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """What a build wrote, and what it left out.

    Args:
        path: The store, absolute.
        n_structures, n_atoms: Written.
        content_hash: Of the store.
        n_bytes: Size of the store.
        seconds: Wall time of the build.
        n_skipped: Structures, or whole files, left out.
        n_held_out: Structures of ``held_out``, the last ones.
        skipped_report: CSV that lists them, if there are any.
    """

    path: Path
    n_structures: int
    n_atoms: int
    content_hash: str
    n_bytes: int
    seconds: float
    n_skipped: int = 0
    skipped_report: Path | None = None
    n_held_out: int = 0


class Compression(NamedTuple):
    """Of the columns: h5py's names, 'gzip' with a level from 1 to 9, 'lzf' without, or None."""

    method: str | None = "gzip"
    level: int | None = 1


class _Appender:
    """A column that grows. Rows equal to the fill value cost nothing, a column of them does not exist."""

    def __init__(
        self,
        file: h5py.File,
        path: str,
        dtype: str,
        shape: tuple[int, ...],
        fill: float,
        compression: Compression,
    ) -> None:
        self.file, self.path, self.shape, self.compression = file, path, shape, compression
        self.dtype, self.fill = np.dtype(dtype), fill
        self.length = 0
        self.dataset: h5py.Dataset | None = None

    def append(self, values: NDArray | None, n: int) -> None:
        """Add n rows; None stands for n fill values."""
        start, self.length = self.length, self.length + n
        if n == 0 or values is None or self._all_fill(values):
            return
        if self.dataset is None:
            self.dataset = self._create()
        self.dataset.resize(self.length, axis=0)
        self.dataset[start:] = values

    def _all_fill(self, values: NDArray) -> bool:
        if np.isnan(self.fill):
            return bool(np.isnan(values).all())
        return bool((values == self.fill).all())

    def _create(self) -> h5py.Dataset:
        row_bytes = self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))
        return self.file.create_dataset(
            self.path,
            shape=(0, *self.shape),
            maxshape=(None, *self.shape),
            chunks=(max(1, CHUNK_BYTES // row_bytes), *self.shape),
            dtype=self.dtype,
            fillvalue=self.fill,
            shuffle=self.dtype.itemsize > 1 and self.compression.method is not None,
            compression=self.compression.method,
            compression_opts=self.compression.level,
            fletcher32=True,  # a flipped bit is an error at reading, not a strange structure
        )

    def finish(self) -> None:
        if self.dataset is not None:
            self.dataset.resize(self.length, axis=0)


class _Texts:
    """Many texts as UTF-8 bytes and offsets: compact, and readable by ranges."""

    def __init__(self, file: h5py.File, group: str, compression: Compression) -> None:
        self.bytes = _Appender(file, f"{group}/utf8", "u1", (), 0, compression)
        self.offsets = _Appender(file, f"{group}/offsets", "<i8", (), -1, compression)
        self.offsets.append(np.zeros(1, dtype=np.int64), 1)

    def append(self, texts: list[str]) -> None:
        encoded = [text.encode() for text in texts]
        ends = self.bytes.length + np.cumsum([len(text) for text in encoded], dtype=np.int64)
        self.offsets.append(ends, len(ends))
        data = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        self.bytes.append(data, len(data))


class StoreWriter:
    """Append records to a temporary file; :meth:`finish` puts it in place, anything else removes it.

    Args:
        path: The store to write. An existing file stays untouched until :meth:`finish`.
        compression: Of all columns.

    Raises:
        StoreError: The file cannot be written.

    Attributes:
        attributes: More attributes for the file.
    """

    def __init__(self, path: str | os.PathLike[str], compression: Compression = Compression()) -> None:  # noqa: B008
        self.path, self.compression = Path(path), compression
        self.attributes: dict[str, str] = {}
        self.n_structures = self.n_atoms = 0
        self._temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.tmp")
        self._hash = ContentHash()
        self._numbers = np.zeros(256, dtype=bool)
        self._counts = np.zeros(len(LABELS), dtype=np.int64)
        self._fidelities: dict[str, int] = {}
        self._last_source: str | None = None
        self._n_sources = 0
        try:
            self._file = h5py.File(self._temporary, "w", locking=False)
        except OSError as error:
            raise StoreError(f"{self.path}: cannot write a structure store here: {error}.") from None
        self._columns = {
            path: _Appender(self._file, path, c.dtype, c.shape, c.fill, compression) for path, c in COLUMNS.items()
        }
        self._offsets = _Appender(self._file, "structures/offsets", "<i8", (), -1, compression)
        self._offsets.append(np.zeros(1, dtype=np.int64), 1)
        self._sources = _Texts(self._file, "sources", compression)
        self._texts: dict[str, _Texts] = {}

    def append(self, records: Records) -> None:
        n, block = len(records), records.block
        if n == 0:
            return
        fidelity = np.array(
            [-1 if f is None else self._fidelities.setdefault(f, len(self._fidelities)) for f in records.fidelities],
            dtype=np.int16,
        )
        self._hash.update(records, fidelity)
        rows: dict[str, Any] = {
            "labels": records.labels,
            "fidelity": fidelity,
            "frame": records.frames,
            "source": self._source_indices(records.sources),
        }
        for path, column in self._columns.items():
            group, name = path.split("/")
            values = rows[name] if name in rows else getattr(block, name)
            column.append(values, n if group == "structures" else block.n_atoms)
        self._offsets.append(self.n_atoms + block.offsets[1:], n)
        self.append_texts("names", [name or "" for name in records.names], self.n_structures)
        self._numbers[block.numbers] = True
        self._counts += [int(records.has(label).sum()) for label in LABELS]
        self.n_structures, self.n_atoms = self.n_structures + n, self.n_atoms + block.n_atoms

    def _source_indices(self, sources: list[str]) -> NDArray[np.int64]:
        """Frames of one file follow each other: its name is stored once."""
        indices, new = [], []
        for source in sources:
            if source != self._last_source:
                new.append(source)
                self._last_source, self._n_sources = source, self._n_sources + 1
            indices.append(self._n_sources - 1)
        self._sources.append(new)
        return np.array(indices, dtype=np.int64)

    def append_texts(self, column: str, texts: list[str], before: int | None = None) -> None:
        """A text of each structure, of those just appended unless said otherwise; a column of empty ones is not kept.

        Args:
            before: Structures before these.
        """
        before = self.n_structures - len(texts) if before is None else before
        if column not in self._texts and any(texts):
            self._texts[column] = _Texts(self._file, column, self.compression)
            self._texts[column].offsets.append(np.zeros(before, dtype=np.int64), before)
        if column in self._texts:
            self._texts[column].append(texts)

    @property
    def species(self) -> list[str]:
        """Symbols so far, by atomic number."""
        return [chemical_symbols[z] for z in self._numbers.nonzero()[0]]

    def finish(self, seconds: float = 0.0) -> BuildReport:
        """Close, sync and rename into place.

        Raises:
            StructureError: No structure was appended.
        """
        if self.n_structures == 0:
            self.abort()
            raise StructureError(f"{self.path}: no structure to store, nothing written.")
        fidelities = list(self._fidelities)
        content_hash = self._hash.hexdigest(fidelities)
        for column in (*self._columns.values(), self._offsets):
            column.finish()
        self._file.attrs.update(
            {
                "format": FORMAT,
                "schema_version": SCHEMA_VERSION,
                "created_by": f"aenet_ray {__version__}",
                "n_structures": self.n_structures,
                "n_atoms": self.n_atoms,
                "species": json.dumps(self.species),
                "label_bits": json.dumps(LABELS),
                "label_counts": json.dumps(dict(zip(LABELS, self._counts.tolist(), strict=True))),
                "fidelities": json.dumps(fidelities, ensure_ascii=False),
                "content_hash": content_hash,
                **self.attributes,
            }
        )
        self._file.close()
        sync(self._temporary)
        os.replace(self._temporary, self.path)
        sync(self.path.parent)
        return BuildReport(
            path=self.path.absolute(),
            n_structures=self.n_structures,
            n_atoms=self.n_atoms,
            content_hash=content_hash,
            n_bytes=self.path.stat().st_size,
            seconds=seconds,
        )

    def abort(self) -> None:
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file:  # still open: finish() was not reached
            self.abort()


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
