"""All that a worker needs to know of a run, kept in the run's folder as plain files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.errors import TrainingError
from aenet_ray.features.store import FeatureStore
from aenet_ray.files import write_text
from aenet_ray.models.ann import ANNModel
from aenet_ray.models.normalization import Normalization
from aenet_ray.structures.structure import IntArray
from aenet_ray.training.config import LBFGS, TorchTrainingConfig
from aenet_ray.training.run_folder import SPEC

IDS, INITIAL, RESUME = "split.npz", "initial.pt", "resume.pt"


@dataclass(frozen=True, slots=True)
class RunSpec:
    """A run, decided once by the driver; workers only read it.

    Args:
        config: Training settings.
        arch: Hidden layers per species.
        descriptor: Its parameters, as ``ChebyshevDescriptor.config()`` gives them.
        features: Folder of the feature store's entry.
        seed: Of plan and force subsets.
        epochs: Epoch at which the run ends, counted from its very first.
        normalization, atomic_energies: Of the training split.
        train_ids, test_ids: Structures of the store, ascending.
        initial: Weights at the start, ``ANNModel.state_dict()``.
        loggers: Trackers that worker 0 tells the metrics.
    """

    config: TorchTrainingConfig
    arch: dict[str, list[tuple[int, str]]]
    descriptor: dict[str, Any]
    features: str
    seed: int
    epochs: int
    normalization: Normalization
    atomic_energies: dict[str, float]
    train_ids: IntArray
    test_ids: IntArray
    initial: dict[str, torch.Tensor]
    loggers: tuple[str, ...] = ()

    @property
    def split_hash(self) -> str:
        """Which structures are trained on, of which data."""
        name = Path(self.features).name  # the content decides it, not the place
        return hashlib.sha256(
            name.encode() + np.ascontiguousarray(self.train_ids, dtype=np.int64).tobytes()
        ).hexdigest()

    def checkpoint_folder(self, run_dir: Path) -> Path | None:
        """Where its checkpoints are; None: it writes none."""
        return None if self.config.checkpoint_dir is None else run_dir / self.config.checkpoint_dir

    def reported_batch(self, ids: IntArray) -> int:
        """Structures of a global batch out of ``ids``: the setting's, or all of them where the method takes all."""
        return max(len(ids), 1) if isinstance(self.config.method, LBFGS) else self.config.batch_size

    def save(self, run_dir: Path) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        np.savez(run_dir / IDS, train=self.train_ids, test=self.test_ids)
        torch.save(self.initial, run_dir / INITIAL)
        values = {
            "config": self.config.to_dict(),
            "arch": self.arch,
            "descriptor": self.descriptor,
            "features": self.features,
            "seed": self.seed,
            "epochs": self.epochs,
            "normalization": self.normalization.to_dict(),
            "atomic_energies": self.atomic_energies,
            "loggers": list(self.loggers),
        }
        write_text(run_dir / SPEC, json.dumps(values, indent=1, default=str))

    @classmethod
    def load(cls, run_dir: Path) -> RunSpec:
        """Raises:
        TrainingError: The folder holds no run.
        """
        try:
            values = json.loads((run_dir / SPEC).read_text())
        except FileNotFoundError:
            raise TrainingError(f"{run_dir}: holds no run ({SPEC} is missing).") from None
        with np.load(run_dir / IDS) as ids:
            train_ids, test_ids = ids["train"], ids["test"]
        return cls(
            config=TorchTrainingConfig.from_mapping(values["config"], str(run_dir / SPEC)),
            arch={s: [(n, a) for n, a in layers] for s, layers in values["arch"].items()},
            descriptor=values["descriptor"],
            features=values["features"],
            seed=values["seed"],
            epochs=values["epochs"],
            normalization=Normalization.from_dict(values["normalization"]),
            atomic_energies=values["atomic_energies"],
            train_ids=train_ids,
            test_ids=test_ids,
            initial=torch.load(run_dir / INITIAL, weights_only=True),
            loggers=tuple(values["loggers"]),
        )

    def model(self, device: torch.device) -> ANNModel:
        """A new model with the initial weights, on ``device``."""
        descriptor = ChebyshevDescriptor.from_config({**self.descriptor, "device": str(device)})
        dtype = torch_dtype(self.config.precision, descriptor.dtype)
        model = ANNModel(self.arch, descriptor, dtype)
        model.load_state_dict(self.initial)
        model.normalization, model.atomic_energies = self.normalization, self.atomic_energies
        return model.to(device)

    def store(self) -> FeatureStore:
        return FeatureStore(self.features)


def torch_dtype(precision: str, default: torch.dtype) -> torch.dtype:
    return {"float32": torch.float32, "float64": torch.float64}.get(precision, default)
