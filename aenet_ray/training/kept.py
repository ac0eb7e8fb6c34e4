"""Copies, nearer by, of what batches are made of: features in the memory of process or device, neighbour lists."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aenet_ray.descriptors.neighbors import Edges
from aenet_ray.features.store import FeatureStore
from aenet_ray.structures.block import chunks_by_atoms
from aenet_ray.structures.structure import IntArray

CHUNK_ATOMS = 16384


@dataclass(slots=True)
class BatchFeatures:
    """Normalised features of a batch, rows sorted by species, as ``GatheredFeatures`` but with a tensor.

    Args:
        x: (n_atoms, n_features).
        counts: Rows of each species.
        structure: Structure of each row, (n_atoms,).
        row_of_atom: Row of each atom in structure order, (n_atoms,).
    """

    x: Tensor
    counts: list[int]
    structure: IntArray
    row_of_atom: IntArray


class KeptFeatures:
    """Normalised features of some structures in one table, copied from their source when first used.

    What comes out is a copy of what the source gives, row by row: no result depends on what is kept. Safe to use
    from several threads.

    Args:
        source: Gives the features of structures (ascending), on any device.
        ids: Structures to keep, ascending.
        device: Where the table is.
    """

    def __init__(
        self,
        store: FeatureStore,
        source: Callable[[IntArray], BatchFeatures],
        ids: IntArray,
        device: torch.device,
    ) -> None:
        self.store, self.source, self.ids, self.device = store, source, ids, device
        counts = store.n_atoms[ids].astype(np.int64)
        self._start = np.cumsum(counts) - counts
        dtype = torch.from_numpy(np.empty(0, dtype=store.dtype)).dtype
        self._table = torch.empty((int(counts.sum()), store.n_features), dtype=dtype, device=device)
        self._filled = np.zeros(len(ids), dtype=bool)
        self._lock = threading.Lock()

    def __call__(self, ids: IntArray) -> BatchFeatures:
        """Features of structures ``ids`` (ascending, repeats allowed), on the table's device."""
        place, here = self._places(ids)
        self._fill(place[here])
        rows = self.store.rows(ids, np.where(here, self._start[place], -1))
        if here.all():
            x = self._table[self._index(rows.number)]
        else:
            x = torch.empty((len(rows.number), self.store.n_features), dtype=self._table.dtype, device=self.device)
            kept = rows.number >= 0
            x[self._index(np.flatnonzero(kept))] = self._table[self._index(rows.number[kept])]
            # Those of the source come in the same order: by species, and then as the structures stand.
            x[self._index(np.flatnonzero(~kept))] = self.source(ids[~here]).x.to(self.device)
        return BatchFeatures(x, rows.counts, rows.structure, rows.row_of_atom)

    def warm(self) -> None:
        """Copy all that is to be kept."""
        for part in chunks_by_atoms(self.store.n_atoms[self.ids], CHUNK_ATOMS):
            self._fill(np.arange(part.start, part.stop))

    def _places(self, ids: IntArray) -> tuple[IntArray, NDArray[np.bool_]]:
        """Of each structure its place among those kept, where it is one of them."""
        place = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return place, self.ids[place] == ids

    def _fill(self, places: IntArray) -> None:
        with self._lock:
            new = np.unique(places[~self._filled[places]])
            if not len(new):
                return
            counts = self.store.n_atoms[self.ids[new]].astype(np.int64)
            begin = np.cumsum(counts) - counts
            rows = np.repeat(self._start[new] - begin, counts) + np.arange(counts.sum())
            found = self.source(self.ids[new])
            in_order = torch.from_numpy(found.row_of_atom).to(found.x.device)
            self._table[self._index(rows)] = found.x[in_order].to(self.device)
            self._filled[new] = True

    def _index(self, rows: IntArray) -> Tensor:
        return torch.from_numpy(rows).to(self.device)


class KeptEdges:
    """Neighbour lists of structures whose forces are used, found when first used, kept as far as there is room.

    Args:
        find: Neighbours of structures (ascending).
        n_atoms: Of all structures of the store, (n,).
        splits: Structures of each split, ascending; others are not kept.
        limit: Structures kept of each split; None: all.
    """

    def __init__(
        self,
        find: Callable[[IntArray], Edges],
        n_atoms: NDArray[np.int32],
        splits: Sequence[IntArray],
        limit: int | None,
    ) -> None:
        self.find, self.n_atoms, self.splits = find, n_atoms, splits
        self._room = [len(ids) if limit is None else limit for ids in splits]
        self._kept: dict[int, Edges] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def edges(self, ids: IntArray) -> Edges:
        """Neighbours of structures ``ids`` (ascending, repeats allowed), as one block of atoms."""
        wanted = ids.tolist()
        found = {i: self._kept[i] for i in wanted if i in self._kept}
        missing = np.array(sorted({i for i in wanted if i not in found}), dtype=np.int64)
        if len(missing):
            fresh = dict(zip(missing.tolist(), split_edges(self.find(missing), self.n_atoms[missing]), strict=True))
            self._keep(fresh)
            found |= fresh
        return join_edges([found[i] for i in wanted])

    def warm(self, ids: IntArray) -> None:
        """Find and keep those of structures ``ids`` (ascending)."""
        for part in chunks_by_atoms(self.n_atoms[ids], CHUNK_ATOMS // 16):
            self.edges(ids[part])

    def _keep(self, fresh: dict[int, Edges]) -> None:
        with self._lock:
            for i, edges in fresh.items():
                k = next((k for k, ids in enumerate(self.splits) if _contains(ids, i)), None)
                if k is not None and self._room[k] > 0 and i not in self._kept:
                    self._room[k] -= 1
                    self._kept[i] = edges


def _contains(ids: IntArray, i: int) -> bool:
    place = int(np.searchsorted(ids, i))
    return place < len(ids) and ids[place] == i


def split_edges(edges: Edges, n_atoms: NDArray[np.int32]) -> list[Edges]:
    """The edges of each structure of a block, with atoms counted from its own first; copies, not views."""
    parts, atom = [], 0
    for n in n_atoms.tolist():
        ptr = edges.ptr[atom : atom + n + 1]
        own = slice(int(ptr[0]), int(ptr[-1]))
        parts.append(Edges(ptr - ptr[0], edges.neighbor[own] - np.int32(atom), edges.vectors[own].copy()))
        atom += n
    return parts


def join_edges(parts: Sequence[Edges]) -> Edges:
    """The edges of structures as those of one block: what a search over the block finds."""
    edge = np.cumsum([0, *(p.n_edges for p in parts)])
    atom = np.cumsum([0, *(p.n_atoms for p in parts)])
    ptr = np.concatenate([[0], *(p.ptr[1:] + e for p, e in zip(parts, edge, strict=False))])
    neighbor = np.concatenate([p.neighbor + np.int32(a) for p, a in zip(parts, atom, strict=False)])
    return Edges(ptr, neighbor, np.concatenate([p.vectors for p in parts]))
