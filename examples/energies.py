"""Train on energies alone, look at the errors, predict, export: the shortest whole road.

    python examples/energies.py

100 TiO2 structures; some seconds on a laptop.
"""

from __future__ import annotations

from pathlib import Path

from aenet_ray import Adam, ChebyshevDescriptor, TorchANNPotential, TorchTrainingConfig

DATA = Path(__file__).parent / "data" / "tio2_ci100_xsf.tar.gz"
ATOMIC_ENERGIES = {"Ti": -1604.604515075, "O": -432.503149303}  # eV


def main() -> None:
    descriptor = ChebyshevDescriptor(["Ti", "O"], rad_order=10, rad_cutoff=6.0, ang_order=3, ang_cutoff=4.0)
    layers = [(15, "tanh"), (15, "tanh")]
    potential = TorchANNPotential({"Ti": layers, "O": layers}, descriptor)

    config = TorchTrainingConfig(
        iterations=100,
        method=Adam(mu=0.01, batchsize=16),
        testpercent=10,
        seed=1,
        atomic_energies=ATOMIC_ENERGIES,
        save_energies=True,
    )
    out = potential.train(DATA, config=config)
    print(out.errors.tail(3).to_string(float_format="%.4f"))
    print(f"validation RMSE {1000 * out.stats['final_RMSE_test']:.1f} meV/atom")
    out.plot_training_errors(outfile=out.run_dir / "errors.png")

    predicted = potential.predict(DATA)
    print(f"{predicted.num_structures} structures, the first at {predicted.cohesive_energy_per_atom[0]:.3f} eV/atom")

    potential.save(out.run_dir / "tio2.pt")
    for species, path in potential.to_aenet_ascii(out.run_dir / "aenet").items():
        print(f"{species}: {path}")


if __name__ == "__main__":
    main()
