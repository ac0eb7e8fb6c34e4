"""Neighbours of isolated structures by torch-cluster, where it is installed and features are torch's."""

from __future__ import annotations

import numpy as np
import torch

from aenet_ray.descriptors.neighbors import Edges
from aenet_ray.errors import DescriptorError
from aenet_ray.structures.structure import FloatArray, IntArray

try:
    from torch_cluster import radius_graph
except ImportError:
    radius_graph = None


def is_available() -> bool:
    """Whether torch-cluster can be imported."""
    return radius_graph is not None


def radius_neighbors(
    positions: FloatArray, offsets: IntArray, cutoff: float, min_cutoff: float, device: torch.device
) -> Edges:
    """As ``find_neighbors`` without periodicity. The search is a little too wide, the exact test follows.

    Raises:
        DescriptorError: A position is not finite.
    """
    positions = np.ascontiguousarray(positions, dtype=np.float64)
    sizes = np.diff(offsets)
    structure = np.repeat(np.arange(len(sizes)), sizes)
    if not np.isfinite(positions).all():
        bad = structure[~np.isfinite(positions).all(1)][0]
        raise DescriptorError(f"Structure {bad}: a position is not finite; expected numbers in Å.")
    neighbor, center = radius_graph(
        torch.as_tensor(positions, device=device),
        cutoff * (1.0 + 1e-6),
        torch.as_tensor(structure, device=device),
        max_num_neighbors=int(sizes.max(initial=1)),
    ).cpu().numpy()  # fmt: skip
    vectors = positions[neighbor] - positions[center]
    distance = np.sqrt((vectors**2).sum(1))
    inside = np.flatnonzero((distance > min_cutoff) & (distance <= cutoff))
    order = inside[np.argsort(center[inside], kind="stable")]
    counts = np.bincount(center[order], minlength=len(positions))
    ptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Edges(ptr, neighbor[order].astype(np.int32), vectors[order])
