"""Copies of features, nearer by than the feature store: in the memory of the process or of a device."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
