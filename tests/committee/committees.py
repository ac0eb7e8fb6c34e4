"""Small committees for tests: TiO2, few features, a few epochs."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from aenet_ray.committee.config import TorchCommitteeConfig
from aenet_ray.committee.potential import TorchCommitteePotential
from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.potential import TorchANNPotential
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.structure import Structure
from aenet_ray.training.config import Adam, TorchTrainingConfig

REFERENCES = {"Ti": -1604.604515075, "O": -432.503149303}
ARCH = {s: [(4, "tanh")] for s in ("Ti", "O")}


def tio2(data_dir: Path, n: int = 16) -> list[Structure]:
    return list(islice(read_structures(data_dir / "tio2_ci100_xsf.tar.gz"), n))


def descriptor(**changed: Any) -> ChebyshevDescriptor:
    settings: dict[str, Any] = {"rad_order": 3, "rad_cutoff": 4.0, "ang_order": 1, "ang_cutoff": 3.0} | changed
    return ChebyshevDescriptor(["Ti", "O"], **settings)


def untrained() -> TorchCommitteePotential:
    return TorchCommitteePotential(ARCH, descriptor())


def training(**changed: Any) -> TorchTrainingConfig:
    settings: dict[str, Any] = {
        "iterations": 2,
        "method": Adam(mu=0.01, batchsize=8),
        "testpercent": 25,
        "atomic_energies": REFERENCES,
        "device": "cpu",
        "show_progress": False,
        "save_best": False,  # of four validation structures: warned of
    }
    return TorchTrainingConfig(**settings | changed)


def committee_of(n: int, folder: Path, **settings: Any) -> TorchCommitteeConfig:
    return TorchCommitteeConfig(n, **{"base_seed": 7, "output_dir": str(folder)} | settings)


def weights(path: Path) -> torch.Tensor:
    """All weights of a model file in a row."""
    return torch.cat([p.flatten() for p in TorchANNPotential.from_file(path).model.parameters()]).detach()


def strict_json(path: Path) -> dict[str, Any]:
    """JSON as the standard has it: without NaN."""
    return json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{path}: holds {name}"))
