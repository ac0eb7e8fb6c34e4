"""A script as a user of aenet-python has it; the test that runs it changes nothing but its import lines.

It stands in a folder with ``xsf/``, and uses names, orders of arguments and settings of all three generations.
"""

import glob
import os

import numpy as np
import torch
from aenet.torch_featurize import ChebyshevDescriptor
from aenet.torch_training import (
    SGD,
    Adam,
    AenetEnsembleResult,
    CachedStructureDataset,
    HDF5StructureDataset,
    PredictionConfig,
    PredictOut,
    ReferenceEnergies,
    Structure,
    StructureDataset,
    TorchANNPotential,
    TorchCommitteeConfig,
    TorchCommitteePotential,
    TorchCommitteePredictResult,
    TorchCommitteeTrainResult,
    TorchTrainingConfig,
    TrainOut,
    iter_composition_energy_samples_from_files,
    train_test_split,
    train_test_split_dataset,
)
from torch.utils.data import Subset

paths = sorted(glob.glob("xsf/*.xsf"))
E = {"Ti": -1604.604515075, "O": -432.503149303}

# reference energies
samples = list(iter_composition_energy_samples_from_files(paths, frmt="xsf"))
fitted = ReferenceEnergies.from_regression(samples, fixed_atomic_energies={"O": E["O"]}, subset_size=10, random_seed=1)
compounds = ReferenceEnergies.from_reference_compounds(
    samples, reference_compounds=["Ti8O16"], fixed_atomic_energies={"O": E["O"]}
)
for found in (fitted, compounds):
    assert found.atomic_energies["O"] == E["O"]
    assert found.method in ("regression", "reference_compounds")
    assert {"species_order", "free_species", "n_samples_total", "rank", "rmse"} <= set(found.metadata)

# descriptor
descriptor = ChebyshevDescriptor(
    species=["Ti", "O"], rad_order=4, rad_cutoff=4.0, ang_order=2, ang_cutoff=3.0, min_cutoff=0.55, device="cpu",
    dtype=torch.float64,
)  # fmt: skip
assert descriptor.species_to_idx == {"Ti": 0, "O": 1}
assert descriptor.n_features == descriptor.get_n_features() == 16
assert list(descriptor.typespin) == [-1, 1]
assert descriptor.multi
positions, species = torch.tensor([[0.0, 0, 0], [0, 0, 1.9], [1.8, 0, 0.3]], dtype=torch.float64), ["Ti", "O", "O"]
features = descriptor.forward_from_positions(positions, species, torch.eye(3) * 5, torch.tensor([True, True, True]))
assert features.shape == (3, 16)
same, gradient = descriptor.compute_feature_gradients(positions, species)
assert gradient.shape == (3, 16, 3, 3)
neighbors = [[j for j in range(3) if j != i] for i in range(3)]
vectors = [positions[n] - positions[i] for i, n in enumerate(neighbors)]
torch.testing.assert_close(descriptor.forward(positions, species, neighbors, vectors), same)

# energies, from paths
arch = {"Ti": [(6, "tanh"), (6, "tanh")], "O": [(6, "tanh"), (6, "tanh")]}
potential = TorchANNPotential(arch, descriptor=descriptor)
config = TorchTrainingConfig(
    iterations=3, method=Adam(mu=0.005, batchsize=16), testpercent=40, force_weight=0.0, E_atomic=E,
    energy_target="cohesive", cached_features=True, memory_mode="cpu", device="cpu", precision="auto", seed=3,
    split_seed=4, save_energies=True, checkpoint_dir="checkpoints", checkpoint_interval=1, max_checkpoints=2,
    save_best=True, use_scheduler=True, scheduler_patience=2, scheduler_factor=0.5, scheduler_min_lr=1e-6,
    show_progress=False, show_batch_progress=False, timing=False,
)  # fmt: skip
assert config.alpha == 0.0
assert config.batch_size == 16
assert config.method.method_name == "adam"
assert config.method.to_params_dict()["mu"] == 0.005
out = potential.train(structures=paths, config=config)
assert isinstance(out, TrainOut)
columns = ["MAE_train", "RMSE_train", "MAE_test", "RMSE_test", "RMSE_force_train", "RMSE_force_test"]
assert list(out.errors.columns) == columns
assert {"epoch_time", "forward_time", "backward_time"} <= set(out.timing.columns)
assert {f"final_{c}" for c in columns} | {"min_RMSE_test", "epoch_min_RMSE_test"} <= set(out.stats)
assert {"min_RMSE_force_test", "epoch_min_RMSE_force_test"} <= set(out.stats)
assert not out.has_force_data
assert len(out.learning_rate) == 3
assert out.energies is not None
out.plot_training_summary(outfile="summary.png")
out.plot_training_errors(outfile="errors.png")
assert len(potential.history["train_energy_rmse"]) == 3
potential.save("potential.pt", extra_metadata={"note": "mine"})

# going on
again = TorchANNPotential(arch, descriptor)
longer = again.train(
    structures=paths, config=TorchTrainingConfig(iterations=2), resume_from="checkpoints/best_model.pt"
)
assert len(longer.errors) > 2

# prediction
loaded = TorchANNPotential.from_file("potential.pt", device="cpu")
assert loaded.metadata["extra_metadata"] == {"note": "mine"}
result = loaded.predict(
    paths[:3], eval_forces=True, config=PredictionConfig(timing=True, print_atomic_energies=True, batch_size=2)
)
assert isinstance(result, PredictOut)
assert result.num_structures == 3
n = result.num_atoms(0)
assert result.coords[0].shape == result.forces[0].shape == (n, 3)
assert set(result.atom_types[0]) == {"Ti", "O"}
assert abs(np.sum(result.atom_energies[0]) - result.total_energy[0]) < 1e-9
assert abs(result.total_energy_per_atom[0] * n - result.total_energy[0]) < 1e-9
assert abs(result.cohesive_energy_per_atom[0] * n - result.cohesive_energy[0]) < 1e-9
assert result.structure_paths == paths[:3]
assert set(result.timing) == {"featurization", "energy_eval", "force_eval", "total"}
assert result.to_structures()[0].energy == result.total_energy[0]

# forces, from records
records = [
    Structure(np.array(s.positions), list(s.species), s.energy, s.forces, s.cell, s.pbc, f"structure {i}")
    for i, s in enumerate(StructureDataset(paths, descriptor).structures)
]
assert records[0].n_atoms == n
assert records[0].has_forces()
assert records[0].is_periodic()
assert loaded.cohesive_energy(records[0]) == loaded.cohesive_energy(records[0], atomic_energies=E)
with_forces = TorchANNPotential(arch, descriptor)
out = with_forces.train(
    records,
    config=TorchTrainingConfig(
        2, SGD(0.001, 8), 40, force_weight=0.1, force_fraction=0.5, force_sampling="random",
        force_resample_each_epoch=True, epochs_per_force_window=2, force_min_structures_per_epoch=2,
        atomic_energies=E, cache_triplets=True, cache_force_neighbors=True, max_forces=20.0, max_energy=0.0,
        save_forces=True, checkpoint_dir=None, show_progress=False,
    ),
)  # fmt: skip
assert out.has_force_data
out.plot_force_errors(outfile="forces.png")

# datasets
dataset = StructureDataset(records, descriptor, None, None, E, 42)
train, test = train_test_split(dataset, test_fraction=0.4, seed=1)
first, second = train_test_split_dataset(dataset, 0.4, 1)
assert (len(train), len(test)) == (len(first), len(second))
sample = dataset[0]
assert sample["features"].shape == (n, 16)
for name in ("species_indices", "energy", "forces", "use_forces", "has_forces", "n_atoms", "name"):
    assert name in sample
short = TorchTrainingConfig(iterations=1, checkpoint_dir=None, show_progress=False)
with_forces.train(dataset=dataset, config=TorchTrainingConfig(iterations=1, testpercent=50, show_progress=False))
with_forces.train(train_dataset=train, test_dataset=test, config=short)
cached = CachedStructureDataset(structures=records, descriptor=descriptor, atomic_energies=E, show_progress=False)
with_forces.train(train_dataset=Subset(cached, list(range(10))), config=short)

# HDF5
with HDF5StructureDataset(
    descriptor=descriptor, database_file="database.h5", sources=paths, mode="build", max_energy=None, atomic_energies=E,
    seed=1, in_memory_cache_size=100, compression="zlib", compression_level=5,
) as built:  # fmt: skip
    built.build_database(
        show_progress=False, build_workers=2, persist_descriptor=True, persist_features=True,
        persist_force_derivatives=True,
    )  # fmt: skip
    assert len(built) == len(paths)
    assert built.get_structure(0).n_atoms == n
    assert built.get_structure_identifier(0) == f"{paths[0]}#frame=0"
    assert built.get_entry_metadata(0)["frame_idx"] == 0
    assert len(built.get_force_indices()) == len(paths)
    assert built.load_persisted_features(0).shape == (n, 16)
reopened = HDF5StructureDataset(descriptor=None, database_file="database.h5", mode="load")
assert reopened.atomic_energies == E
with_forces.train(dataset=reopened, config=TorchTrainingConfig(iterations=1, num_workers=2, show_progress=False))
assert with_forces.predict_dataset(reopened, eval_forces=True).num_structures == len(paths)
reopened.close()

# committee
committee = TorchCommitteePotential(arch, descriptor)
trained = committee.train(
    structures=records,
    config=TorchTrainingConfig(iterations=2, atomic_energies=E, testpercent=50, show_progress=False),
    committee_config=TorchCommitteeConfig(2, 10, None, 1, None, "committee_run"),
)
assert isinstance(trained, TorchCommitteeTrainResult)
assert os.path.isfile(trained.metadata_path)
assert os.path.isdir(trained.output_dir)
assert trained.execution_mode == "sequential"
assert len(trained.members) == len(trained.completed_members) == len(trained.trainouts) == 2
assert not trained.failed_members
assert {"mean", "std", "min", "max", "n"} <= set(trained.stats["final_RMSE_test"])
assert len(trained.to_dataframe()) == 2
assert "±" in str(trained)
member = trained.members[0]
for name in ("member_index", "seed", "split_seed", "device", "status", "metrics", "error"):
    assert hasattr(member, name)
for name in ("member_dir", "model_path", "history_json_path", "history_csv_path", "summary_path", "checkpoint_dir"):
    assert os.path.exists(getattr(member, name)), name
committee = TorchCommitteePotential.from_directory("committee_run", device="cpu")
from_files = TorchCommitteePotential.from_files([m.model_path for m in trained.members], device="cpu")
one = from_files.predict(records[:4], True, PredictionConfig(), "reference", 1)
result = committee.predict(records[:4], eval_forces=True, aggregation="mean", reference_member=0)
assert isinstance(result, TorchCommitteePredictResult)
assert len(result) == 4
assert isinstance(result[0], AenetEnsembleResult)
assert one[0].energy == one[0].member_energies[1]
assert (one[0].aggregation, one[0].reference_member, one[0].num_members) == ("reference", 1, 2)
for name in ("energy", "energy_mean", "energy_std"):
    assert np.isscalar(getattr(result[0], name)), name
    assert getattr(result, name).shape == (4,), name
for name in ("forces", "forces_mean", "forces_std"):
    assert getattr(result[0], name).shape == (n, 3), name
assert result[0].force_uncertainty.shape == (n,)
assert result[0].member_forces.shape == (2, n, 3)
assert len(result.member_outputs) == 2
assert list(result.indices) == [0, 1, 2, 3]
assert result.identifiers[0] == "structure 0"
assert result.max_force_uncertainty.shape == result.mean_force_uncertainty.shape == (4,)
frame_columns = ["index", "source_index", "identifier", "energy", "energy_mean", "energy_std", "member_energies"]
frame_columns += ["max_force_uncertainty", "mean_force_uncertainty", "num_members", "aggregation", "reference_member"]
assert list(result.to_dataframe().columns)[: len(frame_columns)] == frame_columns
assert (np.diff(result.sort_by("energy_std", ascending=True).energy_std) >= 0).all()
assert len(result.top_uncertain(2, metric="max_force_uncertainty")) == 2
of_dataset = committee.predict_dataset(Subset(dataset, [3, 1]), eval_forces=False)
assert list(of_dataset.source_indices) == [3, 1]
built = AenetEnsembleResult.from_member_predictions(one[0].member_energies, one[0].member_forces)
assert built.energy == result[0].energy_mean

# ænet
files = committee.to_aenet_ascii("aenet_committee", prefix="tio2")
assert os.path.isfile(files[1]["Ti"])
files = potential.to_aenet_ascii("aenet", "potential", None, None, True)
assert os.path.basename(files["O"]) == "potential.O.nn.ascii"
print("done")
