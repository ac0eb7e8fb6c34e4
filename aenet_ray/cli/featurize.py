"""``aenet-ray featurize data.h5 --descriptor run.yaml``: features ahead of training, here or on Ray."""

from __future__ import annotations

import argparse

from aenet_ray.cli.main import COMMANDS


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "featurize",
        help=COMMANDS["featurize"],
        description="Compute the descriptor of every structure of a store. What is there already is kept; a training "
        "run with the same structures, descriptor and precision finds it.",
    )
    parser.add_argument("store", metavar="data.h5", help="a structure store")
    parser.add_argument(
        "--descriptor", required=True, metavar="FILE", help="experiment file, or YAML or JSON of the descriptor alone"
    )
    parser.add_argument("-o", "--output", help="folder of feature stores (default: the experiment's, or 'features')")
    parser.add_argument(
        "--precision", choices=("float32", "float64"), help="of stored features (default: the experiment's)"
    )
    parser.add_argument("--actors", type=int, metavar="N", help="featurize on Ray with N actors (default: no Ray)")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    from aenet_ray.config import read_yaml
    from aenet_ray.errors import ConfigError
    from aenet_ray.experiment import DescriptorConfig, ExperimentConfig, split_groups
    from aenet_ray.features.featurize import ShardRunner, featurize, in_process
    from aenet_ray.structures.store import StructureStore

    if args.actors is not None and args.actors < 1:
        raise ConfigError(f"--actors: {args.actors}, expected at least 1; leave it out to featurize without Ray.")
    values, precision, folder = read_yaml(args.descriptor), "auto", "features"
    if "descriptor" in values:
        experiment = ExperimentConfig.from_mapping(split_groups(values, args.descriptor)[0], args.descriptor)
        config, precision, folder = experiment.descriptor, experiment.training.precision, experiment.features_folder
    else:
        config = DescriptorConfig.from_mapping(values, args.descriptor)
    dtype = args.precision or (config.dtype if precision == "auto" else precision)
    how: ShardRunner = in_process
    if args.actors is not None:
        from aenet_ray.features.pipeline import on_ray

        how = on_ray(args.actors)
    with StructureStore(args.store) as store:
        entry = featurize(store, config.build(), args.output or folder, dtype, run=how, progress=not args.quiet)
    print(entry)
    return 0
