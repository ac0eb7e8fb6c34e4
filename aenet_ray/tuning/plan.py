"""A search, decided once by the driver and written down: trials only read it."""

from __future__ import annotations

import copy
import json
import logging
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from aenet_ray.errors import ConfigError, TrainingError
from aenet_ray.experiment import ExperimentConfig
from aenet_ray.files import write_text
from aenet_ray.run_data import structures_of
from aenet_ray.structures.store import StructureStore
from aenet_ray.training.config import ScalingConfig
from aenet_ray.training.run_folder import SEARCH_FILE, check_kind, run_path
from aenet_ray.tuning.config import TuneConfig
from aenet_ray.tuning.space import check_space, draw, trial_config, with_values
from aenet_ray.tuning.splits import SharedSplit, folds, leave_one_source_out, one_split

logger = logging.getLogger(__name__)

SEARCH, TRIALS, COMMITTEE = SEARCH_FILE, "trials", "committee"
FREE = ("max_concurrent", "max_failures", "time_budget_s", "committee")
"""Settings that a search may go on with other values of."""


@dataclass(frozen=True, slots=True)
class Search:
    """All that a trial needs to know besides its own settings.

    Args:
        folder: Of the search.
        base: Settings of every trial, for ``ExperimentConfig``.
        tune: Of the search.
        seed: Of samples and searcher.
        store_hash: ``content_hash`` of the structure store.
        splits: One, or those of a cross-validation.
        entries: Split and settings of every trial, where they are decided beforehand; None: a searcher decides.
    """

    folder: Path
    base: dict[str, Any]
    tune: TuneConfig
    seed: int
    store_hash: str
    splits: list[SharedSplit]
    entries: list[dict[str, Any]] | None

    @property
    def store(self) -> StructureStore:
        """Raises:
        StoreError: It is gone.
        ConfigError: It is another one.
        """
        store = StructureStore(self.base["data"]["files"][0])
        if store.content_hash != self.store_hash:
            raise ConfigError(
                f"{store.path}: has content hash {store.content_hash}, the search in {self.folder} began with "
                f"{self.store_hash}. Put the store back, or begin a new search."
            )
        return store

    def trial_dir(self, index: int) -> Path:
        return self.folder / TRIALS / f"trial_{index:04d}"

    def split(self, name: str) -> SharedSplit:
        return next(s for s in self.splits if s.name == name)

    def settings(self, values: Mapping[str, Any], split: str) -> dict[str, Any]:
        """A trial's settings, as a run's file would give them."""
        settings = with_values(self.base, values)
        settings["data"]["split"] = self.split(split).file
        return settings

    def config(self, index: int, values: Mapping[str, Any], split: str) -> ExperimentConfig:
        settings = self.settings(values, split)
        settings["training"]["show_progress"] = False
        run = {"storage_path": str(self.folder / TRIALS), "name": self.trial_dir(index).name, "resume": "auto"}
        settings["run"] = settings.get("run", {}) | run | {"loggers": []}
        return ExperimentConfig.from_mapping(settings)

    @property
    def base_config(self) -> ExperimentConfig:
        return ExperimentConfig.from_mapping(self.base)

    @property
    def scaling(self) -> ScalingConfig:
        """What a trial has."""
        return self.base_config.scaling or ScalingConfig()

    @property
    def max_epochs(self) -> int:
        """Of the longest trial that the space allows."""
        domain = self.tune.domains.get("training.iterations")
        given = int(self.base_config.training.iterations)
        return given if domain is None else max(int(v) for v in domain.corners())

    @property
    def grace(self) -> int:
        """Epochs before the scheduler's first decision."""
        return min(self.tune.grace_period or max(1, self.max_epochs // 10), self.max_epochs)

    @property
    def rungs(self) -> frozenset[int]:
        """Epochs at which asha decides."""
        if self.tune.scheduling != "asha":
            return frozenset()
        found, epoch = set(), self.grace
        while epoch <= self.max_epochs:
            found.add(epoch)
            epoch *= self.tune.reduction_factor
        return frozenset(found)

    def save(self) -> None:
        values = asdict(self) | {"folder": str(self.folder), "tune": self.tune.model_dump(mode="json")}
        write_text(self.folder / SEARCH, json.dumps(values, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Search:
        """Raises:
        TrainingError: The folder holds no search.
        """
        folder = Path(folder).absolute()
        try:
            values = json.loads((folder / SEARCH).read_text())
            splits = [SharedSplit(**s) for s in values["splits"]]
        except FileNotFoundError:
            raise TrainingError(f"{folder}: holds no search ({SEARCH} is missing).") from None
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{folder / SEARCH}: damaged: {error}.") from None
        tune = TuneConfig.from_mapping(values["tune"], str(folder / SEARCH))
        return cls(**(values | {"folder": folder, "tune": tune, "splits": splits}))


def check_search(values: Mapping[str, Any], tune: TuneConfig) -> ExperimentConfig:
    """Look for what can be wrong before anything is made or started.

    Raises:
        ConfigError: A setting of run or search is not allowed, or they contradict each other.
    """
    config = ExperimentConfig.from_mapping(values)
    config.check()
    searched = tune.space.keys()
    has_forces = config.training.force_weight > 0 or "training.force_weight" in searched
    if "force" in tune.metric and not has_forces:
        raise ConfigError(f"tune.metric: {tune.metric} is not reported where training.force_weight is 0.")
    held_out = tune.cv or config.data.validation or config.data.split or config.training.testpercent
    if tune.metric.startswith("test_") and not held_out:
        raise ConfigError(
            f"tune.metric: {tune.metric} is not reported without validation structures; training.testpercent is 0."
        )
    if tune.cv is not None and config.data.validation:
        raise ConfigError("tune.cv and data.validation are both set; give one of them.")
    workers = 1 if config.scaling is None else config.scaling.num_workers
    if tune.scheduling in ("pbt", "bohb") and workers > 1:
        raise ConfigError(
            f"tune: {tune.scheduling} hands checkpoints from trial to trial, which those of several workers "
            f"(scaling.num_workers={workers}) do not have in Tune; use asha or median, or one worker a trial."
        )
    if config.training.iterations < 1 and "training.iterations" not in searched:
        raise ConfigError("tune: training.iterations is 0: trials would report nothing.")
    check_space(values, tune)
    return config


def open_search(values: Mapping[str, Any], tune: TuneConfig) -> Search:
    """The search of these settings: the one in its folder, which goes on, or a new one.

    Raises:
        ConfigError: Settings are not allowed.
        TrainingError: The folder holds another search, or one that may not be resumed.
        StructureError, StoreError: Structures cannot be read.
    """
    config = check_search(values, tune)
    run = config.run
    folder = run_path(run)
    check_kind(folder, SEARCH)
    there = (folder / SEARCH).exists()
    if run.resume == "must" and not there:
        raise TrainingError(f"{folder}: no search to resume (run.resume is 'must').")
    if there and run.resume == "never":
        raise TrainingError(
            f"{folder}: holds a search already. Go on with it by run.resume=auto, or choose another run.name."
        )
    if there:
        return _go_on(Search.load(folder), values, tune)
    return _begin(folder, values, config, tune)


def _go_on(search: Search, values: Mapping[str, Any], tune: TuneConfig) -> Search:
    recorded = json.loads((search.folder / "asked.json").read_text())
    now = json.loads(json.dumps(_asked(values, tune)))
    changed = [k for k in sorted({*recorded, *now}) if recorded.get(k) != now.get(k)]
    if changed:
        what = "; ".join(f"{k}: {recorded.get(k)} -> {now.get(k)}" for k in changed)
        raise TrainingError(f"{search.folder}: began with other settings ({what}). Choose another run.name.")
    store = search.store  # also says if it is gone or another one
    for split in search.splits:
        split.load(store)
    search = replace(search, tune=tune)
    search.save()
    return search


def _asked(values: Mapping[str, Any], tune: TuneConfig) -> dict[str, Any]:
    """What was asked for, as far as it decides what the trials are."""
    asked = {f"tune.{k}": v for k, v in tune.model_dump(mode="json").items() if k not in FREE}
    return asked | {k: v for k, v in values.items() if k != "run"}


def _begin(folder: Path, values: Mapping[str, Any], config: ExperimentConfig, tune: TuneConfig) -> Search:
    seed = tune.seed if tune.seed is not None else secrets.randbits(31)
    entries = None
    if tune.searcher == "random":
        drawn = draw(tune, seed)
        for sample in drawn:
            trial_config(values, sample)
    try:
        (folder / TRIALS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{folder}: the search's folder cannot be made: {error}") from None
    data = config.data
    store, given = structures_of(data, folder, progress=config.training.show_progress)
    split_seed = next((s for s in (config.training.split_seed, config.training.seed, seed) if s is not None), seed)
    if tune.cv == "source":
        splits = leave_one_source_out(store, folder / "splits", tune.source_pattern, given)
    elif tune.cv is not None:
        splits = folds(store, folder / "splits", int(tune.cv), split_seed, given)
    else:
        splits = one_split(store, folder, config.training.testpercent, split_seed, given)
    _check_metric(tune, config, store, splits)
    if tune.searcher == "random":
        entries = [
            {"index": i, "split": split.name, "values": sample}
            for i, (sample, split) in enumerate((sample, split) for sample in drawn for split in splits)
        ]
    base = _trial_base(values, config, store, seed, one_split_for_all=tune.cv is None)
    search = Search(folder, base, tune, seed, store.content_hash, splits, entries)
    write_text(folder / "asked.json", json.dumps(_asked(values, tune), indent=1))
    search.save()
    return search


def _trial_base(
    values: Mapping[str, Any], config: ExperimentConfig, store: StructureStore, seed: int, *, one_split_for_all: bool
) -> dict[str, Any]:
    """What was asked for, with the shared store in place of the files, and paths that are the same everywhere."""
    base = copy.deepcopy(dict(values))
    base["data"] = {"files": [str(Path(store.path).absolute())]}
    if config.data.test:
        keys = {"energy_key": config.data.energy_key, "forces_key": config.data.forces_key}
        base["data"] |= {"test": [str(Path(f).absolute()) for f in config.data.test], **keys}
    training = dict(base.get("training") or {})
    if one_split_for_all:
        for name in ("testpercent", "split_seed"):
            training.pop(name, None)
    if training.get("seed") is None:
        training["seed"] = seed
    base["training"] = training
    base["features"] = str(Path(config.features_folder).absolute())
    base["run"] = {"loggers": list(config.run.loggers)}
    return base


def _check_metric(tune: TuneConfig, config: ExperimentConfig, store: StructureStore, splits: list[SharedSplit]) -> None:
    """Whether every trial will have the metric: it takes labels to measure it."""
    forces = store.has("forces")
    for split in splits:
        parts = split.load(store)
        if not len(parts.train_ids):
            raise ConfigError(f"{split.file}: no structures to train on; lower training.testpercent.")
        if not tune.metric.startswith("test_"):
            continue
        if not len(parts.test_ids):
            raise ConfigError(
                f"tune.metric: {tune.metric} is not reported: {len(store)} structures and training.testpercent="
                f"{config.training.testpercent} leave none for validation."
            )
        if "force" in tune.metric and not forces[parts.test_ids].any():
            raise ConfigError(f"tune.metric: {tune.metric} is not reported: no validation structure has forces.")
