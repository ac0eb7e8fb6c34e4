"""What all trials share, lost while a search runs: it ends with its name, and goes on when it is back."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from searches import experiment

import aenet_ray
from aenet_ray import workflow
from aenet_ray.errors import StoreError
from aenet_ray.training.launch import worker_error
from aenet_ray.training.trials import LOOK_SECONDS
from aenet_ray.tuning import launch
from aenet_ray.tuning import watch as watching
from aenet_ray.tuning.config import TuneConfig
from aenet_ray.tuning.plan import open_search
from aenet_ray.tuning.results import TuneResults
from aenet_ray.tuning.trial import Trial, train_trial
from aenet_ray.tuning.watch import Watch

SEARCH = {
    "space": {"training.method.mu": {"loguniform": [1e-3, 1e-2]}},
    "num_samples": 4,
    "seed": 1,
    "scheduler": "none",
    "max_failures": 20,
}


def settings(folder: Path, **training) -> dict:
    values = experiment(folder, "search", **({"iterations": 3} | training))
    values["run"]["resume"] = "auto"
    return values


def trial_of(search, i: int):
    entry = search.entries[i]
    trial = Trial(entry["index"], entry["split"], entry["values"])
    train_trial(search, trial, lambda numbers, path: None, 1, False, None)


def lose_structures(search) -> tuple[Path, str]:
    path = Path(search.store.path)
    return path, f"{path}: no such file. Build a structure store"


def replace_structures(search) -> tuple[Path, str]:
    path = Path(search.store.path)
    return path, f"{path}: has content hash .* began with {search.store_hash}. Put the store back"


def lose_split(search) -> tuple[Path, str]:
    path = Path(search.splits[0].file)
    return path, f"{path}: no such split file"


@pytest.mark.parametrize("lose", [lose_structures, replace_structures, lose_split])
def test_a_trial_without_shared_data_ends_the_search(tmp_path, lose):
    """It is no failure of the trial's: nothing of it stays in its folder, and all say the same in the search's."""
    search = open_search(settings(tmp_path), TuneConfig(**SEARCH))
    trial_of(search, 0)
    path, text = lose(search)
    away = path.rename(path.with_suffix(".away"))
    if lose is replace_structures:
        from aenet_ray.structures.readers import read_structures
        from aenet_ray.structures.store import write_store

        write_store(list(read_structures(search_files(tmp_path)))[:50], path)
    with pytest.raises(StoreError, match=text):
        trial_of(search, 1)
    watch = Watch(search.folder, search.tune.metric, 1.0, 1, show=False)
    watch.looked -= 2 * LOOK_SECONDS
    with pytest.raises(StoreError, match=text):
        watch.on_step_end(1, [])
    assert [t.state for t in TuneResults.from_folder(search.folder).trials] == ["finished", "stopped"]
    away.rename(path)
    trial_of(search, 1)
    assert [t.state for t in TuneResults.from_folder(search.folder).trials] == ["finished", "finished"]


def search_files(folder: Path) -> str:
    return experiment(folder)["data"]["files"]


def test_features_deleted_are_made_again(tmp_path):
    """By the next trial; the weights are those of a search that nothing happened to."""
    search = open_search(settings(tmp_path), TuneConfig(**SEARCH))
    trial_of(search, 0)
    shutil.rmtree(tmp_path / "features")
    trial_of(search, 1)
    assert len(list((tmp_path / "features").glob("*/index.json"))) == 1
    assert worker_error(search.folder) is None


def test_features_of_one_trial_that_fail_are_no_end_of_the_search(tmp_path, monkeypatch):
    """They are not what all trials share: the next one may make its own."""
    search = open_search(settings(tmp_path), TuneConfig(**SEARCH))

    def fails(*_, **__):
        raise StoreError("features/shard_0: cannot be put in place: disk full.")

    with monkeypatch.context() as m:
        m.setattr(workflow, "make_features", fails)
        trial_of(search, 0)
    assert worker_error(search.folder) is None
    trial_of(search, 1)
    assert [t.state for t in TuneResults.from_folder(search.folder).trials] == ["failed", "finished"]


def test_structures_lost_while_a_trial_makes_features_end_the_search(tmp_path, monkeypatch):
    """Its error tells of features then, but the next trial's would be the same."""
    search = open_search(settings(tmp_path), TuneConfig(**SEARCH))
    path = Path(search.store.path)

    def loses(*_, **__):
        path.rename(path.with_suffix(".away"))
        raise StoreError("features: shards could not be made")

    monkeypatch.setattr(workflow, "make_features", loses)
    with pytest.raises(StoreError, match=f"{path}: no such file"):
        trial_of(search, 0)
    assert isinstance(worker_error(search.folder), StoreError)


def test_steps_of_tune_open_no_file(tmp_path, monkeypatch):
    """There may be hundreds a second; one looks for an error now and then."""
    watch, looks = Watch(tmp_path, "test_loss", 1.0, 1, show=False), []
    monkeypatch.setattr(watching, "worker_error", looks.append)
    for i in range(50):
        watch.on_step_end(i, [])
    assert len(looks) <= 1  # 0, unless this process was held up
    watch.looked -= 2 * LOOK_SECONDS
    watch.on_step_end(50, [])
    assert looks


def test_a_loss_that_the_last_trial_found_is_told_though_nobody_looked_again(tmp_path, monkeypatch):
    search = open_search(settings(tmp_path), TuneConfig(**SEARCH))
    path = Path(search.store.path)

    def ends(*_):
        path.unlink()
        with pytest.raises(StoreError):
            trial_of(search, 3)

    for name in ("trainable", "_param_space", "_tune_config", "_run_config", "prepare_tune"):
        monkeypatch.setattr(launch, name, lambda *_: None)
    monkeypatch.setattr(launch, "tune", SimpleNamespace(Tuner=lambda *_, **__: None))
    monkeypatch.setattr(launch, "run_trials", ends)
    with pytest.raises(StoreError, match=f"{path}: no such file.* Put it back as it was; the same command"):
        launch.run_search(search, show_progress=False)


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_structures_deleted_in_a_search_on_ray(tmp_path, ray_local, monkeypatch):
    """The first trial comes to its end, the second ends the search at once; the same call goes on with it."""
    ended = Watch.on_trial_complete
    store, away = tmp_path / "structures.h5", tmp_path / "away.h5"

    def losing(self, iteration, trials, trial, **more):
        ended(self, iteration, trials, trial, **more)
        if store.exists():
            store.rename(away)

    began = time.monotonic()
    with monkeypatch.context() as m:
        m.setattr(Watch, "on_trial_complete", losing)
        with pytest.raises(StoreError) as raised:
            aenet_ray.tune(settings(tmp_path), SEARCH, max_concurrent=1)
    assert time.monotonic() - began < 120
    said = str(raised.value)
    assert said.startswith(f"{store}: no such file.")
    assert said.endswith(f"run.resume=auto then goes on with the search in {tmp_path / 'search'}.")
    first = TuneResults.from_folder(tmp_path / "search").trials[0]
    assert first.state == "finished"
    with pytest.raises(StoreError, match=f"{store}: no such file"):
        aenet_ray.tune(settings(tmp_path), SEARCH, max_concurrent=1)
    away.rename(store)
    results = aenet_ray.tune(settings(tmp_path), SEARCH, max_concurrent=1)
    assert [t.state for t in results.trials] == ["finished"] * 4
    assert results.trials[0].rows == first.rows, "trained once more"
