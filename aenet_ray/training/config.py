"""What a training run can be told. Names and defaults are aenet-python's where it has the same setting."""

from __future__ import annotations

import math
from collections.abc import Mapping
from os import PathLike
from typing import Any, Literal, SupportsFloat

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from aenet_ray.config import Config, SettingsError


class Adam(Config):
    """Adam with aenet-python's names; weight decay is added to the gradient (not AdamW)."""

    mu: PositiveFloat = 0.001
    """Learning rate."""
    batchsize: PositiveInt = 32
    """Structures of a global batch, over all workers."""
    weight_decay: float = Field(0.0, ge=0)
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.999, ge=0, lt=1)
    epsilon: PositiveFloat = 1e-8

    @property
    def method_name(self) -> str:
        return "adam"

    @property
    def learning_rate(self) -> float:
        return self.mu

    def to_params_dict(self) -> dict[str, Any]:
        return self.model_dump()


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    weight_decay: float = Field(0.01, ge=0)

    @property
    def method_name(self) -> str:
        return "adamw"


class SGD(Config):
    """Stochastic gradient descent, without dampening or Nesterov."""

    lr: PositiveFloat = 0.01
    """Learning rate."""
    batchsize: PositiveInt = 32
    weight_decay: float = Field(0.0, ge=0)
    momentum: float = Field(0.0, ge=0, lt=1)

    @property
    def method_name(self) -> str:
        return "sgd"

    @property
    def learning_rate(self) -> float:
        return self.lr

    def to_params_dict(self) -> dict[str, Any]:
        return self.model_dump()


class NaturalGradient(Config):
    """Damped least-squares steps, for energies only: many fewer epochs than Adam, each a few times as long.

    See ``aenet_ray.training.natural_gradient``. Memory: batchsize × weights.
    """

    lr: float = Field(0.3, gt=0, le=1)
    """Part of each step that is taken."""
    batchsize: PositiveInt = 256
    damping: PositiveFloat = 1e-4
    """Relative to the mean squared gradient of a structure's energy."""
    momentum: float = Field(0.9, ge=0, lt=1)
    max_step: PositiveFloat = 0.2
    """Longest change of the vector of all weights in one step."""

    @property
    def method_name(self) -> str:
        return "natural_gradient"

    @property
    def learning_rate(self) -> float:
        return self.lr

    def to_params_dict(self) -> dict[str, Any]:
        return self.model_dump()


class LBFGS(Config):
    """Limited-memory BFGS with a strong Wolfe line search, over all training structures at once.

    Loss and gradient of every trial step are sums over all workers, so that the steps do not depend on their number.
    Needs an objective that stays the same: no weighted sampling, no resampled force subsets.

    Source:
        Nocedal, Wright, Numerical Optimization, 2nd ed. (2006), algorithms 3.5 and 7.5.
    """

    lr: PositiveFloat = 1.0
    """First trial step of the line search, in units of the quasi-Newton step."""
    batchsize: PositiveInt = 1024
    """Structures held in memory at a time; changes no result. One epoch is ``max_iter`` steps over all of them."""
    history_size: PositiveInt = 20
    """Pairs of steps and gradient changes that stand for the Hessian."""
    max_iter: PositiveInt = 4
    """Steps in an epoch."""
    max_eval: PositiveInt | None = None
    """Passes over the data in an epoch at most; None: 5 / 4 of ``max_iter``, at least two."""
    tolerance_grad: float = Field(1e-10, ge=0)
    """No step where no component of the gradient is larger."""
    tolerance_change: float = Field(1e-12, ge=0)
    """An epoch ends where a step changes neither loss nor any weight by more."""

    @property
    def method_name(self) -> str:
        return "lbfgs"

    @property
    def learning_rate(self) -> float:
        return self.lr

    def to_params_dict(self) -> dict[str, Any]:
        return self.model_dump()


METHODS: dict[str, type[Adam] | type[SGD] | type[NaturalGradient] | type[LBFGS]] = {
    "adam": Adam,
    "adamw": AdamW,
    "sgd": SGD,
    "lbfgs": LBFGS,
    "natural_gradient": NaturalGradient,
}


def _check_energies(values: Mapping[Any, Any]) -> dict[str, float]:
    def usable(species: object, energy: object) -> bool:
        numeric = isinstance(energy, SupportsFloat) and not isinstance(energy, bool)
        return isinstance(species, str) and numeric and math.isfinite(float(energy))  # type: ignore[arg-type]

    bad = [(s, e) for s, e in values.items() if not usable(s, e)]
    if bad:
        problems = [(str(s), f"expected a symbol and a finite number, eV (found {e!r}).") for s, e in bad]
        raise SettingsError.of(problems, "atomic_energies.")
    return {s: float(e) for s, e in values.items()}


class TorchTrainingConfig(Config):
    """Settings of one training run.

    ``method`` may be a record or, in YAML, ``adam`` or ``{name: adam, mu: 0.001, batchsize: 32}``.
    """

    iterations: int = Field(100, ge=0)
    """Epochs of this call; on resume, additional ones."""
    method: Adam | SGD | NaturalGradient | LBFGS = Field(default_factory=Adam)
    testpercent: float = Field(10, ge=0, le=100)
    """int(n · testpercent / 100) structures are held out for validation."""
    seed: int | None = Field(None, strict=True, ge=0)
    """Of initial weights, plan and force subsets. None draws one and records it."""
    split_seed: int | None = Field(None, strict=True, ge=0)
    """Of the split alone; None takes ``seed``."""

    force_weight: float = Field(0.0, ge=0, le=1)
    """α of the loss (1 − α) RMSE_E + α RMSE_F."""
    force_fraction: float = Field(1.0, ge=0, le=1)
    """Fraction of force-labelled training structures whose forces are used."""
    force_sampling: Literal["random", "fixed"] = "random"
    force_resample_num_epochs: int = Field(0, ge=0)
    """Redraw the force subset every so many epochs; 0 keeps the first."""
    force_min_structures_per_epoch: int | None = Field(1, ge=0)
    force_scale_unbiased: bool = False
    sampling_policy: Literal["uniform", "energy_weighted", "error_weighted"] = "uniform"

    num_workers: int = Field(0, ge=0)
    """Threads of each training process that make batches ahead of their use; 0: each batch is made when its turn comes.
    Not the number of training processes, which is ``ScalingConfig.num_workers``. Never changes a result."""
    prefetch_factor: PositiveInt = 2
    """Batches under way for each of these threads."""
    persistent_workers: bool = True
    """Keep these threads from epoch to epoch; else each epoch starts its own. Unlike in aenet-python, also where force
    subsets are redrawn: the threads hold no copy of the data that could go stale."""

    device: str | None = None
    """None: cuda if there is one, else cpu."""
    precision: Literal["auto", "float32", "float64"] = "auto"
    """Of network and stored features; auto is the descriptor's dtype. Geometry stays float64."""

    max_energy: float | None = None
    """Leave out structures with (E − Σε)/N above it, eV/atom."""
    max_forces: float | None = Field(None, gt=0)
    """Leave out structures with a force of larger magnitude |F|, eV/Å."""
    atomic_energies: dict[str, float] | Literal["fit"] | None = None
    """Reference energy of each species, eV; ``fit`` takes least squares on the training part. A path of a YAML file,
    as ``aenet-ray atomic-energies -o`` writes it, stands for what is in it."""
    normalize_features: bool = True
    normalize_energy: bool = True
    feature_stats: dict[str, list[float]] | None = None
    """Overrides the statistics of the training split: {'mean': (F,), 'std': (F,)}."""
    E_shift: float | None = None
    E_scaling: float | None = Field(None, gt=0)

    show_progress: bool = True
    checkpoint_dir: str | None = "checkpoints"
    """Relative to the run directory; None writes no checkpoints."""
    checkpoint_interval: int = Field(1, ge=0)
    """A checkpoint at least every so many epochs; 0: only the last and the best."""
    checkpoint_seconds: float = Field(0.0, ge=0)
    """None is written sooner than this after the one before, for slow disks; a checkpoint costs milliseconds."""
    max_checkpoints: PositiveInt | None = 3
    """Newest numbered checkpoints kept; None keeps all."""
    save_best: bool = True

    use_scheduler: bool = False
    """Change the learning rate by ``scheduler``; aenet-python's name for its plateau schedule."""
    scheduler: Literal["plateau", "cosine"] = "plateau"
    """plateau: reduce when the validation loss stalls; cosine: one half wave down to min_lr over all epochs."""
    scheduler_patience: int = Field(10, ge=0)
    scheduler_factor: float = Field(0.5, gt=0, lt=1)
    scheduler_min_lr: float = Field(1e-6, ge=0)

    max_grad_norm: PositiveFloat | None = None
    """Longest gradient of a step (2-norm over all weights, of the global batch); longer ones are shortened to it."""
    early_stopping_patience: PositiveInt | None = None
    """End the run after so many epochs without a lower validation loss; None: never."""
    early_stopping_min_delta: float = Field(0.0, ge=0)
    """What counts as lower: by more than this, in units of the loss."""

    save_energies: bool = False
    """Write ``energies.train.0`` and ``energies.test.0`` into the run's folder at the end."""
    save_forces: bool = False
    """Write ``forces.train.0`` and ``forces.test.0`` into the run's folder at the end."""
    timing: bool = False
    """Wait for the device after each stage of a step, so that the times in the history are those of the stages, also
    on a GPU; without it, a stage there is charged only with what it takes to queue it."""

    @model_validator(mode="before")
    @classmethod
    def _a_scheduler_is_used(cls, values: object) -> object:
        if isinstance(values, dict) and "scheduler" in values and "use_scheduler" not in values:
            return {**values, "use_scheduler": True}
        return values

    @field_validator("method", mode="before")
    @classmethod
    def _method_from_mapping(cls, value: object) -> object:
        if value is None:
            return Adam()
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, (dict, *METHODS.values())):
            raise ValueError(
                "expected Adam(...), AdamW(...), SGD(...), LBFGS(...) or {name: adam, mu: 0.001, batchsize: 32}"
            )
        if isinstance(value, dict):
            settings = dict(value)
            name = str(settings.pop("name", "adam")).lower()
            if name not in METHODS:
                raise ValueError(f"unknown method {name!r}; expected one of {', '.join(METHODS)}")
            return METHODS[name](**settings)
        return value

    @field_validator("atomic_energies", mode="before")
    @classmethod
    def _energies_from_file(cls, value: object) -> object:
        if isinstance(value, Mapping):  # here, since of a union every member would be named in the message
            return _check_energies(value)
        if value == "fit" or not isinstance(value, str | PathLike):
            return value
        from aenet_ray.reference_energies.yaml_file import read_energies

        return read_energies(value)

    @field_validator("feature_stats", mode="before")
    @classmethod
    def _statistics_as_lists(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        stats = {("std" if k == "cov" else k): [float(x) for x in v] for k, v in value.items()}
        if set(stats) != {"mean", "std"} or len(stats["mean"]) != len(stats["std"]):
            raise ValueError("expected 'mean' and 'std' (or 'cov', used as a standard deviation) of equal length")
        return stats

    @model_validator(mode="after")
    def _something_to_train_on(self) -> TorchTrainingConfig:
        if self.testpercent >= 100:
            raise ValueError("testpercent 100 leaves no training data; choose less")
        if isinstance(self.method, NaturalGradient) and self.force_weight > 0:
            raise ValueError("method natural_gradient trains on energies only; set force_weight to 0, or use adam")
        if isinstance(self.method, (NaturalGradient, LBFGS)) and self.max_grad_norm is not None:
            raise ValueError(
                f"max_grad_norm does not go with method {self.method.method_name}, which chooses its own step length; "
                "leave it out, or use adam, adamw or sgd"
            )
        if isinstance(self.method, LBFGS):
            self._check_lbfgs()
        return self

    def _check_lbfgs(self) -> None:
        changing = []
        if self.sampling_policy != "uniform":
            changing.append(f"sampling_policy {self.sampling_policy!r}")
        if self.force_weight > 0 and self.force_fraction < 1 and self.force_resample_num_epochs:
            changing.append(f"force_resample_num_epochs {self.force_resample_num_epochs}")
        if self.use_scheduler:
            changing.append("use_scheduler")
        if changing:
            raise ValueError(
                f"method lbfgs minimises one fixed loss and chooses its own step lengths: {' and '.join(changing)} "
                "cannot be used with it; leave it out, or use adam"
            )

    @property
    def alpha(self) -> float:
        return self.force_weight

    @property
    def batch_size(self) -> int:
        return self.method.batchsize

    def to_dict(self) -> dict[str, Any]:
        """Plain values that ``from_mapping`` reads back."""
        values = self.model_dump()
        values["method"] = {"name": self.method.method_name, **self.method.model_dump()}
        return values


class ScalingConfig(Config):
    """How many workers train, and on what. Absent: in this process, without Ray."""

    num_workers: PositiveInt = 1
    use_gpu: bool = False
    """One GPU a worker, NCCL; else CPUs and gloo."""
    cpus_per_worker: PositiveInt = 1
    featurize_actors: PositiveInt | None = None
    """Actors of the featurization pool; None: one for each CPU the workers would take."""


class RunConfig(Config):
    """Where a run keeps its files and what it does when something dies."""

    name: str | None = None
    """Folder of the run; None: the time it starts."""
    storage_path: str = "runs"
    """Parent of all runs; must be shared by all nodes."""
    resume: Literal["auto", "never", "must"] = "never"
    """auto: go on from the newest checkpoint of this name if there is one."""
    max_failures: int = Field(3, ge=0)
    """Restarts after a dead worker."""
    loggers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    """Trackers that get the metrics of every epoch as well; each needs its package."""
