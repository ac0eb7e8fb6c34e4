"""``aenet-ray export model.pt``: ænet's ASCII potential."""

from __future__ import annotations

import argparse


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("export", help="write ænet's ASCII potential, a file a species")
    parser.add_argument("model", help="model.pt or a checkpoint")
    parser.add_argument("-o", "--output", default=".", help="folder (default: here)")
    parser.add_argument("--prefix", default="potential", help="files are PREFIX.SPECIES.nn.ascii")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    from aenet_ray.potential import TorchANNPotential

    for path in TorchANNPotential.from_file(args.model).to_aenet_ascii(args.output, args.prefix).values():
        print(path)
    return 0
