"""What a structure store looks like on disk, and the hash of what it holds.

One HDF5 file. Columns over atoms and over structures, compressed by chunks::

    /                       attributes: format, schema_version, n_structures, n_atoms, species,
                            content_hash, label_counts (JSON), label_bits, fidelities
    /atoms/                 positions (n_atoms, 3) Å · numbers · forces (n_atoms, 3) eV/Å · charges e
    /structures/            offsets (n + 1,) · labels, bit k set where label_bits[k] is present · energy eV
                            cell (n, 3, 3) Å, rows · pbc · stress (n, 3, 3) eV/Å³ · charge e
                            multiplicity · fidelity, index into fidelities · frame
                            source, index into sources
    /sources/, /names/      UTF-8 bytes of all texts and their offsets

A column in which every row has its fill value (NaN for labels) is not stored at all.
"""

from __future__ import annotations

import hashlib
import json
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aenet_ray.structures.records import LABELS, Records

FORMAT = "aenet_ray.structures"
SCHEMA_VERSION = 1


class Column(NamedTuple):
    dtype: str
    shape: tuple[int, ...]
    fill: float | int


COLUMNS = {
    "atoms/positions": Column("<f8", (3,), np.nan),
    "atoms/numbers": Column("u1", (), 0),
    "atoms/forces": Column("<f8", (3,), np.nan),
    "atoms/charges": Column("<f8", (), np.nan),
    "structures/labels": Column("u1", (), 0),
    "structures/energy": Column("<f8", (), np.nan),
    "structures/cell": Column("<f8", (3, 3), 0),
    "structures/pbc": Column("u1", (3,), 0),
    "structures/stress": Column("<f8", (3, 3), np.nan),
    "structures/charge": Column("<f8", (), np.nan),
    "structures/multiplicity": Column("<f8", (), np.nan),
    "structures/fidelity": Column("<i2", (), -1),
    "structures/frame": Column("<i8", (), 0),
    "structures/source": Column("<i8", (), 0),
}


class ContentHash:
    """Hash of the structures and labels in their order: equal content, equal hash.

    Names, sources and frames are left out: the same data read from another folder, or from another
    format, is the same data. Absent labels add nothing but their flag.
    """

    def __init__(self) -> None:
        self._columns: dict[str, hashlib.blake2b] = {}

    def _add(self, name: str, values: NDArray, dtype: str) -> None:
        if len(values):
            column = self._columns.setdefault(name, hashlib.blake2b(digest_size=16))
            column.update(np.ascontiguousarray(values, dtype=dtype).data)

    def update(self, records: Records, fidelity: NDArray[np.int16]) -> None:
        block = records.block
        counts = np.diff(block.offsets)
        self._add("n_atoms", counts, "<i8")
        self._add("labels", records.labels, "u1")
        self._add("positions", block.positions, "<f8")
        self._add("numbers", block.numbers, "u1")
        self._add("cell", block.cell, "<f8")
        self._add("pbc", block.pbc, "u1")
        self._add("fidelity", fidelity, "<i2")
        for label in LABELS:
            values, present = getattr(block, label), records.has(label)
            if values is not None and present.any():
                per_atom = label in ("forces", "charges")
                self._add(label, values[np.repeat(present, counts) if per_atom else present], "<f8")

    def hexdigest(self, fidelities: list[str]) -> str:
        parts = {name: column.hexdigest() for name, column in sorted(self._columns.items())}
        text = json.dumps({"format": FORMAT, "fidelities": fidelities, "columns": parts}, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
