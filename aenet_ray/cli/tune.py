"""``aenet-ray tune run.yaml``: search settings of a run, or cross-validate them."""

from __future__ import annotations

import argparse
import sys


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "tune",
        help="search settings of a run, or cross-validate them",
        description="Train many configurations of one run on Ray Tune, over one structure store, one split and shared "
        "features, as the file's 'tune' group says. The same command with run.resume=auto goes on with a search.",
    )
    parser.add_argument("experiment", help="YAML file of a run, with a group 'tune'")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings, such as tune.num_samples=50")
    parser.add_argument("--cv", metavar="K", help="k-fold cross-validation; 'source' leaves out one source at a time")
    parser.add_argument("--committee", type=int, metavar="N", help="train N members with the best configuration")
    parser.add_argument("--quiet", action="store_true", default=argparse.SUPPRESS, help="no progress, no lines")
    parser.set_defaults(func=run, rest="overrides")


def run(args: argparse.Namespace) -> int:
    from aenet_ray.config import apply_overrides, read_yaml
    from aenet_ray.tuning.config import TuneConfig, split_file_values

    values = apply_overrides(read_yaml(args.experiment), args.overrides)
    if args.quiet:
        apply_overrides(values, ["training.show_progress=false"])
    values, group = split_file_values(values, args.experiment)
    group |= {k: v for k, v in (("cv", args.cv), ("committee", args.committee)) if v is not None}
    settings = TuneConfig.from_mapping(group, "tune")
    from aenet_ray.tuning.report import print_results
    from aenet_ray.tuning.run import run_tune

    try:
        results = run_tune(values, settings)
    except (KeyboardInterrupt, SystemExit):
        print("interrupted; the same command with run.resume=auto goes on with the search", file=sys.stderr)
        return 130
    print_results(results)
    return 0
