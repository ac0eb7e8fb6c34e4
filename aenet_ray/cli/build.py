"""``aenet-ray build FILES… -o data.h5``"""

from __future__ import annotations

import argparse

from aenet_ray.cli.arguments import add_on_error
from aenet_ray.cli.main import COMMANDS


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    from aenet_ray.structures.files import READABLE

    parser = subparsers.add_parser(
        "build",
        help=COMMANDS["build"],
        description=f"Read structures, check them and write a structure store. Formats: {READABLE}.",
    )
    parser.add_argument("files", nargs="+", metavar="FILES", help="structure files, tar archives, directories")
    parser.add_argument("-o", "--output", required=True, metavar="data.h5", help="the store to write")
    add_on_error(parser, "the first structure", "<output>.skipped.csv")
    parser.add_argument(
        "--workers", type=int, default=None, help="processes that parse; 0 for none. Default: by the size of the input"
    )
    parser.add_argument("--fidelity", help="level of theory of structures that name none, such as 'PBE'")
    for label in ("energy", "forces", "stress", "charges"):
        parser.add_argument(
            f"--{label}-key",
            default=label,
            metavar="KEY",
            help=f"name of the {label} in extended XYZ (default: {label})",
        )
    parser.add_argument(
        "--min-distance",
        type=float,
        default=0.1,
        metavar="D",
        help="atoms closer than this are an error, Å (default: 0.1)",
    )
    parser.add_argument(
        "--allow-duplicates", action="store_true", help="take structures whose name, or file and frame, came before"
    )
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    parser.set_defaults(func=run, rest="files")


def run(args: argparse.Namespace) -> int:
    from aenet_ray.structures.build import build_store
    from aenet_ray.structures.labels import LabelKeys
    from aenet_ray.structures.store import StructureStore

    keys = LabelKeys(
        energy=args.energy_key,
        forces=args.forces_key,
        stress=args.stress_key,
        charges=args.charges_key,
        fidelity=args.fidelity,
    )
    before = _content(args.output)
    report = build_store(
        args.files,
        args.output,
        workers=args.workers,
        on_error=args.on_error,
        progress=not (args.no_progress or args.quiet),
        keys=keys,
        min_distance=args.min_distance,
        allow_duplicates=args.allow_duplicates,
    )
    if args.quiet:
        return 0
    with StructureStore(report.path) as store:
        labels = ", ".join(f"{name} of {n:,}" for name, n in store.label_counts.items() if n) or "no labels"
    replaced = before if before and report.content_hash != before[0] else None
    print(
        f"{args.output}: {report.n_structures:,} structures, {report.n_atoms:,} atoms "
        f"({labels}), {report.n_bytes / 1e6:.1f} MB, {report.seconds:.1f} s, hash {report.content_hash[:12]}"
        + (f"; replaced {replaced[1]}" if replaced else "")
    )
    return 0  # what was left out is in the log


def _content(path: str) -> tuple[str, str] | None:
    """Hash, and a description, of what is at the output's place; None: nothing."""
    from pathlib import Path

    from aenet_ray.errors import StoreError
    from aenet_ray.structures.store import StructureStore

    if not Path(path).is_file():
        return None
    try:
        with StructureStore(path) as store:
            return store.content_hash, f"{len(store):,} other structures, hash {store.content_hash[:12]}"
    except StoreError:
        return "", "a file that was no readable structure store"
