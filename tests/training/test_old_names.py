"""Scripts of older generations: their names mean what they meant, with a warning; contradictions are refused."""

from __future__ import annotations

import warnings

import pytest

from aenet_ray.config import apply_overrides
from aenet_ray.errors import ConfigError
from aenet_ray.experiment import ExperimentConfig
from aenet_ray.training.config import TorchTrainingConfig
from aenet_ray.training.old_names import OLD_NAMES, RENAMED

EPS = {"Ti": -1.0, "O": -2.0}
CASES = [
    ({"cached_features": True}, {"cache_features": True}, "cached_features .* cache_features"),
    ({"cached_features_for_force": True}, {"cache_features": True}, "cached_features_for_force .* cache_features"),
    ({"cached_features": False, "cached_features_for_force": True}, {"cache_features": True}, "cached_features"),
    ({"cached_features": True, "cached_features_for_force": False}, {"cache_features": True}, "cached_features"),
    ({"cached_features": False}, {"cache_features": False}, "cached_features"),
    ({"cache_triplets": True}, {"cache_force_triplets": True}, "cache_triplets .* cache_force_triplets"),
    ({"cache_force_neighbors": True}, {"cache_neighbors": True}, "cache_force_neighbors .* cache_neighbors"),
    ({"cache_force_neighbors": True, "cache_neighbors": True}, {"cache_neighbors": True}, "cache_force_neighbors"),
    ({"E_atomic": EPS}, {"atomic_energies": EPS}, "E_atomic .* atomic_energies"),
    ({"E_atomic": EPS, "atomic_energies": EPS}, {"atomic_energies": EPS}, "E_atomic"),
    ({"force_resample_each_epoch": False}, {"force_resample_num_epochs": 0}, "each_epoch=False .*num_epochs=0"),
    ({"force_resample_each_epoch": True}, {"force_resample_num_epochs": 1}, "each_epoch=True .*num_epochs=1"),
    ({"epochs_per_force_window": 5}, {"force_resample_num_epochs": 5}, "window=5 .*num_epochs=5"),
    (
        {"force_resample_each_epoch": True, "epochs_per_force_window": 5},
        {"force_resample_num_epochs": 5},
        "each_epoch=True and epochs_per_force_window=5 .* force_resample_num_epochs=5",
    ),
    (
        {"force_resample_each_epoch": True, "force_resample_num_epochs": 1},
        {"force_resample_num_epochs": 1},
        "force_resample_each_epoch",
    ),
    ({"energy_target": "total"}, {"atomic_energies": None}, "energy_target='total'"),
    ({"energy_target": "cohesive", "atomic_energies": EPS}, {"atomic_energies": EPS}, "energy_target='cohesive'"),
    ({"energy_target": "cohesive", "E_atomic": EPS}, {"atomic_energies": EPS}, "energy_target|E_atomic"),
]


@pytest.mark.parametrize(("old", "new", "message"), CASES)
def test_old_names_mean_what_they_meant(old, new, message):
    with pytest.warns(DeprecationWarning, match=message) as caught:
        settings = TorchTrainingConfig(**old)
    assert settings == TorchTrainingConfig(**new)
    assert all(w.filename == __file__ for w in caught), "the warning is at the line to be changed"
    with pytest.warns(DeprecationWarning, match=message):
        assert TorchTrainingConfig.from_mapping(old) == settings


def test_every_old_name_has_a_case():
    assert {name for old, _, _ in CASES for name in old} >= set(OLD_NAMES)
    assert set(RENAMED.values()) <= set(TorchTrainingConfig.model_fields)


def test_present_names_warn_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TorchTrainingConfig(cache_features=True, force_resample_num_epochs=3, atomic_energies=EPS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cached_features": True, "cache_features": False}, "cached_features=True contradicts cache_features=False"),
        ({"cache_triplets": True, "cache_force_triplets": False}, "cache_triplets=True contradicts"),
        ({"cache_force_neighbors": False, "cache_neighbors": True}, "cache_force_neighbors=False contradicts"),
        (
            {"E_atomic": EPS, "atomic_energies": {"Ti": 0.0}},
            "E_atomic=.* contradicts atomic_energies=.*leave out the first",
        ),
        (
            {"force_resample_each_epoch": False, "epochs_per_force_window": 5},
            "force_resample_each_epoch=False and epochs_per_force_window=5 contradict each other",
        ),
        ({"epochs_per_force_window": 5, "force_resample_num_epochs": 2}, "window=5 contradicts .*num_epochs=2"),
        ({"epochs_per_force_window": 0}, r"epochs_per_force_window: expected .*at least 1 \(found 0\)"),
        ({"epochs_per_force_window": True}, r"epochs_per_force_window: expected .* \(found True\)"),
        ({"force_resample_each_epoch": 3}, r"force_resample_each_epoch: expected true or false \(found 3\)"),
        ({"energy_target": "cohesive"}, "energy_target='cohesive' needs atomic_energies"),
        ({"energy_target": "total", "E_atomic": EPS}, "energy_target='total' contradicts atomic_energies"),
        ({"energy_target": "formation"}, r"energy_target: expected 'cohesive' or 'total' \(found 'formation'\)"),
        ({"E_atomic": {"Ti": float("nan")}}, r"atomic_energies\.Ti: .*nan"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_contradictions_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        TorchTrainingConfig(**values)
    with pytest.raises(ConfigError, match=f"training.*{message}"):
        ExperimentConfig.from_mapping({"training": values})


def test_in_files_and_on_the_command_line():
    values = {
        "data": {"files": "set.xsf"},
        "descriptor": {"species": ["Ti", "O"], "rad_order": 3, "rad_cutoff": 4.0, "ang_order": 2, "ang_cutoff": 3.0},
        "network": [[5, "tanh"]],
        "training": {"cached_features": True},
    }
    apply_overrides(values, ["training.E_atomic.Ti=-1.0", "training.E_atomic.O=-2", "training.cache_triplets=true"])
    with pytest.warns(DeprecationWarning, match="old name"):
        training = ExperimentConfig.from_mapping(values).training
    assert training == TorchTrainingConfig(cache_features=True, cache_force_triplets=True, atomic_energies=EPS)
