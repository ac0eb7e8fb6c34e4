"""``aenet-ray select COMMITTEE CANDIDATES… -o selected.extxyz``"""

from __future__ import annotations

import argparse

from aenet_ray.cli.arguments import add_on_error
from aenet_ray.cli.main import COMMANDS


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    from aenet_ray.structures.files import READABLE

    parser = subparsers.add_parser(
        "select",
        help=COMMANDS["select"],
        description="Score any number of candidates with a committee, in bounded memory, and write the least certain "
        f"ones, a table (.csv) and a histogram (.png). The same command goes on after a kill. Formats: {READABLE}.",
    )
    parser.add_argument("committee", help="folder of the committee")
    parser.add_argument("candidates", nargs="+", help="structure files, folders, structure stores")
    parser.add_argument("-o", "--output", required=True, metavar="selected.extxyz", help="extended XYZ file to write")
    parser.add_argument("--top", type=int, default=200, metavar="N", help="how many to select (default: 200)")
    parser.add_argument(
        "--metric",
        default="energy_std_per_atom",
        help="energy_std, energy_std_per_atom (default), max_force_uncertainty or mean_force_uncertainty",
    )
    parser.add_argument("--diverse", action="store_true", help="of more uncertain ones, those far apart in features")
    parser.add_argument("--pool", type=int, default=5, metavar="K", help="with --diverse: out of K·N (default: 5)")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="actors on Ray (default: 0, this process)")
    parser.add_argument("--device", help="where the members compute without workers, such as cuda")
    add_on_error(parser, "a candidate", "<output>.skipped.csv")
    parser.add_argument("--calibrated", action="store_true", help="scale uncertainties by the committee's calibration")
    parser.add_argument("--restart", action="store_true", help="forget the progress of an earlier call")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    parser.set_defaults(func=run, rest="candidates")


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from aenet_ray.selection.run import select_structures

    selection = select_structures(
        args.committee,
        args.candidates,
        top=args.top,
        metric=args.metric,
        diverse=args.diverse,
        pool=args.pool,
        output=args.output,
        workers=args.workers,
        on_error=args.on_error,
        calibrated=args.calibrated,
        restart=args.restart,
        device=args.device,
        progress=not (args.no_progress or args.quiet),
    )
    if args.quiet:
        return 0
    table = selection.to_dataframe()[["rank", "source", "frame", "n_atoms", "uncertainty"]]
    print(table.head(10).to_string(index=False))
    name = Path(args.output)
    print(
        f"{name}: {len(selection):,} of {selection.n_candidates:,} candidates; table in {name.with_suffix('.csv')}, "
        f"histogram in {name.with_suffix('.png')}"
    )
    return 0  # what was left out is in the log
