"""Which structures are worth a reference calculation? Ask a committee, and compare with picking at random.

    python examples/active_learning.py
    python examples/active_learning.py --data tio2_dev.extxyz.gz --structures 1000 --start 100 --select 50 --rounds 5 \
        --seeds 3 --epochs 120

Train a committee on a few structures, let it select those it is least certain of and that lie far apart, add their
labels, train again. A fifth of the data is never selected and measures the error. Writes active_learning.csv and
.png. As it stands: 100 TiO2 structures, under a minute.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from aenet_ray import (
    Adam,
    ChebyshevDescriptor,
    Structure,
    TorchCommitteeConfig,
    TorchCommitteePotential,
    TorchTrainingConfig,
)
from aenet_ray.selection.run import select_structures
from aenet_ray.structures.readers import read_structures

DATA = Path(__file__).parent / "data" / "tio2_ci100_xsf.tar.gz"
ATOMIC_ENERGIES = {"Ti": -1604.604515075, "O": -432.503149303}  # eV
HIGH_FORCE = 50.0  # eV/Å: structures beyond lie far up the repulsive wall


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=str(DATA))
    parser.add_argument("--structures", type=int, default=100, help="used of the data, drawn at random")
    parser.add_argument("--start", type=int, default=20, help="structures trained on at first")
    parser.add_argument("--select", type=int, default=10, help="added in each round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=1, help="repetitions, each with another start")
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=40)
    return parser.parse_args()


def read(path: str, n: int) -> list[Structure]:
    """n structures by chance, always the same ones; their names are their numbers."""
    usable = [s for s in read_structures(path) if s.forces is None or np.abs(s.forces).max() < HIGH_FORCE]
    drawn = np.random.default_rng(0).permutation(len(usable))[:n]
    found = [usable[i] for i in drawn]
    for i, s in enumerate(found):
        s.name = str(i)
    return found


def train(structures: list[Structure], seed: int, args: argparse.Namespace) -> TorchCommitteePotential:
    descriptor = ChebyshevDescriptor(["Ti", "O"], rad_order=12, rad_cutoff=6.0, ang_order=3, ang_cutoff=5.0)
    layers = [(15, "tanh"), (15, "tanh")]
    committee = TorchCommitteePotential({"Ti": layers, "O": layers}, descriptor)
    config = TorchTrainingConfig(
        iterations=args.epochs,
        method=Adam(mu=0.005, batchsize=16),
        testpercent=0,
        atomic_energies=ATOMIC_ENERGIES,
        show_progress=False,
        save_best=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        members = TorchCommitteeConfig(
            args.members, base_seed=100 * seed, members_per_trial=args.members, output_dir=folder + "/committee"
        )
        committee.train(structures, config=config, committee_config=members)
    return committee


def errors(committee: TorchCommitteePotential, test: list[Structure]) -> dict[str, float]:
    """Of energies, meV/atom."""
    result = committee.predict(test)
    off = 1000 * (result.energy - [s.energy for s in test]) / result.n_atoms
    return {"rmse": float(np.sqrt(np.mean(off**2))), "mae": float(np.abs(off).mean())}


def learn(how: str, seed: int, data: list[Structure], args: argparse.Namespace) -> list[dict[str, object]]:
    """One run: how the error falls as structures are added."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(data))  # the same for both ways: equal start, equal test set
    n_test = len(data) // 5
    test = [data[i] for i in order[:n_test]]
    known = [data[i] for i in order[n_test : n_test + args.start]]
    pool = {data[i].name: data[i] for i in order[n_test + args.start :]}
    rows: list[dict[str, object]] = []
    for left in range(args.rounds, -1, -1):
        committee = train(known, seed, args)
        rows.append({"how": how, "seed": seed, "n_train": len(known), **errors(committee, test)})
        print(f"{how:12} seed {seed}  {len(known):4} structures  RMSE {rows[-1]['rmse']:8.2f} meV/atom", flush=True)
        if not left:
            break
        if how == "uncertainty":
            candidates = list(pool.values())
            chosen = select_structures(committee, candidates, top=args.select, diverse=True, pool=3, progress=False)
            names = [s.name for s in chosen.structures]
        else:
            names = rng.choice(list(pool), args.select, replace=False).tolist()
        known += [pool.pop(name) for name in names]
    return rows


def plot(table: pd.DataFrame, path: str) -> None:
    from aenet_ray.plots.style import QUIET, VERMILLION, figure_style, new_figure, save_figure

    with figure_style():
        figure = new_figure(6.8, 3.2)
        for axes, column in zip(figure.subplots(1, 2), ("rmse", "mae"), strict=True):
            for how, color in (("random", QUIET), ("uncertainty", VERMILLION)):
                of_n = table[table["how"] == how].groupby("n_train")[column]
                mean, low, high = of_n.mean(), of_n.min(), of_n.max()
                axes.fill_between(mean.index, low, high, color=color, alpha=0.15, linewidth=0)
                axes.plot(mean.index, mean, "o-", color=color, ms=4, label=how)
            axes.set(xlabel="Training structures", ylabel=f"{column.upper()} (meV/atom)", ylim=(0, None))
            axes.set_title(f"{column.upper()} of energies")
            axes.legend(loc="upper right")
        save_figure(figure, path)


def main() -> None:
    args = parse()
    data = read(args.data, args.structures)
    rows = [r for seed in range(args.seeds) for how in ("uncertainty", "random") for r in learn(how, seed, data, args)]
    table = pd.DataFrame(rows)
    table.to_csv("active_learning.csv", index=False)
    plot(table, "active_learning.png")
    print(table.groupby(["n_train", "how"])[["rmse", "mae"]].mean().unstack().round(2).to_string())


if __name__ == "__main__":
    main()
