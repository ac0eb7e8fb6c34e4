"""``aenet-ray committee run.yaml``: train a committee of the potential that the file describes."""

from __future__ import annotations

import argparse
import datetime
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aenet_ray.committee.config import TorchCommitteeConfig
    from aenet_ray.committee.train_result import TorchCommitteeTrainResult
    from aenet_ray.experiment import ExperimentConfig


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "committee",
        help="train a committee of the potential that a run's file describes",
        description="Train members that differ in their seeds on one structure store, one split and shared features, "
        "as the file's 'committee' group says; with 'scaling' as trials on Ray Tune. The same command with "
        "run.resume=auto goes on with a committee that was stopped.",
    )
    parser.add_argument("experiment", help="YAML file of a run, with a group 'committee'")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings, such as committee.num_members=8")
    parser.add_argument("--members", type=int, metavar="N", help="committee.num_members")
    parser.add_argument("--quiet", action="store_true", default=argparse.SUPPRESS, help="no progress, no lines")
    parser.set_defaults(func=run, rest="overrides")


def run(args: argparse.Namespace) -> int:
    from aenet_ray.committee.config import TorchCommitteeConfig
    from aenet_ray.config import apply_overrides, read_yaml
    from aenet_ray.errors import ConfigError
    from aenet_ray.experiment import ExperimentConfig

    values = apply_overrides(read_yaml(args.experiment), args.overrides)
    if args.quiet:
        apply_overrides(values, ["training.show_progress=false"])
    group = values.pop("committee", None) or {}
    if not isinstance(group, dict):
        raise ConfigError(
            f"{args.experiment}: committee: holds {type(group).__name__}, expected a group of settings such as "
            "num_members."
        )
    values.pop("tune", None)  # of the same file's searches
    if args.members is not None:
        group["num_members"] = args.members
    settings = TorchCommitteeConfig.from_mapping(group, "committee")
    config = ExperimentConfig.from_mapping(values, args.experiment)
    config.check()
    try:
        result = train_committee(config, settings)
    except (KeyboardInterrupt, SystemExit):
        print("interrupted; the same command with run.resume=auto goes on with the committee", file=sys.stderr)
        return 130
    print(result)
    return 0


def train_committee(config: ExperimentConfig, settings: TorchCommitteeConfig) -> TorchCommitteeTrainResult:
    """The committee of a run's settings, in the run's folder.

    Raises:
        AenetRayError: Input does not fit, before any member starts; or members failed, the others are kept.
    """
    from torch.utils.data import Subset

    from aenet_ray.committee.layout import METADATA
    from aenet_ray.committee.potential import TorchCommitteePotential
    from aenet_ray.committee.train import begun
    from aenet_ray.datasets.hdf5 import HDF5StructureDataset
    from aenet_ray.workflow import structures_of, test_structures

    name = config.run.name or datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    folder = Path(settings.output_dir or Path(config.run.storage_path) / name).absolute()
    begun(folder, config.run.resume)  # before anything is made or touched
    there = (folder / METADATA).exists()
    folder.mkdir(parents=True, exist_ok=True)
    store, split = structures_of(config.data, folder, progress=config.training.show_progress, keep=there)
    test = test_structures(config, folder)
    _note(config, settings, folder)
    descriptor = config.descriptor.build()
    dataset = HDF5StructureDataset(descriptor, store.path, mode="load")
    parts: dict[str, Any] = {"dataset": dataset}
    if split is not None:
        train, held_out = (Subset(dataset, ids.tolist()) for ids in (split.train_ids, split.test_ids))
        parts = {"train_dataset": train, "test_dataset": held_out}
    features = str(Path(config.features_folder).absolute())
    potential = TorchCommitteePotential(config.arch(), descriptor)
    result = potential.train(
        **parts,
        config=config.training.model_copy(update={"cache_persist_dir": features}),
        committee_config=settings.replace(output_dir=str(folder)),
        scaling=config.scaling,
        run=config.run,
    )
    if test is not None:
        _print_errors(potential, HDF5StructureDataset(descriptor, test.path, mode="load"), test.energies())
    if config.export:
        potential.to_aenet_ascii(folder / "aenet")
    return result


def _note(config: ExperimentConfig, settings: TorchCommitteeConfig, folder: Path) -> None:
    import yaml

    from aenet_ray.experiment import environment
    from aenet_ray.files import write_json, write_text

    values = config.to_dict() | {"committee": settings.model_dump(mode="json")}
    write_text(folder / "config.yaml", yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    write_json(folder / "environment.json", environment())


def _print_errors(potential: Any, dataset: Any, energies: Any) -> None:
    """Energy errors of the test set: of the mean, and of its members."""
    import numpy as np

    found = potential.predict_dataset(dataset)
    errors = 1000 * (found.member_energies - energies) / found.n_atoms
    rmse = np.sqrt(np.nanmean(np.square(errors), axis=1))
    mean = np.sqrt(np.nanmean(np.square(errors.mean(axis=0))))
    print(f"test set: RMSE of the mean {mean:.3f} meV/atom, of its members {rmse.min():.3f} to {rmse.max():.3f}")
