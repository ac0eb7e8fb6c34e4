"""Structures survive the trip through Arrow tables, bit for bit."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from aenet_ray.errors import StoreError
from aenet_ray.features.arrow_blocks import from_table, to_table
from aenet_ray.structures.block import StructureBlock
from aenet_ray.structures.structure import Structure


def block_of(sizes: list[int]) -> StructureBlock:
    rng = np.random.default_rng(3)
    structures = [
        Structure(
            rng.normal(size=(n, 3)),
            ["Ti", *["O"] * (n - 1)],
            None if i % 3 == 0 else float(i),
            None if i % 2 else rng.normal(size=(n, 3)),
            None if i % 4 == 0 else np.eye(3) * 7.0,
            None if i % 4 == 0 else np.array([True, False, True]),
        )
        for i, n in enumerate(sizes)
    ]
    return StructureBlock.from_structures(structures)


def assert_equal(found: StructureBlock, expected: StructureBlock) -> None:
    for field in fields(StructureBlock):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        if b is None:
            assert a is None
            continue
        assert a.dtype == b.dtype, field.name
        np.testing.assert_array_equal(a, b, err_msg=field.name)


@pytest.mark.parametrize("sizes", [[5], [1, 1], [4, 1, 7, 2, 3]])
def test_round_trip(sizes: list[int]) -> None:
    block = block_of(sizes)
    table = to_table(block, start=40)
    assert table.num_rows == len(sizes)
    assert table["start"].to_pylist() == [40] * len(sizes)
    back = from_table(table)
    assert_equal(back, block)
    assert back.positions.flags.writeable  # the compiled kernels take no read-only arrays


def test_part_of_a_table() -> None:
    block = block_of([4, 1, 7, 2, 3])
    assert_equal(from_table(to_table(block).slice(1, 3)), block.take(1, 4))


def test_a_table_in_pieces_is_refused() -> None:
    import pyarrow as pa

    table = to_table(block_of([2, 3]))
    with pytest.raises(StoreError, match="2 pieces"):
        from_table(pa.concat_tables([table, table]))
