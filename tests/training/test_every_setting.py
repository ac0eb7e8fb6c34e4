"""Every setting: its default is aenet-python's, and a file and the command line set it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from aenet_ray.config import Config, apply_overrides
from aenet_ray.errors import ConfigError
from aenet_ray.experiment import DataConfig, DescriptorConfig, ExperimentConfig
from aenet_ray.inference.predict import PredictionConfig
from aenet_ray.training.config import METHODS, SGD, Adam, RunConfig, ScalingConfig, TorchTrainingConfig

# Defaults of aenet-python's newest generation.
TRAINING = {
    "iterations": 100, "method": Adam(), "testpercent": 10, "seed": None, "split_seed": None, "force_weight": 0.0,
    "force_fraction": 1.0, "force_sampling": "random", "force_resample_num_epochs": 0,
    "force_min_structures_per_epoch": 1, "force_scale_unbiased": False, "sampling_policy": "uniform",
    "cache_features": False, "cache_feature_max_entries": 1024, "cache_neighbors": False,
    "cache_neighbor_max_entries": 512, "cache_force_triplets": False, "cache_force_triplet_max_entries": 256,
    "cache_persist_dir": None, "cache_scope": "all", "cache_warmup": False, "num_workers": 0, "prefetch_factor": 2,
    "persistent_workers": True, "memory_mode": "gpu", "device": None, "precision": "auto", "max_energy": None,
    "max_forces": None, "atomic_energies": None, "normalize_features": True, "normalize_energy": True,
    "feature_stats": None, "E_shift": None, "E_scaling": None, "save_energies": False, "save_forces": False,
    "timing": False, "show_progress": True, "show_batch_progress": False, "checkpoint_dir": "checkpoints",
    "checkpoint_interval": 1, "max_checkpoints": None, "save_best": True, "use_scheduler": False,
    "scheduler_patience": 10, "scheduler_factor": 0.5, "scheduler_min_lr": 1e-6,
}  # fmt: skip
ADAM = {"mu": 0.001, "batchsize": 32, "weight_decay": 0.0, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
SGD_ = {"lr": 0.01, "batchsize": 32, "weight_decay": 0.0, "momentum": 0.0}
PREDICTION = {
    "timing": False, "print_atomic_energies": False, "batch_size": 32, "num_workers": 0, "prefetch_factor": 2,
    "persistent_workers": True, "debug": False, "potential_paths": None, "potential_format": None,
}  # fmt: skip
# Ours is righter, and the setting's text says so.
OURS = {"max_checkpoints": 3}


@pytest.mark.parametrize(
    ("record", "expected"), [(TorchTrainingConfig, TRAINING), (Adam, ADAM), (SGD, SGD_), (PredictionConfig, PREDICTION)]
)
def test_defaults_are_those_of_aenet_python(record, expected):
    settings = record()
    assert {name: getattr(settings, name) for name in expected} == expected | (
        OURS if record is TorchTrainingConfig else {}
    )
    assert record(**expected) == record(**expected), "all of them are accepted by name"


EXPERIMENT = {
    "data": {"files": "set.xsf"},
    "descriptor": {"species": ["Ti", "O"], "rad_order": 3, "rad_cutoff": 4.0, "ang_order": 1, "ang_cutoff": 3.0},
    "network": [[5, "tanh"]],
}
SPECIAL = {
    "method": {"name": "sgd", "lr": 0.5}, "atomic_energies": {"Ti": -1.5}, "device": "cuda:1",
    "feature_stats": {"mean": [1.0], "std": [2.0]}, "loggers": ["wandb"], "files": ["a.xsf", "b.xsf"],
    "validation": ["c.xsf"], "test": ["d.xsf"], "species": ["O", "Ti"],
}  # fmt: skip


def another(name: str, annotation: Any, default: Any) -> Any:
    """A value that a setting may have, other than its default; a new setting needs no word here."""
    if name in SPECIAL:
        return SPECIAL[name]
    if get_origin(annotation) is Annotated:
        return another(name, get_args(annotation)[0], default)
    if get_origin(annotation) is Literal:
        return next(v for v in get_args(annotation) if v != default)
    for kind, value in ((bool, default is False), (int, 2), (float, 0.25), (str, "other")):
        if annotation is kind:
            return value if value != default else value + 1
    return another(name, next(a for a in get_args(annotation) if a is not type(None)), default)


def settings_of(record: type[BaseModel], path: str) -> list[tuple[str, str, Any]]:
    return [
        (path, name, another(name, f.annotation, None if f.is_required() else f.get_default(call_default_factory=True)))
        for name, f in record.model_fields.items()
    ]


WALK = [
    *settings_of(TorchTrainingConfig, "training"),
    *settings_of(ScalingConfig, "scaling"),
    *settings_of(RunConfig, "run"),
    *settings_of(DataConfig, "data"),
    *settings_of(DescriptorConfig, "descriptor"),
]


def written(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).replace("\n...\n", "").strip()


@pytest.mark.parametrize(("path", "name", "value"), WALK, ids=[f"{path}.{name}" for path, name, _ in WALK])
def test_files_and_the_command_line_set_it(path, name, value):
    in_file = EXPERIMENT | {path: EXPERIMENT.get(path, {}) | {name: value}}
    overridden = apply_overrides(yaml.safe_load(yaml.safe_dump(EXPERIMENT)), [f"{path}.{name}={written(value)}"])
    for values in (yaml.safe_load(yaml.safe_dump(in_file)), overridden):
        config = ExperimentConfig.from_mapping(values)
        found, plain = getattr(getattr(config, path), name), ExperimentConfig.from_mapping(EXPERIMENT)
        if name == "method":
            assert found == SGD(lr=0.5)
        else:
            assert found == (tuple(value) if isinstance(found, tuple) else value)
        assert found != getattr(getattr(plain, path) or ScalingConfig(), name), "it is not the default"
        again = ExperimentConfig.from_mapping(yaml.safe_load(yaml.safe_dump(config.to_dict())))
        assert again == config, "what a run leaves behind reads back"


METHOD_WALK = [
    (kind, name, value) for kind, record in METHODS.items() for _, name, value in settings_of(record, "training.method")
]


@pytest.mark.parametrize(("kind", "name", "value"), METHOD_WALK, ids=[f"{k}.{n}" for k, n, _ in METHOD_WALK])
def test_settings_of_methods_too(kind, name, value):
    overrides = [f"training.method.name={kind}", f"training.method.{name}={written(value)}"]
    method = ExperimentConfig.from_mapping(apply_overrides(dict(EXPERIMENT), overrides)).training.method
    assert type(method) is METHODS[kind]
    assert getattr(method, name) == value
    assert value != getattr(METHODS[kind](), name)


def test_the_walk_is_complete():
    walked = {(path, name) for path, name, _ in WALK}
    records: dict[str, type[Config]] = {"training": TorchTrainingConfig, "scaling": ScalingConfig, "run": RunConfig}
    assert {(path, name) for path, record in records.items() for name in record.model_fields} <= walked
    assert set(TRAINING) <= set(TorchTrainingConfig.model_fields)


def test_a_method_without_a_name_is_adam():
    values = apply_overrides(dict(EXPERIMENT), ["training.iterations=50", "training.method.mu=0.01"])
    training = ExperimentConfig.from_mapping(values).training
    assert (training.iterations, training.method) == (50, Adam(mu=0.01))


def test_a_name_cannot_be_gone_into():
    with pytest.raises(ConfigError, match="'method' is 'sgd', not a group of settings"):
        apply_overrides({"training": {"method": "sgd"}}, ["training.method.lr=0.01"])
