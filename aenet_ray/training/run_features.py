"""The features that a run needs: found where they were made before, else made, here or on Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aenet_ray.datasets.inputs import Inputs
from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.errors import NoTrainingDataError, TrainingError
from aenet_ray.features.featurize import KnownFeatures, ShardRunner, entry_key, featurize, from_known, in_process
from aenet_ray.features.store import FeatureStore
from aenet_ray.structures.store import StructureStore
from aenet_ray.training.config import ScalingConfig, TorchTrainingConfig
from aenet_ray.training.spec import torch_dtype


def input_features(
    data: Inputs,
    descriptor: ChebyshevDescriptor,
    config: TorchTrainingConfig,
    directory: Path,
    scaling: ScalingConfig | None,
) -> FeatureStore:
    """Features of what a run is given: those that a dataset keeps are used, others are made. As ``make_features``."""
    kept = data.features_folder
    if kept is not None and (kept / entry_key(data.store, descriptor, _dtype(config, descriptor))).is_dir():
        directory = kept
    return make_features(data.store, descriptor, config, directory, scaling, data.known_features)


def _dtype(config: TorchTrainingConfig, descriptor: ChebyshevDescriptor) -> str:
    return str(torch_dtype(config.precision, descriptor.dtype)).removeprefix("torch.")


def make_features(
    store: StructureStore,
    descriptor: ChebyshevDescriptor,
    config: TorchTrainingConfig,
    directory: Path,
    scaling: ScalingConfig | None,
    known: KnownFeatures | None = None,
) -> FeatureStore:
    """Features of all structures, made where they are missing and not ``known``, here or on Ray.

    Raises:
        TrainingError: There are no energies, or forces are asked for and there are none.
        DescriptorError: The data hold species that the descriptor does not know.
    """
    if not store.has_energy_any:
        raise NoTrainingDataError(
            f"{store.path}: none of {len(store)} structures has an energy to train on. In extended XYZ it is read from "
            "the key 'energy', or the one that data.energy_key names (--energy-key of 'aenet-ray build'): set that."
        )
    if config.force_weight > 0 and not store.has_forces_any:
        raise TrainingError(
            f"{store.path}: force_weight={config.force_weight}, but none of {len(store)} structures has forces. Give "
            "data with forces, or set force_weight to 0."
        )
    run = in_process if scaling is None else _on_ray(scaling)
    run = run if known is None else from_known(known, run)
    dtype = _dtype(config, descriptor)
    return FeatureStore(featurize(store, descriptor, directory, dtype, run=run, progress=config.show_progress))


def _on_ray(scaling: ScalingConfig) -> ShardRunner:
    """Ray Data as what makes missing shards; imported only if there are any."""

    def run(*arguments: Any) -> None:
        from aenet_ray.features.pipeline import on_ray

        on_ray(scaling.featurize_actors)(*arguments)

    return run
