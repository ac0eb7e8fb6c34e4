"""Train a committee of four, see how far its members agree, and find the structures worth another DFT calculation.

    python examples/committee.py

100 TiO2 structures; under a minute on a laptop.
"""

from __future__ import annotations

from pathlib import Path

from aenet_ray import (
    Adam,
    ChebyshevDescriptor,
    RunConfig,
    TorchCommitteeConfig,
    TorchCommitteePotential,
    TorchTrainingConfig,
)

DATA = Path(__file__).parent / "data" / "tio2_ci100_xsf.tar.gz"
ATOMIC_ENERGIES = {"Ti": -1604.604515075, "O": -432.503149303}  # eV


def main() -> None:
    descriptor = ChebyshevDescriptor(["Ti", "O"], rad_order=10, rad_cutoff=6.0, ang_order=3, ang_cutoff=4.0)
    layers = [(15, "tanh"), (15, "tanh")]
    committee = TorchCommitteePotential({"Ti": layers, "O": layers}, descriptor)

    config = TorchTrainingConfig(
        iterations=40,
        method=Adam(mu=0.01, batchsize=16),
        split_seed=1,  # one split for all members
        atomic_energies=ATOMIC_ENERGIES,
    )
    result = committee.train(
        DATA,
        config=config,
        committee_config=TorchCommitteeConfig(num_members=4, base_seed=10),
        run=RunConfig(resume="auto"),  # run again, the script takes the members that are there
    )
    print(result)

    predicted = committee.predict(DATA, eval_forces=True)
    print(predicted.to_dataframe()[["identifier", "energy_mean", "energy_std"]].head(3).to_string())
    print("where the members disagree most:")
    print(predicted.top_uncertain(3).to_dataframe()[["identifier", "energy_std"]].to_string())

    again = TorchCommitteePotential.from_directory(result.output_dir)
    print(f"read back: {again.predict(DATA).energy_std.mean():.4f} eV mean spread")


if __name__ == "__main__":
    main()
