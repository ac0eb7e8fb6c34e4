"""Checkpoints: everything the next epoch depends on, rotation, and finding the newest."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from aenet_ray.config import warn_user
from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.errors import CheckpointError, MissingCheckpointError
from aenet_ray.legacy.model_file import NOT_RESUMABLE
from aenet_ray.models.ann import ANNModel
from aenet_ray.models.model_file import read_model_file, write_model_file
from aenet_ray.training.run_folder import COMMITTEE_FILE

NAME = re.compile(r"checkpoint_epoch_(\d+)\.pt")
BEST = "best_model.pt"


def model_payload(model: ANNModel) -> dict[str, Any]:
    """What a model file holds of the model itself."""
    return {
        "architecture": {s: [list(layer) for layer in layers] for s, layers in model.net.arch.items()},
        "descriptor_config": model.descriptor.config(),
        "model_state_dict": {k: v.detach().cpu().clone() for k, v in model.state_dict().items()},
        "precision": str(model.dtype).removeprefix("torch."),
        "normalization": model.normalization.to_dict(),
        "atomic_energies": dict(model.atomic_energies),
    }


def checkpoint_path(folder: Path, epoch: int) -> Path:
    """File written after epoch ``epoch``, counted from 0."""
    return folder / f"checkpoint_epoch_{epoch:04d}.pt"


def numbered(folder: Path) -> list[tuple[int, Path]]:
    """(epoch, file) of the numbered checkpoints, oldest first."""
    found = [(NAME.fullmatch(p.name), p) for p in folder.glob("checkpoint_epoch_*.pt")]
    return sorted((int(m[1]), p) for m, p in found if m)


def newest(folder: Path) -> dict[str, Any] | None:
    """The newest readable numbered checkpoint, with a warning of newer ones that are damaged; None where there is none.

    Raises:
        CheckpointError: There are checkpoints, but none can be read.
    """
    problems: list[str] = []
    for epoch, path in reversed(numbered(folder)):
        try:
            payload = read_model_file(path)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        if problems:
            said = "; ".join(problems)
            warn_user(f"{said} Going on after epoch {epoch + 1}, from {path.name}.", UserWarning)
        return payload
    if problems:
        raise CheckpointError("no checkpoint can be read: " + "; ".join(problems))
    return None


def is_name(path: str | Path) -> bool:
    """Whether training gives its checkpoints such a name."""
    name = Path(path).name
    return NAME.fullmatch(name) is not None or name == BEST


def find_checkpoint(path: str | Path, storage: str | Path = "runs") -> Path:
    """The checkpoint meant by a path: the file, else that of the newest run which has one under this path.

    Scripts of aenet-python name checkpoints as they lie there, relative to the working directory; here the run's folder
    comes before. A warning says which one was taken.

    Args:
        storage: Folder of the runs.

    Raises:
        MissingCheckpointError: There is none (a FileNotFoundError and a RuntimeError).
    """
    path = Path(path)
    if path.is_file():
        return path
    if path.is_absolute() or not is_name(path):
        raise MissingCheckpointError(f"{path}: no such model file or checkpoint.")
    folders = [run / path.parent for run in Path(storage).glob("*/") if (run / path.parent).is_dir()]
    if found := _latest(folder / path.name for folder in folders):
        warn_user(f"{path} is not in the working directory; that of the newest run is taken, {found}.", UserWarning)
        return found
    kept = _latest(p for folder in folders for _, p in numbered(folder))
    hint = f" Kept is, for instance, {kept} (see max_checkpoints)." if kept else ""
    raise MissingCheckpointError(f"{path}: no such model file or checkpoint, neither here nor in a run's folder.{hint}")


def refuse_committee(folder: Path) -> None:
    """Raises:
    MissingCheckpointError: The folder is a committee's, where a run's is expected.
    """
    if (folder / COMMITTEE_FILE).exists():
        raise MissingCheckpointError(
            f"{folder}: a committee, expected one potential. Each of its members is one, such as "
            f"{folder / 'member_000'}. All together predict from Python, by "
            "TorchCommitteePotential.from_directory(...).predict(...), and in aenet-ray select."
        )


def model_of_run(folder: str | Path) -> Path:
    """The potential in a run's folder.

    Raises:
        MissingCheckpointError: There is none; a checkpoint there is named.
    """
    path = Path(folder) / "model.pt"
    if path.is_file():
        return path
    refuse_committee(Path(folder))
    kept = _latest(Path(folder).glob("**/checkpoint_epoch_*.pt"))
    hint = f"The run has not ended; as it is now, it is in {kept}." if kept else "Give a model file or a run's folder."
    raise MissingCheckpointError(f"{folder}: a folder without model.pt. {hint}")


def _latest(paths: Iterable[Path]) -> Path | None:
    return max((p for p in paths if p.is_file()), key=lambda p: p.stat().st_mtime_ns, default=None)


def read_training_state(path: str | Path) -> dict[str, Any]:
    """A file that training can go on from.

    Raises:
        MissingCheckpointError, CheckpointError: Missing, damaged, or a potential that was never trained.
    """
    if not Path(path).is_file():
        raise MissingCheckpointError(f"{path}: no such model file or checkpoint.")
    payload = read_model_file(path)
    if NOT_RESUMABLE in payload:
        raise CheckpointError(
            f"{payload[NOT_RESUMABLE]} Read the potential with from_file and train that without resume_from: its "
            "weights are kept, the optimiser starts anew."
        )
    missing = [k for k in ("epoch", "optimizer_state_dict", "training_config", "training_history") if k not in payload]
    if missing:
        raise CheckpointError(
            f"{path}: a potential, but no training to go on with ({', '.join(missing)} missing). Read it with "
            "from_file and train that."
        )
    return payload


def save(folder: Path, epoch: int, payload: dict[str, Any], keep: int | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_model_file(checkpoint_path(folder, epoch), payload)
    if keep:
        for _, path in numbered(folder)[:-keep]:
            path.unlink(missing_ok=True)


def save_best(folder: Path, payload: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_model_file(folder / BEST, payload)


def load_weights(model: ANNModel, payload: dict[str, Any], where: str) -> None:
    """Put stored weights into a model in place, so that flat views stay views.

    Raises:
        CheckpointError: Names or shapes do not fit, or they belong to other activations or another descriptor.
    """
    own, stored = model.state_dict(), payload["model_state_dict"]
    for name in sorted(own.keys() | stored.keys()):
        if name not in own or name not in stored or own[name].shape != stored[name].shape:
            found = tuple(stored[name].shape) if name in stored else "nothing"
            expected = tuple(own[name].shape) if name in own else "nothing"
            raise CheckpointError(
                f"{where}: weights do not fit the network: {name} has shape {found}, expected {expected}. "
                "Use the arch and descriptor the checkpoint was trained with."
            )
    arch = {s: [tuple(layer) for layer in layers] for s, layers in payload["architecture"].items()}
    if arch != model.net.arch:
        raise CheckpointError(f"{where}: was trained with arch {arch}, the network has {model.net.arch}.")
    descriptor = ChebyshevDescriptor.from_config(payload["descriptor_config"] | {"device": "cpu", "backend": "auto"})
    if descriptor.fingerprint() != model.descriptor.fingerprint():
        raise CheckpointError(
            f"{where}: was trained on the descriptor {descriptor.config()}, this one is {model.descriptor.config()}."
        )
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(stored[name])
