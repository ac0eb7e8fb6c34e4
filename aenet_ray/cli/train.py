"""``aenet-ray train run.yaml``: the main job."""

from __future__ import annotations

import argparse
import logging
from contextlib import nullcontext

from aenet_ray.cli.arguments import add_run_file, can_go_on, read_run_file
from aenet_ray.cli.main import COMMANDS

logger = logging.getLogger(__name__)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "train",
        help=COMMANDS["train"],
        description="Build the store, featurize, train, evaluate, plot and export, as the file says. The same "
        "command runs on a laptop and under 'ray job submit'.",
    )
    add_run_file(parser, "YAML file", "training.iterations=50")
    parser.set_defaults(func=run, rest="overrides")


def run(args: argparse.Namespace) -> int:
    from aenet_ray.experiment import ExperimentConfig, split_groups
    from aenet_ray.tables import print_errors
    from aenet_ray.training.run_folder import new_run_dir, ray_for

    values, groups = split_groups(read_run_file(args), args.experiment)
    for name, group in groups.items():
        if group:
            logger.info("the group '%s' is for 'aenet-ray %s'; training this one configuration", name, name)
    config = ExperimentConfig.from_mapping(values, args.experiment)
    config.check()
    run_dir = new_run_dir(config.run)
    # Ray takes seconds to start, and so do the imports of the road: both at once.
    with ray_for(config.scaling, warm=("aenet_ray.workflow",)):
        from aenet_ray.workflow import walk

        name = config.run.name or run_dir.name
        with nullcontext() if config.training.checkpoint_dir is None else can_go_on(f"in {run_dir}", name):
            finished = walk(config, run_dir)
    if finished.evaluations:
        print_errors([e.row() for e in finished.evaluations], "Errors")
    print(f"potential, history and report in {finished.run_dir}")
    return 0
