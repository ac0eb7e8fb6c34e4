"""``aenet-ray export model.pt``: ænet's potential files."""

from __future__ import annotations

import argparse

from aenet_ray.cli.main import COMMANDS


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("export", help=COMMANDS["export"])
    parser.add_argument("model", help="model.pt, a checkpoint, or the folder of a run")
    parser.add_argument("-o", "--output", default=".", help="folder (default: here)")
    parser.add_argument("--prefix", default="potential", help="files are PREFIX.SPECIES.nn.ascii or .nn")
    parser.add_argument(
        "--format",
        choices=("ascii", "binary", "both"),
        default="ascii",
        help="ascii (default), or binary, which ænet's predict, its library and its LAMMPS interface load",
    )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    from aenet_ray.potential import TorchANNPotential

    potential = TorchANNPotential.from_file(args.model)
    writers = {"ascii": potential.to_aenet_ascii, "binary": potential.to_aenet_binary}
    for name, write in writers.items():
        if args.format in (name, "both"):
            for path in write(args.output, args.prefix).values():
                print(path)
    return 0
