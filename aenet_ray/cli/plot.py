"""``aenet-ray plot RUN``: learning curve of a run, also of one that is still going."""

from __future__ import annotations

import argparse

from aenet_ray.cli.main import COMMANDS


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("plot", help=COMMANDS["plot"])
    parser.add_argument("run", help="folder of the run, or its history.csv")
    parser.add_argument("-o", "--output", default=None, help="figure to write (default: report/learning_curve.png)")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    import pandas as pd

    from aenet_ray.errors import TrainingError
    from aenet_ray.plots import learning_curve
    from aenet_ray.training.checkpoint import refuse_committee

    path = Path(args.run)
    history = path if path.suffix == ".csv" else path / "history.csv"
    if not history.is_file():
        refuse_committee(path)
        raise TrainingError(f"{history}: no such file; expected the folder of a run, or its history.csv.")
    table = pd.read_csv(history)
    if table.empty:
        raise TrainingError(f"{history}: no epoch has finished yet.")
    output = Path(args.output) if args.output else history.parent / "report" / "learning_curve.png"
    output.parent.mkdir(parents=True, exist_ok=True)
    learning_curve(table.assign(epoch=table["epoch"] + 1), output)
    print(output)
    return 0
