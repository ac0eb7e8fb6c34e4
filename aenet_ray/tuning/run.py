"""``aenet_ray.tune``: a search from its settings to its results."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aenet_ray.config import read_yaml
from aenet_ray.errors import ConfigError
from aenet_ray.experiment import ExperimentConfig, split_groups
from aenet_ray.training.run_features import make_features
from aenet_ray.training.run_folder import ray_for_trials
from aenet_ray.tuning.config import TuneConfig
from aenet_ray.tuning.plan import Search, open_search
from aenet_ray.tuning.report import write_figures
from aenet_ray.tuning.results import TuneResults
from aenet_ray.tuning.space import corners
from aenet_ray.workflow import begin

logger = logging.getLogger(__name__)

MANY_DESCRIPTORS = 16


def tune(
    experiment: str | Path | Mapping[str, Any] | ExperimentConfig,
    search: TuneConfig | Mapping[str, Any] | None = None,
    **settings: Any,
) -> TuneResults:
    """Search settings of a run, or cross-validate them, as trials on Ray Tune.

    Args:
        experiment: A run's YAML file, or its settings. A ``tune`` group in it is the search.
        search: The search, where it is not in the file.
        settings: Single settings of the search, such as ``num_samples=20``.

    Raises:
        ConfigError, StructureError, TrainingError: Input does not fit; before Ray starts wherever that can be known.
    """
    values, group = _values(experiment)
    if search is not None:
        group = search.model_dump(exclude_unset=True) if isinstance(search, TuneConfig) else dict(search)
    if not group and not settings:
        raise ConfigError("tune: nothing to search; give a 'tune' group with 'space' in the file, or search=.")
    return run_tune(values, TuneConfig.from_mapping(group | settings, "tune"))


def _values(experiment: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    if isinstance(experiment, ExperimentConfig):
        return experiment.to_dict(), {}
    if isinstance(experiment, Mapping):
        values, groups = split_groups(experiment, "experiment")
    else:
        values, groups = split_groups(read_yaml(experiment), str(experiment))
    return values, groups["tune"]


def run_tune(values: Mapping[str, Any], settings: TuneConfig) -> TuneResults:
    """The search of these settings, or what is left of it, and what it found."""
    if settings.searcher != "random":
        from aenet_ray.tuning.searchers import check_packages

        check_packages(settings.searcher)
    search = open_search(values, settings)
    show = search_shows(values)
    with ray_for_trials(search.scaling):
        from aenet_ray.training.trials import check_trials_fit
        from aenet_ray.tuning.launch import run_search

        check_trials_fit(search.scaling, search.tune.gpus_per_trial, "tune.gpus_per_trial")
        make_all_features(search, show=show)
        check_first_trial(search)
        run_search(search, show_progress=show)
    results = TuneResults.from_folder(search.folder)
    results.write()
    write_figures(results)
    if settings.committee is not None:
        from aenet_ray.tuning.retrain import train_best

        train_best(results, settings.committee, show_progress=show)
    return results


def search_shows(values: Mapping[str, Any]) -> bool:
    return bool((values.get("training") or {}).get("show_progress", True))


def make_all_features(search: Search, *, show: bool) -> None:
    """Features of every descriptor that the trials will have, where it can be known: made once, before them.

    What a searcher comes up with later is made by the first trial that needs it, while the others wait for it.
    """
    store, made = search.store, set()
    for values in _descriptors(search):
        config = search.config(0, values, search.splits[0].name)
        descriptor = config.descriptor.build()
        key = (descriptor.fingerprint(), config.training.precision)
        if key in made:
            continue
        made.add(key)
        training = config.training.model_copy(update={"show_progress": show})
        make_features(store, descriptor, training, Path(config.features_folder), config.scaling)


def check_first_trial(search: Search) -> None:
    """Prepare a trial here and throw it away: what does not fit the data shows before all trials fail of it.

    Raises:
        ConfigError, TrainingError: As of any run.
    """
    if search.entries is not None:
        values, split = search.entries[0]["values"], search.entries[0]["split"]
    else:
        values, split = next(corners(search.tune.domains)), search.splits[0].name
    config, store = search.config(0, values, split), search.store
    with tempfile.TemporaryDirectory(dir=search.folder, prefix=".check") as folder:
        begin(config, Path(folder), store, search.split(split).load(store), None)


def _descriptors(search: Search) -> list[dict[str, Any]]:
    """Settings that decide the features, of all trials as far as they are known."""

    def decides(path: str) -> bool:
        return path == "descriptor" or path.startswith("descriptor.") or path == "training.precision"

    if search.entries is not None:
        return [{k: v for k, v in entry["values"].items() if decides(k)} for entry in search.entries]
    domains = {path: d for path, d in search.tune.domains.items() if decides(path)}
    if not all(d.is_list for d in domains.values()):
        return []
    found: list[dict[str, Any]] = [{}]
    for path, domain in domains.items():
        found = [{**values, path: value} for values in found for value in domain.arguments]
    return found if len(found) <= MANY_DESCRIPTORS else []
