"""``aenet-ray committee run.yaml``: train a committee of the potential that the file describes."""

from __future__ import annotations

import argparse

from aenet_ray.cli.arguments import add_run_file, can_go_on, name_run, read_run_file
from aenet_ray.cli.main import COMMANDS


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "committee",
        help=COMMANDS["committee"],
        description="Train members that differ in their seeds on one structure store, one split and shared features, "
        "as the file's 'committee' group says; with 'scaling' as trials on Ray Tune. The same command with "
        "run.resume=auto goes on with a committee that was stopped.",
    )
    add_run_file(parser, "YAML file of a run, with a group 'committee'", "committee.num_members=8")
    parser.add_argument("--members", type=int, metavar="N", help="committee.num_members")
    parser.set_defaults(func=run, rest="overrides")


def run(args: argparse.Namespace) -> int:
    from aenet_ray.committee.config import TorchCommitteeConfig
    from aenet_ray.experiment import ExperimentConfig, split_groups

    values, groups = split_groups(read_run_file(args), args.experiment)
    group = groups["committee"]
    if args.members is not None:
        group["num_members"] = args.members
    settings = TorchCommitteeConfig.from_mapping(group, "committee")
    name = name_run(values)
    config = ExperimentConfig.from_mapping(values, args.experiment)
    config.check()
    with can_go_on("with the committee", name):
        from aenet_ray.committee_workflow import run_committee

        result, errors = run_committee(config, settings)
    if errors is not None:
        mean, members = 1000 * errors.mean, 1000 * errors.members
        print(
            f"test set: RMSE of the mean {mean:.3f} meV/atom, of its members {members.min():.3f} to {members.max():.3f}"
        )
    print(result)
    return 0
