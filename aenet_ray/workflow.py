"""The main job: from an experiment file to a trained, evaluated and exported potential."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from aenet_ray.experiment import DataConfig, ExperimentConfig, environment, write_json
from aenet_ray.inference.evaluate import Evaluation, evaluate_store
from aenet_ray.models.ann import ANNModel
from aenet_ray.potential import TorchANNPotential, make_features
from aenet_ray.structures.build import build_store
from aenet_ray.structures.store import StructureStore
from aenet_ray.tables import error_markdown
from aenet_ray.training.driver import train_run
from aenet_ray.training.prepare import Split, continues, prepare_run
from aenet_ray.training.run_folder import new_run_dir, ray_for
from aenet_ray.training.spec import IDS, torch_dtype, write_text

logger = logging.getLogger(__name__)


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


def run_experiment(config: ExperimentConfig) -> Finished:
    """Walk the whole road; what exists already and fits is used, not made again.

    Raises:
        AenetRayError: Input does not fit; before any worker starts.
    """
    config.check()
    run_dir = new_run_dir(config.run)
    with ray_for(config.scaling):
        return walk(config, run_dir)


def walk(config: ExperimentConfig, run_dir: Path) -> Finished:
    """The road itself, in a folder that is there and with Ray running if it is wanted."""
    training = config.training
    store, split = structures_of(config.data, run_dir, progress=training.show_progress)
    descriptor = config.descriptor.build()
    features = make_features(store, descriptor, training, Path(config.features_folder), config.scaling)
    model = ANNModel(config.arch(), descriptor, torch_dtype(training.precision, descriptor.dtype))
    if not continues(run_dir, config.run.resume, features, model, training):
        write_text(run_dir / "config.yaml", yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True))
        write_json(run_dir / "environment.json", environment())
        prepare_run(run_dir, features, model, training, split=split, loggers=config.run.loggers)
    train_run(run_dir, config.scaling, config.run, show_progress=training.show_progress)
    potential = TorchANNPotential.from_file(run_dir / "model.pt")
    evaluations = evaluate_run(config, run_dir, store, potential)
    write_report(run_dir, potential, evaluations)
    if config.export:
        potential.to_aenet_ascii(run_dir / "aenet", prefix="potential")
    return Finished(run_dir, potential, evaluations)


def structures_of(data: DataConfig, run_dir: Path, *, progress: bool) -> tuple[StructureStore, Split | None]:
    """The structure store of training and validation, built unless the same input built it before."""
    if len(data.files) == 1 and data.files[0].endswith((".h5", ".hdf5")) and not data.validation:
        return StructureStore(data.files[0]), None
    path = Path(data.store).absolute() if data.store else run_dir / "structures.h5"
    inputs = [[str(Path(f).absolute()), Path(f).stat().st_size, Path(f).stat().st_mtime_ns]
              for f in (*data.files, *data.validation)]  # fmt: skip
    note = path.with_name(path.name + ".inputs.json")
    wanted = {"inputs": inputs, "n_files": len(data.files), "on_error": data.on_error}
    known = json.loads(note.read_text()) if note.exists() and path.exists() else {}
    if known.get("wanted") != wanted:
        report = build_store(
            data.files + data.validation, path, workers=None, on_error=data.on_error, progress=progress
        )
        logger.info("structures: %d with %d atoms in %s", report.n_structures, report.n_atoms, path)
        known = {"wanted": wanted, "n_train": None}
        if data.validation:
            with_train_only = build_store(
                data.files, run_dir / ".count.h5", workers=None, on_error=data.on_error, progress=False
            )
            known["n_train"] = with_train_only.n_structures
            (run_dir / ".count.h5").unlink()
        write_text(note, json.dumps(known))
    store = StructureStore(path)
    if known["n_train"] is None:
        return store, None
    return store, Split(np.arange(known["n_train"]), np.arange(known["n_train"], len(store)))


def evaluate_run(
    config: ExperimentConfig, run_dir: Path, store: StructureStore, potential: TorchANNPotential
) -> list[Evaluation]:
    """Errors on the validation part and, if there is one, on the test set."""
    forces, show = config.training.force_weight > 0, config.training.show_progress
    with np.load(run_dir / IDS) as ids:
        validation = ids["test"]
    found = []
    if len(validation):
        found.append(
            evaluate_store(potential.model, store, validation, name="validation", forces=forces, progress=show)
        )
    if config.data.test:
        path = run_dir / "test.h5"
        if not path.exists():
            build_store(config.data.test, path, workers=None, on_error=config.data.on_error, progress=show)
        found.append(evaluate_store(potential.model, StructureStore(path), name="test", forces=forces, progress=show))
    return found


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
    )
    with_forces = [e for e in evaluations if e.has_forces]
    if with_forces:
        parity_plot(
            {e.name: e.forces for e in with_forces},
            {e.name: e.predicted_forces for e in with_forces},
            kind="forces",
            outfile=report / "parity_forces.png",
        )
