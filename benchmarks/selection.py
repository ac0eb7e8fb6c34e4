"""How fast candidates are scored and selected, and that memory does not grow with their number.

    python benchmarks/selection.py [--data ../shared/data/tio2/tio2_dev.extxyz.gz] [--structures 100000] [--workers 0]

Candidates: the structures of the data, again and again with small random displacements, in a structure store. The
committee: 8 members, radial order 16 to 8.0 Å, angular order 4 to 6.5 Å, networks 15-15 tanh with random weights,
float64; it costs what a trained one costs. With workers, also the memory of each actor. Writes runs/select/ with the
selection and a figure of the memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from aenet_ray import ChebyshevDescriptor, StructureStore, TorchANNPotential, TorchCommitteePotential
from aenet_ray.selection import run as selecting
from aenet_ray.selection.run import select_structures
from aenet_ray.structures.block import StructureBlock
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.store import write_blocks

PAGE = os.sysconf("SC_PAGE_SIZE")
FOLDER = Path("runs/select")


def displaced(data: str, n: int, sigma: float = 0.02) -> Iterator[StructureBlock]:
    """n structures in blocks of 500."""
    rng = np.random.default_rng(0)
    known = [s for s in read_structures(data) if s.forces is None or np.abs(s.forces).max() < 10]
    for start in range(0, n, 500):
        part = [known[i % len(known)] for i in range(start, min(start + 500, n))]
        block = StructureBlock.from_structures(part)
        block.positions += sigma * rng.normal(size=block.positions.shape)
        block.forces[:], block.energy[:], block.has_energy[:], block.has_forces[:] = np.nan, np.nan, False, False
        yield block


def store_of(data: str, n: int) -> StructureStore:
    path = FOLDER / f"candidates_{n}.h5"
    if not path.exists():
        write_blocks(displaced(data, n), path)
    return StructureStore(path)


def committee(n: int = 8) -> TorchCommitteePotential:
    torch.manual_seed(0)
    descriptor = ChebyshevDescriptor(["Ti", "O"], 16, 8.0, 4, 6.5)
    arch = {s: [(15, "tanh"), (15, "tanh")] for s in ("Ti", "O")}
    return TorchCommitteePotential.from_members([TorchANNPotential(arch, descriptor) for _ in range(n)])


def memory() -> float:
    """Resident memory of this process, MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6


def actors() -> list[int]:
    """Processes of the pool that scores: descendants of this one."""
    parents, found = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if b"ScoringActor" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return [pid for pid in found if os.getpid() in (parents[pid], parents.get(parents[pid]))]


def held(pid: int) -> tuple[float, float]:
    """Resident memory of a process, and what of it nobody shares, MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {name: int(size) / 1e3 for name, size, *_ in (line.split() for line in lines)}
    return sizes["Rss:"], sum(size for name, size in sizes.items() if name.startswith("Private_"))


class Watch:
    """Memory and structures done, ten times a second; every second the memory of each actor, when a tenth is done."""

    def __init__(self, n: int) -> None:
        self.done, self.rows, self._stop, self.n = 0, list[tuple[int, float]](), threading.Event(), n
        self.actors: dict[int, list[tuple[float, float]]] = {}
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._stop.wait(0.1):
            self.rows.append((self.done, memory()))
            if len(self.rows) % 10 == 0 and self.done > self.n // 10:
                for pid in actors():
                    with contextlib.suppress(OSError):
                        self.actors.setdefault(pid, []).append(held(pid))

    def __enter__(self) -> Watch:
        add = selecting.Journal.add

        def counted(journal: selecting.Journal, scored: selecting.Scored) -> None:
            add(journal, scored)
            self.done = journal.n_structures

        selecting.Journal.add = counted  # type: ignore[method-assign]
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def figure(rows: list[tuple[int, float]], path: Path, title: str) -> None:
    from aenet_ray.plots.style import BLUE, figure_style, new_figure, note, save_figure

    with figure_style():
        drawn = new_figure(5.2, 3.0)
        axes = drawn.subplots()
        x, y = np.array(rows).T
        axes.plot(x, y, color=BLUE)
        axes.set(xlabel="Candidates scored", ylabel="Resident memory (MB)", ylim=(0, 1.25 * y.max()), xlim=(0, x.max()))
        axes.set_title(title)
        note(axes, "at the end: matplotlib, for the histogram", x=0.35, y=0.25)
        save_figure(drawn, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/tio2/tio2_dev.extxyz.gz")
    parser.add_argument("--structures", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--metric", default="energy_std_per_atom")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    FOLDER.mkdir(parents=True, exist_ok=True)
    store = store_of(arguments.data, arguments.structures)
    size, load = store.n_bytes / 1e6, os.getloadavg()[0]
    print(f"{len(store):,} structures, {store.n_atoms:,} atoms, {size:.0f} MB; load {load:.1f}")
    settings = {"metric": arguments.metric, "diverse": True, "workers": arguments.workers, "progress": False}
    select_structures(committee(), [store.structure(0)], metric=arguments.metric, progress=False)  # compile
    start, cpu = time.perf_counter(), time.process_time()
    with Watch(len(store)) as watch:
        found = select_structures(committee(), store, top=200, output=FOLDER / "selected.extxyz", **settings)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    title = f"{len(store):,} candidates".replace(",", "\u2009") + f", {arguments.workers or 'no'} actors"
    figure(watch.rows, FOLDER / "memory.png", title)
    (FOLDER / "memory.json").write_text(json.dumps(watch.rows))
    steady = [m for n, m in watch.rows if n > len(store) // 10] or [memory()]
    print(
        f"{wall:.1f} s wall, {cpu:.1f} s processor time here: {len(store) / wall:,.0f} structures/s, "
        f"{store.n_atoms / wall:,.0f} atoms/s; {len(found)} selected"
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"memory after a tenth {steady[0]:.0f} MB, largest {max(steady):.0f} MB; peak with writing {peak:.0f} MB")
    for k, seen in enumerate(watch.actors.values()):
        resident, private = zip(*seen, strict=True)
        print(
            f"actor {k + 1}: resident {resident[0]:.0f} MB after a tenth, largest {max(resident):.0f} MB; "
            f"its own {private[0]:.0f} and {max(private):.0f} MB"
        )


if __name__ == "__main__":
    main()
