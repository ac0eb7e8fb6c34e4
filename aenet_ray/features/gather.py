"""Compiled copies out of memory-mapped shards: a flat batch in one pass, no Python loop over structures."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def gather_features(features, species, first, count, scale, offset, x, structure, row_of_atom, cursor, k0, a0):  # type: ignore[no-untyped-def]
    """Copy and normalise the atoms of some structures of one shard into rows sorted by species.

    Args:
        features: The shard's, (n_shard_atoms, n_features).
        species: The shard's species indices, (n_shard_atoms,).
        first, count: First atom in the shard and number of atoms of each wanted structure, (n,).
        scale, offset: Normalised = (x - offset) * scale, (n_features,).
        x: Rows to fill, (n_batch_atoms, n_features).
        structure: Structure of each row, to fill, (n_batch_atoms,).
        row_of_atom: Row of each atom in structure order, to fill, (n_batch_atoms,).
        cursor: Next free row of each species; moved on.
        k0, a0: Number of structures and atoms of the batch that other shards have filled before.
    """
    n_features = features.shape[1]
    atom = a0
    for k in range(len(first)):
        for a in range(first[k], first[k] + count[k]):
            s = species[a]
            row = cursor[s]
            cursor[s] += 1
            for f in range(n_features):
                x[row, f] = (features[a, f] - offset[f]) * scale[f]
            structure[row] = k0 + k
            row_of_atom[atom] = row
            atom += 1


@njit(nogil=True, cache=True)
def gather_side_by_side(features, species, first, count, owner, label, scale, offset, x, structure, cursor):  # type: ignore[no-untyped-def]
    """As ``gather_features``, for several batches at once, each in a table of its own.

    Args:
        owner: Batch of each wanted structure, (n,).
        label: What its rows get in ``structure``, (n,).
        x: (n_batches, n_rows, n_features); structure: (n_batches, n_rows).
        cursor: Next free row of each batch and species, (n_batches, n_species); moved on.
    """
    n_features = features.shape[1]
    for k in range(len(first)):
        b = owner[k]
        for a in range(first[k], first[k] + count[k]):
            s = species[a]
            row = cursor[b, s]
            cursor[b, s] += 1
            for f in range(n_features):
                x[b, row, f] = (features[a, f] - offset[f]) * scale[f]
            structure[b, row] = label[k]


@njit(nogil=True, cache=True)
def clear_between(x, begin, end):  # type: ignore[no-untyped-def]
    """Zeros into the rows from ``begin`` to ``end`` of each batch and species, (n_batches, n_species) both."""
    for b in range(begin.shape[0]):
        for s in range(begin.shape[1]):
            x[b, begin[b, s] : end[b, s]] = 0.0


@njit(nogil=True, cache=True)
def number_rows(species, first, count, start, number, structure, row_of_atom, cursor, k0, a0):  # type: ignore[no-untyped-def]
    """As ``gather_features``, but each row gets a number instead of features: ``start`` of its structure plus its
    atom's place in it, or -1 where ``start`` is negative.

    Args:
        start: First number of each wanted structure, (n,).
        number: Numbers to fill, (n_batch_atoms,).
    """
    atom = a0
    for k in range(len(first)):
        for a in range(count[k]):
            s = species[first[k] + a]
            row = cursor[s]
            cursor[s] += 1
            number[row] = start[k] + a if start[k] >= 0 else -1
            structure[row] = k0 + k
            row_of_atom[atom] = row
            atom += 1


@njit(nogil=True, cache=True)
def copy_rows(source, first, count, target, t0):  # type: ignore[no-untyped-def]
    """Copy ranges of rows of ``source`` one after the other into ``target`` from row ``t0`` on."""
    t = t0
    for k in range(len(first)):
        for a in range(first[k], first[k] + count[k]):
            for c in range(source.shape[1]):
                target[t, c] = source[a, c]
            t += 1


def plain(array: np.ndarray) -> np.ndarray:
    """A memory map as an ordinary array over the same pages: slicing it is twice as fast."""
    return array.view(np.ndarray)
