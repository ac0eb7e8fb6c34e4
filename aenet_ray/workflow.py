"""The main job: from an experiment file to a trained, evaluated and exported potential."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from aenet_ray.errors import ConfigError, StructureError
from aenet_ray.experiment import DataConfig, ExperimentConfig, environment
from aenet_ray.files import write_json, write_text
from aenet_ray.inference.evaluate import Evaluation, evaluate_store
from aenet_ray.models.ann import ANNModel
from aenet_ray.potential import TorchANNPotential, make_features
from aenet_ray.structures.build import build_store
from aenet_ray.structures.labels import LabelKeys
from aenet_ray.structures.readers import list_directory
from aenet_ray.structures.split import SplitFile
from aenet_ray.structures.store import StructureStore
from aenet_ray.structures.store_files import replace_store
from aenet_ray.tables import error_markdown
from aenet_ray.training.config import ScalingConfig
from aenet_ray.training.driver import train_run
from aenet_ray.training.prediction_files import write_prediction_files
from aenet_ray.training.prepare import Split, check_descriptor, continues, prepare_run
from aenet_ray.training.run_folder import holds_run, new_run_dir, ray_for
from aenet_ray.training.spec import IDS, torch_dtype

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
        write_text(run_dir / "config.yaml", yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True))
        write_json(run_dir / "environment.json", environment())
        prepare_run(run_dir, features, model, training, split=split, loggers=config.run.loggers)


def structures_of(
    data: DataConfig, run_dir: Path, *, progress: bool, keep: bool | None = None
) -> tuple[StructureStore, Split | None]:
    """The structure store of training and validation, built unless the same input built it before.

    Args:
        keep: The folder holds something that began with its store; None: if it holds a run.

    Raises:
        StructureError: Nothing is left for training, or for validation.
        TrainingError: The folder holds a run that began with other structures.
    """
    if len(data.files) == 1 and data.files[0].endswith((".h5", ".hdf5")) and not data.validation:
        store = StructureStore(data.files[0])
        return store, written_split(data, store)
    path = Path(data.store).absolute() if data.store else run_dir / "structures.h5"
    keep = holds_run(run_dir, "auto") if keep is None else keep
    store, n_train = built_store(data, data.files, data.validation, path, keep=keep, progress=progress)
    if not data.validation:
        return store, written_split(data, store)
    return store, Split(np.arange(n_train), np.arange(n_train, len(store)))


def written_split(data: DataConfig, store: StructureStore) -> Split | None:
    """What ``data.split`` says, if it is given.

    Raises:
        ConfigError: It is damaged or of another store, or lacks a part.
    """
    if data.split is None:
        return None
    parts = SplitFile.load(data.split, store.content_hash)
    return Split(np.sort(parts["train"]), np.sort(parts["validation"]))


def test_structures(config: ExperimentConfig, run_dir: Path) -> StructureStore | None:
    """The store of the test set, looked at before training: what it lacks should not be found out after it.

    Raises:
        ConfigError: It holds species that the descriptor does not list, or no energies.
    """
    data = config.data
    if not data.test:
        return None
    path = run_dir / "test.h5"
    test, _ = built_store(data, data.test, [], path, keep=False, progress=config.training.show_progress)
    unknown = [s for s in test.species if s not in config.descriptor.species]
    if unknown:
        raise ConfigError(
            f"data.test ({', '.join(data.test)}): holds species {', '.join(unknown)}, which descriptor.species "
            f"({', '.join(config.descriptor.species)}) does not list."
        )
    if not test.has_energy_any:
        raise ConfigError(f"data.test ({', '.join(data.test)}): no structure has an energy to compare with.")
    return test


def built_store(
    data: DataConfig, files: list[str], held_out: list[str], path: Path, *, keep: bool, progress: bool
) -> tuple[StructureStore, int]:
    """A store of files, and how many structures come before those held out; built unless it is there.

    A note beside it tells what it was built from: a store of files that have changed since is built again.
    """
    note = path.with_name(path.name + ".inputs.json")
    keys, on_error = LabelKeys(energy=data.energy_key, forces=data.forces_key), data.on_error
    inputs = [_state(f) for f in (*files, *held_out)]
    wanted = {"inputs": inputs, "n_files": len(files), "on_error": on_error, "keys": [keys.energy, keys.forces]}
    known = _noted(note) if path.exists() else {}
    if known.get("wanted") == wanted:
        store = StructureStore(path)
        return store, len(store) if known["n_train"] is None else known["n_train"]
    n_held_out = 0

    def build(target: Path) -> None:
        nonlocal n_held_out
        report = build_store(
            files, target, held_out=held_out, workers=None, on_error=on_error, keys=keys, progress=progress
        )
        n_held_out = report.n_held_out
        logger.info("structures: %d with %d atoms in %s", report.n_structures, report.n_atoms, path)

    if not keep:
        note.unlink(missing_ok=True)  # killed in between, the new store must not have the old one's note
    store = replace_store(build, path, keep=keep)
    n_train = len(store) - n_held_out
    if held_out and not 0 < n_train < len(store):
        raise StructureError(
            f"{path}: {n_train} structures of data.files and {n_held_out} of data.validation could be used, expected "
            f"some of both. See {path.name}.skipped.csv."
        )
    write_text(note, json.dumps({"wanted": wanted, "n_train": n_train if held_out else None}))
    return store, n_train


def _noted(note: Path) -> dict[str, Any]:
    try:
        return json.loads(note.read_text())
    except (FileNotFoundError, ValueError):
        return {}


def _state(name: str) -> list[Any]:
    """What changes when an input does: size and time of a file; of a directory, those of each of its files, whose
    content can change without the directory's time."""
    path = Path(name).absolute()
    if not path.is_dir():
        return [str(path), path.stat().st_size, path.stat().st_mtime_ns]
    size, digest = 0, hashlib.blake2b(digest_size=16)  # of millions of files
    with suppress(StructureError):  # an empty one: said by what reads it
        for file in list_directory(str(path)):
            state = os.stat(file)
            size += state.st_size
            digest.update(json.dumps([file, state.st_size, state.st_mtime_ns]).encode())
    return [str(path), size, digest.hexdigest()]


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
