"""The one place where rows are summed by an index."""

from __future__ import annotations

from torch import Tensor

try:  # its kernels are faster than index_add on GPUs
    from torch_scatter import scatter as _scatter
except ImportError:
    _scatter = None


def segment_sum(values: Tensor, index: Tensor, n: int) -> Tensor:
    """Sum rows of ``values`` that share an index.

    Args:
        values: (n_rows, ...).
        index: Row of the result, int64, (n_rows,), in any order.
        n: Number of rows of the result; those that no index names are zero.

    Returns:
        (n, ...), differentiable twice in ``values``.
    """
    if _scatter is not None:
        return _scatter(values, index, dim=0, dim_size=n, reduce="sum")
    return values.new_zeros((n, *values.shape[1:])).index_add(0, index, values)
