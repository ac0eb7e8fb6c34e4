"""Settings where they are used: the folder of the feature store, devices, records that are none, warnings."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from runs import TIO2, config, small_descriptor

from aenet_ray import PredictionConfig, RunConfig, ScalingConfig, TorchANNPotential, TorchTrainingConfig
from aenet_ray.cli.main import main
from aenet_ray.errors import ConfigError
from aenet_ray.experiment import ExperimentConfig
from aenet_ray.structures.readers import read_structures
from aenet_ray.training.spec import RunSpec

EXPERIMENT = {
    "data": {"files": str(TIO2)},
    "descriptor": {"species": ["Ti", "O"], "rad_order": 3, "rad_cutoff": 4.0, "ang_order": 2, "ang_cutoff": 3.0},
    "network": [[5, "tanh"]],
}


def potential() -> TorchANNPotential:
    return TorchANNPotential({s: [(4, "tanh")] for s in ("Ti", "O")}, small_descriptor())


def test_features_are_kept_where_cache_persist_dir_says(tmp_path):
    structures = [s for s, _ in zip(read_structures(TIO2), range(12), strict=False)]
    settings = config(iterations=1, cache_persist_dir=tmp_path / "shared", force_weight=0.0, device="cpu")
    entries = []
    for name in ("one", "two"):
        out = potential().train(
            structures, config=settings, run=RunConfig(name=name, storage_path=str(tmp_path / name))
        )
        entries.append(RunSpec.load(out.run_dir).features)
        assert not (tmp_path / name / "features").exists()
    assert Path(entries[0]).parent == tmp_path / "shared"
    assert entries[0] == entries[1], "two runs share them"


def test_in_a_file_it_is_the_folder_of_the_features():
    folder = {"training": {"cache_persist_dir": "kept"}}
    assert ExperimentConfig.from_mapping(EXPERIMENT).features_folder == str(Path("runs") / "features")
    assert ExperimentConfig.from_mapping(EXPERIMENT | folder).features_folder == "kept"
    ExperimentConfig.from_mapping(EXPERIMENT | folder | {"features": "kept"}).check()
    with pytest.raises(ConfigError, match=r"features \(other\) and training.cache_persist_dir \(kept\) both name"):
        ExperimentConfig.from_mapping(EXPERIMENT | folder | {"features": "other"}).check()


@pytest.mark.parametrize(("device", "use_gpu"), [("cuda", False), ("cpu", True), ("cuda:1", True)])
def test_a_device_that_workers_will_not_have_is_refused(tmp_path, device, use_gpu):
    settings, scaling = TorchTrainingConfig(device=device), ScalingConfig(use_gpu=use_gpu)
    message = f"device='{device}' contradicts scaling with use_gpu={use_gpu}"
    with pytest.raises(ConfigError, match=message):
        potential().train(TIO2, config=settings, scaling=scaling, run=RunConfig(storage_path=str(tmp_path)))
    assert not any(tmp_path.iterdir()), "before anything is made"
    values = EXPERIMENT | {"training": {"device": device}, "scaling": {"use_gpu": use_gpu}}
    with pytest.raises(ConfigError, match=message):
        ExperimentConfig.from_mapping(values).check()


@pytest.mark.parametrize(("device", "use_gpu"), [(None, True), (None, False), ("cpu", False), ("cuda", True)])
def test_others_are_not(device, use_gpu):
    values = EXPERIMENT | {"training": {"device": device}, "scaling": {"use_gpu": use_gpu}}
    ExperimentConfig.from_mapping(values).check()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"config": {"iterations": 3}},
            r"config: expected TorchTrainingConfig\(\.\.\.\), found dict {'iterations': 3}",
        ),
        ({"config": PredictionConfig()}, r"config: expected TorchTrainingConfig\(\.\.\.\), found PredictionConfig"),
        ({"run": "name"}, r"run: expected RunConfig\(\.\.\.\), found str 'name'"),
        ({"scaling": 4}, r"scaling: expected ScalingConfig\(\.\.\.\), found int 4"),
    ],
)
def test_records_that_are_none_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        potential().train(TIO2, **wrong)
    with pytest.raises(TypeError, match=message):
        potential().train(TIO2, **wrong)


def test_also_of_predictions():
    with pytest.raises(ConfigError, match=r"config: expected PredictionConfig\(\.\.\.\), found TorchTrainingConfig"):
        potential().predict(TIO2, config=TorchTrainingConfig())


def test_what_fortran_needs_is_told_to_have_no_effect():
    with pytest.warns(UserWarning, match="potential_paths is for aenet-python's Fortran predictions"):
        PredictionConfig(potential_paths={"Ti": "Ti.nn"})


def test_the_command_line_warns_of_old_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text(yaml.safe_dump(EXPERIMENT | {"training": {"cached_features": True, "max_energy": -99}}))
    with pytest.warns(DeprecationWarning, match="cached_features is an old name of aenet-python's; say cache_features"):
        assert main(["train", "run.yaml", "training.iterations=0", "data.files=none.xsf", "--quiet"]) == 2
