"""The same run through the Python interface, and submitted as a job to a running cluster."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml
from runs import ATOMIC_ENERGIES, TIO2, config, difference, final_weights, small_descriptor

from aenet_ray.errors import ConfigError
from aenet_ray.models.model_file import read_model_file
from aenet_ray.potential import TorchANNPotential
from aenet_ray.training.config import RunConfig, ScalingConfig
from aenet_ray.training.launch import check_resources
from aenet_ray.training.ray_runtime import ensure_ray

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

SCRIPT = Path(__file__).parents[2] / "cluster_configs" / "local.sh"
LAYERS = {s: [(6, "tanh"), (5, "tanh")] for s in ("Ti", "O")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("launch")


def train(folder: Path, name: str, scaling: ScalingConfig | None, **changes: object) -> TorchANNPotential:
    potential = TorchANNPotential(LAYERS, small_descriptor())
    run = RunConfig(name=name, storage_path=str(folder / name))
    potential.train(str(TIO2), config=config(iterations=3, **changes), scaling=scaling, run=run)
    return potential


@pytest.fixture(scope="module")
def alone(folder):
    """Trained in this process, without Ray."""
    train(folder, "alone", None)
    return folder / "alone" / "alone"


def test_two_workers_from_python(folder, alone):
    """Featurized by Ray Data and trained by two Ray workers, the potential is the one made without Ray."""
    potential = train(folder, "two", ScalingConfig(num_workers=2))
    assert difference(final_weights(alone), final_weights(folder / "two" / "two")) < 1e-9
    energies = potential.predict(str(TIO2)).total_energy
    assert len(energies) == 100
    assert potential.history["epoch"] == [0, 1, 2]


def test_too_many_workers_are_refused_at_once(folder):
    with (
        pytest.raises(ConfigError, match="500 workers need 1000 CPUs, the cluster has"),
        ensure_ray(2),
    ):
        check_resources(ScalingConfig(num_workers=500, cpus_per_worker=2))


def free_port() -> int:
    """Outside the range where Ray puts its workers."""
    for port in range(21000 + os.getpid() % 1000, 32000):
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise AssertionError("no free port")


def test_submitted_as_a_job(folder, alone):
    """``ray job submit -- aenet-ray train run.yaml`` against a running cluster."""
    state = Path(tempfile.mkdtemp(prefix="ar-"))  # short: socket paths end at 107 characters
    first = free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {
        "STATE_DIR": str(state),
        "RAY_PORT": str(first),
        "DASHBOARD_PORT": str(first + 1),
        "RAY_CPUS": "2",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    values = {
        "data": {"files": str(TIO2)},
        "descriptor": {k: v for k, v in small_descriptor().config().items() if k not in ("device", "backend")},
        "network": LAYERS | {s: [list(layer) for layer in layers] for s, layers in LAYERS.items()},
        "training": config(iterations=3).to_dict() | {"show_progress": True, "atomic_energies": ATOMIC_ENERGIES},
        "scaling": {"num_workers": 2},
        "run": {"name": "job", "storage_path": str(folder / "job")},
    }
    file = folder / "job.yaml"
    file.write_text(yaml.safe_dump(values))

    def local(*arguments: str) -> subprocess.CompletedProcess:
        command = ["bash", str(SCRIPT), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, cwd=folder)

    started = local("start")
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        done = local("submit", "--", "aenet-ray", "train", str(file))
        assert done.returncode == 0, done.stdout + done.stderr
        bad = local("submit", "--", "aenet-ray", "train", str(file))
        assert bad.returncode != 0
        assert "holds a run already" in bad.stdout + bad.stderr
    finally:
        local("stop")
        shutil.rmtree(state, ignore_errors=True)
    assert "epoch 3/3" in done.stdout + done.stderr
    assert difference(final_weights(alone), final_weights(folder / "job" / "job")) < 1e-9
    assert read_model_file(folder / "job" / "job" / "model.pt")["epoch"] == 2
