"""What a search can be told: the ``tune`` group of a run's file."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from aenet_ray.config import Config
from aenet_ray.training.history import COLUMNS
from aenet_ray.tuning.domains import Domain, parse_domain

TIMES = tuple(name for name in COLUMNS if "time" in name)
METRICS = tuple(n for n in COLUMNS if n not in ("epoch", "learning_rate", "epochs_without_improvement", *TIMES))
"""What a search may be after: the errors among the columns of a run's history."""


class TuneConfig(Config):
    """A search over settings of a run, or a cross-validation of them."""

    space: dict[str, Any] = Field(default_factory=dict)
    """Range or list of each setting searched, by its dotted name: ``training.method.mu: {loguniform: [1e-4, 1e-2]}``,
    ``descriptor.rad_order: {choice: [10, 16]}``. ``network.width``, ``network.depth`` and ``network.activation`` make
    networks of equal layers for all species."""
    num_samples: PositiveInt = 10
    """Trials; of a space with ``grid``, so many for each of its points."""
    searcher: Literal["random", "optuna", "hyperopt", "bohb"] = "random"
    """random is decided before anything starts; the others learn from trials and need their packages."""
    scheduler: Literal["none", "asha", "median", "pbt"] | None = None
    """What ends bad trials early; None: asha, and none for cross-validation and bohb (which brings its own)."""
    metric: str = "test_energy_rmse"
    """Column of the history that decides."""
    mode: Literal["min", "max"] = "min"
    """Whether less of the metric is better, or more."""
    grace_period: PositiveInt | None = None
    """Epochs every trial may do; None: a tenth of them. Of pbt: epochs between exchanges."""
    reduction_factor: int = Field(3, ge=2)
    """One in so many trials goes on at each of asha's rungs."""
    max_concurrent: PositiveInt | None = None
    """Trials at a time; None: as many as the cluster's CPUs or GPUs can hold."""
    gpus_per_trial: PositiveFloat = 1.0
    """Where ``scaling.use_gpu``: GPUs of a trial of one worker, or the part of one that it shares."""
    max_failures: int = Field(2, ge=0)
    """Restarts of a trial whose process died."""
    time_budget_s: PositiveFloat | None = None
    """No trial goes on after so many seconds."""
    seed: int | None = Field(None, strict=True, ge=0)
    """Of samples and searcher, of the split and, where ``training.seed`` is not set, of all trials' weights; None draws
    one and records it."""
    cv: int | Literal["source"] | None = None
    """Each configuration is trained once for each of so many folds, or leaving out one source at a time."""
    source_pattern: str | None = None
    """Regular expression; structures whose source matches it alike (its first group, if it has one) are one source.
    None: the file or archive each came from."""
    committee: int | None = Field(None, ge=2)
    """Train so many members with the best configuration when the search is over."""

    @field_validator("cv", mode="before")
    @classmethod
    def _folds(cls, value: object) -> object:
        if value is None or value == "source" or (type(value) is int and value >= 2):
            return value
        if isinstance(value, str) and value.isdigit() and int(value) >= 2:
            return int(value)
        raise ValueError("expected a number of folds, at least 2, or 'source'")

    @field_validator("space", mode="after")
    @classmethod
    def _domains(cls, value: dict[str, Any]) -> dict[str, Any]:
        for path, given in value.items():
            parse_domain(path, given)
        return value

    @field_validator("metric", mode="after")
    @classmethod
    def _is_reported(cls, value: str) -> str:
        if value not in METRICS:
            import difflib

            near = difflib.get_close_matches(value, METRICS, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"not reported by any run; {hint}Reported are {', '.join(METRICS)}")
        return value

    @field_validator("source_pattern", mode="after")
    @classmethod
    def _is_expression(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> TuneConfig:
        if not self.space and self.cv is None:
            raise ValueError("nothing to search: give space, such as {training.method.mu: {loguniform: [1e-4, 1e-2]}}")
        if self.source_pattern is not None and self.cv != "source":
            raise ValueError("source_pattern goes with cv: source")
        has_grid = any(d.kind == "grid" for d in self.domains.values())
        if has_grid and self.searcher != "random":
            raise ValueError(f"space: grid goes with searcher random, not {self.searcher}; use choice")
        if self.cv is not None and self.searcher != "random":
            raise ValueError(
                f"cv trains every configuration on all folds, {self.searcher} would judge it after one; use random"
            )
        if self.cv is not None and self.scheduler not in (None, "none"):
            raise ValueError(f"cv needs every fold trained to its end, {self.scheduler} would stop some; use none")
        if self.searcher == "bohb" and self.scheduler is not None:
            raise ValueError(f"bohb brings its own scheduler; leave out {self.scheduler!r}")
        if self.scheduler == "pbt" and self.searcher != "random":
            raise ValueError(
                f"pbt changes settings by itself, it does not go with searcher {self.searcher}; use random"
            )
        return self

    @model_validator(mode="after")
    def _turns(self) -> TuneConfig:
        if self.scheduler == "pbt" and self.max_concurrent is not None:
            raise ValueError("pbt lets all its trials take turns on what the cluster has; leave out max_concurrent")
        if self.scheduler == "pbt" and self.num_samples < 4:
            raise ValueError(f"pbt needs a population of at least 4, num_samples is {self.num_samples}")
        return self

    @property
    def domains(self) -> dict[str, Domain]:
        return {path: parse_domain(path, given) for path, given in self.space.items()}

    @property
    def scheduling(self) -> str:
        """The scheduler in use."""
        if self.scheduler is not None:
            return self.scheduler
        return "bohb" if self.searcher == "bohb" else ("none" if self.cv is not None else "asha")

    @property
    def sign(self) -> float:
        """Times the metric: less is better."""
        return 1.0 if self.mode == "min" else -1.0
