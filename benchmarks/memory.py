"""Peak memory of a training worker against the size of the data set.

    python benchmarks/memory.py [--sizes 10000 100000 1000000] [--output runs/memory]

Makes synthetic structures of 8 atoms, featurizes them, and trains one epoch (or 2000 steps, whichever is less) in a
fresh process for each size: energies from stored features, then forces. Prints resident memory that belongs to the
process (anonymous) and pages of mapped files apart: the latter are the page cache, shared by all workers of a node,
which the kernel takes back when it needs room.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

N_ATOMS = 8
CHUNK = 10_000
MAX_STEPS = 2000


def synthetic_blocks(n: int) -> Iterator[object]:
    """Periodic cells of 8 atoms of two species at random distances from lattice sites."""
    from aenet_ray.structures.block import StructureBlock

    rng = np.random.default_rng(0)
    sites = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), -1).reshape(-1, 3) * 2.2
    for start in range(0, n, CHUNK):
        m = min(CHUNK, n - start)
        atoms = m * N_ATOMS
        yield StructureBlock(
            offsets=np.arange(0, atoms + 1, N_ATOMS),
            positions=np.tile(sites, (m, 1)) + rng.normal(0, 0.1, (atoms, 3)),
            numbers=np.tile(np.array([22, 8] * 4, dtype=np.int16), m),
            cell=np.tile(np.eye(3) * 4.4, (m, 1, 1)),
            pbc=np.ones((m, 3), dtype=bool),
            energy=rng.normal(-50, 1, m),
            forces=rng.normal(0, 1, (atoms, 3)),
            has_energy=np.ones(m, dtype=bool),
            has_forces=np.ones(m, dtype=bool),
        )


def prepare(n: int, folder: Path) -> None:
    """Store, features and the two runs of one size; in a process of its own, like a driver."""
    import torch

    from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
    from aenet_ray.features.featurize import featurize
    from aenet_ray.features.store import FeatureStore
    from aenet_ray.models.ann import ANNModel
    from aenet_ray.structures.store import StructureStore, write_blocks
    from aenet_ray.training.config import Adam, TorchTrainingConfig
    from aenet_ray.training.prepare import prepare_run

    store = StructureStore(write_blocks(synthetic_blocks(n), folder / "structures.h5").path)
    descriptor = ChebyshevDescriptor(["Ti", "O"], 8, 4.0, 2, 3.0)
    features = FeatureStore(featurize(store, descriptor, folder / "features", "float32", progress=False))
    for name, alpha in (("energies", 0.0), ("forces", 0.1)):
        config = TorchTrainingConfig(
            iterations=1, method=Adam(batchsize=64), seed=0, testpercent=1, force_weight=alpha, precision="float32",
            atomic_energies={"Ti": 0.0, "O": 0.0},
        )  # fmt: skip
        model = ANNModel({s: [(15, "tanh"), (15, "tanh")] for s in ("Ti", "O")}, descriptor, torch.float32)
        prepare_run(folder / name, features, model, config)


class Watch(threading.Thread):
    """Largest resident memory of this process by kind, MB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = {"RssAnon": 0.0, "RssFile": 0.0}
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.02):
            for line in Path("/proc/self/status").read_text().splitlines():
                name = line.split(":")[0]
                if name in self.peak:
                    self.peak[name] = max(self.peak[name], int(line.split()[1]) / 1024)


def work(run_dir: Path) -> None:
    """One worker's epoch, cut short; prints its peaks."""
    import torch

    from aenet_ray.training import engine
    from aenet_ray.training.comm import Solo
    from aenet_ray.training.plan import batches
    from aenet_ray.training.spec import RunSpec
    from aenet_ray.training.state import TrainState

    torch.set_num_threads(1)
    watch = Watch()
    watch.start()

    def first(drawn: np.ndarray, batch_size: int) -> Iterator[slice]:
        for step, part in enumerate(batches(drawn, batch_size)):
            if step == MAX_STEPS:
                return
            yield part

    engine.batches = first
    state = TrainState.create(RunSpec.load(run_dir), torch.device("cpu"))
    engine.train_epoch(state, Solo())
    watch.over.set()
    watch.join()
    print(json.dumps(watch.peak))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--output", default="runs/memory")
    parser.add_argument("--prepare", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        return work(Path(args.work))
    if args.prepare:
        return prepare(args.prepare, Path(args.output))
    print("| structures | atoms | on disk MB | training | own memory MB | mapped pages MB |")
    print("|--:|--:|--:|---|--:|--:|")
    for n in args.sizes:
        folder = Path(args.output).absolute() / str(n)
        if not (folder / "forces" / "run.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            started = time.monotonic()
            subprocess.run([sys.executable, __file__, "--prepare", str(n), "--output", str(folder)], check=True)
            print(f"{n} structures built and featurized in {time.monotonic() - started:.0f} s", file=sys.stderr)
        size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 2**20
        for name in ("energies", "forces"):
            command = [sys.executable, __file__, "--work", str(folder / name)]
            peak = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(
                f"| {n} | {n * N_ATOMS} | {size:.0f} | {name} | {peak['RssAnon']:.0f} | {peak['RssFile']:.0f} |",
                flush=True,
            )
    return None


if __name__ == "__main__":
    main()
