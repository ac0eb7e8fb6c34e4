"""The structures of a run: stores built from its files where the same input has not built them before."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from aenet_ray.errors import ConfigError, StructureError
from aenet_ray.experiment import DataConfig, ExperimentConfig
from aenet_ray.files import write_text
from aenet_ray.structures.build import build_store
from aenet_ray.structures.labels import LabelKeys
from aenet_ray.structures.readers import list_directory
from aenet_ray.structures.split import SplitFile
from aenet_ray.structures.store import StructureStore
from aenet_ray.structures.store_files import replace_store
from aenet_ray.training.choose import Split
from aenet_ray.training.run_folder import holds_run

logger = logging.getLogger(__name__)


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
    return read_split(data.split, store)


def read_split(path: str, store: StructureStore, split_hash: str | None = None) -> Split:
    """A split file's training and validation structures.

    Args:
        split_hash: Which it must have; None: any.

    Raises:
        ConfigError: It is gone or damaged, of another store or with another hash, or lacks a part.
    """
    parts = SplitFile.load(path, store.content_hash, split_hash)
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
