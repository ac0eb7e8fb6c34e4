"""What the uncertainty of a committee costs: predictions of 8 members against those of one potential, on one core.

    python benchmarks/committee.py [--data examples/data/tio2_ci100_xsf.tar.gz] [--members 8] [--repeat 20]

TiO2, radial order 16 to 8.0 Å, angular order 4 to 6.5 Å, networks 15-15 tanh with random weights, float64, structures
in memory. Processor time, the best of all repetitions: other work on the machine only ever makes one slower.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from aenet_ray import ChebyshevDescriptor, TorchANNPotential, TorchCommitteePotential
from aenet_ray.structures.readers import read_structures


def best(functions: list[Callable[[], object]], repeat: int) -> list[float]:
    """Shortest processor time of each, s; in turn, so that all meet the same load."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeat):
        for function, found in zip(functions, times, strict=True):
            start = time.process_time()
            function()
            found.append(time.process_time() - start)
    return [min(found) for found in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="examples/data/tio2_ci100_xsf.tar.gz")
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    structures = list(read_structures(arguments.data))
    n_atoms = sum(s.n_atoms for s in structures)
    descriptor = ChebyshevDescriptor(["Ti", "O"], 16, 8.0, 4, 6.5)
    arch = {s: [(15, "tanh"), (15, "tanh")] for s in ("Ti", "O")}
    members = [TorchANNPotential(arch, descriptor) for _ in range(arguments.members)]
    committee = TorchCommitteePotential.from_members(members)
    print(f"{len(structures)} structures, {n_atoms} atoms, {arguments.members} members")
    for forces in (False, True):
        members[0].predict(structures[:2], eval_forces=forces)  # compile
        calls: list[Callable[[], object]] = [
            lambda f=forces: members[0].predict(structures, eval_forces=f),  # type: ignore[misc]
            lambda f=forces: committee.predict(structures, eval_forces=f).energy_std,  # type: ignore[misc]
        ]
        one, all_ = best(calls, arguments.repeat)
        what = "energies and forces" if forces else "energies"
        print(
            f"{what:20} one {n_atoms / one:9.0f} atoms/s   committee {n_atoms / all_:9.0f} atoms/s   "
            f"ratio {all_ / one:5.2f}"
        )


if __name__ == "__main__":
    main()
