"""``aenet-ray predict model.pt FILES…``: energies, forces and stress."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from aenet_ray.cli.main import COMMANDS

VOIGT = {"xx": (0, 0), "yy": (1, 1), "zz": (2, 2), "yz": (1, 2), "xz": (0, 2), "xy": (0, 1)}
"""Components of the stress in the order they are printed."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("predict", help=COMMANDS["predict"])
    parser.add_argument("model", help="model.pt, a checkpoint, or the folder of a run")
    parser.add_argument("files", nargs="+", help="structures in any readable format, or a structure store")
    parser.add_argument(
        "-o",
        "--output",
        default=None,
        help="file to write, extended XYZ (.xyz, .extxyz) or another format of ASE's; forces are only there",
    )
    parser.add_argument("--no-forces", action="store_true", help="energies only")
    parser.add_argument(
        "--stress", action="store_true", help="stress of structures periodic in all directions as well, else nan"
    )
    parser.set_defaults(func=run, rest="files")


def run(args: argparse.Namespace) -> int:
    from aenet_ray.structures.ase_io import writable_format, write_ase

    # Before anything is computed, and before torch is imported.
    frmt = writable_format(args.output, args.files) if args.output else ""
    from aenet_ray.potential import TorchANNPotential

    potential = TorchANNPotential.from_file(args.model)
    forces = bool(args.output) and not args.no_forces
    out = potential.predict(args.files, eval_forces=forces, eval_stress=args.stress)
    stress = "".join(f"  {c}/eV/Å³" for c in VOIGT) if args.stress else ""
    print(f"# structure  n_atoms  energy/eV  energy_per_atom/eV{stress}")
    several = {path for path, n in Counter(out.structure_paths).items() if n > 1}
    for i in range(out.num_structures):
        path = out.structure_paths[i]
        name = f"{path}#frame={out.frames[i]}" if path in several else path
        energies = f"{out.total_energy[i]:.8f}  {out.total_energy_per_atom[i]:.8f}"
        stress = "" if out.stress is None else "".join(f"  {out.stress[i][c]:.8f}" for c in VOIGT.values())
        print(f"{name}  {out.num_atoms(i)}  {energies}{stress}")
    if args.output:
        write_ase(out.to_structures(), args.output, frmt)
        if not args.quiet:
            print(f"written: {args.output}", file=sys.stderr)
    return 0
