"""``aenet-ray tune run.yaml``: search settings of a run, or cross-validate them."""

from __future__ import annotations

import argparse

from aenet_ray.cli.arguments import add_run_file, can_go_on, name_run, read_run_file
from aenet_ray.cli.main import COMMANDS


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "tune",
        help=COMMANDS["tune"],
        description="Train many configurations of one run on Ray Tune, over one structure store, one split and shared "
        "features, as the file's 'tune' group says. The same command with run.resume=auto goes on with a search.",
    )
    add_run_file(parser, "YAML file of a run, with a group 'tune'", "tune.num_samples=50")
    parser.add_argument("--cv", metavar="K", help="k-fold cross-validation; 'source' leaves out one source at a time")
    parser.add_argument("--committee", type=int, metavar="N", help="train N members with the best configuration")
    parser.set_defaults(func=run, rest="overrides")


def run(args: argparse.Namespace) -> int:
    from aenet_ray.experiment import split_groups
    from aenet_ray.tuning.config import TuneConfig

    values, groups = split_groups(read_run_file(args), args.experiment)
    group = groups["tune"] | {k: v for k, v in (("cv", args.cv), ("committee", args.committee)) if v is not None}
    name = name_run(values)
    settings = TuneConfig.from_mapping(group, "tune")
    from aenet_ray.tuning.report import print_results
    from aenet_ray.tuning.run import run_tune

    with can_go_on("with the search", name):
        results = run_tune(values, settings)
    print_results(results)
    return 0
