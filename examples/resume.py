"""Train on energies, then go on with forces from the best checkpoint at a lower learning rate.

    python examples/resume.py

100 TiO2 structures; under a minute on a laptop. An interrupted run needs none of this: give it a name and
``RunConfig(resume="auto")``, and the same command goes on where it was.
"""

from __future__ import annotations

from pathlib import Path

from aenet_ray import Adam, ChebyshevDescriptor, RunConfig, TorchANNPotential, TorchTrainingConfig

DATA = Path(__file__).parent / "data" / "tio2_ci100_xsf.tar.gz"
ATOMIC_ENERGIES = {"Ti": -1604.604515075, "O": -432.503149303}  # eV


def main() -> None:
    descriptor = ChebyshevDescriptor(["Ti", "O"], rad_order=10, rad_cutoff=6.0, ang_order=3, ang_cutoff=4.0)
    layers = [(15, "tanh"), (15, "tanh")]
    potential = TorchANNPotential({"Ti": layers, "O": layers}, descriptor)

    energies = TorchTrainingConfig(
        iterations=50, method=Adam(mu=0.01, batchsize=16), seed=1, atomic_energies=ATOMIC_ENERGIES
    )
    first = potential.train(DATA, config=energies, run=RunConfig(resume="auto", name="resume-energies"))
    print(f"energies: {1000 * first.stats['final_RMSE_test']:.1f} meV/atom after {len(first.errors)} epochs")

    forces = energies.replace(iterations=20, method=Adam(mu=0.003, batchsize=8), force_weight=0.1)
    best = first.run_dir / "checkpoints" / "best_model.pt"
    second = potential.train(DATA, config=forces, resume_from=best)
    print(
        f"and forces: {1000 * second.stats['final_RMSE_test']:.1f} meV/atom, "
        f"{second.stats['final_RMSE_force_test']:.3f} eV/Å after {len(second.errors)} epochs"
    )


if __name__ == "__main__":
    main()
