"""Small real runs that several tests make, and what runs them in other processes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch
import torch.distributed as dist

from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.features.featurize import featurize
from aenet_ray.features.store import FeatureStore
from aenet_ray.models.ann import ANNModel
from aenet_ray.models.model_file import read_model_file
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.store import StructureStore, write_store
from aenet_ray.training import engine
from aenet_ray.training.comm import Comm, Group
from aenet_ray.training.config import Adam, TorchTrainingConfig
from aenet_ray.training.engine import run_training
from aenet_ray.training.prepare import prepare_run
from aenet_ray.training.step import energy_errors, force_errors

TIO2 = Path(__file__).parents[2] / "examples" / "data" / "tio2_ci100_xsf.tar.gz"
ATOMIC_ENERGIES = {"Ti": -1604.604515075, "O": -432.503149303}


def small_descriptor() -> ChebyshevDescriptor:
    return ChebyshevDescriptor(["Ti", "O"], 5, 4.5, 3, 3.5)


def small_features(folder: Path, n: int = 47) -> FeatureStore:
    """TiO2 structures, every third without forces."""
    structures = [s for s, _ in zip(read_structures(TIO2), range(n), strict=False)]
    for s in structures[::3]:
        s.forces = None
    store = StructureStore(write_store(structures, folder / "structures.h5").path)
    return FeatureStore(featurize(store, small_descriptor(), folder / "features", progress=False))


def config(**changes: object) -> TorchTrainingConfig:
    values = {
        "iterations": 10,
        "method": Adam(mu=0.003, batchsize=16),
        "seed": 7,
        "force_weight": 0.3,
        "force_fraction": 0.6,
        "force_resample_num_epochs": 2,
        "atomic_energies": ATOMIC_ENERGIES,
        "show_progress": False,
    }
    return TorchTrainingConfig(**(values | changes))


def prepare(features: FeatureStore, run_dir: Path, settings: TorchTrainingConfig) -> Path:
    model = ANNModel({s: [(6, "tanh"), (5, "tanh")] for s in ("Ti", "O")}, small_descriptor())
    prepare_run(run_dir, features, model, settings)
    return run_dir


def final_weights(run_dir: Path) -> torch.Tensor:
    return torch.cat([v.reshape(-1) for v in read_model_file(run_dir / "model.pt")["model_state_dict"].values()])


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest relative to the largest weight."""
    return float((a - b).abs().max() / a.abs().max())


def group_worker(rank: int, size: int, meeting: str, run_dirs: list[str], naive: bool) -> None:
    """One of ``size`` processes that train each of the runs together."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    if naive:
        engine.train_step = naive_step
    for run_dir in run_dirs:
        run_training(Path(run_dir), Group(), torch.device("cpu"))
    # Gloo's threads abort a process whose peer leaves while they still look: all are done before any leaves, at once.
    dist.barrier()
    time.sleep(0.5)
    os._exit(0)


def naive_step(model, flat, optimizer, batch, counts, alpha: float, comm: Comm, *_):
    """What data-parallel training usually does: every worker's own root-mean-square loss, gradients averaged."""
    from aenet_ray.losses import loss_scale

    flat.zero_grad()
    loss = torch.zeros(())
    if batch.forces is not None:
        errors, force_error = force_errors(model, batch, training=True)
        loss = (1 - alpha) * errors.square().mean().sqrt() + alpha * force_error.square().mean().sqrt()
    else:
        errors = energy_errors(model, batch, model.net(batch.x, batch.counts))
        loss = (1 - alpha) * errors.square().mean().sqrt()
    loss.backward()
    comm.sum_(flat.message)
    flat.scale_gradient(1.0 / comm.size)
    optimizer.step()
    return loss_scale(float(loss.detach()) ** 2, 1, 0.0, 0, 0.0), errors.detach()


def train_with(size: int, run_dirs: list[Path], meeting: Path, *, naive: bool = False) -> None:
    paths = [str(p) for p in run_dirs]
    torch.multiprocessing.spawn(group_worker, (size, str(meeting), paths, naive), nprocs=size)
