"""ænet's binary potential files: Fortran unformatted sequential records, little endian.

What ænet's predict program, its C library and its LAMMPS interface load.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from aenet_ray.errors import ExportError
from aenet_ray.export.files import write_atomically, write_each
from aenet_ray.export.rows import ROWS, Row, Values, potential_of, values_of
from aenet_ray.export.species_potential import SpeciesPotential

SYMBOL_WIDTH = 2  # characters of a species name in a record of them


def write_binary(potential: SpeciesPotential, path: str | Path, *, allow_longer_angular_cutoff: bool = False) -> Path:
    """Write one species' potential in ænet's binary format; the file appears complete or not at all.

    Raises:
        ExportError: As ``write_ascii``.
        OSError: The file cannot be written.
    """
    values = values_of(potential, allow_longer_angular_cutoff=allow_longer_angular_cutoff)
    records = [_encode(row, values[row.name]) for row in ROWS]
    marked = [mark + record + mark for record in records for mark in (_marker(len(record)),)]
    return write_atomically(path, b"".join(marked))


def write_binary_files(
    potentials: Iterable[SpeciesPotential],
    output_dir: str | Path,
    prefix: str = "potential",
    *,
    allow_longer_angular_cutoff: bool = False,
) -> dict[str, Path]:
    """Write ``{prefix}.{species}.nn`` for each potential; species to absolute path."""
    write = partial(write_binary, allow_longer_angular_cutoff=allow_longer_angular_cutoff)
    return write_each(write, potentials, output_dir, prefix, ".nn")


def read_binary(path: str | Path) -> SpeciesPotential:
    """Read one species' potential from ænet's binary format.

    Raises:
        ExportError: The file ends early, a record does not have the length its place demands, or
            numbers contradict each other; the message names the record.
        FileNotFoundError: No such file.
    """
    records = _split(Path(path))
    values: Values = {}
    for i, row in enumerate(ROWS):
        where = f"{path}, record {i + 1} ({row.what})"
        if i >= len(records):
            raise ExportError(f"{where}: expected {len(ROWS)} records, found {len(records)}.")
        values[row.name] = _decode(row, records[i], values, where)
    if len(records) > len(ROWS):
        raise ExportError(f"{path}: expected {len(ROWS)} records, found {len(records)}.")
    number = {row.name: i + 1 for i, row in enumerate(ROWS)}
    return potential_of(values, path, lambda row: f"record {number[row]}")


def _marker(n_bytes: int) -> bytes:
    return np.array(n_bytes, dtype="<i4").tobytes()


def _encode(row: Row, value: Any) -> bytes:
    match row.kind:
        case "int" | "flag" | "ints" | "environment":
            return np.asarray(value, dtype="<i4").tobytes()
        case "float" | "floats" | "line":
            return np.asarray(value, dtype="<f8").tobytes()
        case "text":
            return value.encode("ascii").ljust(row.width)
        case "words":
            return b"".join(word.encode("ascii").ljust(SYMBOL_WIDTH) for word in value)


def _split(path: Path) -> list[bytes]:
    data, at = path.read_bytes(), 0
    records: list[bytes] = []
    while at < len(data):
        n_bytes = int.from_bytes(data[at : at + 4], "little", signed=True)
        end = at + 4 + n_bytes
        mark = data[at : at + 4]
        if n_bytes < 0 or len(mark) < 4 or data[end : end + 4] != mark:
            raise ExportError(
                f"{path}, record {len(records) + 1}: its two length marks do not agree; expected a Fortran "
                "unformatted file, little endian with 4-byte marks. It is truncated, or of another format."
            )
        records.append(data[at + 4 : end])
        at = end + 4
    return records


def _decode(row: Row, record: bytes, values: Values, where: str) -> Any:
    count = row.count(values)
    widths = {"float": 8, "floats": 8, "line": 8, "text": row.width, "words": SYMBOL_WIDTH}
    expected = count * widths.get(row.kind, 4)
    if len(record) != expected:
        raise ExportError(f"{where}: expected {expected} bytes, found {len(record)}.")
    match row.kind:
        case "int" | "flag":
            number = int(np.frombuffer(record, "<i4")[0])
            if number < row.minimum:
                raise ExportError(f"{where}: expected {row.minimum} or more, found {number}.")
            return number
        case "float":
            return float(np.frombuffer(record, "<f8")[0])
        case "ints" | "environment":
            return np.frombuffer(record, "<i4").astype(np.int32)
        case "floats" | "line":
            return np.frombuffer(record, "<f8").astype(np.float64)
        case "text":
            return _text(record)
        case "words":
            return [_text(record[i : i + SYMBOL_WIDTH]) for i in range(0, len(record), SYMBOL_WIDTH)]


def _text(record: bytes) -> str:
    return record.decode("ascii", errors="replace").strip(" \0")
