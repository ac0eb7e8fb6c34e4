"""A committee of 8 and a search of 20 trials, as their users start them, with wall times.

    python benchmarks/real_use.py committee|search [--data ../shared/data/tio2/tio2_dev.extxyz.gz] [--set KEY=VALUE]

Of the TiO2 structures whose largest force component is below 3 eV/Å, as in the example of ænet-PyTorch, drawn at
random: 900 to train on energies and forces, 100 for validation, 1 000 others as test set. Both run on Ray on the cores
of this machine, through ``aenet-ray committee`` and ``aenet-ray tune``. The committee has the best settings that the
search found; it is compared with its members, and calibrated on the validation structures.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from aenet_ray import Structure, TorchANNPotential, TorchCommitteePotential, TuneResults
from aenet_ray.inference.evaluate import evaluate_store
from aenet_ray.plots import uncertainty_plot
from aenet_ray.structures.build import build_store
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.store import StructureStore

PARTS = {"train": 900, "validation": 100, "test": 1000}
LARGEST_FORCE = 3.0  # component, eV/Å
EPOCHS = {"search": 200, "committee": 1500}
RUN: dict[str, Any] = {
    "descriptor": {"species": ["Ti", "O"], "rad_order": 16, "rad_cutoff": 6.5, "ang_order": 4, "ang_cutoff": 4.0},
    "network": [[30, "twist"], [30, "twist"]],
    "training": {
        "method": {"name": "adam", "mu": 0.0017, "batchsize": 16},
        "use_scheduler": True,
        "scheduler": "cosine",
        "force_weight": 0.1,
        "precision": "float32",
        "seed": 1,
        "max_checkpoints": 1,
        "atomic_energies": {"Ti": -1604.604515075, "O": -432.503149303},
    },
    "scaling": {"num_workers": 1},
}
COMMITTEE = {"num_members": 8, "base_seed": 1, "members_per_trial": 4, "share_batches": True}
TUNE = {
    "num_samples": 20,
    "seed": 1,
    "scheduler": "asha",
    "grace_period": 20,
    "space": {
        "training.method.mu": {"loguniform": [5e-4, 2e-2]},
        "training.method.batchsize": {"choice": [8, 16, 32, 64]},
        "network.width": {"qrandint": [10, 50, 10]},
        "network.activation": {"choice": ["tanh", "twist"]},
        "descriptor.rad_cutoff": {"choice": [5.5, 6.5, 8.0]},
        "descriptor.ang_cutoff": {"choice": [4.0, 5.0]},
    },
}


def parts(data: str, folder: Path) -> dict[str, str]:
    """Files of the parts, written unless they are there."""
    paths = {part: folder / f"{part}.h5" for part in PARTS}
    if not all(path.exists() for path in paths.values()):
        folder.mkdir(parents=True, exist_ok=True)
        usable = [s for s in read_structures(data) if s.forces is not None and np.abs(s.forces).max() < LARGEST_FORCE]
        drawn = iter(np.random.default_rng(0).permutation(len(usable)))
        for part, n in PARTS.items():
            chosen: list[Structure] = [usable[next(drawn)] for _ in range(n)]
            build_store(chosen, paths[part], progress=False)
    return {part: str(path) for part, path in paths.items()}


def command(name: str, files: dict[str, str], folder: Path, epochs: int, **groups: Any) -> tuple[Path, float]:
    """Write the run's file and start ``aenet-ray``: the run's folder and the wall time of all of it, s."""
    data = {"files": files["train"], "validation": files["validation"]}
    run = {"name": f"{name}-{time.strftime('%Y%m%d-%H%M%S')}", "storage_path": str(folder)}
    training = {"iterations": epochs} | RUN["training"]
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(RUN | {"training": training, "data": data, "run": run} | groups, sort_keys=False))
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "aenet_ray.cli", name, str(file)], check=True)
    return folder / run["name"], time.perf_counter() - start


def rms(values: Any) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def committee(files: dict[str, str], folder: Path, extra: dict[str, Any]) -> None:
    run, seconds = command("committee", files, folder, EPOCHS["committee"], committee=COMMITTEE | extra)
    trained = TorchCommitteePotential.from_directory(run)
    calibration = trained.calibrate(list(read_structures(files["validation"])))
    calibration.plot(run / "reliability.png")
    test = list(read_structures(files["test"]))
    found = trained.predict(test, eval_forces=True, calibrated=True)
    energies = np.array([s.energy for s in test])
    of_members = 1000 * (found.member_energies - energies) / found.n_atoms
    forces = np.concatenate([s.forces for s in test if s.forces is not None]).ravel()
    member_forces = np.concatenate([r.member_forces for r in found if r.member_forces is not None], axis=1)
    force_errors = member_forces.reshape(len(member_forces), -1) - forces

    def row(name: str, energy: Any, force: Any) -> str:
        cells = (np.abs(energy).mean(), rms(energy), np.abs(force).mean(), rms(force))
        return f"| {name} | {cells[0]:.2f} | {cells[1]:.2f} | {cells[2]:.3f} | {cells[3]:.3f} |"

    print("| | E MAE (meV/atom) | E RMSE | F MAE (eV/Å) | F RMSE |", "|---|--:|--:|--:|--:|", sep="\n")
    for i, (e, f) in enumerate(zip(of_members, force_errors, strict=True)):
        print(row(f"member {i}", e, f))
    print(row("committee", of_members.mean(axis=0), force_errors.mean(axis=0)))
    error = of_members.mean(axis=0)
    spread = 1000 * found.energy_std_per_atom
    force_spread = np.concatenate([r.forces_std for r in found if r.forces_std is not None]).ravel()
    for what, e, s in (("energies", error, spread), ("forces", force_errors.mean(axis=0), force_spread)):
        one, two = (100 * np.mean(np.abs(e) < k * s) for k in (1, 2))
        print(f"{what}: {one:.1f} % within one calibrated spread, {two:.1f} % within two")
    uncertainty_plot(spread, error, outfile=run / "uncertainty.png")
    print(calibration)
    print(f"{seconds:.0f} s from the command to the end; {run}")


def search(files: dict[str, str], folder: Path, extra: dict[str, Any]) -> None:
    run, seconds = command("tune", files, folder, EPOCHS["search"], tune=TUNE | extra)
    results = TuneResults.from_folder(run)
    test = StructureStore(files["test"])
    train_seconds = results.table()["seconds"].sum()
    epochs = results.table()["epochs"].sum()
    best = TorchANNPotential.from_file(results.best.run_dir / "model.pt")
    print(f"best trial {results.best.index}: {results.best.values}")
    print(evaluate_store(best.model, test, name="test", forces=True).row())
    print(f"importance: {results.importance()}")
    print(
        f"{epochs} of {EPOCHS['search'] * len(results.trials)} epochs, {train_seconds:.0f} s of training in all trials"
    )
    print(f"{seconds:.0f} s from the command to the end; {run}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("committee", "search"))
    parser.add_argument("--data", default="../shared/data/tio2/tio2_dev.extxyz.gz")
    parser.add_argument("--output", type=Path, default=Path("runs/real_use"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of committee or tune")
    args = parser.parse_args()
    extra = {k: yaml.safe_load(v) for k, _, v in (item.partition("=") for item in args.set)}
    folder = args.output.absolute()
    files = parts(args.data, folder)
    (committee if args.what == "committee" else search)(files, folder, extra)


if __name__ == "__main__":
    main()
