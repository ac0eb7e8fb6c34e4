"""Settings that cannot be are refused with the name, what was found and what is allowed; YAML and overrides."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from aenet_ray.config import apply_overrides, read_yaml
from aenet_ray.errors import ConfigError
from aenet_ray.experiment import ExperimentConfig
from aenet_ray.inference.predict import PredictionConfig
from aenet_ray.training.config import SGD, Adam, AdamW, RunConfig, ScalingConfig, TorchTrainingConfig

EXPERIMENT = {
    "data": {"files": "set.xsf"},
    "descriptor": {"species": ["Ti", "O"], "rad_order": 3, "rad_cutoff": 4.0, "ang_order": 2, "ang_cutoff": 3.0},
    "network": [[5, "tanh"]],
}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adam(mu=0), r"^Adam\.mu: input should be greater than 0 \(found 0\)\.$"),
        (lambda: Adam(beta1=1.0), r"Adam\.beta1: input should be less than 1 \(found 1\.0\)"),
        (lambda: SGD(batchsize=0), r"SGD\.batchsize: input should be greater than 0 \(found 0\)"),
        (lambda: SGD(mu=0.1), "SGD.mu: unknown setting; the learning rate is 'lr' here"),
        (lambda: ScalingConfig(num_workers=0), r"ScalingConfig\.num_workers: .*greater than 0 \(found 0\)"),
        (
            lambda: RunConfig(resume="yes"),
            r"RunConfig\.resume: input should be 'auto', 'never' or 'must' \(found 'yes'",
        ),
        (lambda: TorchTrainingConfig(iterations=-1), r"iterations: .* 0 \(found -1\)"),
        (lambda: TorchTrainingConfig(iterations=2.5), r"iterations: .*integer.*\(found 2\.5\)"),
        (lambda: TorchTrainingConfig(testpercent=120), r"testpercent: .*100 \(found 120\)"),
        (lambda: TorchTrainingConfig(testpercent=100), "^TorchTrainingConfig: testpercent 100 leaves no training data"),
        (lambda: TorchTrainingConfig(force_weight=1.5), r"force_weight: .*1 \(found 1\.5\)"),
        (lambda: TorchTrainingConfig(force_weight=float("nan")), r"force_weight: .*finite number \(found nan\)"),
        (lambda: TorchTrainingConfig(force_fraction=-0.1), r"force_fraction: .*0 \(found -0\.1\)"),
        (lambda: TorchTrainingConfig(sampling_policy="best"), "'energy_weighted' or 'error_weighted' .found 'best'"),
        (lambda: TorchTrainingConfig(seed="7"), r"seed: .*integer.* \(found '7'\)"),
        (lambda: TorchTrainingConfig(seed=-7), r"seed: .*\(found -7\)"),
        (lambda: TorchTrainingConfig(max_checkpoints=0.5), r"max_checkpoints: .*\(found 0\.5\)"),
        (lambda: TorchTrainingConfig(scheduler_factor=1.0), r"scheduler_factor: .*less than 1"),
        (lambda: TorchTrainingConfig(E_scaling=0.0), r"E_scaling: .*greater than 0"),
        (lambda: TorchTrainingConfig(precision="half"), r"'auto', 'float32' or 'float64' \(found 'half'\)"),
        (lambda: TorchTrainingConfig(atomic_energies={"Ti": float("inf")}), r"atomic_energies\.Ti: .*finite .*inf"),
        (lambda: TorchTrainingConfig(feature_stats={"mean": [1.0]}), r"feature_stats: expected 'mean' and 'std' \(or"),
        (lambda: TorchTrainingConfig(feature_stats={"mean": [1.0], "std": [1.0, 2.0]}), "of equal length"),
        (lambda: TorchTrainingConfig(method="adagrad"), "unknown method 'adagrad'; expected one of adam, adamw, sgd"),
        (lambda: TorchTrainingConfig(method=3), r"method: expected Adam\(\.\.\.\), .*\(found 3\)"),
        (lambda: TorchTrainingConfig(method={"mu": -1}), r"TorchTrainingConfig\.method\.mu: .*\(found -1\)"),
        (lambda: TorchTrainingConfig(iteration=5), "iteration: unknown setting; did you mean 'iterations'?"),
        (lambda: TorchTrainingConfig(zzz="mixed"), "zzz: unknown setting; known are .*iterations"),
    ],
)
def test_bad_values(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
    with pytest.raises(ValueError, match=message):  # what aenet-python raises
        make()


def test_every_problem_is_named_at_once():
    with pytest.raises(ConfigError) as caught:
        TorchTrainingConfig(iterations=-1, force_weight=2, epochs=3, method={"name": "sgd", "rate": 0.1})
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert all(line.startswith("TorchTrainingConfig.") for line in lines)
    assert lines[1].startswith("TorchTrainingConfig.method.rate: unknown setting") or "method.rate" in str(lines)


@pytest.mark.parametrize(
    ("part", "value", "expected"),
    [
        ("training", {"iteration": 3}, "training.iteration: unknown setting; did you mean 'iterations'?"),
        ("training", {"iterations": -3}, "training.iterations: input should be greater than or equal to 0 (found -3)."),
        (
            "training",
            {"method": {"batch_size": 1}},
            "training.method.batch_size: unknown setting; did you mean 'batchsize'?",
        ),
        ("training", 3, "training: input should be a valid dictionary or instance of TorchTrainingConfig (found 3)."),
        ("scaling", {"num_worker": 2}, "scaling.num_worker: unknown setting; did you mean 'num_workers'?"),
        ("trainning", {}, "trainning: unknown setting; did you mean 'training'?"),
        ("data", {}, "data.files: is required and was not given."),
        ("data", {"files": []}, "data.files: list should have at least 1 item after validation, not 0 (found [])."),
        (
            "network",
            {"Ti": [5]},
            "network: expected hidden layers such as [[15, tanh], [15, tanh]], or such a list for each species "
            "(found {'Ti': [5]}).",
        ),
    ],
)
def test_problems_in_a_file_stand_alone_with_their_path(part, value, expected):
    with pytest.raises(ConfigError) as caught:
        ExperimentConfig.from_mapping(EXPERIMENT | {part: value}, "run.yaml")
    assert str(caught.value) == f"run.yaml: {expected}"


def test_long_values_are_cut():
    with pytest.raises(ConfigError) as caught:
        ExperimentConfig.from_mapping(EXPERIMENT | {"network": {f"X{k}": k for k in range(1000)}})
    assert len(str(caught.value)) < 300


def test_errors_travel_between_processes():
    with pytest.raises(ConfigError) as caught:
        TorchTrainingConfig(iterations=-1)
    again = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(again, ConfigError)
    assert str(again) == str(caught.value)


def test_methods_by_name():
    assert TorchTrainingConfig().method == Adam() == TorchTrainingConfig(method=None).method
    assert TorchTrainingConfig(method="sgd").method == SGD()
    assert TorchTrainingConfig(method={"name": "AdamW", "mu": 0.1}).method == AdamW(mu=0.1)
    assert TorchTrainingConfig(method={"lr": 0.5, "name": "sgd"}).method.learning_rate == 0.5
    assert TorchTrainingConfig(method=AdamW(mu=0.2)).method.method_name == "adamw"
    assert [m().method_name for m in (Adam, AdamW, SGD)] == ["adam", "adamw", "sgd"]
    assert SGD(lr=0.1, batchsize=8).to_params_dict() == {
        "lr": 0.1,
        "batchsize": 8,
        "weight_decay": 0.0,
        "momentum": 0.0,
    }


def test_values_in_the_order_of_aenet_python():
    settings = TorchTrainingConfig(50, SGD(0.1, 7, 0.2, 0.3), 20, force_weight=0.3)
    assert (settings.iterations, settings.testpercent) == (50, 20)
    assert settings.method == SGD(lr=0.1, batchsize=7, weight_decay=0.2, momentum=0.3)
    assert (settings.alpha, settings.batch_size) == (0.3, 7)
    adam = {"mu": 0.1, "batchsize": 2, "weight_decay": 0.3, "beta1": 0.4, "beta2": 0.5, "epsilon": 0.6}
    assert Adam(*adam.values()) == Adam(**adam)
    assert AdamW(*adam.values()) == AdamW(**adam)
    assert PredictionConfig(True, False, 8, 2) == PredictionConfig(timing=True, batch_size=8, num_workers=2)
    with pytest.raises(TypeError, match=r"^SGD: 5 values in order, but it has 4 settings: lr, batchsize, weight_decay"):
        SGD(1, 2, 3, 4, 5)
    with pytest.raises(TypeError, match=r"^SGD: lr given twice, by place and by name; leave one out"):
        SGD(0.1, lr=0.2)


@pytest.mark.parametrize("method", [Adam(mu=0.1), AdamW(), SGD(momentum=0.5)])
def test_plain_values_read_back(method):
    settings = TorchTrainingConfig(
        method=method, feature_stats={"mean": [1, 2], "cov": [3, 4]}, atomic_energies={"Ti": -1.5}, max_energy=2
    )
    assert settings.feature_stats == {"mean": [1.0, 2.0], "std": [3.0, 4.0]}
    text = yaml.safe_dump(settings.to_dict())
    assert TorchTrainingConfig.from_mapping(yaml.safe_load(text)) == settings


def test_records_do_not_change():
    settings = TorchTrainingConfig(seed=3)
    with pytest.raises(ConfigError, match=r"TorchTrainingConfig\.iterations: .*frozen.* replace\(iterations=3\)"):
        settings.iterations = 3
    with pytest.raises(TypeError, match="iteration: unknown setting; did you mean 'iterations'"):
        settings.iteration = 3
    assert settings.replace(iterations=3) == TorchTrainingConfig(3, seed=3)
    assert settings.iterations == 100
    with pytest.raises(ConfigError, match=r"TorchTrainingConfig\.iterations: .*\(found -3\)"):
        settings.replace(iterations=-3)


def test_what_python_calls_a_type_error_is_one():
    """Unknown, missing, twice: in this record or one inside it. A wrong value is none."""
    for bad in (
        lambda: TorchTrainingConfig(iteration=5),
        lambda: TorchTrainingConfig(method={"name": "sgd", "rate": 0.1}),
        lambda: TorchTrainingConfig.from_mapping({"iteration": 5}, "run.yaml"),
        lambda: ExperimentConfig.from_mapping(EXPERIMENT | {"training": {"iteration": 3}}),
        lambda: ExperimentConfig.from_mapping({}),
    ):
        with pytest.raises(TypeError) as caught:
            bad()
        assert isinstance(caught.value, ConfigError)
        assert isinstance(pickle.loads(pickle.dumps(caught.value)), TypeError)
    with pytest.raises(ConfigError) as caught:
        TorchTrainingConfig(iterations=-5)
    assert not isinstance(caught.value, TypeError)


def test_plain_values_of_numpy_and_paths():
    settings = TorchTrainingConfig(
        np.int64(3), force_weight=np.float32(0.5), save_best=np.bool_(False), checkpoint_dir=Path("a") / "b",
        device=torch.device("cpu"), seed=np.int32(4), feature_stats={"mean": np.zeros(2), "cov": torch.ones(2)},
    )  # fmt: skip
    assert (settings.iterations, settings.force_weight, settings.save_best) == (3, 0.5, False)
    assert (settings.checkpoint_dir, settings.device, settings.seed) == (str(Path("a") / "b"), "cpu", 4)
    assert settings.feature_stats == {"mean": [0.0, 0.0], "std": [1.0, 1.0]}
    assert TorchTrainingConfig.from_mapping(yaml.safe_load(yaml.safe_dump(settings.to_dict()))) == settings


@pytest.mark.parametrize("none", [0, -1])
def test_no_and_all_as_aenet_python_says_them(none):
    settings = TorchTrainingConfig(max_checkpoints=none, checkpoint_interval=none)
    assert (settings.max_checkpoints, settings.checkpoint_interval) == (None, 0)


def test_overrides():
    values = {"training": {"iterations": 5}, "scaling": None}
    apply_overrides(
        values,
        ["training.iterations=7", "scaling.num_workers=2", "training.method={name: sgd, lr: 1e-2}", "run.name=a=b",
         "training.max_energy=null", "data.files=[a.xsf, b.xsf]"],
    )  # fmt: skip
    assert values["training"] == {"iterations": 7, "method": {"name": "sgd", "lr": "1e-2"}, "max_energy": None}
    assert values["scaling"] == {"num_workers": 2}
    assert values["run"] == {"name": "a=b"}
    assert values["data"] == {"files": ["a.xsf", "b.xsf"]}
    # YAML 1.1 takes 1e-2 for text; the record does not mind.
    assert TorchTrainingConfig.from_mapping(values["training"]).method == SGD(lr=0.01)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("iterations", "override 'iterations': expected KEY=VALUE"),
        ("=3", "expected KEY=VALUE"),
        ("network.Ti=3", "'network' is .*, not a group of settings"),
        ("training.seed=[1", "value cannot be read"),
    ],
)
def test_bad_overrides(override, message):
    with pytest.raises(ConfigError, match=message):
        apply_overrides({"network": [[5, "tanh"]]}, [override])


def test_files(tmp_path: Path):
    path = tmp_path / "run.yaml"
    for text, message in (
        ("- a\n- b\n", "holds list, expected a mapping"),
        ("a: [1", "cannot be read as YAML"),
        ("a: {b: 6,0}", r"run\.yaml: a: 0 is no setting; is a decimal comma meant as a point\?"),
        ("a: [{no: 1}]", "run.yaml: a: False is no setting; names are text, put it in quotes"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_yaml(path)
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        read_yaml(tmp_path / "none.yaml")


def test_experiments():
    config = ExperimentConfig.from_mapping(EXPERIMENT)
    assert config.data.files == ["set.xsf"]
    assert config.arch() == {"Ti": [(5, "tanh")], "O": [(5, "tanh")]}
    assert config.scaling is None
    each = {"Ti": [[3, "tanh"]], "O": [[4, "linear"], [2, "twist"]]}
    config = ExperimentConfig.from_mapping(EXPERIMENT | {"network": each})
    assert config.arch()["O"] == [(4, "linear"), (2, "twist")]
    assert ExperimentConfig.from_mapping(yaml.safe_load(yaml.safe_dump(config.to_dict()))) == config


def test_reference_energies_stand_for_their_energies():
    from aenet_ray import ReferenceEnergies

    found = ReferenceEnergies.from_regression([({"O": 1}, -5.0), ({"Ti": 1, "O": 1}, -12.0)])
    assert TorchTrainingConfig(atomic_energies=found).atomic_energies == found.atomic_energies
