"""Speed of neighbours, features and their derivatives on TiO2, one thread, float64.

    python benchmarks/featurize.py [--data FILE] [--yardstick SCRIPT | none] [--output runs/featurize] [--repeats 7]

Side by side with a plain compiled loop (the yardstick, run several times in between) and with two neighbour
libraries. Machines are shared and noisy: times are the least of several, ratios hold better than times.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numba import njit

from aenet_ray.descriptors import simd
from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.descriptors.neighbors import Edges
from aenet_ray.structures.block import StructureBlock
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.structure import Structure

ROOT = Path(__file__).resolve().parent.parent
DATA = (ROOT.parent / "shared/data/tio2/tio2_dev.extxyz.gz", ROOT / "examples/data/tio2_ci100_xsf.tar.gz")
YARDSTICK = ROOT.parent / "shared/bench/featurize_yardstick.py"
FMA = {"reassoc", "contract"}


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    structures = hundred(options.data)
    setup = Setup.of(structures)
    start = time.perf_counter()
    setup.run_all()
    print(f"{setup.block.n_atoms} atoms in {len(structures)} cells of {options.data.name}; first calls (compiling "
          f"or reading the cache) {time.perf_counter() - start:.1f} s")  # fmt: skip
    times, yardstick = measure(setup, options.yardstick, options.repeats)
    peak = peak_flops()
    print_table(setup, times, yardstick, peak)
    print_libraries(setup, structures, times["neighbours"], options.repeats)
    print_angular(setup, options.output, options.repeats)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=next(p for p in (*DATA, DATA[-1]) if p.exists()))
    parser.add_argument("--yardstick", default=str(YARDSTICK) if YARDSTICK.exists() else "none")
    parser.add_argument("--output", type=Path, default=Path("runs/featurize"), help="folder of the plot")
    parser.add_argument("--repeats", type=int, default=7, help="rounds of measuring and of the yardstick")
    return parser.parse_args()


def hundred(path: Path) -> list[Structure]:
    """A hundred cells evenly from the file: from the large set the same as the yardstick's."""
    found = list(read_structures(path))
    return list(islice(found[:: max(1, len(found) // 100)], 100))


@dataclass
class Setup:
    """One descriptor on one block, and everything that can be timed on it."""

    descriptor: ChebyshevDescriptor
    block: StructureBlock
    edges: Edges
    index: np.ndarray
    g: np.ndarray
    v: np.ndarray

    @classmethod
    def of(cls, structures: list[Structure], ang_cutoff: float = 6.5) -> Setup:
        descriptor = ChebyshevDescriptor(["Ti", "O"], 16, 8.0, 4, ang_cutoff)
        block = StructureBlock.from_structures(structures)
        rng = np.random.default_rng(0)
        g, v = rng.normal(size=(block.n_atoms, descriptor.n_features)), rng.normal(size=(block.n_atoms, 3))
        return cls(descriptor, block, descriptor.edges(block), descriptor.species_index(block.numbers), g, v)

    def tasks(self) -> dict[str, Callable[[], object]]:
        d, edges, index = self.descriptor, self.edges, self.index
        return {
            "neighbours": lambda: d.edges(self.block),
            "features": lambda: d.features(edges, index),
            "vjp": lambda: d.vjp(edges, index, self.g),
            "vjp and virial": lambda: d.vjp(edges, index, self.g, structure_offsets=self.block.offsets),
            "jvp": lambda: d.jvp(edges, index, self.v),
        }

    def run_all(self) -> None:
        for task in self.tasks().values():
            task()

    def near(self) -> float:
        """Neighbours inside the angular cutoff, per atom."""
        inside = (self.edges.vectors**2).sum(1) < self.descriptor.ang_cutoff**2
        return float(inside.sum()) / self.block.n_atoms


def seconds(task: Callable[[], object], repeats: int) -> float:
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        task()
        best = min(best, time.perf_counter() - start)
    return best


def measure(setup: Setup, yardstick: str, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Least seconds of every task, and the yardstick's best rates (atoms/s), taken in turns."""
    times = dict.fromkeys(setup.tasks(), np.inf)
    rates: dict[str, float] = {}
    for _ in range(rounds):
        for name, task in setup.tasks().items():
            times[name] = min(times[name], seconds(task, 5))
        if yardstick != "none":
            for name, rate in run_yardstick(yardstick).items():
                rates[name] = max(rates.get(name, 0.0), rate)
    return times, rates


def run_yardstick(script: str) -> dict[str, float]:
    text = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    found = re.search(r"neighbours (\d+), features given edges (\d+), together (\d+) atoms/s", text)
    if found is None:
        raise SystemExit(f"The yardstick printed {text!r}, not what it used to.")
    return dict(zip(("neighbours", "features", "together"), map(float, found.groups()), strict=True))


@njit(fastmath=FMA)
def many_fma(n: int, out: np.ndarray) -> None:
    """16 independent chains of 8-lane multiply-adds, n long: enough to fill the pipelines of two units."""
    x = simd.load(out, 0)
    y = x * 0.5
    a, b, c, d, e, f, g, h = x, x, x, x, x, x, x, x
    i, j, k, m, o, p, q, r = y, y, y, y, y, y, y, y
    for _ in range(n):
        a, b, c, d = a * x + y, b * x + y, c * x + y, d * x + y
        e, f, g, h = e * x + y, f * x + y, g * x + y, h * x + y
        i, j, k, m = i * x + y, j * x + y, k * x + y, m * x + y
        o, p, q, r = o * x + y, p * x + y, q * x + y, r * x + y
    simd.store(out, 0, a + b + c + d + e + f + g + h + i + j + k + m + o + p + q + r)


def peak_flops() -> float:
    """Multiply-adds per second that one core of this machine reaches on registers, times two."""
    out, n = np.full(8, 0.25), 200_000
    many_fma(n, out)
    return n * 16 * simd.WIDTH * 2 / seconds(lambda: many_fma(n, out), 20)


def feature_flops(setup: Setup) -> float:
    """Additions and multiplications per atom, a multiply-add being two; square roots and divisions one each."""
    d = setup.descriptor
    rows = (d.ang_order + 1) * (d.ang_order + 2) // 2
    cutoff = 2 * 8 + 5  # polynomial of eight terms, its argument and scale
    radial = 6 + cutoff + 5 * (d.rad_order + 1)  # recurrence 2, plain sum 1, weighted sum 2 an order
    angular = 4 + cutoff + 7 * (d.ang_order + 1) + 11 * (rows - d.ang_order - 1) + 8 * d.ang_order + 6
    return radial * setup.edges.n_edges / setup.block.n_atoms + angular * setup.near()


def print_table(setup: Setup, times: dict[str, float], yardstick: dict[str, float], peak: float) -> None:
    n = setup.block.n_atoms
    times = {**times, "together": times["neighbours"] + times["features"]}
    print(f"{setup.edges.n_edges / n:.0f} neighbours an atom, {setup.near():.0f} of them in the angular cutoff; "
          "R 8.0/6.5 Å, orders 16/4\n")  # fmt: skip
    print("| step | atoms/s | yardstick | ratio | in features |\n| --- | --- | --- | --- | --- |")
    for name in ("neighbours", "features", "together", "vjp", "vjp and virial", "jvp"):
        rate, other = n / times[name], yardstick.get(name)
        against = f"{other:,.0f} | {rate / other:.1f} x" if other else "- | -"
        print(f"| {name} | {rate:,.0f} | {against} | {times[name] / times['features']:.2f} x |")
    flops = feature_flops(setup) * n / times["features"]
    print(f"\nfeatures: {feature_flops(setup):,.0f} flops an atom, {flops / 1e9:.1f} Gflop/s, {flops / peak:.0%} of "
          f"the {peak / 1e9:.0f} Gflop/s that independent 8-lane multiply-adds on registers reach here\n")  # fmt: skip


def print_libraries(setup: Setup, structures: list[Structure], ours: float, repeats: int) -> None:
    """Neighbour search beside two libraries, called once a structure as they offer it, edges in their order."""
    n, cutoff = setup.block.n_atoms, setup.descriptor.max_cutoff
    libraries: dict[str, Callable[[], object]] = {}
    try:
        import vesin

        search = vesin.NeighborList(cutoff=cutoff, full_list=True)
        libraries["vesin"] = lambda: [
            search.compute(points=s.positions, box=s.cell, periodic=True, quantities="ijD") for s in structures
        ]
    except ImportError:
        print("vesin is not installed: left out")
    try:
        from matscipy.neighbours import neighbour_list

        pbc = np.ones(3, dtype=bool)
        libraries["matscipy"] = lambda: [
            neighbour_list("ijD", positions=s.positions, cell=s.cell, pbc=pbc, cutoff=cutoff) for s in structures
        ]
    except ImportError:
        print("matscipy is not installed: left out")
    print("| neighbour search | atoms/s | ours is |\n| --- | --- | --- |")
    print(f"| ours | {n / ours:,.0f} | |")
    for name, task in libraries.items():
        task()
        other = seconds(task, repeats)
        print(f"| {name} | {n / other:,.0f} | {other / ours:.1f} x |")


def print_angular(setup: Setup, output: Path, repeats: int) -> None:
    """Cost against the number of angular neighbours, with a straight line through it."""
    structures = [setup.block.structure(i) for i in range(setup.block.n_structures)]
    cutoffs, names = np.arange(3.5, 8.01, 0.5), ("features", "vjp", "jvp")
    setups = [Setup.of(structures, float(cutoff)) for cutoff in cutoffs]
    costs = np.full((len(cutoffs), len(names)), np.inf)
    for _ in range(repeats):  # round by round: a busy minute then spoils no single point
        for row, one in enumerate(setups):
            tasks = one.tasks()
            now = [seconds(tasks[name], 3) / one.block.n_atoms for name in names]
            costs[row] = np.minimum(costs[row], now)
    table = np.column_stack([cutoffs, [one.near() for one in setups], costs])
    print(
        "\n| angular cutoff / Å | neighbours in it | features | vjp | jvp (microseconds an atom) |\n"
        + "| --- " * 5
        + "|"
    )
    for row in table:
        print(f"| {row[0]:.1f} | {row[1]:.0f} | " + " | ".join(f"{1e6 * t:.2f}" for t in row[2:]) + " |")
    for name, cost in zip(("features", "vjp", "jvp"), table[:, 2:].T, strict=True):
        slope, start = np.polyfit(table[:, 1], cost, 1)
        off = np.abs(cost - start - slope * table[:, 1]).max() / cost.max()
        print(f"{name}: {1e6 * start:.2f} us + {1e9 * slope:.1f} ns a neighbour; off the line by at most {off:.0%}")
    print(f"plot: {plot(table, output)}")


def plot(table: np.ndarray, output: Path) -> Path:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    output.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(figsize=(5.0, 3.5), layout="constrained")
    for name, cost in zip(("features", "J$^T$g", "J v"), 1e6 * table[:, 2:].T, strict=True):
        (line,) = axes.plot(table[:, 1], cost, "o", label=name)
        axes.plot(table[:, 1], np.polyval(np.polyfit(table[:, 1], cost, 1), table[:, 1]), color=line.get_color())
    axes.set(xlabel="neighbours inside the angular cutoff (3.5 to 8 Å)", ylabel="microseconds an atom", ylim=(0, None))
    axes.legend()
    path = output / "angular_cost.png"
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


if __name__ == "__main__":
    main()
