"""Build an HDF5 dataset once, with features, and train from it on two workers.

    python examples/hdf5_dataset.py

100 TiO2 structures; under a minute on a laptop.
"""

from __future__ import annotations

from pathlib import Path

from aenet_ray import (
    Adam,
    ChebyshevDescriptor,
    HDF5StructureDataset,
    ScalingConfig,
    TorchANNPotential,
    TorchTrainingConfig,
    train_test_split_dataset,
)

DATA = Path(__file__).parent / "data" / "tio2_ci100_xsf.tar.gz"
ATOMIC_ENERGIES = {"Ti": -1604.604515075, "O": -432.503149303}  # eV


def main() -> None:
    descriptor = ChebyshevDescriptor(["Ti", "O"], rad_order=10, rad_cutoff=6.0, ang_order=3, ang_cutoff=4.0)
    dataset = HDF5StructureDataset(
        descriptor, "tio2.h5", sources=DATA, mode="build", atomic_energies=ATOMIC_ENERGIES, max_energy=0.0
    )
    dataset.build_database(build_workers=2, persist_features=True)

    sample = dataset[0]
    print(
        f"{len(dataset)} structures; {dataset.get_structure_identifier(0)}: features {tuple(sample['features'].shape)}"
    )

    train, test = train_test_split_dataset(dataset, test_fraction=0.2, seed=1)
    layers = [(15, "tanh"), (15, "tanh")]
    potential = TorchANNPotential({"Ti": layers, "O": layers}, descriptor)
    config = TorchTrainingConfig(iterations=30, method=Adam(mu=0.01, batchsize=16), seed=1)
    out = potential.train(train_dataset=train, test_dataset=test, config=config, scaling=ScalingConfig(num_workers=2))
    print(out.errors.tail(3).to_string(float_format="%.4f"))

    predicted = potential.predict_dataset(test)
    print(f"{predicted.num_structures} predicted from stored features")
    dataset.close()


if __name__ == "__main__":
    main()
