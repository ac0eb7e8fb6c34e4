"""aenet-python's model.pt and checkpoints, in the words of aenet_ray's own.

Read like ours, with ``weights_only``: tensors and plain values. NumPy's numbers, which histories hold, are made by code
of ours that knows nothing else.
"""

from __future__ import annotations

import math
import os
import re
import zipfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aenet_ray.errors import CheckpointError, StructureError
from aenet_ray.legacy import unpickle

SCHEMA_VERSION = "1.0"
REQUIRED = ("architecture", "descriptor_config", "model_state_dict", "normalization")
NOT_RESUMABLE = "not_resumable"
"""Key of the reason why training cannot go on from a translated file."""
_EPOCH_IN_NAME = re.compile(r"epoch_(\d+)")
_PARAMETER = re.compile(r"net\.functions\.(\d+)\.Linear_Sp(\d+)_F(\d+)\.(weight|bias)")


def is_model_file(path: str | os.PathLike[str]) -> bool:
    """Whether aenet-python wrote this model file or checkpoint; False for every other file."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with admitted_numbers():
            return is_payload(torch.load(path, map_location="cpu", weights_only=True))
    except Exception:
        return False


def is_payload(payload: object) -> bool:
    """Whether a loaded file is aenet-python's: of its version, and without what ours always hold."""
    if not isinstance(payload, dict) or any(key not in payload for key in REQUIRED) or "precision" in payload:
        return False
    return str(payload.get("schema_version", SCHEMA_VERSION)).split(".")[0] == SCHEMA_VERSION.split(".")[0]


# numbers of NumPy in a file: stand-ins for its functions


class _Type(unpickle._Type):
    """What stands for ``numpy.dtype``, in the steps torch's reader takes."""

    __slots__ = ()

    def __init__(self, code: object, *more: object) -> None:
        super().__init__(_plain(unpickle.make_type, code).code)

    def __setstate__(self, state: object) -> None:
        _plain(unpickle.set_type, self, state)


def _scalar(kind: object, data: object = b"") -> Any:
    return _plain(unpickle.make_scalar, kind, data)


def _encode(text: object, encoding: object) -> bytes:
    if not isinstance(text, str) or encoding != "latin1" or len(text) > 1024:  # a number's bytes
        raise StructureError(f"_codecs.encode for {encoding!r:.40}")
    return text.encode("latin1")


def _plain(function: Any, *arguments: object) -> Any:
    try:
        return function(*arguments)
    except (unpickle._Refused, unpickle._Damaged) as error:
        raise StructureError(str(error)) from None


def admitted_numbers() -> AbstractContextManager[Any]:
    """While it lasts, torch's safe reader knows NumPy's numbers as well. Older torch cannot be told: there, only
    files without them are read."""
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < (2, 6):
        return nullcontext()
    names: list[Any] = [(_Type, "numpy.dtype"), (_encode, "_codecs.encode")]
    names += [(_scalar, f"numpy.{home}.multiarray.scalar") for home in ("core", "_core")]
    return torch.serialization.safe_globals(names)


# translation


def _check_plain(value: object, path: Path, depth: int = 0) -> None:
    """Raises:
    CheckpointError: There is more in it than tensors, numbers, texts, lists and mappings of these.
    """
    if isinstance(value, dict) and depth < 50:
        for item in value.values():
            _check_plain(item, path, depth + 1)
    elif isinstance(value, (list, tuple)) and depth < 50:
        for item in value:
            _check_plain(item, path, depth + 1)
    elif not isinstance(value, (str, bytes, int, float, Tensor, torch.dtype, torch.device, type(None))):
        raise CheckpointError(f"{path}: holds a {type(value).__name__}, expected tensors and plain values.")


def translate(payload: dict[str, Any], path: str | os.PathLike[str]) -> dict[str, Any]:
    """aenet-python's payload as aenet_ray's, less version and time of writing.

    Args:
        payload: As loaded. path: Its file, for messages; a checkpoint's epoch may be in its name.

    Raises:
        CheckpointError: Something in it does not fit together.
    """
    _check_plain(payload, Path(path))
    try:
        return _translated(payload, Path(path))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: a model file of aenet-python that does not have its layout: {type(error).__name__}: {error}."
        ) from None


def _translated(payload: dict[str, Any], path: Path) -> dict[str, Any]:
    descriptor = dict(payload["descriptor_config"])
    descriptor.pop("n_features", None)
    species = list(descriptor["species"])
    descriptor["dtype"] = str(descriptor.get("dtype", "float64")).removeprefix("torch.")
    weights = _weights(payload["model_state_dict"], path)
    best = payload.get("best_val_loss")
    missing = [s for s in species if s not in payload["architecture"]]
    if missing:
        raise CheckpointError(f"{path}: architecture has no layers for {', '.join(missing)}.")
    translated = {
        # Layers of species that the descriptor lacks belong to no network.
        "architecture": {s: [[int(n), str(a).lower()] for n, a in payload["architecture"][s]] for s in species},
        "descriptor_config": descriptor,
        "model_state_dict": weights,
        "precision": str(next(iter(weights.values())).dtype).removeprefix("torch."),
        "normalization": _normalization(payload["normalization"] or {}),
        "atomic_energies": {str(s): float(e) for s, e in (payload.get("atomic_energies") or {}).items()},
        "training_history": _history(payload.get("training_history") or {}),
        "training_config": training_config(payload.get("training_config") or {}),
        "best_val_loss": math.inf if best is None or math.isnan(best) else float(best),
        "extra_metadata": dict(payload.get("extra_metadata") or {}),
        "written_by": f"aenet-python {payload.get('timestamp', '')}".strip(),
    }
    if payload.get("optimizer_state_dict"):
        try:
            translated |= _resumable(payload, translated, path)
        except (CheckpointError, KeyError, TypeError, ValueError, AttributeError) as error:
            # What cannot be gone on with can still predict, and be trained with an optimiser that starts anew.
            said = isinstance(error, CheckpointError)
            translated[NOT_RESUMABLE] = str(error) if said else f"{path}: its optimiser's state is damaged: {error!r}."
    return translated


def _weights(stored: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    if not stored:
        raise CheckpointError(f"{path}: holds no weights.")
    for name, value in stored.items():
        match = _PARAMETER.fullmatch(name)
        if match is None or int(match[2]) != int(match[1]) + 1 or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path}: weight {name!r}, expected names such as net.functions.0.Linear_Sp1_F1.weight."
            )
    dtypes = {value.dtype for value in stored.values()}
    if len(dtypes) > 1 or not dtypes <= {torch.float32, torch.float64}:
        raise CheckpointError(f"{path}: weights of type {', '.join(map(str, dtypes))}, expected float32 or float64.")
    return dict(stored)


def _normalization(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Off where it was off, or where there are no statistics: a run without feature normalisation stores None."""
    mean, std = stored.get("feature_mean"), stored.get("feature_std")
    on = bool(stored.get("normalize_features", True)) and mean is not None and std is not None

    def column(name: str) -> list[float] | None:
        value = stored.get(name)
        return None if value is None else [float(v) for v in value]

    shift, scaling = stored.get("E_shift"), stored.get("E_scaling")
    return {
        "normalize_features": on,
        "normalize_energy": bool(stored.get("normalize_energy", True)) and scaling is not None,
        "E_shift": 0.0 if shift is None else float(shift),
        "E_scaling": 1.0 if scaling is None else float(scaling),
        **{name: column(name) for name in ("feature_mean", "feature_std", "feature_min", "feature_max")},
    }


def _history(stored: Mapping[str, Any]) -> dict[str, Tensor]:
    """Columns of one length, missing values NaN, with the epoch that aenet-python leaves out. Its errors are means of
    the values of single batches, all but the last row."""
    columns = {
        str(k): [math.nan if x is None else float(x) for x in v]
        for k, v in stored.items()
        if isinstance(v, (list, tuple))
    }
    n = max(map(len, columns.values()), default=0)
    table = {k: torch.tensor(v + [math.nan] * (n - len(v)), dtype=torch.float64) for k, v in columns.items()}
    means = {f"{k}_batch_mean": v for k, v in table.items() if k.endswith(("_rmse", "_mae"))}
    return {"epoch": torch.arange(n, dtype=torch.float64), **table, **means} if n else {}


RENAMED = {
    "cached_features": "cache_features",
    "cached_features_for_force": "cache_features",
    "cache_triplets": "cache_force_triplets",
    "cache_force_neighbors": "cache_neighbors",
    "E_atomic": "atomic_energies",
}
"""Settings under the names of aenet-python's first two generations."""


def training_config(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Settings under their newest names. What was decided by a file needs no warning: it is a record, not a request."""
    values: dict[str, Any] = {}
    for key, value in stored.items():
        new = RENAMED.get(key, key)
        if new != key and stored.get(new) is not None:
            continue
        values[new] = value or values.get(new) if new == "cache_features" else value
    every, window = values.pop("force_resample_each_epoch", None), values.pop("epochs_per_force_window", None)
    if "force_resample_num_epochs" not in values and (every is not None or window is not None):
        values["force_resample_num_epochs"] = int(window or 1) if every is None or every else 0
    if values.pop("energy_target", None) == "total":
        values["atomic_energies"] = None
    method = dict(values.get("method") or {})
    if method:
        inner = method.pop("fields", None) or method.pop("params", None) or {}
        values["method"] = {**method, **inner, "name": str(method.get("name", "adam")).lower()}
    return values


# going on with the training


def _resumable(payload: dict[str, Any], translated: dict[str, Any], path: Path) -> dict[str, Any]:
    """What a checkpoint of ours holds besides; what aenet-python does not keep is said to be unknown."""
    seed = translated["training_config"].get("seed")
    method = translated["training_config"].get("method") or {"name": "adam"}
    if method.get("name") not in ("adam", "sgd"):
        raise CheckpointError(f"{path}: trained with method {method.get('name')!r}, expected adam or sgd.")
    known = {
        "epoch": _epoch(payload, path),
        "optimizer_state_dict": flat_optimizer_state(
            payload["optimizer_state_dict"], payload["model_state_dict"], path
        ),
        "scheduler_state": None,
        "policy": "unknown",
        "policy_state": None,
        "split_hash": None,
        "training_config": {**translated["training_config"], "method": method},
    }
    return known if seed is None else {**known, "seed": int(seed)}


def _epoch(payload: dict[str, Any], path: Path) -> int:
    """Of the file, else of its extra metadata, else of its name, else 0; counted from 0."""
    in_name = _EPOCH_IN_NAME.search(path.name)
    for value in (payload.get("epoch"), (payload.get("extra_metadata") or {}).get("epoch"), in_name and in_name[1]):
        if value is not None:
            return int(value)
    return 0


def _place(name: str) -> tuple[int, int, bool]:
    """Where a weight stands in the vector of all: species, layer, biases last."""
    match = _PARAMETER.fullmatch(name)
    assert match is not None
    return int(match[1]), int(match[3]), match[4] == "bias"


def flat_optimizer_state(state: Mapping[str, Any], weights: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """An optimiser's state for parameters one by one, as the state for all of them in one vector.

    aenet-python's optimiser skips the network of a species that a batch lacks, so that steps are counted by
    parameter. Moments are scaled such that, with the largest count for all, the next step begins as it would have.

    Raises:
        CheckpointError: It does not fit the weights, or is of another optimiser than Adam or SGD.
    """
    groups, rows = state["param_groups"], state["state"]
    names = list(weights)
    if len(groups) != 1 or len(groups[0]["params"]) != len(names):
        raise CheckpointError(
            f"{path}: its optimiser has {len(groups)} groups for {len(names)} weights, expected one group with all."
        )
    owned = [dict(rows.get(number, {})) for number in groups[0]["params"]]
    group = {**groups[0], "params": [0]}
    if not any(any(isinstance(v, Tensor) for v in row.values()) for row in owned):
        return {"state": {}, "param_groups": [group]}
    keys = sorted({k for row in owned for k, v in row.items() if v is not None})
    if keys not in (["exp_avg", "exp_avg_sq", "step"], ["momentum_buffer"]):
        raise CheckpointError(f"{path}: its optimiser keeps {', '.join(keys)}, expected those of Adam or SGD.")
    steps = [float(row["step"]) if row.get("step") is not None else 0.0 for row in owned]
    flat: dict[str, Any] = {"step": torch.tensor(max(steps))} if "step" in keys else {}
    decay = dict(zip(("exp_avg", "exp_avg_sq"), group.get("betas", (0.0, 0.0)), strict=True))
    for key in keys:
        if key == "step":
            continue
        parts = []
        for name, row, step in sorted(zip(names, owned, steps, strict=True), key=lambda item: _place(item[0])):
            value = row.get(key)
            if value is None:
                value = torch.zeros_like(weights[name])
            if value.shape != weights[name].shape:
                raise CheckpointError(
                    f"{path}: its optimiser's {key} of {name} has shape {tuple(value.shape)}, expected "
                    f"{tuple(weights[name].shape)}."
                )
            if 0 < step < max(steps):
                value = value * ((1 - decay[key] ** max(steps)) / (1 - decay[key] ** step))
            parts.append(value.reshape(-1))
        flat[key] = torch.cat(parts)
    if "step" in keys:
        group |= {"fused": True, "foreach": None}
    return {"state": {0: flat}, "param_groups": [group]}
