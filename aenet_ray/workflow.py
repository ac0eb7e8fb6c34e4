"""The main job: from an experiment file to a trained, evaluated and exported potential."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from aenet_ray.experiment import ExperimentConfig, environment
from aenet_ray.files import write_json, write_text
from aenet_ray.inference.evaluate import Evaluation, evaluate_store
from aenet_ray.models.ann import ANNModel
from aenet_ray.potential import TorchANNPotential
from aenet_ray.run_data import structures_of, test_structures
from aenet_ray.structures.store import StructureStore
from aenet_ray.tables import error_markdown
from aenet_ray.training.choose import Split
from aenet_ray.training.config import ScalingConfig
from aenet_ray.training.continuing import check_descriptor, continues
from aenet_ray.training.driver import train_run
from aenet_ray.training.prediction_files import write_prediction_files
from aenet_ray.training.prepare import prepare_run
from aenet_ray.training.run_features import make_features
from aenet_ray.training.spec import IDS, torch_dtype


@dataclass(slots=True)
class Finished:
    """What the main job leaves behind.

    Args:
        run_dir: Its folder.
        potential: Trained.
        evaluations: Of each set.
    """

    run_dir: Path
    potential: TorchANNPotential
    evaluations: list[Evaluation]


def walk(config: ExperimentConfig, run_dir: Path) -> Finished:
    """The road itself, in a folder that is there and with Ray running if it is wanted."""
    training = config.training
    store, split = structures_of(config.data, run_dir, progress=training.show_progress)
    test = test_structures(config, run_dir)
    begin(config, run_dir, store, split, config.scaling)
    train_run(run_dir, config.scaling, config.run, show_progress=training.show_progress)
    potential = TorchANNPotential.from_file(run_dir / "model.pt")
    write_prediction_files(run_dir, store, potential.model)
    evaluations = evaluate_run(config, run_dir, store, test, potential)
    write_report(run_dir, potential, evaluations)
    if config.export:
        potential.to_aenet_ascii(run_dir / "aenet", prefix="potential")
    return Finished(run_dir, potential, evaluations)


def begin(
    config: ExperimentConfig,
    run_dir: Path,
    store: StructureStore,
    split: Split | None,
    scaling: ScalingConfig | None,
) -> None:
    """Features, and what the run decides before it trains; unless it has begun already and goes on.

    Args:
        scaling: What makes missing features; None: this process.
    """
    training, descriptor = config.training, config.descriptor.build()
    check_descriptor(run_dir, config.run.resume, descriptor)
    features = make_features(store, descriptor, training, Path(config.features_folder), scaling)
    model = ANNModel(config.arch(), descriptor, torch_dtype(training.precision, descriptor.dtype))
    if not continues(run_dir, config.run.resume, features, model, training):
        note_settings(run_dir, config.to_dict())
        prepare_run(run_dir, features, model, training, split=split, loggers=config.run.loggers)


def note_settings(folder: Path, values: dict[str, Any]) -> None:
    """``config.yaml`` and ``environment.json``: what was asked for, and the versions that run."""
    write_text(folder / "config.yaml", yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    write_json(folder / "environment.json", environment())


def evaluate_run(
    config: ExperimentConfig,
    run_dir: Path,
    store: StructureStore,
    test: StructureStore | None,
    potential: TorchANNPotential,
) -> list[Evaluation]:
    """Errors on the validation part and, if there is one, on the test set."""
    forces, show = config.training.force_weight > 0, config.training.show_progress
    with np.load(run_dir / IDS) as ids:
        validation = ids["test"]
    sets = [("validation", store, validation)] if len(validation) else []
    if test is not None:
        sets.append(("test", test, np.arange(len(test))))
    return [
        evaluate_store(potential.model, data, which, name=name, forces=forces and data.has_forces_any, progress=show)
        for name, data, which in sets
    ]


def write_report(run_dir: Path, potential: TorchANNPotential, evaluations: list[Evaluation]) -> None:
    """Tables and plots in ``report/``."""
    from aenet_ray.plots import learning_curve

    report = run_dir / "report"
    report.mkdir(exist_ok=True)
    if potential.history and len(potential.history["epoch"]):
        learning_curve(
            {**potential.history, "epoch": [e + 1 for e in potential.history["epoch"]]}, report / "learning_curve.png"
        )
    write_errors(report, evaluations)


def write_errors(report: Path, evaluations: list[Evaluation]) -> None:
    """Table and parity plots of evaluations in one folder."""
    from aenet_ray.plots import parity_plot

    if not evaluations:
        return
    write_text(report / "errors.md", error_markdown([e.row() for e in evaluations]) + "\n")
    energies = {e.name: e.cohesive_per_atom() for e in evaluations}
    parity_plot(
        {k: v[0] for k, v in energies.items()},
        {k: v[1] for k, v in energies.items()},
        kind="energy",
        outfile=report / "parity_energy.png",
        relative=True,
    )
    with_forces = [e for e in evaluations if e.has_forces]
    if with_forces:
        parity_plot(
            {e.name: e.forces for e in with_forces},
            {e.name: e.predicted_forces for e in with_forces},
            kind="forces",
            outfile=report / "parity_forces.png",
        )
