"""Searches that cannot be: refused before Ray starts, with the thing named and the remedy said."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aenet_ray.errors import AenetRayError, ConfigError, StoreError, TrainingError
from aenet_ray.tuning.config import TuneConfig
from aenet_ray.tuning.plan import open_search
from aenet_ray.tuning.splits import source_label

TIO2 = Path(__file__).parents[2] / "examples" / "data" / "tio2_ci100_xsf.tar.gz"
MU = {"training.method.mu": {"loguniform": [1e-4, 1e-2]}}


def settings(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "data": {"files": str(TIO2)},
        "descriptor": {"species": ["Ti", "O"], "rad_order": 4, "rad_cutoff": 5.0, "ang_order": 2, "ang_cutoff": 4.0},
        "network": [[6, "tanh"]],
        "training": {"iterations": 5, "testpercent": 20, "show_progress": False},
        "run": {"name": "search"},
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        target = values
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = value
    return values


def searched(tune: dict[str, Any], **changes: Any) -> Callable[[Path], object]:
    """Open a search in a folder; nothing of Ray is imported."""

    def call(folder: Path) -> object:
        values = settings(**changes)
        values["run"] = {"storage_path": str(folder), "name": "search"} | values["run"]
        return open_search(values, TuneConfig.from_mapping(tune, "tune"))

    return call


def space(path: str, given: Any, **more: Any) -> dict[str, Any]:
    return {"space": {path: given}, **more}


ROWS: list[tuple[str, Callable[[Path], object], type[AenetRayError], str]] = [
    ("nothing", searched({}), ConfigError, r"tune: nothing to search: give space"),
    ("unknown key", searched({"space": MU, "num_sample": 3}), ConfigError, r"tune: num_sample: .* 'num_samples'"),
    ("no samples", searched({"space": MU, "num_samples": 0}), ConfigError, r"num_samples: .*greater than 0"),
    ("bad seed", searched({"space": MU, "seed": -1}), ConfigError, r"seed: .*greater than or equal to 0"),
    ("bad searcher", searched({"space": MU, "searcher": "grid"}), ConfigError, r"searcher: .*'random'.*'grid'"),
    ("bad scheduler", searched({"space": MU, "scheduler": "hyperband"}), ConfigError, r"scheduler: .*'asha'"),
    ("bad mode", searched({"space": MU, "mode": "lowest"}), ConfigError, r"mode: .*'min' or 'max'"),
    ("bad budget", searched({"space": MU, "time_budget_s": 0}), ConfigError, r"time_budget_s: .*greater than 0"),
    ("misspelled metric", searched({"space": MU, "metric": "test_energy_rms"}), ConfigError, r"'test_energy_rmse'\?"),
    ("time as metric", searched({"space": MU, "metric": "epoch_time"}), ConfigError, r"metric: not reported by any"),
    (
        "force metric without forces",
        searched({"space": MU, "metric": "test_force_rmse"}),
        ConfigError,
        r"tune.metric: test_force_rmse is not reported where training.force_weight is 0",
    ),
    (
        "metric without validation",
        searched({"space": MU}, training__testpercent=0),
        ConfigError,
        r"test_energy_rmse is not reported without validation structures; training.testpercent is 0",
    ),
    (
        "metric of too few structures",
        searched({"space": MU}, training__testpercent=0.5),
        ConfigError,
        r"100 structures and training.testpercent=0.5 leave none for validation",
    ),
    ("one fold", searched({"cv": 1}), ConfigError, r"cv: expected a number of folds, at least 2, or 'source'"),
    ("cv as text", searched({"cv": "files"}), ConfigError, r"cv: expected a number of folds.*'files'"),
    ("too many folds", searched({"cv": 101}), ConfigError, r"tune.cv: 101 folds of 100 structures"),
    ("cv with asha", searched({"cv": 3, "scheduler": "asha"}), ConfigError, r"cv needs every fold trained to its end"),
    ("cv with optuna", searched({"cv": 3, "searcher": "optuna"}), ConfigError, r"optuna would judge it after one"),
    (
        "one source",
        searched({"cv": "source"}),
        ConfigError,
        r"are of 1 sources \(.*tio2_ci100_xsf.tar.gz\).*source_pat",
    ),
    ("pattern alone", searched({"space": MU, "source_pattern": "x"}), ConfigError, r"source_pattern goes with cv"),
    ("bad pattern", searched({"cv": "source", "source_pattern": "("}), ConfigError, r"not a regular expression"),
    (
        "pattern that misses",
        searched({"cv": "source", "source_pattern": "nowhere_(.*)"}),
        ConfigError,
        r"'nowhere_\(\.\*\)' does not match the source",
    ),
    ("unknown field", searched(space("training.forceweight", {"choice": [0]})), ConfigError, r"mean 'force_weight'\?"),
    ("unknown method field", searched(space("training.method.mus", {"choice": [1]})), ConfigError, r"mean 'mu'\?"),
    ("unknown group", searched(space("trainings.iterations", {"choice": [1]})), ConfigError, r"mean 'training'\?"),
    (
        "through a value",
        searched(space("training.iterations.x", {"choice": [1]})),
        ConfigError,
        r"no group of settings",
    ),
    ("no domain", searched(space("training.method.mu", 0.1)), ConfigError, r"mu: found 0.1, expected one of choice"),
    ("two domains", searched(space("a", {"choice": [1], "grid": [1]})), ConfigError, r"expected one of choice"),
    ("unknown domain", searched(space("a", {"loguniforn": [1, 2]})), ConfigError, r"did you mean 'loguniform'\?"),
    ("no list", searched(space("a", {"choice": 3})), ConfigError, r"choice: found 3, expected a list of values"),
    ("empty list", searched(space("a", {"choice": []})), ConfigError, r"choice: found \[\], expected a list"),
    ("twice", searched(space("a", {"choice": [1, 2, 1]})), ConfigError, r"\[1, 2, 1\] names a value twice"),
    ("one number", searched(space("a", {"uniform": [1]})), ConfigError, r"has 1 numbers, expected \[low, high\]"),
    ("no step", searched(space("a", {"quniform": [1, 2]})), ConfigError, r"expected \[low, high, step\]"),
    ("turned round", searched(space("a", {"uniform": [2, 1]})), ConfigError, r"low must be below high"),
    ("log of zero", searched(space("a", {"loguniform": [0, 1]})), ConfigError, r"logarithmic range begins above 0"),
    ("text", searched(space("a", {"uniform": ["low", 1]})), ConfigError, r"'low' is no finite number"),
    ("infinite", searched(space("a", {"uniform": [0, float("inf")]})), ConfigError, r"inf is no finite number"),
    ("not whole", searched(space("a", {"randint": [1, 2.5]})), ConfigError, r"2.5 is not whole, as randint needs"),
    ("large step", searched(space("a", {"qrandint": [1, 4, 9]})), ConfigError, r"step must be above 0 and at most"),
    (
        "value not allowed",
        searched(space("training.method.mu", {"uniform": [-1, 1]})),
        ConfigError,
        r"tune.space: training.method.mu=-1: training.method.mu: .*greater than 0",
    ),
    (
        "one value of a list",
        searched(space("training.sampling_policy", {"choice": ["uniform", "weighted"]})),
        ConfigError,
        r"tune.space: training.sampling_policy='weighted': .*'energy_weighted'",
    ),
    (
        "cutoffs that contradict",
        searched(space("descriptor.ang_cutoff", {"uniform": [3.0, 7.0]})),
        ConfigError,
        r"descriptor.ang_cutoff=7.0: .*longer than rad_cutoff",
    ),
    ("activation", searched(space("network.activation", {"choice": ["tanh", "relu"]})), ConfigError, r"'relu'"),
    ("no layers", searched(space("network.depth", {"randint": [0, 3]})), ConfigError, r"at least 1"),
    (
        "whole and part",
        searched({"space": {"network": {"choice": [[[5, "tanh"]]]}, "network.width": {"choice": [4]}}}),
        ConfigError,
        r"network is searched as a whole; give one of them",
    ),
    ("other data", searched(space("data.files", {"choice": ["a"]})), ConfigError, r"all trials share one structure"),
    ("other splits", searched(space("training.testpercent", {"choice": [5]})), ConfigError, r"for other splits use"),
    ("other validation", searched(space("training.max_energy", {"uniform": [1, 2]})), ConfigError, r"validated on"),
    ("resources", searched(space("scaling.num_workers", {"choice": [1]})), ConfigError, r"the same resources"),
    (
        "losses that mean other things",
        searched(space("training.force_weight", {"uniform": [0.1, 0.9]}, metric="test_loss")),
        ConfigError,
        r"test_loss is another loss for every training.force_weight",
    ),
    (
        "pbt of an architecture",
        searched(space("network.width", {"randint": [3, 9]}, scheduler="pbt")),
        ConfigError,
        r"tune.space.network.width: pbt changes settings of trials while they run",
    ),
    (
        "pbt with optuna",
        searched({"space": MU, "scheduler": "pbt", "searcher": "optuna"}),
        ConfigError,
        r"it does not go with searcher optuna",
    ),
    (
        "pbt of several workers",
        searched({"space": MU, "scheduler": "pbt"}, scaling__num_workers=2),
        ConfigError,
        r"\(scaling.num_workers=2\) do not have in Tune; use asha or median",
    ),
    ("pbt in turns", searched({"space": MU, "scheduler": "pbt", "max_concurrent": 1}), ConfigError, r"take turns"),
    ("pbt of two", searched({"space": MU, "scheduler": "pbt", "num_samples": 2}), ConfigError, r"at least 4"),
    ("bohb with asha", searched({"space": MU, "searcher": "bohb", "scheduler": "asha"}), ConfigError, r"its own sch"),
    (
        "grid with optuna",
        searched(space("training.method.mu", {"grid": [0.1]}, searcher="optuna")),
        ConfigError,
        r"grid goes with searcher random, not optuna; use choice",
    ),
    ("no epochs", searched({"space": MU}, training__iterations=0), ConfigError, r"iterations is 0"),
    (
        "small committee",
        searched({"space": MU, "committee": 1}),
        ConfigError,
        r"committee: .*greater than or equal to 2",
    ),
    ("no file", searched({"space": MU}, data__files="gone.xyz"), ConfigError, r"data: no such file: gone.xyz"),
    ("no split file", searched({"space": MU}, data__split="gone.json"), ConfigError, r"data.split: no such file"),
    ("nothing to resume", searched({"space": MU}, run__resume="must"), TrainingError, r"no search to resume"),
]


@pytest.mark.parametrize(("call", "cls", "text"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_refused(call, cls, text, tmp_path):
    with pytest.raises(cls) as raised:
        call(tmp_path)
    assert re.search(text, str(raised.value)), str(raised.value)


def begun(folder: Path):
    return searched({"space": MU, "num_samples": 2, "seed": 1})(folder)


def again(folder: Path, **tune: Any):
    return searched({"space": MU, "num_samples": 2, "seed": 1, **tune}, run__resume="auto")(folder)


def test_a_search_goes_on_only_as_it_began(tmp_path):
    search = begun(tmp_path)
    assert again(tmp_path, max_concurrent=1).entries == search.entries
    with pytest.raises(TrainingError, match="holds a search already"):
        begun(tmp_path)
    with pytest.raises(TrainingError, match=r"began with other settings \(tune.seed: 1 -> 2\)"):
        again(tmp_path, seed=2)


def test_another_split_or_store(tmp_path):
    """A trial, and a search that goes on, insist on what the search began with."""
    search = begun(tmp_path)
    split = tmp_path / "search" / "split.json"
    text = split.read_text()
    split.write_text(text.replace('"train": [', '"train": [', 1).replace('"seed": 1', '"seed": 5'))
    again(tmp_path)  # the seed says how it came about, not what it is
    other = search.splits[0].hash
    split.write_text(text.replace(other, "0" * 32))
    with pytest.raises(ConfigError, match="was changed by hand"):
        again(tmp_path)
    from aenet_ray.structures.split import SplitFile

    split.write_text(text)
    loaded = SplitFile.load(split)
    parts = {"train": loaded["validation"], "validation": loaded["train"]}
    SplitFile(parts=parts, n_structures=100, store_hash=loaded.store_hash).save(split)
    with pytest.raises(ConfigError, match=f"holds another split .*{other}"):
        search.splits[0].load(search.store)
    split.unlink()
    with pytest.raises(ConfigError, match="no such split file"):
        search.splits[0].load(search.store)
    (tmp_path / "search" / "structures.h5").unlink()
    with pytest.raises(StoreError, match=r"structures\.h5"):
        again(tmp_path)


def test_a_run_is_no_search(tmp_path):
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "run.json").write_text("{}")
    with pytest.raises(TrainingError, match="holds a run of 'aenet-ray train'"):
        begun(tmp_path)


def test_sources():
    assert source_label("/a/b.tar.gz::member=3:x/y.xsf", None) == "/a/b.tar.gz"
    assert source_label("/a/rutile/001.xsf", None) == "/a/rutile"
    assert source_label("/a/md.extxyz", None) == "/a/md.extxyz"
    assert source_label("/a/rutile_001.xsf", r"/([a-z]+)_") == "rutile"
    assert source_label("/a/rutile_001.xsf", r"[a-z]+_") == "rutile_"


def test_nothing_of_ray_is_needed_to_refuse():
    code = (
        "import sys; from aenet_ray.tuning.plan import open_search; from aenet_ray.tuning.run import tune;"
        "print('ray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
