"""Train on energies and forces, a third of the forces at a time, and run a little molecular dynamics.

    python examples/forces.py

100 TiO2 structures; under a minute on a laptop.
"""

from __future__ import annotations

from pathlib import Path

from ase import units
from ase.md.verlet import VelocityVerlet

from aenet_ray import Adam, AenetCalculator, ChebyshevDescriptor, TorchANNPotential, TorchTrainingConfig

DATA = Path(__file__).parent / "data" / "tio2_ci100_xsf.tar.gz"
ATOMIC_ENERGIES = {"Ti": -1604.604515075, "O": -432.503149303}  # eV


def main() -> None:
    descriptor = ChebyshevDescriptor(["Ti", "O"], rad_order=10, rad_cutoff=6.0, ang_order=3, ang_cutoff=4.0)
    layers = [(15, "tanh"), (15, "tanh")]
    potential = TorchANNPotential({"Ti": layers, "O": layers}, descriptor)

    config = TorchTrainingConfig(
        iterations=60,
        method=Adam(mu=0.01, batchsize=8),
        scheduler="cosine",
        testpercent=20,
        seed=1,
        force_weight=0.3,
        force_fraction=0.33,
        force_resample_num_epochs=1,  # another third in each epoch
        atomic_energies=ATOMIC_ENERGIES,
    )
    out = potential.train(DATA, config=config)
    print(out.errors.tail(3).to_string(float_format="%.4f"))
    out.plot_training_summary(outfile=out.run_dir / "training.png")
    potential.save(out.run_dir / "tio2.pt")

    predicted = potential.predict(DATA, eval_forces=True)
    atoms = predicted.to_structures()[0].to_ase()
    atoms.calc = AenetCalculator(out.run_dir / "tio2.pt")
    atoms.rattle(0.02, seed=1)
    dynamics = VelocityVerlet(atoms, timestep=1.0 * units.fs)
    before = atoms.get_total_energy()
    dynamics.run(20)
    print(f"energy drift of 20 fs: {1000 * (atoms.get_total_energy() - before) / len(atoms):.2f} meV/atom")


if __name__ == "__main__":
    main()
