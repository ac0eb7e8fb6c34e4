"""What a run keeps in memory, as ``memory_mode`` and the ``cache_`` settings say. No result depends on it."""

from __future__ import annotations

import logging

import numpy as np
import torch
from numpy.typing import NDArray

from aenet_ray.structures.structure import IntArray
from aenet_ray.training.batch import BatchMaker
from aenet_ray.training.config import TorchTrainingConfig
from aenet_ray.training.kept import KeptFeatures

logger = logging.getLogger(__name__)

# Of what is free on the device; the rest is for the batches, and for what a step on them needs.
DEVICE_SHARE = 0.8


def device_budget(device: torch.device) -> int:
    """Bytes of the device's own memory that features may take; none on the CPU, whose memory is the host's."""
    return int(DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else 0


def keep_in_memory(maker: BatchMaker, config: TorchTrainingConfig, train_ids: IntArray, test_ids: IntArray) -> None:
    """Let batches be made from copies: on the device, and in the process's memory."""
    on_device = _device_ids(maker, config.memory_mode, train_ids, test_ids)
    if config.cache_features:
        scopes = {"train": [train_ids], "val": [test_ids], "all": [train_ids, test_ids]}
        ids = np.concatenate([part[: config.cache_feature_max_entries] for part in scopes[config.cache_scope]])
        _keep_features(maker, np.setdiff1d(ids, on_device), torch.device("cpu"), fill=config.cache_warmup)
    _keep_features(maker, on_device, maker.device, fill=True)


def _keep_features(maker: BatchMaker, ids: IntArray, device: torch.device, *, fill: bool) -> None:
    """Put a table between the batches and where their features come from so far."""
    if not len(ids):
        return
    kept = KeptFeatures(maker.store, maker.features, ids, device)
    if fill:
        kept.warm()
    maker.features = kept


def _device_ids(maker: BatchMaker, mode: str, train_ids: IntArray, test_ids: IntArray) -> IntArray:
    """Structures whose features are put on the device, ascending: training before validation, as many as fit."""
    budget = 0 if mode == "cpu" else device_budget(maker.device)
    if not budget:
        return np.empty(0, dtype=np.int64)
    ids = np.concatenate([train_ids, test_ids])
    store = maker.store
    fitting = _fitting(store.n_atoms[ids], store.n_features * store.dtype.itemsize, budget)
    if fitting < len(ids):
        # Asked for or not, there is no room: told as what it is, and no reason to stop.
        level = logging.WARNING if mode == "gpu" else logging.INFO
        text = "memory_mode %s: features of %d of %d structures fit on %s (%.1f GB), the others stay on the host"
        logger.log(level, text, mode, fitting, len(ids), maker.device, budget / 1e9)
    return np.sort(ids[:fitting])


def _fitting(n_atoms: NDArray[np.int32], bytes_per_atom: int, budget: int) -> int:
    """How many structures, from the first on, fit into so many bytes."""
    return int(np.searchsorted(np.cumsum(n_atoms, dtype=np.int64) * bytes_per_atom, budget, side="right"))
