"""Training ænet machine-learning interatomic potentials on Ray, from a laptop to a cluster.

The public names are imported when they are first used: ``import aenet_ray`` itself takes no time and brings neither
torch nor Ray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "LBFGS",
    "SGD",
    "Adam",
    "AdamW",
    "AenetCalculator",
    "AenetCommitteeCalculator",
    "AenetEnsembleResult",
    "CachedStructureDataset",
    "ChebyshevDescriptor",
    "FileSources",
    "HDF5StructureDataset",
    "NaturalGradient",
    "PredictOut",
    "PredictionConfig",
    "RecordSources",
    "ReferenceEnergies",
    "RunConfig",
    "ScalingConfig",
    "SourceCollection",
    "SourceRecord",
    "Structure",
    "StructureDataset",
    "StructureStore",
    "TarSources",
    "TorchANNPotential",
    "TorchCommitteeConfig",
    "TorchCommitteeMember",
    "TorchCommitteePotential",
    "TorchCommitteePredictResult",
    "TorchCommitteeTrainResult",
    "TorchTrainingConfig",
    "TrainOut",
    "TuneConfig",
    "TuneResults",
    "build_store",
    "iter_composition_energy_samples_from_files",
    "read_energy_file",
    "read_force_file",
    "train_test_split",
    "train_test_split_dataset",
    "tune",
]

if TYPE_CHECKING:
    from aenet_ray.calculators.ase import AenetCalculator
    from aenet_ray.calculators.committee import AenetCommitteeCalculator
    from aenet_ray.committee.config import TorchCommitteeConfig
    from aenet_ray.committee.ensemble import AenetEnsembleResult
    from aenet_ray.committee.layout import TorchCommitteeMember
    from aenet_ray.committee.potential import TorchCommitteePotential
    from aenet_ray.committee.predict_result import TorchCommitteePredictResult
    from aenet_ray.committee.train_result import TorchCommitteeTrainResult
    from aenet_ray.datasets.hdf5 import HDF5StructureDataset
    from aenet_ray.datasets.memory import CachedStructureDataset, StructureDataset
    from aenet_ray.datasets.sources import FileSources, RecordSources, SourceCollection, SourceRecord, TarSources
    from aenet_ray.datasets.split import train_test_split, train_test_split_dataset
    from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
    from aenet_ray.inference.predict import PredictionConfig, PredictOut
    from aenet_ray.potential import TorchANNPotential
    from aenet_ray.reference_energies.fit import ReferenceEnergies
    from aenet_ray.reference_energies.samples import iter_composition_energy_samples_from_files
    from aenet_ray.structures.build import build_store
    from aenet_ray.structures.store import StructureStore
    from aenet_ray.structures.structure import Structure
    from aenet_ray.train_out import TrainOut
    from aenet_ray.training.config import RunConfig, ScalingConfig, TorchTrainingConfig
    from aenet_ray.training.methods import LBFGS, SGD, Adam, AdamW, NaturalGradient
    from aenet_ray.training.prediction_files import read_energy_file, read_force_file
    from aenet_ray.tuning.config import TuneConfig
    from aenet_ray.tuning.results import TuneResults
    from aenet_ray.tuning.run import tune
else:
    _HOMES = {
        "AenetCommitteeCalculator": "calculators.committee",
        "AenetEnsembleResult": "committee.ensemble",
        "TorchCommitteeConfig": "committee.config",
        "TorchCommitteeMember": "committee.layout",
        "TorchCommitteePotential": "committee.potential",
        "TorchCommitteePredictResult": "committee.predict_result",
        "TorchCommitteeTrainResult": "committee.train_result",
        "AenetCalculator": "calculators.ase",
        "CachedStructureDataset": "datasets.memory",
        "ChebyshevDescriptor": "descriptors.chebyshev",
        "FileSources": "datasets.sources",
        "HDF5StructureDataset": "datasets.hdf5",
        "PredictOut": "inference.predict",
        "PredictionConfig": "inference.predict",
        "RecordSources": "datasets.sources",
        "ReferenceEnergies": "reference_energies.fit",
        "SourceCollection": "datasets.sources",
        "SourceRecord": "datasets.sources",
        "Structure": "structures.structure",
        "StructureDataset": "datasets.memory",
        "StructureStore": "structures.store",
        "TarSources": "datasets.sources",
        "TorchANNPotential": "potential",
        "TrainOut": "train_out",
        "build_store": "structures.build",
        "iter_composition_energy_samples_from_files": "reference_energies.samples",
        "read_energy_file": "training.prediction_files",
        "read_force_file": "training.prediction_files",
        "train_test_split": "datasets.split",
        "train_test_split_dataset": "datasets.split",
        "TuneConfig": "tuning.config",
        "TuneResults": "tuning.results",
        "tune": "tuning.run",
        **dict.fromkeys(("RunConfig", "ScalingConfig", "TorchTrainingConfig"), "training.config"),
        **dict.fromkeys(("LBFGS", "SGD", "Adam", "AdamW", "NaturalGradient"), "training.methods"),
    }

    def __getattr__(name: str) -> object:
        if name in _HOMES:
            import importlib

            value = getattr(importlib.import_module(f"aenet_ray.{_HOMES[name]}"), name)
            globals()[name] = value  # from now on found without coming here
            return value
        if name.startswith("__"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import difflib

        near = difflib.get_close_matches(name, __all__, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else f"; public names are {', '.join(__all__)}."
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__} - {"TYPE_CHECKING", "annotations"})
