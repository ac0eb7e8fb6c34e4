"""Structures with their features as torch datasets: in memory, with features ready, or in a file."""

from aenet_ray.datasets.collate import collate
from aenet_ray.datasets.hdf5 import HDF5StructureDataset
from aenet_ray.datasets.memory import CachedStructureDataset, StructureDataset
from aenet_ray.datasets.resolve import Resolved, resolve_dataset
from aenet_ray.datasets.sources import FileSources, RecordSources, SourceCollection, SourceRecord, TarSources
from aenet_ray.datasets.split import train_test_split, train_test_split_dataset

__all__ = [
    "CachedStructureDataset",
    "FileSources",
    "HDF5StructureDataset",
    "RecordSources",
    "Resolved",
    "SourceCollection",
    "SourceRecord",
    "StructureDataset",
    "TarSources",
    "collate",
    "resolve_dataset",
    "train_test_split",
    "train_test_split_dataset",
]
