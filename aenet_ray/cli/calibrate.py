"""``aenet-ray calibrate COMMITTEE FILES…``: what the spread of a committee must be multiplied by."""

from __future__ import annotations

import argparse

from aenet_ray.cli.main import COMMANDS


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "calibrate",
        help=COMMANDS["calibrate"],
        description="Compare a committee's spread with its errors on labelled structures that it was not trained on, "
        "and write the scale into its folder: calibration.json, and reliability.png, the figure to look at.",
    )
    parser.add_argument("committee", help="folder of the committee")
    parser.add_argument("files", nargs="+", help="structures with labels, in any readable format, or a store")
    parser.add_argument("--no-forces", action="store_true", help="energies only")
    parser.add_argument(
        "--method",
        choices=("coverage", "likelihood"),
        default="coverage",
        help="so that 68.3 %% of the errors are within one (default), or the root mean square of error over spread",
    )
    parser.add_argument("--plot", metavar="FILE", help="the figure (default: reliability.png in the folder)")
    parser.set_defaults(func=run, rest="files")


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from aenet_ray.committee.potential import TorchCommitteePotential

    committee = TorchCommitteePotential.from_directory(args.committee)
    made = committee.calibrate(args.files, forces=False if args.no_forces else None, method=args.method)
    folder = committee.directory or Path(args.committee)
    made.plot(args.plot or folder / "reliability.png")
    print(made)
    return 0
