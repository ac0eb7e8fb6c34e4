"""Positions, names and defaults of what users of aenet-python call, and the attributes of what they get."""

from __future__ import annotations

import inspect

import pytest
import torch

import aenet_ray

NO = inspect.Parameter.empty
FILTERS = {"max_energy": None, "max_forces": None, "atomic_energies": None, "seed": None}
DATA = {"structures": None, "dataset": None, "train_dataset": None, "test_dataset": None, "config": None}
PREDICT = {"eval_forces": False, "config": None}
MEMBERS = {"aggregation": "mean", "reference_member": 0}
EXPORT = {"output_dir": NO, "prefix": "potential", "descriptor_stats": None, "structures": None, "compute_stats": True}
ATOMS = {"positions": NO, "species": NO}
PERIODIC = {"cell": None, "pbc": None}

IN_ORDER = {
    "Structure": ATOMS | {"energy": None, "forces": None} | PERIODIC | {"name": None},
    "ChebyshevDescriptor": {
        "species": NO, "rad_order": NO, "rad_cutoff": NO, "ang_order": NO, "ang_cutoff": NO, "min_cutoff": 0.55,
        "device": "cpu", "dtype": torch.float64,
    },
    "ChebyshevDescriptor.forward_from_positions": ATOMS | PERIODIC,
    "ChebyshevDescriptor.forward": ATOMS | {"neighbor_indices": None, "neighbor_vectors": None} | PERIODIC,
    "ChebyshevDescriptor.compute_feature_gradients": ATOMS | PERIODIC,
    "StructureDataset": {"structures": NO, "descriptor": NO} | FILTERS,
    "CachedStructureDataset": {"structures": NO, "descriptor": NO} | FILTERS | {"show_progress": True},
    "HDF5StructureDataset": {"descriptor": NO, "database_file": NO, "sources": None, "mode": "auto"},
    "HDF5StructureDataset.build_database": {"show_progress": True},
    "train_test_split": {"dataset": NO, "test_fraction": 0.1, "seed": None},
    "train_test_split_dataset": {"dataset": NO, "test_fraction": 0.1, "seed": None},
    "TorchANNPotential": {"arch": NO, "descriptor": NO},
    "TorchANNPotential.train": DATA | {"resume_from": None},
    "TorchANNPotential.predict": {"structures": NO} | PREDICT,
    "TorchANNPotential.predict_dataset": {"dataset": NO} | PREDICT,
    "TorchANNPotential.cohesive_energy": {"structure": NO, "atomic_energies": None},
    "TorchANNPotential.save": {"path": NO, "extra_metadata": None},
    "TorchANNPotential.from_file": {"path": NO, "device": None},
    "TorchANNPotential.to_aenet_ascii": EXPORT,
    "TrainOut.plot_training_summary": {"outfile": None},
    "TrainOut.plot_training_errors": {"outfile": None},
    "TrainOut.plot_force_errors": {"outfile": None},
    "TorchCommitteePotential": {"arch": NO, "descriptor": NO},
    "TorchCommitteePotential.train": DATA | {"committee_config": None},
    "TorchCommitteePotential.predict": {"structures": NO} | PREDICT | MEMBERS,
    "TorchCommitteePotential.predict_dataset": {"dataset": NO} | PREDICT | MEMBERS,
    "TorchCommitteePotential.from_directory": {"path": NO, "device": None},
    "TorchCommitteePotential.from_files": {"paths": NO, "device": None},
    "TorchCommitteePotential.to_aenet_ascii": EXPORT,
    "TorchCommitteePredictResult.sort_by": {"column": "energy_std"},
    "TorchCommitteePredictResult.top_uncertain": {"n": 10},
    "ReferenceEnergies.from_regression": {"samples": NO},
    "ReferenceEnergies.from_reference_compounds": {"samples": NO},
    "iter_composition_energy_samples_from_files": {"paths": NO},
}  # fmt: skip
"""Parameters that may be given by position, in order, with their defaults."""

SUBSETS = {"subset_size": None, "subset_fraction": None, "random_seed": None}
BY_NAME = {
    "HDF5StructureDataset": {
        "max_energy": None, "atomic_energies": None, "seed": None, "in_memory_cache_size": 2048, "compression": "zlib",
        "compression_level": 5,
    },
    "HDF5StructureDataset.build_database": {
        "build_workers": 0, "persist_descriptor": False, "persist_features": False, "persist_force_derivatives": False,
    },
    "ReferenceEnergies.from_regression": {"fixed_atomic_energies": None} | SUBSETS,
    "ReferenceEnergies.from_reference_compounds": {"reference_compounds": NO, "fixed_atomic_energies": None},
    "TorchCommitteePredictResult.sort_by": {"ascending": False},
    "TorchCommitteePredictResult.top_uncertain": {"metric": "energy_std"},
    "iter_composition_energy_samples_from_files": {"frmt": None},
}  # fmt: skip

RECORDS = {
    "Adam": {"mu": 0.001, "batchsize": 32, "weight_decay": 0.0, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
    "SGD": {"lr": 0.01, "batchsize": 32, "weight_decay": 0.0, "momentum": 0.0},
    "TorchTrainingConfig": {"iterations": 100, "method": aenet_ray.Adam(), "testpercent": 10},
    "PredictionConfig": {"timing": False, "print_atomic_energies": False, "batch_size": 32, "num_workers": 0},
    "TorchCommitteeConfig": {
        "num_members": NO, "base_seed": None, "member_seeds": None, "max_parallel": 1, "devices": None,
    },
}  # fmt: skip

ATTRIBUTES = {
    "ReferenceEnergies": "atomic_energies metadata method",
    "TrainOut": "errors timing stats has_force_data learning_rate energies",
    "PredictOut": "num_structures num_atoms total_energy_per_atom cohesive_energy_per_atom to_structures",
    "TorchCommitteeTrainResult": "metadata_path completed_members failed_members stats trainouts to_dataframe __str__",
    "TorchCommitteePredictResult": "energy energy_mean energy_std max_force_uncertainty mean_force_uncertainty "
    "to_dataframe __len__ __getitem__ __iter__",
    "AenetEnsembleResult": "energy forces energy_mean energy_std forces_mean forces_std force_uncertainty num_members "
    "from_member_predictions",
    "HDF5StructureDataset": "close get_structure get_structure_identifier get_entry_metadata get_force_indices "
    "load_persisted_features __len__ __getitem__ __enter__ __exit__",
    "Structure": "n_atoms has_forces is_periodic",
    "ChebyshevDescriptor": "n_features get_n_features",
    "TorchANNPotential": "history metadata",
    "Adam": "method_name to_params_dict",
    "SGD": "method_name to_params_dict",
    "TorchTrainingConfig": "alpha batch_size",
}
FIELDS = {
    "PredictOut": "coords forces atom_types atom_energies cohesive_energy total_energy structure_paths timing",
    "TorchCommitteeTrainResult": "output_dir members execution_mode",
    "TorchCommitteePredictResult": "member_outputs indices source_indices identifiers",
    "AenetEnsembleResult": "member_energies member_forces aggregation reference_member",
}


def parameters(path: str) -> list[inspect.Parameter]:
    owner, _, method = path.partition(".")
    value = getattr(aenet_ray, owner)
    found = inspect.signature(getattr(value, method) if method else value).parameters.values()
    return [p for p in found if p.name != "self"]


@pytest.mark.parametrize("path", IN_ORDER)
def test_by_position(path):
    found = [p for p in parameters(path) if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [(p.name, p.default) for p in found] == list(IN_ORDER[path].items())


@pytest.mark.parametrize("path", BY_NAME)
def test_by_name(path):
    found = {p.name: p.default for p in parameters(path) if p.kind is p.KEYWORD_ONLY}
    assert BY_NAME[path].items() <= found.items()


@pytest.mark.parametrize("name", RECORDS)
def test_records(name):
    fields = getattr(aenet_ray, name).model_fields
    assert list(fields)[: len(RECORDS[name])] == list(RECORDS[name])
    for field, default in RECORDS[name].items():
        found = NO if fields[field].is_required() else fields[field].get_default(call_default_factory=True)
        assert found == default, field


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes(name):
    kind = getattr(aenet_ray, name)
    known = set(dir(kind)) | set(getattr(kind, "__dataclass_fields__", ()))
    assert set(ATTRIBUTES[name].split()) <= known


@pytest.mark.parametrize("name", FIELDS)
def test_fields(name):
    assert set(FIELDS[name].split()) <= set(getattr(aenet_ray, name).__dataclass_fields__)
