"""What proposes the settings of the next trial, and what ends bad trials early, in Ray Tune's terms."""

from __future__ import annotations

import importlib
import json
import logging
import pickle
from collections.abc import Mapping
from typing import Any

from ray import tune
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    HyperBandForBOHB,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)
from ray.tune.search import Searcher

from aenet_ray.errors import ConfigError
from aenet_ray.tuning.domains import Domain
from aenet_ray.tuning.plan import Search

PACKAGES = {"optuna": ("optuna",), "hyperopt": ("hyperopt",), "bohb": ("hpbandster", "ConfigSpace")}


def check_packages(searcher: str) -> None:
    """Raises:
    ConfigError: A package that the searcher needs is missing.
    """
    for package in PACKAGES.get(searcher, ()):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ConfigError(
                f"tune.searcher: {searcher!r} needs the package {package}, which cannot be imported here ({error}); "
                f"pip install {' '.join(PACKAGES[searcher])}, or use searcher random."
            ) from None


ENTRY = "trial"
"""Under which a trial's settings stand where Tune, and no searcher, hands them out: pbt insists on that."""


def flat(sampled: dict[str, Any]) -> dict[str, Any]:
    """Index, split and settings of a trial, however they were handed out."""
    return dict(sampled.get(ENTRY, sampled))


def flat_entries(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"index": entry["index"], "split": entry["split"], **entry["values"]} for entry in entries]


class Decided(Searcher):
    """Hands out trials that were decided beforehand, in their order."""

    def __init__(self, entries: list[dict[str, Any]]) -> None:
        super().__init__()
        self.entries, self.next = flat_entries(entries), 0

    def suggest(self, trial_id: str) -> Any:
        if self.next >= len(self.entries):
            return Searcher.FINISHED
        self.next += 1
        return dict(self.entries[self.next - 1])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing to learn."""

    def save(self, checkpoint_path: str) -> None:
        with open(checkpoint_path, "w") as file:
            json.dump(self.next, file)

    def restore(self, checkpoint_path: str) -> None:
        with open(checkpoint_path) as file:
            self.next = json.load(file)


class Numbered(Searcher):
    """A library's searcher whose trials get a number, after which their folders are named.

    Args:
        taken: First number that no folder has: those of trials whose proposal was lost with a killed driver are
            not given again.
    """

    def __init__(self, inner: Searcher, split: str, domains: Mapping[str, Domain], taken: int = 0) -> None:
        super().__init__(metric=inner.metric, mode=inner.mode)
        self.inner, self.split, self.domains, self.next = inner, split, dict(domains), taken
        self.lists = {
            path: {_plain(v): v for v in domain.arguments}
            for path, domain in domains.items()
            if domain.is_list and any(_plain(v) is not v for v in domain.arguments)
        }

    def suggest(self, trial_id: str) -> Any:
        values = self.inner.suggest(trial_id)
        if not isinstance(values, dict):
            return values
        values = {path: self.domains[path].snap(value) for path, value in values.items()}
        for path, known in self.lists.items():
            values[path] = known[values[path]]
        self.next += 1
        return {"index": self.next - 1, "split": self.split, **values}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self.inner.on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self.inner.on_trial_complete(trial_id, result, error)

    def on_pause(self, trial_id: str) -> None:
        """BOHB's scheduler tells its searcher of trials that wait."""
        getattr(self.inner, "on_pause", _ignore)(trial_id)

    def on_unpause(self, trial_id: str) -> None:
        """And of those that go on."""
        getattr(self.inner, "on_unpause", _ignore)(trial_id)

    def save(self, checkpoint_path: str) -> None:
        self.inner.save(checkpoint_path + ".inner")
        with open(checkpoint_path + ".inner", "rb") as file:
            state = file.read()
        with open(checkpoint_path, "wb") as file:
            pickle.dump((self.next, state), file)

    def restore(self, checkpoint_path: str) -> None:
        """From the search's own folder, written by this class."""
        with open(checkpoint_path, "rb") as file:
            number, state = pickle.load(file)
        self.next = max(number, self.next)
        with open(checkpoint_path + ".inner", "wb") as file:
            file.write(state)
        self.inner.restore(checkpoint_path + ".inner")


def _ignore(trial_id: str) -> None:
    """For searchers that do not want to know."""


def ray_domain(domain: Domain) -> Any:
    """The domain in Ray Tune's terms; values of a list that are no plain ones as JSON."""
    if domain.is_list:
        return tune.choice([_plain(v) for v in domain.arguments])
    return getattr(tune, domain.kind)(*domain.arguments)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float, str)) else json.dumps(value)


def make_searcher(search: Search, taken: int = 0) -> Searcher:
    """The searcher of a search, seeded."""
    settings = search.tune
    if search.entries is not None:
        return Decided(search.entries)
    check_packages(settings.searcher)
    space = {path: ray_domain(domain) for path, domain in settings.domains.items()}
    common: dict[str, Any] = {"metric": settings.metric, "mode": settings.mode}
    inner: Searcher
    if settings.searcher == "optuna":
        import optuna
        from ray.tune.search.optuna import OptunaSearch

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        inner = OptunaSearch(OptunaSearch.convert_search_space(space), seed=search.seed, **common)
    elif settings.searcher == "hyperopt":
        from ray.tune.search.hyperopt import HyperOptSearch

        converted = HyperOptSearch.convert_search_space(space)
        inner = HyperOptSearch(converted, random_state_seed=search.seed, n_initial_points=5, **common)
    else:
        from ray.tune.search.bohb import TuneBOHB

        logging.getLogger("ray.tune.search.bohb.bohb_search").setLevel(logging.ERROR)  # we keep to the steps
        inner = TuneBOHB(TuneBOHB.convert_search_space(space), seed=search.seed, **common)
    return Numbered(inner, search.splits[0].name, settings.domains, taken)


def make_scheduler(search: Search) -> TrialScheduler:
    """The scheduler of a search; all count in epochs, which a restored search goes on counting."""
    settings, epochs, grace = search.tune, search.max_epochs, search.grace
    common: dict[str, Any] = {"metric": settings.metric, "mode": settings.mode, "time_attr": "epoch"}
    if settings.scheduling == "asha":
        # A trial that comes to its end must not be stopped there, before its model is written.
        return AsyncHyperBandScheduler(
            max_t=epochs + 1, grace_period=grace, reduction_factor=settings.reduction_factor, **common
        )
    if settings.scheduling == "median":
        return MedianStoppingRule(grace_period=grace, min_samples_required=3, **common)
    if settings.scheduling == "bohb":
        return HyperBandForBOHB(
            max_t=max(epochs, 2), reduction_factor=settings.reduction_factor, stop_last_trials=False, **common
        )
    if settings.scheduling == "pbt":
        mutations = {
            path: ray_domain(d) if not d.is_list else list(d.arguments) for path, d in settings.domains.items()
        }
        # synch: trials wait for each other, or those that start late would find nobody to compare with.
        return PopulationBasedTraining(
            perturbation_interval=grace,
            hyperparam_mutations={ENTRY: mutations},
            synch=True,
            log_config=False,
            **common,
        )
    return FIFOScheduler()
