"""Structures with their features as torch datasets: in memory, with features ready, or in a file."""

from aenet_ray.datasets.memory import CachedStructureDataset, StructureDataset
from aenet_ray.datasets.resolve import Resolved, resolve_dataset

__all__ = ["CachedStructureDataset", "Resolved", "StructureDataset", "resolve_dataset"]
