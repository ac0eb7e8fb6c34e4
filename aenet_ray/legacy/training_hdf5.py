"""aenet-python's training HDF5: structures, what is known of each, filter settings and the descriptor."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from aenet_ray.errors import StoreError, StructureError
from aenet_ray.legacy.hdf5 import (
    attribute,
    check_hash,
    check_version,
    column_names,
    dataset,
    json_attribute,
    open_file,
    reading,
    text,
)
from aenet_ray.legacy.record import Record, read_record

META = ("source_id", "frame_idx", "source_kind", "display_name", "has_forces", "n_atoms", "energy", "name")
MANIFEST = "aenet.torch_training.descriptor_manifest.v1"
DESCRIPTOR_KEYS = ("species", "rad_order", "rad_cutoff", "ang_order", "ang_cutoff", "min_cutoff")
_BLOCK = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of a training file; cheap to send to the process that reads it.

    Args:
        path: The file.
        index: The row.
        pickle: The record's bytes, not yet looked at.
        source_id, source_kind, display_name, frame_idx: Where the structure came from.
        has_forces, n_atoms, energy, name: What the table says of the record; energy in eV, NaN if missing.
    """

    path: str
    index: int
    pickle: bytes
    source_id: str
    frame_idx: int
    source_kind: str
    display_name: str
    has_forces: bool
    n_atoms: int
    energy: float
    name: str

    @property
    def where(self) -> str:
        return f"{self.path}, entry {self.index}"

    def record(self) -> Record:
        """The record, read safely and compared with the table.

        Raises:
            UnsafeFileError: It asks for anything but plain data.
            StructureError: It is damaged, or not the structure the table describes.
        """
        record = read_record(self.pickle, self.where)
        found = {
            "n_atoms": len(record.positions),
            "has_forces": record.forces is not None and record.forces.size > 0,
            "energy": np.nan if record.energy is None else record.energy,
        }
        for key, value in found.items():
            said = getattr(self, key)
            if said != value and not (key == "energy" and np.isnan(said) and np.isnan(value)):
                raise StructureError(f"{self.where}: damaged: the table says {key} {said}, the record has {value}.")
        return record


@dataclass(frozen=True, slots=True)
class FilterSettings:
    """What the file says of the energy filter it was built with.

    Args:
        enabled: Whether structures above the limit were left out.
        max_referenced_energy_per_atom: The limit, eV; None if off.
        atomic_energies: References, eV; None where none were given (zeros were used).
    """

    enabled: bool
    max_referenced_energy_per_atom: float | None
    atomic_energies: dict[str, float] | None


class TrainingFile:
    """A training HDF5 of aenet-python, open for reading.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: No such file.
        StoreError: Not HDF5, damaged, of an unknown version, or without structures.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.file = open_file(self.path)
        try:
            self._structures = dataset(self.file, self.path, "entries/structures")
            self._meta = dataset(self.file, self.path, "entries/meta")
            self._check()
        except BaseException:
            self.file.close()
            raise

    def _check(self) -> None:
        column_names(self._meta, self.path, META)
        if self._structures.ndim != 1 or self._structures.dtype.metadata != {"vlen": np.dtype("u1")}:
            raise StoreError(f"{self.path}: /entries/structures is no list of byte rows.")
        if len(self._structures) != len(self._meta):
            raise StoreError(
                f"{self.path}: {len(self._structures)} structures, but the table describes {len(self._meta)}: damaged, "
                "or not completely written."
            )
        if len(self._meta) == 0:
            raise StoreError(f"{self.path}: holds no structure.")

    def close(self) -> None:
        self.file.close()

    def __enter__(self) -> TrainingFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._meta)

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[Entry]:
        """Rows [start, stop) in order, records not yet read."""
        stop = len(self) if stop is None else stop
        for first in range(start, stop, _BLOCK):
            last = min(first + _BLOCK, stop)
            with reading(self.path, f"entries {first} to {last - 1}"):
                rows, pickles = self._meta[first:last], self._structures[first:last]
            for k, (row, pickle) in enumerate(zip(rows, pickles, strict=True)):
                with reading(self.path, f"entry {first + k}"):  # a column may be of another type
                    entry = Entry(
                        path=str(self.path),
                        index=first + k,
                        pickle=pickle.tobytes(),
                        frame_idx=int(row["frame_idx"]),
                        has_forces=bool(row["has_forces"]),
                        n_atoms=int(row["n_atoms"]),
                        energy=float(row["energy"]),
                        **{key: text(row[key]) for key in ("source_id", "source_kind", "display_name", "name")},
                    )
                yield entry

    def entry(self, i: int) -> Entry:
        if not 0 <= i < len(self):
            raise IndexError(f"{self.path}: entry {i} asked for, there are {len(self)}.")
        return next(self.entries(i, i + 1))

    @cached_property
    def filter_settings(self) -> FilterSettings:
        """Raises:
        StoreError: The attributes are not what aenet-python writes.
        """
        limit = attribute(self.file, "energy_filter_max_referenced_energy_per_atom", np.nan)
        enabled = attribute(self.file, "energy_filter_enabled", False)
        energies = json_attribute(self.file, "energy_filter_atomic_energies_json")
        if not isinstance(limit, (int, float)) or not isinstance(enabled, (bool, int)):
            raise StoreError(f"{self.path}: attributes energy_filter_* are no numbers.")
        if energies is not None and not all(type(e) in (int, float) for e in energies.values()):
            raise StoreError(f"{self.path}: energy_filter_atomic_energies_json holds {energies}, expected numbers.")
        return FilterSettings(
            bool(enabled),
            None if np.isnan(limit) else float(limit),
            None if energies is None else {s: float(e) for s, e in energies.items()},
        )

    @cached_property
    def descriptor_config(self) -> dict[str, Any] | None:
        """Parameters of the descriptor the file was written with; None where it names none.

        From the manifest, else from the features or derivatives that were stored with it.

        Raises:
            StoreError: Malformed, or of an unknown version.
        """
        node = self.file.get("descriptor_manifest")
        if node is not None:
            check_version(node, {"schema_version": 1, "manifest_format": MANIFEST}, "the descriptor manifest")
            check_hash(node, "config_json", "config_sha256")
            return self._descriptor(json_attribute(node, "config_json"), "config_json")
        for name in ("torch_cache", "force_derivatives"):
            if name in self.file:
                return self._descriptor(
                    json_attribute(self.file[name], "descriptor_compat_json"), "descriptor_compat_json"
                )
        return None

    def _descriptor(self, found: dict[str, Any] | None, where: str) -> dict[str, Any]:
        missing = [k for k in DESCRIPTOR_KEYS if k not in (found or {})]
        if found is None or missing:
            raise StoreError(f"{self.path}: {where} lacks {', '.join(missing or DESCRIPTOR_KEYS)}.")
        return found
