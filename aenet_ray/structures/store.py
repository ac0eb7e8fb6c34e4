"""The structure store: many structures in one HDF5 file, by columns, read by ranges."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from aenet_ray import legacy
from aenet_ray.errors import StoreError
from aenet_ray.structures.block import StructureBlock
from aenet_ray.structures.checks import check
from aenet_ray.structures.compositions import count_species
from aenet_ray.structures.layout import COLUMNS, FORMAT, SCHEMA_VERSION, ContentHash
from aenet_ray.structures.records import LABELS, Records, has_label
from aenet_ray.structures.structure import FloatArray, IntArray, Structure
from aenet_ray.structures.writer import BuildReport, StoreWriter


class StructureStore:
    """Structures in a file, read by ranges. Opening reads the attributes only, whatever the size.

    A store can be pickled and sent to other processes, which open the file by its absolute path when
    they first read; after a fork the file is opened anew as well.

    Args:
        path: A file written by :func:`write_store` or ``aenet-ray build``.

    Raises:
        StoreError: Missing, no structure store, of another schema version, or damaged.

    Attributes:
        path: Absolute path.
        n_structures, n_atoms: Counts.
        content_hash: Of structures and labels in their order, hexadecimal.
        species: Chemical symbols present, by atomic number.
        label_counts: Number of structures with each label.
        fidelities: Names of the levels of theory present.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self._file: h5py.File | None = None
        self._pid = os.getpid()
        self._opened_hash: str | None = None
        attributes = self._attributes()
        self.n_structures = int(attributes["n_structures"])
        self.n_atoms = int(attributes["n_atoms"])
        self.content_hash = str(attributes["content_hash"])
        self.species: tuple[str, ...] = tuple(json.loads(attributes["species"]))
        self.label_counts: dict[str, int] = json.loads(attributes["label_counts"])
        self.fidelities: tuple[str, ...] = tuple(json.loads(attributes["fidelities"]))

    # opening and closing

    def _attributes(self) -> dict[str, Any]:
        attributes = dict(self.file.attrs)
        if attributes.get("format") != FORMAT:
            self.close()
            found = legacy.convert_hint(self.path, "a structure store")
            found = found or "an HDF5 file, but no structure store. Build one with 'aenet-ray build'."
            raise StoreError(f"{self.path}: {found}")
        version = int(attributes.get("schema_version", -1))
        if version != SCHEMA_VERSION:
            self.close()
            raise StoreError(
                f"{self.path}: structure store of schema version {version}, this aenet_ray reads version "
                f"{SCHEMA_VERSION}. Build it anew with 'aenet-ray build', or update aenet_ray."
            )
        return attributes

    @property
    def file(self) -> h5py.File:
        """The open HDF5 file, opened if it is not."""
        if self._file is None or self._pid != os.getpid():
            self._file, self._pid = _open(self.path), os.getpid()
            self._check_unchanged(self._file)
        return self._file

    def _check_unchanged(self, file: h5py.File) -> None:
        """A store rebuilt since this object was made, or sent here, has other structures at its indices."""
        found = str(file.attrs.get("content_hash"))
        expected, self._opened_hash = self._opened_hash or found, self._opened_hash or found
        if found != expected:
            self.close()
            raise StoreError(
                f"{self.path}: replaced since it was first opened (content hash {found}, was {expected}). Open it anew."
            )

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        if self._file is not None and self._pid == os.getpid():
            self._file.close()
        self._file = None

    def __enter__(self) -> StructureStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def __len__(self) -> int:
        return self.n_structures

    def __repr__(self) -> str:
        return f"StructureStore({str(self.path)!r}: {self.n_structures} structures, {self.n_atoms} atoms)"

    # what is there

    def n_with(self, label: str) -> int:
        """Number of structures with a label: energy, forces, stress, charges, charge, multiplicity."""
        return self.label_counts[label]

    @property
    def has_energy_any(self) -> bool:
        return self.n_with("energy") > 0

    @property
    def has_forces_any(self) -> bool:
        return self.n_with("forces") > 0

    @property
    def has_charges_any(self) -> bool:
        return self.n_with("charges") > 0

    # columns over ranges of structures [start, stop); everything by default

    def _range(self, start: int, stop: int | None) -> tuple[int, int]:
        stop = self.n_structures if stop is None else stop
        if not 0 <= start <= stop <= self.n_structures:
            raise IndexError(f"{self.path}: structures [{start}, {stop}) asked for, there are {self.n_structures}.")
        return start, stop

    def _column(self, path: str, start: int, stop: int) -> NDArray:
        column = COLUMNS[path]
        with self._reading(path):
            dataset = self.file.get(path)
            if dataset is None:
                return np.full((stop - start, *column.shape), column.fill, dtype=column.dtype)
            return dataset[start:stop]

    def _per_structure(self, name: str, start: int, stop: int | None) -> NDArray:
        return self._column(f"structures/{name}", *self._range(start, stop))

    def offsets(self, start: int = 0, stop: int | None = None) -> IntArray:
        """First atom of each structure in the whole store, and the end of the last, (stop - start + 1,)."""
        start, stop = self._range(start, stop)
        with self._reading("structures/offsets"):
            return self.file["structures/offsets"][start : stop + 1]

    def n_atoms_per_structure(self, start: int = 0, stop: int | None = None) -> IntArray:
        """(stop - start,)"""
        return np.diff(self.offsets(start, stop))

    def numbers(self, start: int = 0, stop: int | None = None) -> NDArray[np.int16]:
        """Atomic numbers of the atoms of structures [start, stop), (n_atoms,)."""
        offsets = self.offsets(start, stop)
        return self._column("atoms/numbers", int(offsets[0]), int(offsets[-1])).astype(np.int16)

    def energies(self, start: int = 0, stop: int | None = None) -> FloatArray:
        """Total energies, (stop - start,), eV, NaN where absent."""
        return self._per_structure("energy", start, stop)

    def has(self, label: str, start: int = 0, stop: int | None = None) -> NDArray[np.bool_]:
        """Whether each structure has a label, (stop - start,)."""
        return has_label(self._per_structure("labels", start, stop), label)

    def frames(self, start: int = 0, stop: int | None = None) -> IntArray:
        """Frame of each structure in its source, (stop - start,)."""
        return self._per_structure("frame", start, stop)

    def fidelity_indices(self, start: int = 0, stop: int | None = None) -> NDArray[np.int16]:
        """Index into :attr:`fidelities`, (stop - start,), -1 where none is named."""
        return self._per_structure("fidelity", start, stop)

    def sources(self, start: int = 0, stop: int | None = None) -> list[str]:
        """Where each structure came from: a path, or archive and member."""
        indices = self._per_structure("source", start, stop)
        if len(indices) == 0:
            return []
        first = int(indices[0])  # indices never decrease
        texts = self._texts("sources", first, int(indices[-1]) + 1)
        return [texts[i] for i in (indices - first).tolist()]

    def names(self, start: int = 0, stop: int | None = None) -> list[str | None]:
        """Name of each structure, None where it has none."""
        return [text or None for text in self.texts("names", start, stop)]

    def texts(self, column: str, start: int = 0, stop: int | None = None) -> list[str]:
        """A text of each structure, empty where there is none: names, display_names, source_kinds."""
        start, stop = self._range(start, stop)
        return self._texts(column, start, stop) if column in self.file else [""] * (stop - start)

    def compositions(self, start: int = 0, stop: int | None = None) -> IntArray:
        """Atoms of each of :attr:`species`, (stop - start, n_species)."""
        start, stop = self._range(start, stop)
        offsets = self.offsets(start, stop)
        numbers = self._column("atoms/numbers", int(offsets[0]), int(offsets[-1]))
        index = np.zeros(256, dtype=np.int64)
        index[[atomic_numbers[s] for s in self.species]] = np.arange(len(self.species))
        return count_species(index[numbers], offsets, len(self.species))

    def identifiers(self, start: int = 0, stop: int | None = None) -> list[str]:
        """A unique text for each structure: its title and ``#frame=k``."""
        start, stop = self._range(start, stop)
        frames = self.frames(start, stop).tolist()
        return [f"{title}#frame={k}" for title, k in zip(self.titles(start, stop), frames, strict=True)]

    @property
    def is_database(self) -> bool:
        """Whether an HDF5StructureDataset wrote it."""
        return "source_kinds" in self.file

    def titles(self, start: int = 0, stop: int | None = None) -> list[str]:
        """Name, else source, else ``structure_000012``, of each structure; not unique where a source has frames.

        In the file of an HDF5StructureDataset: display name, else source, else name.
        """
        start, stop = self._range(start, stop)
        names, sources = self.names(start, stop), self.sources(start, stop)
        if self.is_database:
            displayed = self.texts("display_names", start, stop)
            known = zip(displayed, sources, names, strict=True)
            names = [d or (name if source == "<memory>" else source) for d, source, name in known]
        return [
            name or (f"structure_{i:06d}" if source == "<memory>" else source)
            for i, name, source in zip(range(start, stop), names, sources, strict=True)
        ]

    def _texts(self, group: str, start: int, stop: int) -> list[str]:
        with self._reading(group):
            offsets = self.file[f"{group}/offsets"][start : stop + 1]
            first, last = int(offsets[0]), int(offsets[-1])
            data = self.file[f"{group}/utf8"][first:last].tobytes() if last > first else b""
        ends = (offsets - first).tolist()
        return [data[i:j].decode() for i, j in pairwise(ends)]

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, KeyError) as error:
            raise StoreError(f"{self.path}: {what} is damaged: {error}. Build the store anew.") from None

    # structures

    def read(
        self, start: int = 0, stop: int | None = None, *, labels: Iterable[str] = ("energy", "forces")
    ) -> StructureBlock:
        """Structures [start, stop) as flat arrays: one contiguous read a column.

        Args:
            labels: Labels to read; the others come as absent. ``LABELS`` in
                :mod:`aenet_ray.structures.records` names all.

        Raises:
            IndexError: Outside the store.
            StoreError: The file is damaged.
        """
        start, stop = self._range(start, stop)
        offsets, wanted = self.offsets(start, stop), set(labels)
        a, b = int(offsets[0]), int(offsets[-1])
        bits = self._per_structure("labels", start, stop)
        optional: dict[str, FloatArray] = {
            name: self._column(f"structures/{name}", start, stop)
            for name in ("stress", "charge", "multiplicity")
            if name in wanted and self.n_with(name)
        }
        if "charges" in wanted and self.has_charges_any:
            optional["charges"] = self._column("atoms/charges", a, b)
        return StructureBlock(
            offsets=offsets - a,
            positions=self._column("atoms/positions", a, b),
            numbers=self._column("atoms/numbers", a, b).astype(np.int16),
            cell=self._column("structures/cell", start, stop),
            pbc=self._column("structures/pbc", start, stop).astype(bool),
            energy=self._column("structures/energy", start, stop)
            if "energy" in wanted
            else np.full(stop - start, np.nan),
            forces=self._column("atoms/forces", a, b) if "forces" in wanted else np.full((b - a, 3), np.nan),
            has_energy=has_label(bits, "energy") & ("energy" in wanted),
            has_forces=has_label(bits, "forces") & ("forces" in wanted),
            **optional,
        )

    def structure(self, i: int) -> Structure:
        """Structure i with every label, its name, source and frame."""
        if not 0 <= i < self.n_structures:
            raise IndexError(f"{self.path}: structure {i} asked for, there are {self.n_structures}.")
        return next(self.structures(i, i + 1))

    def structures(self, start: int = 0, stop: int | None = None) -> Iterator[Structure]:
        """Structures [start, stop) with every label, name, source and frame, read by blocks."""
        start, stop = self._range(start, stop)
        for first in range(start, stop, 512):
            last = min(first + 512, stop)
            block, names = self.read(first, last, labels=LABELS), self.names(first, last)
            sources, frames = self.sources(first, last), self.frames(first, last).tolist()
            fidelities = self.fidelity_indices(first, last).tolist()
            for k in range(last - first):
                structure = block.structure(k)
                structure.name, structure.source, structure.frame = names[k], sources[k], frames[k]
                structure.fidelity = None if fidelities[k] < 0 else self.fidelities[fidelities[k]]
                yield structure

    def __iter__(self) -> Iterator[Structure]:
        return self.structures()

    def verify(self, block_structures: int = 4096) -> None:
        """Read everything and compare with the content hash.

        Raises:
            StoreError: The data is not what was written.
        """
        content = ContentHash()
        for start in range(0, self.n_structures, block_structures):
            stop = min(start + block_structures, self.n_structures)
            block = self.read(start, stop, labels=LABELS)
            bits = self._per_structure("labels", start, stop)
            records = Records(block, bits, [], [], np.empty(0, dtype=np.int64), [])
            content.update(records, self.fidelity_indices(start, stop))
        found = content.hexdigest(list(self.fidelities))
        if found != self.content_hash:
            raise StoreError(
                f"{self.path}: content hash is {found}, {self.content_hash} was written. Build the store anew."
            )

    @cached_property
    def n_bytes(self) -> int:
        """Size of the file."""
        return self.path.stat().st_size


def _open(path: Path) -> h5py.File:
    if not path.is_file():
        raise StoreError(f"{path}: no such file. Build a structure store with 'aenet-ray build FILES -o {path.name}'.")
    try:
        return h5py.File(path, "r", locking=False)  # locks fail on many network file systems
    except OSError as error:
        kind = "truncated" if "truncated" in str(error) else "not an HDF5 file, or damaged"
        raise StoreError(f"{path}: {kind}: {error}. Expected a structure store.") from None


def write_store(structures: Iterable[Structure], path: str | os.PathLike[str], **options: Any) -> BuildReport:
    """Check structures and write them to a store, in this process, streaming and atomic.

    Args:
        structures: Structures, in the order they shall have.
        path: The store to write; replaced when complete.
        options: Of :func:`aenet_ray.structures.build.build_store`, such as ``on_error``.

    Raises:
        StructureError: A structure cannot be used, or there is none.
        StoreError: The file cannot be written.
    """
    from aenet_ray.structures.build import build_store

    return build_store(structures, path, **{"progress": False, **options})


def write_blocks(blocks: Iterable[StructureBlock], path: str | os.PathLike[str]) -> BuildReport:
    """Check flat blocks and write them to a store: the fast way for structures made by a program.

    Structures have no names; their source is ``<memory>``. Raises as :func:`write_store` does.
    """
    start = time.perf_counter()
    with StoreWriter(path) as writer:
        for block in blocks:
            records = Records.from_block(block)
            check(records, writer.n_structures)
            writer.append(records)
        return writer.finish(time.perf_counter() - start)
