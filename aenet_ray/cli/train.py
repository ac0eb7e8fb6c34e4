"""``aenet-ray train run.yaml``: the main job."""

from __future__ import annotations

import argparse
import logging
import sys

logger = logging.getLogger(__name__)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "train",
        help="train a potential as an experiment file says",
        description="Build the store, featurize, train, evaluate, plot and export, as the file says. The same "
        "command runs on a laptop and under 'ray job submit'.",
    )
    parser.add_argument("experiment", help="YAML file")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings, such as training.iterations=50")
    parser.add_argument("--quiet", action="store_true", default=argparse.SUPPRESS, help="no progress, no lines")
    parser.set_defaults(func=run, rest="overrides")


def run(args: argparse.Namespace) -> int:
    from aenet_ray.config import apply_overrides, read_yaml
    from aenet_ray.experiment import ExperimentConfig
    from aenet_ray.tables import print_errors
    from aenet_ray.training.run_folder import new_run_dir, ray_for
    from aenet_ray.tuning.config import split_file_values

    values, search = split_file_values(apply_overrides(read_yaml(args.experiment), args.overrides), args.experiment)
    if search:
        logger.info("the group 'tune' is for 'aenet-ray tune'; training this one configuration")
    if args.quiet:
        apply_overrides(values, ["training.show_progress=false"])
    config = ExperimentConfig.from_mapping(values, args.experiment)
    config.check()
    run_dir = new_run_dir(config.run)
    # Ray takes seconds to start, and so do the imports of the road: both at once.
    with ray_for(config.scaling, warm=("aenet_ray.workflow",)):
        from aenet_ray.workflow import walk

        try:
            finished = walk(config, run_dir)
        except (KeyboardInterrupt, SystemExit):  # Ray Train makes the second of the first
            print(f"interrupted; the same command with run.resume=auto goes on in {run_dir}", file=sys.stderr)
            return 130
    if finished.evaluations:
        print_errors([e.row() for e in finished.evaluations], "Errors")
    print(f"potential, history and report in {finished.run_dir}")
    return 0
