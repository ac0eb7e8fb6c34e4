"""Atoms per second of a training epoch on one core, and where the time goes.

    python benchmarks/train_epoch.py [--data ../shared/data/tio2/tio2_dev_xsf.tar.gz] [--epochs 4] [--ahead]

TiO2, radial order 16 to 8.0 Å, angular order 4 to 6.5 Å, networks 15-15 tanh. Energy-only epochs run from stored
features in float32, gathering included; force epochs in float64, neighbours found anew for every batch included.
Prints the best epoch of each kind: other work on the machine only ever makes one slower. ``--ahead`` measures
instead what threads that make batches ahead, and copies kept in memory, change.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.features.featurize import featurize
from aenet_ray.features.store import FeatureStore
from aenet_ray.models.ann import ANNModel
from aenet_ray.structures.build import build_store
from aenet_ray.structures.store import StructureStore
from aenet_ray.training.comm import Solo
from aenet_ray.training.config import Adam, RunConfig, ScalingConfig, TorchTrainingConfig
from aenet_ray.training.driver import train_run
from aenet_ray.training.engine import train_epoch
from aenet_ray.training.prepare import prepare_run
from aenet_ray.training.state import TrainState

ATOMIC_ENERGIES = {"Ti": -1604.604515075, "O": -432.503149303}
TARGETS = {"energy 256": 2_500_000, "energy 32": 800_000, "forces 32": 10_000}


class Clock:
    """Seconds by stage, of functions wrapped for as long as the clock runs."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def wrap(self, owner: Any, name: str, stage: str) -> None:
        function: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[stage] += time.perf_counter() - start

        setattr(owner, name, timed)


def make_state(
    store: StructureStore, folder: Path, batch: int, force_weight: float, dtype: str, **settings: Any
) -> TrainState:
    descriptor = ChebyshevDescriptor(["Ti", "O"], 16, 8.0, 4, 6.5, dtype=getattr(torch, dtype))
    features = FeatureStore(featurize(store, descriptor, folder / "features", dtype, progress=False))
    config = TorchTrainingConfig(
        method=Adam(batchsize=batch),
        force_weight=force_weight,
        precision=dtype,
        seed=1,
        testpercent=0,
        max_energy=1.0,
        atomic_energies=ATOMIC_ENERGIES,
        checkpoint_dir=None,
        **settings,
    )
    model = ANNModel({s: [(15, "tanh"), (15, "tanh")] for s in ("Ti", "O")}, descriptor)
    spec = prepare_run(folder / f"run_{batch}_{force_weight}", features, model, config)
    return TrainState.create(spec, torch.device("cpu"))


def instrument(state: TrainState) -> Clock:
    clock, descriptor = Clock(), state.model.descriptor
    clock.wrap(state.maker.store, "features", "gather features")
    clock.wrap(state.maker.store, "geometry", "gather geometry and labels")
    clock.wrap(descriptor, "edges", "neighbours")
    clock.wrap(descriptor, "vjp", "J^T g (forces)")
    clock.wrap(descriptor, "jvp", "J v (their gradient)")
    clock.wrap(state.optimizer, "step", "optimiser")
    return clock


def measure(name: str, state: TrainState, epochs: int) -> None:
    n_atoms = int(state.maker.store.n_atoms[state.spec.train_ids].sum())
    clock, best = instrument(state), (float("inf"), {}, {})
    for _ in range(epochs):
        clock.seconds.clear()
        start = time.perf_counter()
        row = train_epoch(state, Solo())
        seconds = time.perf_counter() - start
        state.epoch += 1
        best = min(best, (seconds, dict(clock.seconds), row), key=lambda item: item[0])
    seconds, stages, row = best
    rate, target = n_atoms / seconds, TARGETS[name]
    print(f"\n{name}: {rate:,.0f} atoms/s (target {target:,}: {rate / target:.2f}x), {seconds:.3f} s an epoch")
    stages["network, loss, autograd, rest of the step"] = row["step_time"] - sum(
        stages.get(k, 0) for k in ("J^T g (forces)", "J v (their gradient)", "optimiser")
    )
    stages["plan and bookkeeping"] = seconds - row["step_time"] - row["data_time"]
    for stage, value in sorted(stages.items(), key=lambda item: -item[1]):
        print(f"  {stage:<42}{1000 * value:9.1f} ms {100 * value / seconds:5.1f} %")


AHEAD: dict[str, dict[str, Any]] = {
    "num_workers=0": {},
    "num_workers=1": {"num_workers": 1},
    "num_workers=2": {"num_workers": 2},
    "cache_features": {"cache_features": True, "cache_feature_max_entries": None},
}


def measure_ahead(store: StructureStore, folder: Path, epochs: int) -> None:
    """Best epoch of each way to make batches, the ways taking turns: other work then slows all of them alike."""
    for name, batch, alpha, dtype in (("energy 256", 256, 0.0, "float32"), ("forces 32", 32, 0.1, "float64")):
        states = {k: make_state(store, folder, batch, alpha, dtype, **v) for k, v in AHEAD.items()}
        best = dict.fromkeys(AHEAD, (float("inf"), float("inf")))
        for _ in range(epochs + 1):  # the first fills what is kept
            for way, state in states.items():
                start = time.perf_counter()
                waiting = train_epoch(state, Solo())["data_time"]
                best[way] = min(best[way], (time.perf_counter() - start, waiting))
                state.epoch += 1
        print(f"\n{name}")
        for way, (seconds, waiting) in best.items():
            states[way].maker.background.close()
            gain = best["num_workers=0"][0] / seconds
            print(
                f"  {way:<16}{1000 * seconds:8.1f} ms an epoch, {gain:.2f}x; {1000 * waiting:6.1f} ms wait for batches"
            )


def overhead(run_dir: Path) -> None:
    """What epochs of a finished run cost beyond their steps and their validation."""
    history = pd.read_csv(run_dir / "history.csv")
    inside = history.epoch_time - history.data_time - history.step_time - history.validation_time
    rest = 1000 * (inside + history["between_time"])[1:]
    steps = 1000 * (history.data_time + history.step_time).median()
    print(
        f"\n{run_dir.name}: an epoch costs {rest.median():.2f} ms (95 %: {rest.quantile(0.95):.2f} ms) beyond its "
        f"steps ({steps:.0f} ms) and validation (target 10 ms), checkpoint every epoch"
    )


def measure_overhead(features: FeatureStore, descriptor: ChebyshevDescriptor, folder: Path) -> None:
    """Short epochs with a checkpoint after each: in this process, and with two workers on Ray."""
    for name, scaling in (("alone", None), ("two Ray workers", ScalingConfig(num_workers=2))):
        config = TorchTrainingConfig(
            iterations=60, method=Adam(batchsize=256), seed=1, precision="float32", atomic_energies=ATOMIC_ENERGIES
        )
        model = ANNModel({s: [(15, "tanh"), (15, "tanh")] for s in ("Ti", "O")}, descriptor)
        prepare_run(folder / name, features, model, config)
        train_run(folder / name, scaling, RunConfig(), show_progress=False)
        overhead(folder / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/tio2/tio2_dev_xsf.tar.gz", help="archive of TiO2 XSF files")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--ahead", action="store_true", help="threads and copies in memory, instead of the stages")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        store = StructureStore(build_store(args.data, folder / "tio2.h5", progress=False).path)
        print(f"{store.n_structures} structures, {store.n_atoms} atoms, one thread")
        if args.ahead:
            measure_ahead(store, folder, args.epochs)
            return
        for batch in (256, 32):
            measure(f"energy {batch}", make_state(store, folder, batch, 0.0, "float32"), args.epochs)
        state = make_state(store, folder, 32, 0.1, "float64")
        measure("forces 32", state, max(2, args.epochs // 2))
        state = make_state(store, folder, 33, 0.0, "float32")
        measure_overhead(state.maker.store, state.model.descriptor, folder)


if __name__ == "__main__":
    main()
