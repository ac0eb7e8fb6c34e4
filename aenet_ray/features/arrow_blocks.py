"""Structures as Arrow tables, one row each: the form in which Ray moves them between processes.

What differs in length between structures is a list column with 64-bit offsets, so that all values of a table stay
one flat array; Ray's own type for ragged tensors costs microseconds a row and loses shapes of tables with one row.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from aenet_ray.errors import StoreError
from aenet_ray.structures.block import StructureBlock

# Values of one atom, of one structure.
PER_ATOM = {"positions": (3,), "numbers": (), "forces": (3,)}
PER_STRUCTURE = {"cell": (3, 3), "pbc": (3,), "energy": (), "has_energy": (), "has_forces": ()}


def to_table(block: StructureBlock, **tags: int) -> pa.Table:
    """A table of n rows; positions, numbers, cell, energy and forces without copies where Arrow can.

    Args:
        block: Structures; labels other than energy and forces are left out.
        tags: Further columns, the same number in every row.
    """
    columns: dict[str, pa.Array] = {}
    for name, shape in PER_ATOM.items():
        offsets = pa.array(block.offsets * int(np.prod(shape, dtype=int)), pa.int64())
        columns[name] = pa.LargeListArray.from_arrays(offsets, _flat(getattr(block, name)))
    for name, shape in PER_STRUCTURE.items():
        values = _flat(getattr(block, name))
        columns[name] = pa.FixedSizeListArray.from_arrays(values, int(np.prod(shape))) if shape else values
    for name, value in tags.items():
        columns[name] = pa.array(np.full(block.n_structures, value))
    return pa.table(columns)


def from_table(table: pa.Table) -> StructureBlock:
    """The block that ``to_table`` was given, as arrays of its own: compiled kernels take no read-only ones.

    Raises:
        StoreError: The rows were put together from several tables.
    """
    values: dict[str, np.ndarray] = {}
    offsets = np.zeros(1, dtype=np.int64)
    for name, shape in PER_ATOM.items():
        column = _one_chunk(table, name)
        width = int(np.prod(shape, dtype=int))
        bounds = column.offsets.to_numpy() // width
        flat = column.values.to_numpy()[bounds[0] * width : bounds[-1] * width]
        offsets = bounds - bounds[0]
        values[name] = flat.reshape(-1, *shape).copy()
    for name, shape in PER_STRUCTURE.items():
        column = _one_chunk(table, name)
        flat = (column.flatten() if shape else column).to_numpy(zero_copy_only=False)
        values[name] = flat.reshape(-1, *shape).copy()
    return StructureBlock(offsets=offsets, **values)


def _flat(values: np.ndarray) -> pa.Array:
    # from_pandas=False: a NaN is a label that is absent, not an Arrow null.
    return pa.array(np.ascontiguousarray(values).reshape(-1), from_pandas=False)


def _one_chunk(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    if column.num_chunks != 1:
        raise StoreError(f"column {name!r} of a block came in {column.num_chunks} pieces, expected 1.")
    return column.chunk(0)
