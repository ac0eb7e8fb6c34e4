"""The one segment sum, and what torch-scatter and torch-cluster do where they are installed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from aenet_ray.descriptors import segments
from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.descriptors.neighbors import find_neighbors
from aenet_ray.errors import DescriptorError
from aenet_ray.structures.block import StructureBlock
from aenet_ray.structures.structure import Structure

SegmentSum = Callable[[Tensor, Tensor, int], Tensor]
INDEX = torch.tensor([3, 0, 3, 1, 0])


@pytest.fixture(params=["native", "torch_scatter"])
def segment_sum(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> SegmentSum:
    """Both ways to sum; the second is skipped without torch-scatter."""
    if request.param == "native":
        monkeypatch.setattr(segments, "_scatter", None)
    else:
        pytest.importorskip("torch_scatter")
    return segments.segment_sum


def test_rows_are_summed(segment_sum: SegmentSum) -> None:
    values = torch.arange(10.0).reshape(5, 2)
    expected = torch.tensor([[10.0, 12.0], [6.0, 7.0], [0.0, 0.0], [4.0, 6.0], [0.0, 0.0]])
    assert torch.equal(segment_sum(values, INDEX, 5), expected)


def test_empty_sum(segment_sum: SegmentSum) -> None:
    empty = segment_sum(torch.empty(0, 2), torch.empty(0, dtype=torch.int64), 3)
    assert torch.equal(empty, torch.zeros(3, 2))


def test_sum_is_differentiable_twice(segment_sum: SegmentSum) -> None:
    values = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)

    def operation(values: Tensor) -> Tensor:
        return segment_sum(values.square(), INDEX, 4)

    assert gradcheck(operation, values)
    assert gradgradcheck(operation, values)


def test_features_do_not_depend_on_the_sum(segment_sum: SegmentSum) -> None:
    positions, species = np.random.default_rng(0).uniform(0, 4, (6, 3)), ["Ti", "O"] * 3
    features = [
        ChebyshevDescriptor(["Ti", "O"], 5, 5.0, 3, 4.0, backend=b).forward_from_positions(positions, species)
        for b in ("compiled", "torch")
    ]
    torch.testing.assert_close(*features, rtol=0, atol=1e-11)


class TestCluster:
    @pytest.fixture(autouse=True)
    def needs_torch_cluster(self) -> None:
        pytest.importorskip("torch_cluster")

    def structures(self) -> list[Structure]:
        rng = np.random.default_rng(3)
        return [Structure(rng.uniform(-4, 4, (n, 3)), ["Ti", "O"][:1] * n) for n in (60, 1, 7)]

    def test_same_edges(self) -> None:
        block = StructureBlock.from_structures(self.structures())
        found = ChebyshevDescriptor(["Ti"], 5, 5.0, 3, 6.0, 0.9, backend="torch").edges(block)
        expected = find_neighbors(block.positions, block.offsets, block.cell, block.pbc, 6.0, 0.9)
        assert found.n_edges == expected.n_edges > 100
        np.testing.assert_array_equal(found.ptr, expected.ptr)
        for one, other in zip(*(np.lexsort((e.neighbor, e.center())) for e in (found, expected)), strict=True):
            assert found.neighbor[one] == expected.neighbor[other]
            np.testing.assert_array_equal(found.vectors[one], expected.vectors[other])
        assert found.neighbor.dtype == np.int32

    def test_limits_are_exact(self) -> None:
        positions = [[0.0, 0.0, 0.0], [1.2, 1.6, 0.0], [3.0, 4.0, 0.0], [3.0, 4.0, np.nextafter(5.0, 6.0)]]
        block = StructureBlock.from_structures([Structure(np.array(positions), ["Ti"] * 4)])
        edges = ChebyshevDescriptor(["Ti"], 1, 5.0, 1, 5.0, 2.0, backend="torch").edges(block)
        assert sorted(zip(edges.center().tolist(), edges.neighbor.tolist(), strict=True)) == [
            (0, 2), (1, 2), (2, 0), (2, 1),
        ]  # fmt: skip

    def test_positions_must_be_finite(self) -> None:
        block = StructureBlock.from_structures(self.structures())
        block.positions[60] = np.nan
        with pytest.raises(DescriptorError, match="Structure 1: a position is not finite"):
            ChebyshevDescriptor(["Ti"], 1, 5.0, 1, 5.0, backend="torch").edges(block)
