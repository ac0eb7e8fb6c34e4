"""What a committee costs beside one potential, on one core: predictions, and with ``--train`` training.

    python benchmarks/committee.py [--train | --memory] [--data examples/data/tio2_ci100_xsf.tar.gz] [--members 8]

TiO2, radial order 16 to 8.0 Å, angular order 4 to 6.5 Å, networks 15-15 tanh. Processor time, of predictions the best
of all repetitions: other work on the machine only ever makes one slower. Predictions: random weights, float64,
structures in memory.

Training: epochs of batches of 32, features stored, without validation and checkpoints. Members together in one process
(``members_per_trial``), each in a process of its own, all on the same core, and one after the other (which is the
number of members, by definition). Each repetition measures one member and all of them in turn; the ratio is the median
of their ratios, as other work slows both. And what a process holds for itself, by its number of members.

Memory: processes of one member each, 1 and 4 of them at a time, with energies and forces: what each holds for itself,
and how much of the mapped features it has in memory (Rss), of which the processes share out what they have in common
(Pss).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from aenet_ray import Adam, ChebyshevDescriptor, TorchANNPotential, TorchCommitteePotential, TorchTrainingConfig
from aenet_ray.features.featurize import featurize
from aenet_ray.features.store import FeatureStore
from aenet_ray.models.ann import ANNModel
from aenet_ray.structures.build import build_store
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.store import StructureStore
from aenet_ray.training.comm import Solo
from aenet_ray.training.engine import train_epoch
from aenet_ray.training.members_epoch import MembersPlan, train_members_epoch
from aenet_ray.training.members_step import Members
from aenet_ray.training.prepare import initial_weights, prepare_run
from aenet_ray.training.spec import RunSpec
from aenet_ray.training.state import TrainState

ARCH = {s: [(15, "tanh"), (15, "tanh")] for s in ("Ti", "O")}
ATOMIC_ENERGIES = {"Ti": -1604.604515075, "O": -432.503149303}


def best(functions: list[Callable[[], object]], repeat: int) -> list[float]:
    """Shortest processor time of each, s; in turn, so that all meet the same load."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeat):
        for function, found in zip(functions, times, strict=True):
            start = time.process_time()
            function()
            found.append(time.process_time() - start)
    return [min(found) for found in times]


def seconds(function: Callable[[], object]) -> float:
    """Processor time, s."""
    start = time.process_time()
    function()
    return time.process_time() - start


def predictions(data: str, n_members: int, repeat: int) -> None:
    structures = list(read_structures(data))
    n_atoms = sum(s.n_atoms for s in structures)
    descriptor = ChebyshevDescriptor(["Ti", "O"], 16, 8.0, 4, 6.5)
    members = [TorchANNPotential(ARCH, descriptor) for _ in range(n_members)]
    committee = TorchCommitteePotential.from_members(members)
    print(f"{len(structures)} structures, {n_atoms} atoms, {n_members} members")
    for forces in (False, True):
        members[0].predict(structures[:2], eval_forces=forces)  # compile
        calls: list[Callable[[], object]] = [
            lambda f=forces: members[0].predict(structures, eval_forces=f),  # type: ignore[misc]
            lambda f=forces: committee.predict(structures, eval_forces=f).energy_std,  # type: ignore[misc]
        ]
        one, all_ = best(calls, repeat)
        what = "energies and forces" if forces else "energies"
        print(
            f"{what:20} one {n_atoms / one:9.0f} atoms/s   committee {n_atoms / all_:9.0f} atoms/s   "
            f"ratio {all_ / one:5.2f}"
        )


def prepared(data: str, folder: Path, dtype: str, force_weight: float) -> Path:
    """The folder of a run that members are copies of but for their seeds."""
    store = StructureStore(build_store(data, folder / "tio2.h5", progress=False).path)
    descriptor = ChebyshevDescriptor(["Ti", "O"], 16, 8.0, 4, 6.5)
    features = FeatureStore(featurize(store, descriptor, folder / "features", dtype, progress=False))
    config = TorchTrainingConfig(
        method=Adam(batchsize=32),
        seed=1,
        force_weight=force_weight,
        atomic_energies=ATOMIC_ENERGIES,
        precision=dtype,
        checkpoint_dir=None,
        device="cpu",
    )
    run_dir = folder / f"{dtype}-{force_weight}"
    prepare_run(run_dir, features, ANNModel(ARCH, descriptor, getattr(torch, dtype)), config)
    return run_dir


def states(run_dir: Path, n: int, *, share_batches: bool = False) -> list[TrainState]:
    spec, made = RunSpec.load(run_dir), []
    for k in range(n):
        own = replace(spec, seed=0 if share_batches else k, initial=initial_weights(spec.model(torch.device("cpu")), k))
        made.append(TrainState.create(own, torch.device("cpu"), made[0].maker if made else None))
    return made


def epoch_of(run: list[TrainState]) -> Callable[[], None]:
    """One epoch of a member, or of several: together where they can be, else one after the other."""
    members = Members.of(run) if len(run) > 1 else None

    def epoch() -> None:
        plan = MembersPlan.of(run)
        if members is not None and (plan.shared or run[0].spec.config.force_weight == 0):
            train_members_epoch(members, plan)
        else:
            for state in run:
                train_epoch(state, Solo())
        for state in run:
            state.epoch += 1

    return epoch


def ratio(one: Callable[[], None], all_: Callable[[], None], repeat: int) -> tuple[float, float]:
    """Shortest epoch of one member, s, and the median ratio."""
    one(), all_()
    pairs = [(min(seconds(one), seconds(one)), seconds(all_)) for _ in range(repeat)]
    return min(a for a, _ in pairs), median(b / a for a, b in pairs)


def process(run_dir: Path, k: int, core: int, start: Any, ends: Any, epochs: int) -> None:
    os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    epoch = epoch_of(states(run_dir, k + 1)[k:])
    epoch()
    start.wait()
    ends.put(sum(seconds(epoch) for _ in range(epochs)) / epochs)


def processes(run_dir: Path, n: int, epochs: int) -> float:
    """Processor time of an epoch of n processes that share one core, s."""
    context, core = multiprocessing.get_context("spawn"), min(os.sched_getaffinity(0))
    start, ends = context.Barrier(n), context.Queue()
    running = [context.Process(target=process, args=(run_dir, k, core, start, ends, epochs)) for k in range(n)]
    for p in running:
        p.start()
    found = sum(float(ends.get()) for _ in running)
    for p in running:
        p.join()
    return found


def private(run_dir: Path, n: int, told: Any) -> None:
    """Memory that this process alone holds, with n members after an epoch, MB: pages of the features are shared."""
    torch.set_num_threads(1)
    epoch_of(states(run_dir, n))()
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    told.put(sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1000)


def memory(run_dir: Path, n: int) -> float:
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    p = context.Process(target=private, args=(run_dir, n, told))
    p.start()
    found = float(told.get())
    p.join()
    return found


def sizes(folder: Path) -> tuple[float, float, float]:
    """Of this process, MB: what nobody shares, and mapped files of the folder as Rss and as Pss."""
    private = resident = shared_out = 0.0
    path = ""
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, *more = line.split()
        if not name.endswith(":"):
            path = more[-1] if len(more) == 5 else ""
        elif name.startswith("Private_"):
            private += int(more[0]) / 1e3
        elif path.startswith(str(folder)) and name in ("Rss:", "Pss:"):
            resident += int(more[0]) / 1e3 if name == "Rss:" else 0.0
            shared_out += int(more[0]) / 1e3 if name == "Pss:" else 0.0
    return private, resident, shared_out


def member_process(run_dir: Path, k: int, folder: Path, together: Any, told: Any) -> None:
    torch.set_num_threads(1)
    epoch_of(states(run_dir, k + 1)[k:])()
    together.wait()
    told.put(sizes(folder))
    together.wait()


def memory_of_processes(run_dir: Path, folder: Path, n: int) -> list[tuple[float, float, float]]:
    """``sizes`` of n processes at a time, each with a member after its first epoch."""
    context = multiprocessing.get_context("spawn")
    together, told = context.Barrier(n), context.Queue()
    running = [context.Process(target=member_process, args=(run_dir, k, folder, together, told)) for k in range(n)]
    for p in running:
        p.start()
    found = [told.get() for _ in running]
    for p in running:
        p.join()
    return found


def memory_by_processes(data: str) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        run_dir = prepared(data, folder, "float64", 0.3)
        size = sum(f.stat().st_size for f in (folder / "features").rglob("*.npy")) / 1e6
        print(f"features on disk {size:.0f} MB")
        for n in (1, 4):
            for private, resident, shared_out in memory_of_processes(run_dir, folder / "features", n):
                print(
                    f"  {n} processes: {private:.0f} MB its own; features {resident:.0f} MB in memory, "
                    f"{shared_out:.0f} MB by its share",
                    flush=True,
                )


def training(data: str, n: int, repeat: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for dtype in ("float64", "float32"):
            run_dir = prepared(data, folder, dtype, 0.0)
            alone = epoch_of(states(run_dir, 1))
            one, together = ratio(alone, epoch_of(states(run_dir, n)), repeat)
            _, shared = ratio(alone, epoch_of(states(run_dir, n, share_batches=True)), repeat)
            print(f"energies, {dtype}: one member {1000 * one:.2f} ms an epoch", flush=True)
            print(f"  {n} members together {together:.2f}x, with shared batches {shared:.2f}x", flush=True)
        forces = prepared(data, folder, "float64", 0.3)
        few = max(3, repeat // 5)
        alone_forces = epoch_of(states(forces, 1))
        one, together = ratio(alone_forces, epoch_of(states(forces, n)), few)
        _, shared = ratio(alone_forces, epoch_of(states(forces, n, share_batches=True)), few)
        print(f"energies and forces, float64: one member {1000 * one:.0f} ms an epoch")
        print(f"  {n} members in one process, each its own batches {together:.2f}x, shared batches {shared:.2f}x")
        apart = processes(run_dir, n, repeat) / median(seconds(alone) for _ in range(9))
        print(f"  {n} processes {apart:.2f}x, one after the other {n:.2f}x", flush=True)
        held = [f"{k} members {memory(run_dir, k):.0f} MB" for k in (1, n, 4 * n)]
        print(f"memory that a process holds for itself: {', '.join(held)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="examples/data/tio2_ci100_xsf.tar.gz")
    parser.add_argument("--train", action="store_true", help="training in place of predictions")
    parser.add_argument("--memory", action="store_true", help="memory of member processes in place of predictions")
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.memory:
        memory_by_processes(arguments.data)
    elif arguments.train:
        training(arguments.data, arguments.members, arguments.repeat)
    else:
        predictions(arguments.data, arguments.members, arguments.repeat)


if __name__ == "__main__":
    main()
