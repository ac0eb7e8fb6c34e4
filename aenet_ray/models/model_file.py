"""Model files and checkpoints: tensors and plain values, loaded without executing anything."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

import torch

from aenet_ray.errors import AenetRayError, CheckpointError
from aenet_ray.files import replacing
from aenet_ray.legacy import model_file as aenet_python

SCHEMA_VERSION = "2.0"
REQUIRED = (
    "architecture", "descriptor_config", "model_state_dict", "precision", "normalization", "atomic_energies",
)  # fmt: skip


def write_model_file(path: str | Path, payload: dict[str, Any]) -> Path:
    """Write atomically: a reader sees the old file or the new one, never a part.

    Args:
        payload: Tensors and plain values (numbers, text, lists, dicts) only.
    """
    path = Path(path)
    head = {
        "schema_version": SCHEMA_VERSION,
        "timestamp": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "torch_version": str(torch.__version__),
    }
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            torch.save(head | payload, file)  # given a path, it would write the temporary name into the file
    except (OSError, RuntimeError) as error:  # the latter of torch, where the disk is full
        raise CheckpointError(f"{path}: cannot be written: {error}") from None
    return path


def read_model_file(path: str | Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a model file or checkpoint, ours or aenet-python's, with ``weights_only``: no code in it can run.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: It is damaged, of another version, or asks for more than tensors and plain values: a class or
            function, which is named.
    """
    path = Path(path)
    payload = load_payload(path, device)
    if aenet_python.is_payload(payload):
        return {"schema_version": SCHEMA_VERSION, **aenet_python.translate(payload, path)}
    if not isinstance(payload, dict) or any(k not in payload for k in REQUIRED):
        raise CheckpointError(f"{path}: is no aenet_ray model file; expected the keys {', '.join(REQUIRED)}.")
    if str(payload.get("schema_version", "")).split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise CheckpointError(
            f"{path}: version {payload.get('schema_version')}, this aenet_ray reads {SCHEMA_VERSION}."
        )
    return payload


def load_payload(path: Path, device: str | torch.device = "cpu") -> Any:
    """Whatever a file written by torch holds, if it is tensors and plain values. Raises as ``read_model_file``."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such model file or checkpoint.")
    try:
        with aenet_python.admitted_numbers():
            return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        asked = _ASKED.search(str(error))
        if asked:
            raise CheckpointError(
                f"{path}: cannot be read as a model file: it asks for {asked[1]!r}, which no potential needs. "
                "Nothing of it was run; do not load this file in other ways."
            ) from None
        # What torch says of bytes it cannot make sense of tells its readers nothing.
        found = "its bytes are not those of one, or not all of them" if path.stat().st_size else "the file is empty"
        reason = str(error) if isinstance(error, (PermissionError, AenetRayError)) else found
        raise CheckpointError(
            f"{path}: cannot be read as a model file ({reason}). Expected a whole model.pt or checkpoint, as "
            "training writes them."
        ) from None


_ASKED = re.compile(r"GLOBAL ([\w.]+)")
"""What torch's safe reader refused, in its message."""
