"""``aenet-ray convert OLD -o NEW``: files of aenet-python and ænet's potentials."""

from __future__ import annotations

import argparse

from aenet_ray.cli.arguments import add_on_error
from aenet_ray.cli.main import COMMANDS


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "convert",
        help=COMMANDS["convert"],
        description="Write a file of aenet-python anew. Training HDF5 and TrnSet files (text, HDF5) become structure "
        "stores, model.pt and checkpoints become ours, as do potentials of ænet. Nothing in the old file is run: one "
        "that holds more than data is refused. Features are compared with ours, not taken over.",
    )
    parser.add_argument(
        "input",
        nargs="+",
        metavar="OLD",
        help="the file of aenet-python, its kind is told by its content; or the files of an ænet potential (.nn, "
        ".nn.ascii), one a species, or their folder",
    )
    parser.add_argument("-o", "--output", required=True, metavar="NEW", help="the file to write")
    add_on_error(parser, "the first structure", "NEW.skipped.csv")
    parser.add_argument(
        "--isolated", action="store_true", help="TrnSet: structures without a cell are isolated, not periodic"
    )
    parser.add_argument(
        "--energies",
        choices=("auto", "cohesive", "total"),
        default="auto",
        help="TrnSet: what its energies are (default: found out from its header)",
    )
    parser.add_argument("--no-check", action="store_true", help="do not compare stored features with ours")
    parser.add_argument(
        "--workers", type=int, default=None, help="processes that read; default: by the size of the file"
    )
    parser.set_defaults(func=run, rest="input")


def run(args: argparse.Namespace) -> int:
    from aenet_ray.conversion import convert, describe

    converted = convert(
        args.input,
        args.output,
        on_error=args.on_error,
        isolated=args.isolated,
        energies=args.energies,
        check=not args.no_check,
        workers=args.workers,
        progress=not args.quiet,
    )
    if not args.quiet:
        print("\n".join(describe(converted)))
    return 0
