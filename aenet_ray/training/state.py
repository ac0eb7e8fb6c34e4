"""Everything of a run that changes from epoch to epoch, made, saved and restored in one place."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from aenet_ray.background import Background
from aenet_ray.errors import CheckpointError
from aenet_ray.models.ann import ANNModel, reference_array
from aenet_ray.models.model_file import read_model_file
from aenet_ray.training import checkpoint
from aenet_ray.training.batch import BatchMaker
from aenet_ray.training.config import LBFGS, SGD, NaturalGradient, TorchTrainingConfig
from aenet_ray.training.early_stopping import EarlyStopping
from aenet_ray.training.flat import FlatParameters
from aenet_ray.training.history import History
from aenet_ray.training.memory import keep_in_memory
from aenet_ray.training.natural_gradient import NaturalGradientOptimizer
from aenet_ray.training.plan import ForceSubset, SamplingPolicy, make_policy
from aenet_ray.training.spec import RESUME, RunSpec

logger = logging.getLogger(__name__)


def make_optimizer(config: TorchTrainingConfig, flat: FlatParameters) -> torch.optim.Optimizer:
    method = config.method
    if isinstance(method, SGD):
        return torch.optim.SGD([flat.vector], lr=method.lr, momentum=method.momentum, weight_decay=method.weight_decay)
    if isinstance(method, NaturalGradient):
        return NaturalGradientOptimizer([flat.vector], method.lr, method.damping, method.momentum, method.max_step)
    if isinstance(method, LBFGS):
        return torch.optim.LBFGS(
            [flat.vector],
            lr=method.lr,
            max_iter=method.max_iter,
            max_eval=method.max_eval or 26 * method.max_iter,  # as many as the line searches may take
            tolerance_grad=method.tolerance_grad,
            tolerance_change=method.tolerance_change,
            history_size=method.history_size,
            line_search_fn="strong_wolfe",
        )
    cls = torch.optim.AdamW if method.method_name == "adamw" else torch.optim.Adam
    return cls(
        [flat.vector],
        lr=method.mu,
        betas=(method.beta1, method.beta2),
        eps=method.epsilon,
        weight_decay=method.weight_decay,
        fused=True,
    )


class Schedule:
    """The learning rate of each epoch.

    Args:
        epochs: Epoch at which the run ends.
    """

    def __init__(self, config: TorchTrainingConfig, optimizer: torch.optim.Optimizer, epochs: int) -> None:
        self.optimizer, self.epochs = optimizer, epochs
        self.start, self.end = config.method.learning_rate, config.scheduler_min_lr
        self.kind = config.scheduler if config.use_scheduler else "constant"
        self.plateau = None
        if self.kind == "plateau":
            self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer,
                factor=config.scheduler_factor,
                patience=config.scheduler_patience,
                min_lr=config.scheduler_min_lr,
            )

    def begin(self, epoch: int) -> None:
        if self.kind == "cosine":
            wave = 0.5 * (1 + math.cos(math.pi * epoch / max(self.epochs, 1)))
            self.learning_rate = self.end + (self.start - self.end) * wave

    def finish(self, monitor: float) -> None:
        if self.plateau is not None and not math.isnan(monitor):
            self.plateau.step(monitor)

    @property
    def learning_rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self.optimizer.param_groups[0]["lr"] = value

    def state(self) -> dict[str, Any] | None:
        if self.plateau is None:
            return None
        return {k: v for k, v in self.plateau.state_dict().items() if isinstance(v, (int, float, list, str))}

    def restore(self, state: dict[str, Any] | None) -> None:
        if self.plateau is not None and state is not None:
            self.plateau.load_state_dict(state)


def batch_maker(spec: RunSpec, model: ANNModel, device: torch.device) -> BatchMaker:
    """What makes the batches of a run for a model of its descriptor."""
    config = spec.config
    references = reference_array(spec.atomic_energies, model.descriptor)
    background = Background(config.num_workers, config.prefetch_factor, persistent=config.persistent_workers)
    return BatchMaker(spec.store(), model.descriptor, spec.normalization, references, device, background)


@dataclass
class TrainState:
    """A run between two epochs.

    Args:
        epoch: The next one, counted from 0.
        best: Lowest validation loss so far.
        history: What the epochs so far gave.
    """

    spec: RunSpec
    model: ANNModel
    flat: FlatParameters
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    maker: BatchMaker
    policy: SamplingPolicy
    subset: ForceSubset
    stopping: EarlyStopping
    epoch: int = 0
    best: float = math.inf
    history: History = field(default_factory=History)

    @classmethod
    def create(cls, spec: RunSpec, device: torch.device, maker: BatchMaker | None = None) -> TrainState:
        """A run before its first epoch.

        Args:
            maker: Of another run of the same data and normalisation, to share what it keeps; None: its own.
        """
        config = spec.config
        model = spec.model(device)
        flat = FlatParameters(model, n_extra=1)
        optimizer = make_optimizer(config, flat)
        if maker is None:
            maker = batch_maker(spec, model, device)
            keep_in_memory(maker, config, spec.train_ids, spec.test_ids)
        labelled = maker.store.has_forces[spec.train_ids] & (config.force_weight > 0)
        return cls(
            spec=spec,
            model=model,
            flat=flat,
            optimizer=optimizer,
            schedule=Schedule(config, optimizer, spec.epochs),
            maker=maker,
            policy=make_policy(
                config.sampling_policy, len(spec.train_ids), lambda: maker.cohesive_per_atom(spec.train_ids)
            ),
            subset=ForceSubset(
                labelled,
                config.force_fraction,
                config.force_min_structures_per_epoch,
                config.force_sampling,
                config.force_resample_num_epochs,
            ),
            stopping=EarlyStopping(config.early_stopping_patience, config.early_stopping_min_delta),
        )

    @property
    def done(self) -> bool:
        """Whether no epoch is left, or early stopping ended the run."""
        return self.epoch >= self.spec.epochs or self.stopping.stopped

    def payload(self) -> dict[str, Any]:
        """A checkpoint: tensors and plain values."""
        scores = self.policy.state()
        return checkpoint.model_payload(self.model) | {
            "epoch": self.epoch - 1,
            "optimizer_state_dict": self.optimizer.state_dict(),
            "scheduler_state": self.schedule.state(),
            "policy": self.policy.name,
            "policy_state": None if scores is None else torch.from_numpy(scores.copy()),
            "best_val_loss": self.best,
            "early_stopping": self.stopping.state(),
            "training_history": {k: torch.from_numpy(v) for k, v in self.history.columns().items()},
            "training_config": self.spec.config.to_dict(),
            "seed": self.spec.seed,
            "split_hash": self.spec.split_hash,
        }

    def restore(self, payload: dict[str, Any], where: str) -> None:
        """Continue after the epoch of a checkpoint.

        Raises:
            CheckpointError: The weights or the optimiser's state do not fit.
        """
        config, stored = self.spec.config, payload["training_config"]
        checkpoint.load_weights(self.model, payload, where)
        group = self.optimizer.param_groups[0]
        asked = {key: group[key] for key in changed_settings(stored["method"], config)}
        try:
            self.optimizer.load_state_dict(payload["optimizer_state_dict"])
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{where}: the optimiser's state does not fit {config.method!r}: {error}") from None
        # Settings changed on resume are honoured, one by one; moments and all others carry over.
        self.optimizer.param_groups[0].update(asked)
        same_data = payload["split_hash"] == self.spec.split_hash
        if payload["policy"] == self.policy.name and same_data:
            scores = payload["policy_state"]
            self.policy.restore(None if scores is None else scores.cpu().numpy())
        if same_data and stored["force_weight"] == config.force_weight:
            self.schedule.restore(payload["scheduler_state"])
            self.stopping.restore(payload.get("early_stopping"))
            self.best = payload["best_val_loss"]
        else:  # a loss of other terms, or over other structures, says nothing about what is best now
            logger.info("%s: force_weight or data have changed; the best validation loss counts anew", where)
        self.epoch = payload["epoch"] + 1
        self.history = History(columns={k: v.numpy() for k, v in payload["training_history"].items()})


OPTIMIZER_KEYS = {"mu": "lr", "beta1": "betas", "beta2": "betas", "epsilon": "eps"}
"""Where torch's optimisers keep settings that we call otherwise."""


def changed_settings(stored: dict[str, Any], config: TorchTrainingConfig) -> set[str]:
    """Optimiser settings, under torch's names, that differ from those of a checkpoint."""
    now = config.method.model_dump()
    return {OPTIMIZER_KEYS.get(k, k) for k in now if k != "batchsize" and stored.get(k) != now[k]}


@dataclass(frozen=True, slots=True)
class Start:
    """Where a run goes on.

    Args:
        payload: Of the checkpoint; None: it begins.
        where: Its name, for messages.
    """

    payload: dict[str, Any] | None = None
    where: str = ""

    @classmethod
    def of(cls, run_dir: Path, spec: RunSpec) -> Start:
        """Its newest checkpoint, its end, or the checkpoint it was told to resume from."""
        folder = spec.checkpoint_folder(run_dir)
        if folder is not None and (payload := checkpoint.newest(folder)) is not None:
            return cls(payload, str(folder))
        for path in (run_dir / "model.pt", run_dir / RESUME):
            if path.exists():
                return cls(read_model_file(path), str(path))
        return cls()

    @property
    def epoch(self) -> int:
        """The epoch that comes next, counted from 0."""
        return 0 if self.payload is None else int(self.payload["epoch"]) + 1
