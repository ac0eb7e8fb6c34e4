"""Files as aenet-python writes them, whole and spoilt, for tests."""

from __future__ import annotations

import gzip
import pickle
import struct
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

DATA = Path(__file__).parent / "data" / "aenet_python"
MODULE = "aenet.torch_training.config"


def unpacked(name: str, folder: Path) -> Path:
    """A file that PyTables wrote."""
    path = folder / name
    path.write_bytes(gzip.decompress((DATA / f"{name}.gz").read_bytes()))
    return path


class Structure:
    """Pickled under aenet-python's class path while ``as_aenet_python`` lasts."""

    def __init__(self, **state: Any) -> None:
        self.__dict__.update(state)


@contextmanager
def as_aenet_python() -> Iterator[None]:
    """Modules that pickle can find the class path in."""
    names = [".".join(MODULE.split(".")[: k + 1]) for k in range(3)]
    before = {name: sys.modules.get(name) for name in names}
    for name in names:
        sys.modules[name] = types.ModuleType(name)
    sys.modules[MODULE].Structure = Structure  # type: ignore[attr-defined]
    Structure.__module__ = MODULE
    try:
        yield
    finally:
        Structure.__module__ = __name__
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module


def state(**changes: Any) -> dict[str, Any]:
    """A water molecule's fields."""
    fields: dict[str, Any] = {
        "positions": np.array([[0.0, 0.0, 0.118], [0.0, 0.755, -0.471], [0.0, -0.755, -0.471]]),
        "species": [np.str_("O"), np.str_("H"), np.str_("H")],
        "energy": -471.5,
        "forces": None,
        "cell": None,
        "pbc": None,
        "name": None,
    }
    return fields | changes


def pickled(protocol: int = 5, **changes: Any) -> bytes:
    with as_aenet_python():
        return pickle.dumps(Structure(**state(**changes)), protocol=protocol)


def with_pickle(source: Path, entry: int, data: bytes) -> Path:
    """Put other bytes in the place of one record."""
    with h5py.File(source, "r+") as file:
        file["entries/structures"][entry] = np.frombuffer(data, dtype=np.uint8)
    return source


def changed(source: Path, change: Callable[[h5py.File], None]) -> Path:
    with h5py.File(source, "r+") as file:
        change(file)
    return source


# malicious pickles, by the instruction


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def named(module: str, name: str) -> bytes:
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


RECORD = b"\x80\x04" + named(MODULE, "Structure") + b")\x81"
NDARRAY, RECONSTRUCT = named("numpy", "ndarray"), named("numpy._core.multiarray", "_reconstruct")


def record_with(value: bytes, field: str = "energy") -> bytes:
    """A record one of whose fields is what ``value`` makes."""
    return RECORD + b"}" + text(field) + value + b"sb."


def empty_array() -> bytes:
    return RECONSTRUCT + NDARRAY + b"K\x00\x85C\x01b\x87R"


def dtype(code: str) -> bytes:
    return named("numpy", "dtype") + text(code) + b"\x89\x88\x87R"


# models


def model_payload(case: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The dict of aenet-python's model.pt for a golden case, §7.5 of its layout."""
    species = case["descriptor"]["species"]
    hidden = [(int(n), str(a)) for n, a in case["network"]["hidden_layers"]]
    weights = {}
    for k, symbol in enumerate(species):
        for layer, values in enumerate(case["network"]["layers_by_species"][symbol], start=1):
            for name in ("weight", "bias"):
                key = f"net.functions.{k}.Linear_Sp{k + 1}_F{layer}.{name}"
                weights[key] = torch.tensor(values[name], dtype=torch.float64)
    missing = {"feature_mean": None, "feature_std": None, "feature_min": None, "feature_max": None}
    payload = {
        "schema_version": "1.0",
        "timestamp": "2026-03-01T12:00:00",
        "torch_version": "2.5.1",
        "device_hint": "cpu",
        "architecture": {s: hidden for s in (*species, "Xe")},
        "descriptor_config": {
            **case["descriptor"],
            "dtype": "float64",
            "device": "cpu",
            "n_features": case["n_features"],
        },
        "model_state_dict": weights,
        "optimizer_state_dict": None,
        "training_history": {
            "train_energy_rmse": [0.3, np.float64(0.25)],
            "test_energy_rmse": [0.4, float("nan")],
            "learning_rate": [1e-3, 1e-3],
        },
        "best_val_loss": None,
        "training_config": {"iterations": 2, "cached_features": True, "E_atomic": {"O": -1.0}, "method": None},
        "normalization": missing | case["normalization"],
        "atomic_energies": case["atomic_energies"],
        "extra_metadata": {},
    }
    return payload | changes


def write_model(path: Path, payload: dict[str, Any]) -> Path:
    torch.save(payload, path)
    return path
