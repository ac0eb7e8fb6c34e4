"""Small committees for tests: TiO2, few features, a few epochs."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from aenet_ray.committee import potential as committee_potential
from aenet_ray.committee.config import TorchCommitteeConfig
from aenet_ray.committee.layout import TorchCommitteeMember
from aenet_ray.committee.potential import TorchCommitteePotential
from aenet_ray.committee.train_result import TorchCommitteeTrainResult
from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.potential import TorchANNPotential
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.structure import Structure
from aenet_ray.training.config import Adam, RunConfig, ScalingConfig, TorchTrainingConfig

GO_ON = RunConfig(resume="auto")
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


def train(
    structures: list[Structure],
    folder: Path,
    config: TorchTrainingConfig | None = None,
    scaling: ScalingConfig | None = None,
    run: RunConfig | None = None,
    n: int = 3,
    **settings: Any,
) -> TorchCommitteeTrainResult:
    """Train n members in the folder; ``settings`` are the committee's."""
    committee = committee_of(n, folder, **settings)
    config = config or training()
    return untrained().train(structures, config=config, committee_config=committee, scaling=scaling, run=run)


def committee_of(n: int, folder: Path, **settings: Any) -> TorchCommitteeConfig:
    return TorchCommitteeConfig(n, **{"base_seed": 7, "output_dir": str(folder)} | settings)


def weights(path: Path) -> torch.Tensor:
    """All weights of a model file in a row."""
    return torch.cat([p.flatten() for p in TorchANNPotential.from_file(path).model.parameters()]).detach()


def assert_same_members(
    a: TorchCommitteeTrainResult, b: TorchCommitteeTrainResult, rtol: float = 1e-9, atol: float = 1e-12
) -> None:
    """The same seeds and weights; to the last bit with tolerances of 0."""
    for one, other in zip(a.members, b.members, strict=True):
        assert torch.allclose(weights(one.model_path), weights(other.model_path), rtol=rtol, atol=atol)
        assert one.seed == other.seed


def lose_initial_weights(monkeypatch: pytest.MonkeyPatch, index: int) -> None:
    """From here on, the first weights of a member are moved away (to away.pt) when all are prepared."""
    prepare = committee_potential.prepare_members

    def prepare_and_lose(*arguments: Any) -> list[TorchCommitteeMember]:
        members = prepare(*arguments)
        (members[index].member_dir / "initial.pt").rename(members[index].member_dir / "away.pt")
        return members

    monkeypatch.setattr(committee_potential, "prepare_members", prepare_and_lose)


def strict_json(path: Path) -> dict[str, Any]:
    """JSON as the standard has it: without NaN."""
    return json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{path}: holds {name}"))
