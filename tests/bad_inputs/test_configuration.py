"""Settings that cannot be: every one is refused on construction, with its name, what was found and what is allowed."""

# ruff: noqa: E501 - rows of a table

from __future__ import annotations

import math

import numpy as np
import pytest

from aenet_ray import SGD, Adam, AdamW, NaturalGradient, PredictionConfig, RunConfig, ScalingConfig
from aenet_ray import TorchTrainingConfig as Training
from aenet_ray.config import Config, apply_overrides
from aenet_ray.errors import ConfigError
from aenet_ray.experiment import DescriptorConfig, ExperimentConfig

NAN, INF = math.nan, math.inf
DESCRIPTOR = {"species": ["Ti", "O"], "rad_order": 3, "rad_cutoff": 4.0, "ang_order": 2, "ang_cutoff": 3.0}
EXPERIMENT = {"data": {"files": "set.xsf"}, "descriptor": DESCRIPTOR, "network": [[5, "tanh"]]}


def experiment(**changes: object) -> ExperimentConfig:
    return ExperimentConfig.from_mapping(EXPERIMENT | changes, "run.yaml")


# id, what is tried, class, message
ROWS = [
    ("iterations negative", lambda: Training(-1), ConfigError, r"iterations: .* 0 \(found -1\)"),
    ("iterations bool", lambda: Training(True), ConfigError, r"iterations: expected a number, not true.*found True"),
    ("iterations fraction", lambda: Training(1.5), ConfigError, r"iterations: .*integer.*found 1\.5"),
    ("iterations text", lambda: Training("50"), ConfigError, r"iterations: expected an integer, not text .found '50'"),
    ("iterations nan", lambda: Training(NAN), ConfigError, r"iterations: .*finite number \(found nan\)"),
    ("iterations none", lambda: Training(None), ConfigError, r"iterations: .*integer \(found None\)"),
    ("iterations list", lambda: Training([3]), ConfigError, r"iterations: .*integer \(found \[3\]\)"),
    ("method number", lambda: Training(10, 3), ConfigError, r"method: expected Adam\(\.\.\.\), .*\(found 3\)"),
    ("method unknown", lambda: Training(method="rprop"), ConfigError, "unknown method 'rprop'; expected one of adam"),
    ("method class", lambda: Training(method=Adam), ConfigError, r"method: expected Adam\(\.\.\.\)"),
    ("method torch", lambda: Training(method=np.zeros(3)), ConfigError, r"method: expected Adam"),
    ("testpercent above", lambda: Training(testpercent=101), ConfigError, r"testpercent: .*100 \(found 101\)"),
    ("testpercent below", lambda: Training(testpercent=-1), ConfigError, r"testpercent: .*0 \(found -1\)"),
    ("testpercent all", lambda: Training(testpercent=100), ConfigError, "testpercent 100 leaves no training data"),
    ("testpercent bool", lambda: Training(testpercent=True), ConfigError, "testpercent: expected a number, not true"),
    ("seed bool", lambda: Training(seed=True), ConfigError, "seed: expected a number, not true"),
    ("seed fraction", lambda: Training(seed=1.0), ConfigError, r"seed: .*integer \(found 1\.0\)"),
    ("seed negative", lambda: Training(seed=-1), ConfigError, r"seed: .*0 \(found -1\)"),
    ("split_seed text", lambda: Training(split_seed="1"), ConfigError, "split_seed: expected an integer, not text"),
    ("split_seed bool", lambda: Training(split_seed=False), ConfigError, "split_seed: expected a number, not true"),
    ("force_weight above", lambda: Training(force_weight=1.1), ConfigError, r"force_weight: .*1 \(found 1\.1\)"),
    ("force_weight nan", lambda: Training(force_weight=NAN), ConfigError, r"force_weight: .*finite.*found nan"),
    ("force_weight none", lambda: Training(force_weight=None), ConfigError, r"force_weight: .*number \(found None\)"),
    ("force_fraction below", lambda: Training(force_fraction=-0.1), ConfigError, r"force_fraction: .*found -0\.1"),
    ("force_fraction above", lambda: Training(force_fraction=2), ConfigError, r"force_fraction: .*found 2"),
    ("force_sampling", lambda: Training(force_sampling="all"), ConfigError, "'random' or 'fixed' .found 'all'"),
    (
        "force_resample_num_epochs",
        lambda: Training(force_resample_num_epochs=-1),
        ConfigError,
        r"force_resample_num_epochs: .*0 \(found -1\)",
    ),
    (
        "force_min_structures_per_epoch",
        lambda: Training(force_min_structures_per_epoch=-1),
        ConfigError,
        r"force_min_structures_per_epoch: .*0 \(found -1\)",
    ),
    (
        "force_scale_unbiased number",
        lambda: Training(force_scale_unbiased=1),
        ConfigError,
        r"force_scale_unbiased: expected true or false \(found 1\)",
    ),
    ("sampling_policy", lambda: Training(sampling_policy="loss"), ConfigError, "'error_weighted' .found 'loss'"),
    ("cache_features text", lambda: Training(cache_features="yes"), ConfigError, "cache_features: expected true or fal"),
    (
        "cache_feature_max_entries",
        lambda: Training(cache_feature_max_entries=-1),
        ConfigError,
        r"cache_feature_max_entries: .*0 \(found -1\)",
    ),
    (
        "cache_neighbor_max_entries",
        lambda: Training(cache_neighbor_max_entries=0.5),
        ConfigError,
        r"cache_neighbor_max_entries: .*integer.*found 0\.5",
    ),
    (
        "cache_force_triplet_max_entries",
        lambda: Training(cache_force_triplet_max_entries="all"),
        ConfigError,
        "cache_force_triplet_max_entries: expected an integer, not text .found 'all'",
    ),
    ("cache_scope", lambda: Training(cache_scope="test"), ConfigError, "'train', 'val' or 'all' .found 'test'"),
    ("cache_persist_dir", lambda: Training(cache_persist_dir=3), ConfigError, r"cache_persist_dir: .*found 3"),
    ("num_workers", lambda: Training(num_workers=-1), ConfigError, r"num_workers: .*0 \(found -1\)"),
    ("prefetch_factor", lambda: Training(prefetch_factor=0), ConfigError, r"prefetch_factor: .*0 \(found 0\)"),
    ("persistent_workers", lambda: Training(persistent_workers=None), ConfigError, "persistent_workers: expected true"),
    ("memory_mode", lambda: Training(memory_mode="disk"), ConfigError, "'cpu', 'gpu' or 'mixed' .found 'disk'"),
    ("device unknown", lambda: Training(device="gpu0"), ConfigError, "device: expected cpu, cuda or cuda:N.*'gpu0'"),
    ("device meta", lambda: Training(device="meta"), ConfigError, "device: expected cpu, cuda or cuda:N.*'meta'"),
    ("device number", lambda: Training(device=0), ConfigError, r"device: .*string \(found 0\)"),
    ("precision", lambda: Training(precision="half"), ConfigError, "'auto', 'float32' or 'float64' .found 'half'"),
    ("precision bits", lambda: Training(precision=32), ConfigError, "'float32' or 'float64' .found 32"),
    ("max_energy inf", lambda: Training(max_energy=INF), ConfigError, r"max_energy: .*finite.*found inf"),
    ("max_energy bool", lambda: Training(max_energy=True), ConfigError, "max_energy: expected a number, not true"),
    ("max_forces zero", lambda: Training(max_forces=0), ConfigError, r"max_forces: .*greater than 0 \(found 0\)"),
    ("atomic_energies nan", lambda: Training(atomic_energies={"Ti": NAN}), ConfigError, r"atomic_energies\.Ti: .*nan"),
    ("atomic_energies list", lambda: Training(atomic_energies=[1.0]), ConfigError, r"atomic_energies: .*expected energies by species.*found \[1\.0\]"),
    (
        "feature_stats keys",
        lambda: Training(feature_stats={"mean": [1.0], "sigma": [1.0]}),
        ConfigError,
        r"feature_stats: expected 'mean' and 'std' \(or 'cov'",
    ),
    (
        "feature_stats twice",
        lambda: Training(feature_stats={"mean": [1.0], "std": [1.0], "cov": [1.0]}),
        ConfigError,
        r"feature_stats: expected 'mean' and 'std' \(or 'cov'",
    ),
    (
        "feature_stats lengths",
        lambda: Training(feature_stats={"mean": [1.0], "std": [1.0, 2.0]}),
        ConfigError,
        "feature_stats: expected 'mean' and 'std' of equal length",
    ),
    (
        "feature_stats negative",
        lambda: Training(feature_stats={"mean": [1.0], "std": [-1.0]}),
        ConfigError,
        "feature_stats: .*no negative 'std'",
    ),
    (
        "feature_stats nan",
        lambda: Training(feature_stats={"mean": [NAN], "std": [1.0]}),
        ConfigError,
        "feature_stats: expected finite numbers",
    ),
    (
        "feature_stats ragged",
        lambda: Training(feature_stats={"mean": [[1.0], [1.0, 2.0]], "std": None}),
        ConfigError,
        "feature_stats: expected finite numbers",
    ),
    ("feature_stats text", lambda: Training(feature_stats="auto"), ConfigError, r"feature_stats: .*found 'auto'"),
    ("E_scaling negative", lambda: Training(E_scaling=-2.0), ConfigError, r"E_scaling: .*0 \(found -2\.0\)"),
    ("E_shift nan", lambda: Training(E_shift=NAN), ConfigError, r"E_shift: .*finite number \(found nan\)"),
    ("checkpoint_dir empty", lambda: Training(checkpoint_dir=""), ConfigError, r"checkpoint_dir: .*found ''"),
    ("checkpoint_dir number", lambda: Training(checkpoint_dir=1), ConfigError, r"checkpoint_dir: .*found 1"),
    ("checkpoint_interval", lambda: Training(checkpoint_interval=0.5), ConfigError, r"checkpoint_interval: .*found 0\.5"),
    ("checkpoint_seconds", lambda: Training(checkpoint_seconds=-1), ConfigError, r"checkpoint_seconds: .*found -1"),
    ("max_checkpoints bool", lambda: Training(max_checkpoints=True), ConfigError, "max_checkpoints: expected a number"),
    ("save_best text", lambda: Training(save_best="no"), ConfigError, r"save_best: expected true or false \(found 'no'"),
    ("scheduler", lambda: Training(scheduler="step"), ConfigError, "'plateau' or 'cosine' .found 'step'"),
    ("scheduler_patience", lambda: Training(scheduler_patience=-1), ConfigError, r"scheduler_patience: .*found -1"),
    ("scheduler_factor", lambda: Training(scheduler_factor=1.0), ConfigError, r"scheduler_factor: .*than 1 .found 1\.0"),
    ("scheduler_min_lr", lambda: Training(scheduler_min_lr=-1e-6), ConfigError, r"scheduler_min_lr: .*found -1e-06"),
    ("typo", lambda: Training(iteration=5), TypeError, r"iteration: unknown setting; did you mean 'iterations'\?"),
    ("nothing like it", lambda: Training(qqq=5), TypeError, "qqq: unknown setting; known are .*testpercent"),
    ("twice", lambda: Training(5, iterations=5), TypeError, "iterations given twice, by place and by name"),
    ("natural gradient, forces", lambda: Training(method=NaturalGradient(), force_weight=0.1), ConfigError, "energies only"),
    ("adam mu zero", lambda: Adam(0), ConfigError, r"Adam\.mu: .*greater than 0 \(found 0\)"),
    ("adam mu nan", lambda: Adam(mu=NAN), ConfigError, r"Adam\.mu: .*found nan"),
    ("adam mu text", lambda: Adam(mu="fast"), ConfigError, r"Adam\.mu: .*number.*found 'fast'"),
    ("adam batchsize zero", lambda: Adam(0.1, 0), ConfigError, r"Adam\.batchsize: .*found 0"),
    ("adam batchsize bool", lambda: Adam(0.1, True), ConfigError, r"Adam\.batchsize: expected a number, not true"),
    ("adam beta2", lambda: Adam(beta2=1.0), ConfigError, r"Adam\.beta2: .*less than 1 \(found 1\.0\)"),
    ("adam epsilon", lambda: Adam(epsilon=0.0), ConfigError, r"Adam\.epsilon: .*found 0\.0"),
    ("adam name of SGD", lambda: Adam(lr=0.1), TypeError, r"Adam\.lr: unknown setting; the learning rate is 'mu'"),
    ("SGD name of adam", lambda: SGD(mu=0.1), TypeError, r"SGD\.mu: unknown setting; the learning rate is 'lr'"),
    ("rate without method", lambda: Training(learning_rate=0.1), TypeError, r"learning_rate: .*method=Adam\(mu="),
    ("file: not in its group", lambda: experiment(iterations=3), TypeError, r"did you mean 'training\.iterations'\?"),
    ("override with a decimal comma", lambda: apply_overrides({}, ["descriptor={rad_cutoff: 6,0}"]), ConfigError, "decimal comma"),
    ("adam name of torch", lambda: Adam(batch_size=8), TypeError, r"did you mean 'batchsize'\?"),
    ("adamw decay", lambda: AdamW(weight_decay=-1), ConfigError, r"AdamW\.weight_decay: .*found -1"),
    ("sgd lr", lambda: SGD(-0.1), ConfigError, r"SGD\.lr: .*found -0\.1"),
    ("sgd momentum", lambda: SGD(momentum=1), ConfigError, r"SGD\.momentum: .*found 1"),
    ("sgd too many", lambda: SGD(1, 2, 3, 4, 5), TypeError, "SGD: 5 values in order, but it has 4 settings"),
    ("prediction batch", lambda: PredictionConfig(batch_size=0), ConfigError, r"batch_size: .*found 0"),
    ("prediction threads", lambda: PredictionConfig(num_workers=-1), ConfigError, r"num_workers: .*found -1"),
    ("prediction ahead", lambda: PredictionConfig(prefetch_factor=0), ConfigError, r"prefetch_factor: .*found 0"),
    ("prediction verbosity", lambda: PredictionConfig(verbosity=3), ConfigError, r"verbosity: .*2 \(found 3\)"),
    ("prediction typo", lambda: PredictionConfig(batchsize=3), TypeError, r"did you mean 'batch_size'\?"),
    ("workers none", lambda: ScalingConfig(num_workers=0), ConfigError, r"ScalingConfig\.num_workers: .*found 0"),
    ("workers bool", lambda: ScalingConfig(num_workers=True), ConfigError, "num_workers: expected a number, not true"),
    ("gpu number", lambda: ScalingConfig(use_gpu=2), ConfigError, r"use_gpu: expected true or false \(found 2\)"),
    ("run resume", lambda: RunConfig(resume=True), ConfigError, "'auto', 'never' or 'must' .found True"),
    ("run failures", lambda: RunConfig(max_failures=-1), ConfigError, r"max_failures: .*found -1"),
    ("run loggers", lambda: RunConfig(loggers=("neptune",)), ConfigError, r"loggers\.0: .*found 'neptune'"),
    ("descriptor missing", lambda: DescriptorConfig(species=["Ti"]), TypeError, "rad_order: is required"),
    ("descriptor order", lambda: DescriptorConfig(**DESCRIPTOR | {"rad_order": -1}), ConfigError, "rad_order: .*found -1"),
    ("descriptor cutoff", lambda: DescriptorConfig(**DESCRIPTOR | {"rad_cutoff": NAN}), ConfigError, "rad_cutoff: .*nan"),
    ("file: training", lambda: experiment(training={"iterations": -3}), ConfigError, r"run.yaml: training\.iterations:"),
    ("file: typo", lambda: experiment(training={"iteration": 3}), TypeError, r"run.yaml: training\.iteration: unknown"),
    ("file: method", lambda: experiment(training={"method": {"mu": 0}}), ConfigError, r"training\.method\.mu: .*found 0"),
    ("file: scaling", lambda: experiment(scaling={"num_worker": 2}), TypeError, "did you mean 'num_workers'"),
    ("file: network", lambda: experiment(network=[["tanh", 5]]), ConfigError, "network: expected hidden layers such as"),
    ("override without value", lambda: apply_overrides({}, ["training"]), ConfigError, "expected KEY=VALUE"),
    ("override into a value", lambda: apply_overrides({"a": 3}, ["a.b=1"]), ConfigError, "'a' is 3, not a group"),
    ("assigned", lambda: setattr(Training(), "iterations", 3), ConfigError, r"iterations: settings are frozen"),
    ("assigned typo", lambda: setattr(Training(), "iteration", 3), TypeError, "did you mean 'iterations'"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "kind", "message"), [pytest.param(*row[1:], id=row[0]) for row in ROWS])
def test_refused(make, kind, message):
    with pytest.raises(kind, match=message) as caught:
        make()
    assert isinstance(caught.value, ConfigError)
    assert isinstance(caught.value, ValueError), "what aenet-python raises"


def test_rows_are_distinct_and_many():
    assert len({row[0] for row in ROWS}) == len(ROWS) >= 50


def records(cls: type = Config) -> list[type[Config]]:
    return [r for sub in cls.__subclasses__() for r in (sub, *records(sub)) if r.__module__.startswith("aenet_ray.")]


@pytest.mark.parametrize("record", records(), ids=lambda r: r.__name__)
def test_every_record_answers_a_typo(record):
    """Also those that are added later."""
    name = next(iter(record.model_fields))
    with pytest.raises(TypeError, match=rf"{name}x: unknown setting; did you mean '{name}'\?"):
        record(**{f"{name}x": 1})
