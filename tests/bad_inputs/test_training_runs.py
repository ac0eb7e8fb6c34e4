"""Runs, resumes and checkpoints that cannot be: refused before any worker starts, with the thing and the remedy."""

# ruff: noqa: E501 - rows of a table

from __future__ import annotations

import json
import math
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import ATOMIC_ENERGIES, TIO2, small_descriptor

from aenet_ray.errors import CheckpointError, ConfigError, DescriptorError, PlotError, StructureError, TrainingError
from aenet_ray.models.model_file import read_model_file
from aenet_ray.potential import TorchANNPotential
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.structure import Structure
from aenet_ray.train_out import TrainOut
from aenet_ray.training.config import (
    LBFGS,
    SGD,
    Adam,
    AdamW,
    NaturalGradient,
    RunConfig,
    ScalingConfig,
    TorchTrainingConfig,
)
from aenet_ray.training.prediction_files import read_energy_file, read_force_file
from aenet_ray.training.spec import RunSpec

SETTINGS = {
    "iterations": 2, "seed": 3, "atomic_energies": ATOMIC_ENERGIES, "method": Adam(batchsize=4), "show_progress": False,
    "force_weight": 0.2, "device": "cpu",
}  # fmt: skip


@dataclass
class Context:
    """What the rows work with: structures, a finished run, and an empty folder."""

    structures: list[Structure]
    good: Path
    folder: Path

    @property
    def checkpoint(self) -> Path:
        return self.good / "checkpoints" / "checkpoint_epoch_0001.pt"

    def train(
        self, structures=None, *, resume_from=None, arch=None, descriptor=None, run=None, scaling=None, **changes
    ):
        chosen = descriptor or small_descriptor()
        potential = TorchANNPotential(arch or {s: [(5, "tanh")] for s in chosen.species}, chosen)
        where = RunConfig(**({"name": "run", "storage_path": str(self.folder)} | (run or {})))
        data = self.structures if structures is None else structures
        config = TorchTrainingConfig(**(SETTINGS | changes))
        return potential.train(data, config=config, resume_from=resume_from, run=where, scaling=scaling)

    def resume(self, **changes):
        return self.train(resume_from=self.checkpoint, **changes)

    def other(self, **changes) -> list[Structure]:
        """The structures with other energies, forces, ..."""
        return [changed(s, **changes) for s in self.structures]

    def file(self, name: str, content: bytes | str) -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def payload(self, **changes) -> Path:
        """The checkpoint with some of its content replaced; None takes a key out."""
        payload = read_model_file(self.checkpoint) | changes
        torch.save({k: v for k, v in payload.items() if v is not None}, self.folder / "changed.pt")
        return self.folder / "changed.pt"


def changed(s: Structure, **changes) -> Structure:
    values = {"positions": s.positions, "species": s.species, "energy": s.energy, "forces": s.forces, "cell": s.cell}
    return Structure(**(values | changes))


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    structures = [s for s, _ in zip(read_structures(TIO2), range(12), strict=False)]
    Context(structures, folder, folder).train(run={"name": "good"})
    return structures, folder / "good"


@pytest.fixture
def context(good, tmp_path):
    return Context(good[0], good[1], tmp_path)


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


# id, what is tried, class, message
ROWS = [
    # data
    ("no data", lambda c: c.train([]), ConfigError, "structures is empty"),
    ("one structure, half of it held out", lambda c: c.train(c.structures[:1], testpercent=99.9, max_energy=-1e3), TrainingError, r"max_energy=-1000\.0 and max_forces=None leave none of 1 structures"),
    ("all filtered by energy", lambda c: c.train(max_energy=-50.0), TrainingError, r"max_energy=-50\.0 .* leave none of 12 structures; referenced energies go from .* eV/atom"),
    ("all filtered by force", lambda c: c.train(max_forces=1e-9), TrainingError, r"max_forces=1e-09 leave none of 12"),
    ("no energies", lambda c: c.train(c.other(energy=None), force_weight=0.0), TrainingError, "none of 12 structures has an energy to train on.* data.energy_key"),
    ("no forces", lambda c: c.train(c.other(forces=None)), TrainingError, r"force_weight=0\.2, but none of 12 structures has forces"),
    ("unknown species", lambda c: c.train([changed(s, species=["Xe"] * s.n_atoms) for s in c.structures]), DescriptorError, "Xe"),
    ("missing file", lambda c: c.train(c.folder / "none.xsf"), StructureError | FileNotFoundError, r"none\.xsf"),
    ("no reference for a species", lambda c: c.train(atomic_energies={"Ti": -1604.0}), ConfigError, "atomic_energies: none for O; given are Ti"),
    ("statistics of other features", lambda c: c.train(feature_stats={"mean": np.zeros(3), "std": np.ones(3)}), ConfigError, r"feature_stats: 3 columns, the descriptor has \d+"),
    # settings that do not fit the data
    ("nothing to train on", lambda c: c.train(force_weight=1.0, force_fraction=0.01, force_min_structures_per_epoch=None), ConfigError, "use no forces .* and no energies: nothing to train on"),
    ("early stopping, no validation", lambda c: c.train(testpercent=0, early_stopping_patience=2), ConfigError, "early_stopping_patience=2 watches the validation loss"),
    ("no such device", lambda c: c.train(device="abacus"), ConfigError, r"device: .*'abacus'"),
    ("a shift of nothing", lambda c: c.train(normalize_energy=False, E_shift=1.0), ConfigError, "E_shift is given, but normalize_energy is off"),
    ("a scale of nothing", lambda c: c.train(normalize_energy=False, E_scaling=1.0), ConfigError, "E_scaling is given, but normalize_energy is off"),
    ("statistics of nothing", lambda c: c.train(normalize_features=False, feature_stats={"mean": [0.0], "std": [1.0]}), ConfigError, "feature_stats is given, but normalize_features is off"),
    ("lbfgs with another objective each epoch", lambda c: c.train(method=LBFGS(), sampling_policy="error_weighted"), ConfigError, "sampling_policy 'error_weighted' cannot be used with it"),
    ("lbfgs with resampling", lambda c: c.train(method=LBFGS(), force_fraction=0.5, force_resample_num_epochs=1), ConfigError, "force_resample_num_epochs 1 cannot be used with it"),
    ("lbfgs with a schedule", lambda c: c.train(method=LBFGS(), use_scheduler=True), ConfigError, "use_scheduler cannot be used with it"),
    ("lbfgs clipped", lambda c: c.train(method=LBFGS(), max_grad_norm=1.0), ConfigError, "max_grad_norm does not go with method lbfgs"),
    ("natural gradient clipped", lambda c: c.train(method=NaturalGradient(), max_grad_norm=1.0, force_weight=0.0), ConfigError, "max_grad_norm does not go with method natural_gradient"),
    ("natural gradient with forces", lambda c: c.train(method=NaturalGradient()), ConfigError, "trains on energies only"),
    ("a norm of nothing", lambda c: c.train(max_grad_norm=0.0), ConfigError, r"max_grad_norm: .*greater than 0 \(found 0\.0\)"),
    ("a norm of nan", lambda c: c.train(max_grad_norm=math.nan), ConfigError, r"max_grad_norm: .*finite"),
    ("no patience", lambda c: c.train(early_stopping_patience=0), ConfigError, r"early_stopping_patience: .*greater than 0"),
    ("patience of a half", lambda c: c.train(early_stopping_patience=1.5), ConfigError, r"early_stopping_patience: .*integer"),
    ("delta below zero", lambda c: c.train(early_stopping_min_delta=-0.1), ConfigError, r"early_stopping_min_delta: .*0"),
    ("lbfgs without steps", lambda c: LBFGS(max_iter=0), ConfigError, r"max_iter: .*greater than 0"),
    ("lbfgs without memory", lambda c: LBFGS(history_size=0), ConfigError, r"history_size: .*greater than 0"),
    ("lbfgs misspelt", lambda c: LBFGS(max_iters=3), ConfigError, "did you mean 'max_iter'"),
    # folders
    ("checkpoints in a file", lambda c: c.train(checkpoint_dir=str(c.file("taken", ""))), TrainingError, r"taken: no checkpoint can be written there .* Choose another checkpoint_dir"),
    ("checkpoints of another run", lambda c: c.train(checkpoint_dir=str(c.good / "checkpoints")), TrainingError, "holds checkpoints of another run"),
    ("run in a file", lambda c: c.train(run={"storage_path": str(c.file("taken", ""))}), TrainingError, r"the run's folder cannot be made"),
    ("a run is there", lambda c: c.train(run={"name": "good", "storage_path": str(c.good.parent)}), TrainingError, r"holds a run already. Go on with it by run\.resume=auto"),
    ("no run is there", lambda c: c.train(run={"resume": "must"}), TrainingError, "nothing to resume"),
    ("a run of another descriptor", lambda c: c.train(descriptor=type(small_descriptor())(["Ti", "O"], 4, 4.6, 3, 3.5), run={"name": "good", "storage_path": str(c.good.parent), "resume": "auto"}), TrainingError, r"began with another descriptor \(rad_order 5 -> 4; rad_cutoff 4\.5 -> 4\.6\)"),
    ("another run is there", lambda c: c.train(force_weight=0.3, run={"name": "good", "storage_path": str(c.good.parent), "resume": "auto"}), TrainingError, r"began with other settings \(force_weight: 0\.2 -> 0\.3\)"),
    ("no run to read", lambda c: RunSpec.load(c.folder), TrainingError, r"holds no run \(run\.json is missing\)"),
    ("too many workers", lambda c: ScalingConfig(num_workers=0), ConfigError, r"num_workers: .*greater than 0"),
    # checkpoints that are none
    ("resume from nothing", lambda c: c.train(resume_from=c.folder / "none.pt"), FileNotFoundError, r"none\.pt: no such model file or checkpoint"),
    ("resume from a folder", lambda c: c.train(resume_from=c.good / "checkpoints"), FileNotFoundError, "no such model file or checkpoint"),
    ("resume from text", lambda c: c.train(resume_from=c.file("text.pt", "weights\n")), CheckpointError, r"text\.pt: cannot be read as a model file \((the file is empty|its bytes are not those of one, or not all of them)\)"),
    ("resume from an empty file", lambda c: c.train(resume_from=c.file("empty.pt", "")), CheckpointError, r"empty\.pt: cannot be read as a model file \((the file is empty|its bytes are not those of one, or not all of them)\)"),
    ("resume from half a checkpoint", lambda c: c.train(resume_from=c.file("half.pt", c.checkpoint.read_bytes()[:5000])), CheckpointError, r"half\.pt: cannot be read as a model file \((the file is empty|its bytes are not those of one, or not all of them)\)"),
    ("resume from code", lambda c: c.train(resume_from=c.file("evil.pt", pickle.dumps(Evil(), protocol=2))), CheckpointError, r"evil\.pt: "),
    ("resume from other tensors", lambda c: (torch.save({"a": torch.ones(2)}, c.folder / "a.pt"), c.train(resume_from=c.folder / "a.pt")), CheckpointError, r"a\.pt: is no aenet_ray model file"),
    ("resume from a later version", lambda c: c.train(resume_from=c.payload(schema_version="9.0")), CheckpointError, r"version 9\.0, this aenet_ray reads"),
    ("resume without optimiser", lambda c: c.train(resume_from=c.payload(optimizer_state_dict=None)), CheckpointError, r"no training to go on with \(optimizer_state_dict missing\)"),
    ("resume without epoch", lambda c: c.train(resume_from=c.payload(epoch=None)), CheckpointError, r"no training to go on with \(epoch missing\)"),
    ("resume without normalisation", lambda c: c.train(resume_from=c.payload(normalization=None)), CheckpointError, "expected the keys"),
    # checkpoints of something else
    ("resume another layer", lambda c: c.resume(arch={s: [(6, "tanh")] for s in ("Ti", "O")}), CheckpointError, r"weights do not fit the network: .* has shape \(5,\), expected \(6,\)"),
    ("resume a deeper network", lambda c: c.resume(arch={s: [(5, "tanh"), (5, "tanh")] for s in ("Ti", "O")}), CheckpointError, "weights do not fit the network: .* has shape"),
    ("resume another activation", lambda c: c.resume(arch={s: [(5, "sigmoid")] for s in ("Ti", "O")}), CheckpointError, "was trained with arch"),
    ("resume another cutoff", lambda c: c.resume(descriptor=type(small_descriptor())(["Ti", "O"], 5, 4.6, 3, 3.5)), CheckpointError, r"was trained on the descriptor .*4\.5.*4\.6"),
    ("resume another order of species", lambda c: c.resume(descriptor=type(small_descriptor())(["O", "Ti"], 5, 4.5, 3, 3.5)), CheckpointError, "was trained"),
    ("resume by SGD", lambda c: c.resume(method=SGD()), TrainingError, "with method 'adam', this run asks for 'sgd'.* Leave method out"),
    ("resume by AdamW", lambda c: c.resume(method=AdamW()), TrainingError, "with method 'adam', this run asks for 'adamw'"),
    ("resume by L-BFGS", lambda c: c.resume(method=LBFGS()), TrainingError, "with method 'adam', this run asks for 'lbfgs'"),
    ("resume with other references", lambda c: c.resume(atomic_energies={"Ti": 0.0, "O": 0.0}), ConfigError, r"atomic_energies are not those of the checkpoint \(Ti: 0\.0 is given, -1604"),
    ("resume without normalising", lambda c: c.resume(normalize_features=False), ConfigError, "normalize_features: False is given, True was trained with"),
    ("resume without scaling", lambda c: c.resume(normalize_energy=False), ConfigError, "normalize_energy: False is given"),
    ("resume with another shift", lambda c: c.resume(E_shift=1.0), ConfigError, r"E_shift: 1\.0 is given"),
    ("resume with another scale", lambda c: c.resume(E_scaling=1.0), ConfigError, r"E_scaling: 1\.0 is given"),
    ("resume with other statistics", lambda c: c.resume(feature_stats={"mean": [0.0], "std": [1.0]}), ConfigError, "its weights belong to its normalisation"),
    ("resume on forces without any", lambda c: c.train(c.other(forces=None), resume_from=c.checkpoint), TrainingError, "none of 12 structures has forces"),
    # what a run leaves
    ("no energy file", lambda c: read_energy_file(c.folder / "energies.train.0"), FileNotFoundError, "train with save_energies"),
    ("an energy file of forces", lambda c: read_energy_file(c.file("f.0", "# structure atom\n")), StructureError, r"expected a header with 'Ref\(eV\)'"),
    ("an energy file cut off", lambda c: read_energy_file(c.file("e.0", "# Ref(eV)\n 1 1 1 1 1 1 1 1 a\n 1 1\n")), StructureError, "line 3: 2 columns, expected 9; is the file complete"),
    ("a force file of words", lambda c: read_force_file(c.file("f.0", "# Fx_ref\n" + " x" * 10)), StructureError, "a column is not of numbers"),
    ("no log", lambda c: TrainOut.from_log(c.folder / "train.out"), FileNotFoundError, r"expected the output of ænet's train\.x"),
    ("a log of something else", lambda c: TrainOut.from_log(c.file("train.out", "hello\n")), TrainingError, "no line with an epoch's errors"),
    ("a figure of nothing", lambda c: TrainOut({}, None, c.folder).plot_training_summary(), PlotError, "no finite error"),
    ("a figure of no forces", lambda c: TrainOut({}, None, c.folder).plot_force_errors(), PlotError, "force_weight is not known"),
    ("a figure of no energies", lambda c: TrainOut({}, None, c.folder).plot_energy_correlation(), PlotError, "train with save_energies=True"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "kind", "message"), [pytest.param(*row[1:], id=row[0]) for row in ROWS])
def test_refused(context, make, kind, message, capsys):
    before = sorted(p.name for p in context.good.rglob("*"))
    with pytest.raises(kind if isinstance(kind, type) else kind.__args__, match=message):
        make(context)
    assert not (context.folder / "run" / "history.csv").exists(), "refused, and yet begun"
    assert sorted(p.name for p in context.good.rglob("*")) == before
    assert "executed" not in capsys.readouterr().out


def test_rows_are_distinct_and_many():
    assert len({row[0] for row in ROWS}) == len(ROWS) >= 50


def test_damaged_run_folders(context):
    """A run whose newest checkpoints are damaged, and whose description is."""
    run_dir = context.folder / "good"
    shutil.copytree(context.good, run_dir)
    for path in (run_dir / "checkpoints").glob("checkpoint_epoch_*.pt"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"no checkpoint can be read: .*checkpoint_epoch_0001\.pt"):
        context.train(run={"name": "good", "resume": "auto"})
    values = json.loads((run_dir / "run.json").read_text())
    values["config"]["iterations"] = -3
    (run_dir / "run.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=r"run\.json.*iterations"):
        RunSpec.load(run_dir)


@pytest.mark.parametrize("show", [True, False])
def test_a_run_says_what_it_trains_on(context, show, capsys):
    context.train(show_progress=show, max_energy=0.0, testpercent=25, iterations=1)
    folder = context.folder / "run"
    said = capsys.readouterr().err
    assert (
        f"; run folder {folder}\n" in said and "training on 9 structures, validating on 3, 0 left out" in said
    ) == show
    assert bool(said) == show
    context.train(show_progress=show, max_energy=0.0, testpercent=25, iterations=2, run={"resume": "auto"})
    assert ("going on after epoch 1 of 2" in capsys.readouterr().err) == show


def test_gpus_that_are_not_there(monkeypatch):
    from aenet_ray.training import launch

    monkeypatch.setattr(launch.ray, "cluster_resources", lambda: {"CPU": 8.0})
    with pytest.raises(ConfigError, match=r"need 2 GPUs, the cluster has 0\. .*scaling\.use_gpu: false"):
        launch.check_resources(ScalingConfig(num_workers=2, use_gpu=True))


NODES = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 4.0}]
ROOM = "the cluster's nodes have 8 CPU, 2 GPU; 4 CPU, 0 GPU"
# id, scaling, GPUs of a trial of one worker, message; of trials and, where it is None, of a run's workers
TOO_MUCH = [
    ("CPUs of a trial", {"cpus_per_worker": 9}, 1.0, f"a trial needs 9 CPU on one node, {ROOM}. Ask for less"),
    ("GPUs of a trial", {"use_gpu": True}, 3.0, f"a trial needs 1 CPU, 3 GPU on one node, {ROOM}.*tune.gpus_per_trial"),
    ("both on one", {"use_gpu": True, "cpus_per_worker": 5}, 2.5, f"a trial needs 5 CPU, 2.5 GPU on one node, {ROOM}"),
    ("CPUs of a trial's worker", {"num_workers": 2, "cpus_per_worker": 9}, 1.0, "2 workers need 18 CPUs, .* has 12"),
    ("CPUs of a worker", {"num_workers": 1, "cpus_per_worker": 10}, None, f"a worker needs 10 CPU on one node, {ROOM}"),
    ("GPUs of workers", {"num_workers": 3, "use_gpu": True}, None, "3 workers need 3 GPUs, the cluster has 2"),
]


@pytest.mark.parametrize(("scaling", "gpus", "text"), [row[1:] for row in TOO_MUCH], ids=[row[0] for row in TOO_MUCH])
def test_resources_that_can_never_be_had(monkeypatch, scaling, gpus, text):
    """A process does not stretch over nodes, however much they have together; said, not waited for."""
    from aenet_ray.training import launch
    from aenet_ray.training.trials import check_trials_fit

    total = {kind: sum(node.get(kind, 0) for node in NODES) for kind in ("CPU", "GPU")}
    monkeypatch.setattr(launch.ray, "cluster_resources", lambda: total)
    monkeypatch.setattr(launch.ray, "nodes", lambda: [{"Alive": True, "Resources": node} for node in NODES])
    more = () if gpus is None else (gpus, "tune.gpus_per_trial")
    check = launch.check_resources if gpus is None else check_trials_fit
    with pytest.raises(ConfigError, match=text):
        check(ScalingConfig(**scaling), *more)
    check_trials_fit(ScalingConfig(use_gpu=True, cpus_per_worker=8), 0.25, "tune.gpus_per_trial")
    launch.check_resources(ScalingConfig(num_workers=2, use_gpu=True, cpus_per_worker=4))
