"""What a training run can be told. Names and defaults are aenet-python's where it has the same setting; where they
differ, the setting's text says so. ``docs/configuration.md`` is made from these texts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from os import PathLike
from typing import Any, Literal, SupportsFloat

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt, ValidationInfo, field_validator, model_validator

from aenet_ray.config import Config, SettingsError
from aenet_ray.errors import ConfigError
from aenet_ray.training.methods import LBFGS, METHODS, SGD, Adam, AdamW, NaturalGradient
from aenet_ray.training.old_names import translated

__all__ = [
    "LBFGS",
    "METHODS",
    "SGD",
    "Adam",
    "AdamW",
    "NaturalGradient",
    "RunConfig",
    "ScalingConfig",
    "TorchTrainingConfig",
    "check_together",
]


def _check_energies(values: Mapping[Any, Any]) -> dict[str, float]:
    def usable(species: object, energy: object) -> bool:
        numeric = isinstance(energy, SupportsFloat) and not isinstance(energy, bool)
        return isinstance(species, str) and numeric and math.isfinite(float(energy))  # type: ignore[arg-type]

    bad = [(s, e) for s, e in values.items() if not usable(s, e)]
    if bad:
        problems = [(str(s), f"expected a symbol and a finite number, eV (found {e!r}).") for s, e in bad]
        raise SettingsError.of(problems, "atomic_energies.")
    return {s: float(e) for s, e in values.items()}


def _numeric(value: object) -> bool:
    """Whether NumPy can make numbers of it."""
    try:
        return np.asarray(value).dtype.kind in "iuf"
    except (TypeError, ValueError, RuntimeError):
        return False


class TorchTrainingConfig(Config):
    """Settings of one training run.

    ``method`` may be a record or, in YAML, ``adam`` or ``{name: adam, mu: 0.001, batchsize: 32}``.
    """

    known_elsewhere = dict.fromkeys(
        ("lr", "mu", "learning_rate"),
        "the learning rate belongs to method: method=Adam(mu=...) or SGD(lr=...); in YAML {name: adam, mu: 0.001}.",
    )

    iterations: int = Field(100, ge=0)
    """Epochs of this call; on resume, additional ones. 0 trains nothing."""
    method: Adam | SGD | NaturalGradient | LBFGS = Field(default_factory=Adam)
    """Optimiser with its settings and the batch size: a record, its name, or both as a mapping."""
    testpercent: float = Field(10, ge=0, le=100)
    """int(n · testpercent / 100) structures are held out for validation; 100 would leave nothing to train on and is
    refused."""
    seed: int | None = Field(None, strict=True, ge=0)
    """Of initial weights, order of the structures and force subsets. None keeps the weights that the network has, and
    draws and records a seed for the rest. Not negative, unlike aenet-python's."""
    split_seed: int | None = Field(None, strict=True, ge=0)
    """Of the split alone. None takes ``seed``, so that one number repeats a run; aenet-python then draws another split
    in every run."""

    force_weight: float = Field(0.0, ge=0, le=1)
    """α of the loss (1 − α) RMSE_E + α RMSE_F, in eV/atom and eV/Å."""
    force_fraction: float = Field(1.0, ge=0, le=1)
    """Fraction of force-labelled training structures whose forces are used. Validation uses all forces; aenet-python
    uses this fraction there too."""
    force_sampling: Literal["random", "fixed"] = "random"
    """fixed: one subset for the whole run; random: redrawn every ``force_resample_num_epochs``."""
    force_resample_num_epochs: int = Field(0, ge=0)
    """Redraw a random force subset every so many epochs; 0 keeps the first."""
    force_min_structures_per_epoch: int | None = Field(1, ge=0)
    """Structures whose forces are used at the least, whatever ``force_fraction``; None: no such limit."""
    force_scale_unbiased: bool = False
    """Divide RMSE_F of a batch, in the loss, by the root of the fraction of its force-labelled atoms that are used.
    Reported errors are not scaled; aenet-python's are."""
    sampling_policy: Literal["uniform", "energy_weighted", "error_weighted"] = "uniform"
    """Which structures an epoch draws: each once; or as many, with replacement, low energies or large errors more
    often."""

    cache_features: bool = False
    """Copy normalised features into the process's memory when they are first used. They are never computed twice
    without it either: the feature store is on disk, mapped into memory. Worth it where that disk is slow and its pages
    do not stay in memory; else epochs take as long, or a little longer. Never changes a result, as all ``cache_``."""
    cache_feature_max_entries: int | None = Field(1024, ge=0)
    """Structures of each split whose features are copied, in each training process; None: all. The first ones of the
    split are: in epochs of random order no other choice is used more often, so that nothing is ever thrown out."""
    cache_neighbors: bool = False
    """Accepted for scripts of aenet-python; nothing is left to do. Energies need no neighbours, their features are
    stored; for forces, finding them takes as long as copying kept ones (0.6 and 0.5 ms of a step of 8 ms)."""
    cache_neighbor_max_entries: int | None = Field(512, ge=0)
    """Accepted for scripts of aenet-python, without effect as ``cache_neighbors``."""
    cache_force_triplets: bool = False
    """Accepted for scripts of aenet-python; nothing is left to do: angular features and forces come from moments of the
    neighbours, there are no triplets."""
    cache_force_triplet_max_entries: int | None = Field(256, ge=0)
    """Accepted for scripts of aenet-python, without effect as ``cache_force_triplets``."""
    cache_persist_dir: str | None = None
    """Folder of the feature store, which runs can share; None: ``features`` beside the runs. Not used, though accepted,
    by aenet-python."""
    cache_scope: Literal["train", "val", "all"] = "all"
    """Splits whose features are copied."""
    cache_warmup: bool = False
    """Make these copies before the first epoch instead of on first use; with ``num_workers`` too, where aenet-python
    does not."""

    num_workers: int = Field(0, ge=0)
    """Threads of each training process that make batches ahead of their use; 0: each batch is made when its turn comes.
    Not the number of training processes, which is ``ScalingConfig.num_workers``. Never changes a result."""
    prefetch_factor: PositiveInt = 2
    """Batches under way for each of these threads."""
    persistent_workers: bool = True
    """Keep these threads from epoch to epoch; else each epoch starts its own. Unlike in aenet-python, also where force
    subsets are redrawn: the threads hold no copy of the data that could go stale."""

    show_batch_progress: bool = False
    """A bar over the batches of an epoch as well, in a terminal, if ``show_progress``; not with workers on Ray, which
    print nothing."""

    memory_mode: Literal["cpu", "gpu", "mixed"] = "gpu"
    """Where the features of training and validation are while training on a GPU. gpu: all on the device, in each
    training process; cpu: on the host, batches are moved; mixed: as many structures as fit on the device, the rest on
    the host. What does not fit is told, and stays on the host, for gpu as well. On a CPU all three are the same: the
    store mapped into the process's memory. Never changes a result. In aenet-python without effect."""
    device: str | None = None
    """cpu, cuda or cuda:N, of a run in this process; None: cuda if there is one, else cpu. With ``scaling``, its
    ``use_gpu`` decides, and a device that contradicts it is refused."""
    precision: Literal["auto", "float32", "float64"] = "auto"
    """Of network and stored features; auto is the descriptor's dtype. Geometry stays float64. In aenet-python without
    effect."""

    max_energy: float | None = None
    """Leave out structures with (E − Σε)/N above it, eV/atom; those without an energy always are. Holds for every kind
    of input; aenet-python ignores it for prebuilt datasets."""
    max_forces: float | None = Field(None, gt=0)
    """Leave out structures with a force of larger magnitude |F|, eV/Å; those without forces stay. In aenet-python the
    largest component counts."""
    atomic_energies: dict[str, float] | Literal["fit"] | None = None
    """Reference energy of each species, eV; ``fit`` takes least squares on the training part. A path of a YAML file,
    as ``aenet-ray atomic-energies -o`` writes it, stands for what is in it, a ``ReferenceEnergies`` for its energies.
    None: those of the data set, else zero with a warning."""
    normalize_features: bool = True
    """Shift and scale each feature by its mean and standard deviation over the atoms of the training split."""
    normalize_energy: bool = True
    """Shift and scale energies per atom so that those of the training split lie between −1 and 1."""
    feature_stats: dict[str, list[float]] | None = None
    """Replaces the statistics of the training split: {'mean': (F,), 'std': (F,)}, lists or arrays. 'cov', as
    aenet-python calls it, is taken for 'std'."""
    E_shift: float | None = None
    """Replaces the centre of the energies per atom of the training split, eV/atom. Alone too; aenet-python then ignores
    it."""
    E_scaling: float | None = Field(None, gt=0)
    """Replaces 2 / (highest − lowest energy per atom of the training split), 1/eV. Alone too; aenet-python then ignores
    it."""

    save_energies: bool = False
    """Write ``energies.train.0`` and ``energies.test.0`` into the run's folder at the end."""
    save_forces: bool = False
    """Write ``forces.train.0`` and ``forces.test.0`` into the run's folder at the end."""
    timing: bool = False
    """Wait for the device after each stage of a step, so that the times in the history are those of the stages, also
    on a GPU; without it, a stage there is charged only with what it takes to queue it."""
    show_progress: bool = True
    """Bar and lines of the epochs."""
    checkpoint_dir: str | None = Field("checkpoints", min_length=1)
    """Relative to the run's folder, where aenet-python takes the working directory; None writes no checkpoints."""
    checkpoint_interval: int = Field(1, ge=0)
    """A checkpoint every so many epochs; 0, or less: only the last and the best."""
    checkpoint_seconds: float = Field(0.0, ge=0)
    """None is written sooner than this after the one before, for slow disks; a checkpoint costs milliseconds."""
    max_checkpoints: PositiveInt | None = 3
    """Newest numbered checkpoints kept; None, 0 or less keep all, which is aenet-python's default. Three are ours: a
    hundred epochs need no hundred files, and going on needs the newest one."""
    save_best: bool = True
    """Keep the model with the lowest validation loss in ``best_model.pt``."""

    use_scheduler: bool = False
    """Change the learning rate by ``scheduler``; aenet-python's name for its plateau schedule. Naming ``scheduler``
    turns it on, unless this is given as false."""
    scheduler: Literal["plateau", "cosine"] = "plateau"
    """plateau: reduce when the validation loss stalls; cosine: one half wave down to min_lr over all epochs."""
    scheduler_patience: int = Field(10, ge=0)
    """plateau: epochs without a lower validation loss that are waited for."""
    scheduler_factor: float = Field(0.5, gt=0, lt=1)
    """plateau: times the learning rate at each reduction."""
    scheduler_min_lr: float = Field(1e-6, ge=0)
    """Lowest learning rate."""

    max_grad_norm: PositiveFloat | None = None
    """Longest gradient of a step (2-norm over all weights, of the global batch); longer ones are shortened to it."""
    early_stopping_patience: PositiveInt | None = None
    """End the run after so many epochs without a lower validation loss; None: never."""
    early_stopping_min_delta: float = Field(0.0, ge=0)
    """What counts as lower: by more than this, in units of the loss."""

    @model_validator(mode="before")
    @classmethod
    def _names_of_today(cls, values: object) -> object:
        return translated(values) if isinstance(values, dict) else values

    @field_validator("checkpoint_interval", "max_checkpoints", mode="before")
    @classmethod
    def _none_or_all(cls, value: object, info: ValidationInfo) -> object:
        """aenet-python's way to say none at all, or all of them."""
        if isinstance(value, int) and not isinstance(value, bool) and value <= 0:
            return 0 if info.field_name == "checkpoint_interval" else None
        return value

    @field_validator("device", mode="before")
    @classmethod
    def _device_by_name(cls, value: object) -> object:
        name = str(value) if type(value).__module__ == "torch" else value
        if isinstance(name, str) and not re.fullmatch(r"cpu|cuda(:\d+)?", name):
            raise ValueError("expected cpu, cuda or cuda:N, such as cuda:0")
        return name

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
        if value is None or (isinstance(value, str) and value == "fit"):
            return value
        from aenet_ray.reference_energies import ReferenceEnergies

        if isinstance(value, ReferenceEnergies):
            return _check_energies(value.atomic_energies)
        if not isinstance(value, str | PathLike):
            raise ValueError(
                "expected energies by species such as {Ti: -1604.6, O: -432.5}, fit, or a YAML file's path"
            )
        from aenet_ray.reference_energies.yaml_file import read_energies

        return read_energies(value)

    @field_validator("feature_stats", mode="before")
    @classmethod
    def _statistics_as_lists(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        named = {("std" if k == "cov" else k): v for k, v in value.items()}
        if set(named) != {"mean", "std"} or len(named) < len(value):
            raise ValueError("expected 'mean' and 'std' (or 'cov', used as a standard deviation)")
        stats = {k: np.asarray(v, dtype=np.float64) if _numeric(v) else np.empty((0, 0)) for k, v in named.items()}
        if any(v.ndim != 1 or not len(v) or not np.isfinite(v).all() for v in stats.values()):
            raise ValueError("expected finite numbers, one for each feature, in 'mean' and in 'std'")
        if len(stats["mean"]) != len(stats["std"]) or (stats["std"] < 0).any():
            raise ValueError("expected 'mean' and 'std' of equal length, and no negative 'std'")
        return {k: v.tolist() for k, v in stats.items()}

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
        self._check_overrides()
        return self

    def _check_overrides(self) -> None:
        """An override of what is switched off would be ignored."""
        pairs = (
            ("normalize_energy", "E_shift"),
            ("normalize_energy", "E_scaling"),
            ("normalize_features", "feature_stats"),
        )
        for switch, name in pairs:
            if not getattr(self, switch) and getattr(self, name) is not None:
                raise ValueError(f"{name} is given, but {switch} is off, so it would have no effect; drop one of them")

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
    """Training processes, each with its share of every batch; their number changes results by rounding only."""
    use_gpu: bool = False
    """One GPU a worker, NCCL; else CPUs and gloo."""
    cpus_per_worker: PositiveInt = 1
    """Processor cores of each worker: threads of its network, and what Ray reserves for it."""
    featurize_actors: PositiveInt | None = None
    """Actors of the featurization pool; None: one for each CPU the workers would take."""


def check_together(training: TorchTrainingConfig, scaling: ScalingConfig | None) -> None:
    """Raises:
    ConfigError: The device asked for is not the one that workers on Ray will have.
    """
    if scaling is None or training.device is None:
        return
    if (training.device != "cpu") != scaling.use_gpu or ":" in training.device:
        raise ConfigError(
            f"device={training.device!r} contradicts scaling with use_gpu={scaling.use_gpu}, by which Ray gives each "
            "worker its device; leave out device, or train without scaling."
        )


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
