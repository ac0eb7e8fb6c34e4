"""Committees that cannot be: settings, data, folders, members and questions, each refused with its reason."""

# ruff: noqa: E501 - rows of a table

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from committees import ARCH, descriptor, training
from potentials import random_potential

from aenet_ray import AenetCommitteeCalculator, AenetEnsembleResult, RunConfig, ScalingConfig, Structure
from aenet_ray import TorchCommitteeConfig as Committee
from aenet_ray import TorchCommitteePotential as Potential
from aenet_ray.cli.main import main
from aenet_ray.committee.config import plan_members
from aenet_ray.committee.layout import METADATA, TorchCommitteeMember
from aenet_ray.errors import (
    CheckpointError,
    CommitteeError,
    ConfigError,
    DescriptorError,
    StructureError,
    TrainingError,
)

RESULT = AenetEnsembleResult.from_member_predictions
FORCES = np.zeros((2, 3, 3))


def begun_with(seed: int) -> SimpleNamespace:
    """A committee of two that has begun, and a way to plan it once more."""
    known = plan_members(Committee(2, seed), training())

    def plan(config: object = None, n: int = 2, **seeds: object) -> object:
        return plan_members(Committee(n, **seeds), config or training(), known)

    return SimpleNamespace(plan=plan)


# id, what is tried, class, message
SETTINGS = [
    ("no members", lambda: Committee(0), ConfigError, r"num_members: .*1 \(found 0\)"),
    ("members missing", lambda: Committee(), ConfigError, "num_members: is required"),
    ("members negative", lambda: Committee(-3), ConfigError, r"num_members: .*found -3"),
    ("members fraction", lambda: Committee(2.5), ConfigError, r"num_members: .*integer \(found 2\.5\)"),
    ("members bool", lambda: Committee(True), ConfigError, r"num_members: .*found True"),
    ("members text", lambda: Committee("4"), ConfigError, r"num_members: .*found '4'"),
    ("base_seed negative", lambda: Committee(2, -1), ConfigError, r"base_seed: .*0 \(found -1\)"),
    ("base_seed bool", lambda: Committee(2, True), ConfigError, r"base_seed: .*found True"),
    ("base_seed fraction", lambda: Committee(2, 1.5), ConfigError, r"base_seed: .*found 1\.5"),
    ("too few seeds", lambda: Committee(3, member_seeds=[1, 2]), ConfigError, "member_seeds has 2 seeds for num_members=3, expected one each"),
    ("too many seeds", lambda: Committee(1, None, [1, 2]), ConfigError, "member_seeds has 2 seeds for num_members=1"),
    ("seed of text", lambda: Committee(2, member_seeds=[1, "2"]), ConfigError, "member_seeds: expected a list of integers"),
    ("seed negative", lambda: Committee(2, member_seeds=[1, -2]), ConfigError, "member_seeds: .*none below 0"),
    ("seed bool", lambda: Committee(2, member_seeds=[0, True]), ConfigError, "member_seeds: expected a list of integers"),
    ("seeds a number", lambda: Committee(1, member_seeds=4), ConfigError, r"member_seeds: .*found 4"),
    ("parallel zero", lambda: Committee(2, max_parallel=0), ConfigError, r"max_parallel: .*1 \(found 0\)"),
    ("parallel text", lambda: Committee(2, max_parallel="all"), ConfigError, r"max_parallel: .*found 'all'"),
    ("no devices", lambda: Committee(2, devices=[]), ConfigError, r"devices: .*at least 1 item.*found \[\]"),
    ("devices as text", lambda: Committee(2, devices="cpu"), ConfigError, r"devices: expected a list of devices, such as \['cpu'\]"),
    ("device a number", lambda: Committee(2, devices=[0]), ConfigError, r"devices\.0: .*string \(found 0\)"),
    ("folder a number", lambda: Committee(2, output_dir=3), ConfigError, r"output_dir: .*string \(found 3\)"),
    ("unknown setting", lambda: Committee(2, member_seed=[1, 2]), ConfigError, "member_seed: unknown setting; did you mean 'member_seeds'"),
    ("too many in order", lambda: Committee(1, 2, [3], 4, ["cpu"], "x", 7, False, 1.0, 9), ConfigError, "TorchCommitteeConfig: 10 values in order"),
    ("together zero", lambda: Committee(2, members_per_trial=0), ConfigError, r"members_per_trial: .*1 \(found 0\)"),
    ("together negative", lambda: Committee(2, members_per_trial=-2), ConfigError, r"members_per_trial: .*found -2"),
    ("together fraction", lambda: Committee(2, members_per_trial=1.5), ConfigError, r"members_per_trial: .*found 1\.5"),
    ("no GPU at all", lambda: Committee(2, gpus_per_trial=0), ConfigError, r"gpus_per_trial: .*0 \(found 0\)"),
    ("GPUs as text", lambda: Committee(2, gpus_per_trial="half"), ConfigError, "gpus_per_trial"),
    ("together text", lambda: Committee(2, members_per_trial="all"), ConfigError, r"members_per_trial: .*integer"),
    ("together bool", lambda: Committee(2, members_per_trial=True), ConfigError, r"members_per_trial: .*true or false"),
    ("shared a number", lambda: Committee(2, share_batches=1), ConfigError, "share_batches: expected true or false"),
    ("shared text", lambda: Committee(2, share_batches="yes"), ConfigError, "share_batches: expected true or false"),
    ("seeds that count and a list", lambda: Committee(2, 1, [4, 5, 6]), ConfigError, "member_seeds has 3 seeds for num_members=2"),
    ("no layers", lambda: Potential({"Ti": [(4, "tanh")]}, descriptor()), ConfigError, "no layers for species 'O'"),
    ("no energies", lambda: RESULT([]), CommitteeError, r"member_energies have shape \(0,\), expected \(num_members,\)"),
    ("energies of text", lambda: RESULT(["low"]), CommitteeError, "expected equal shapes of numbers"),
    ("energies 2D", lambda: RESULT([[1.0], [2.0]]), CommitteeError, r"member_energies have shape \(2, 1\)"),
    ("forces of other members", lambda: RESULT([1.0, 2.0, 3.0], FORCES), CommitteeError, r"member_forces have shape \(2, 3, 3\), expected \(3, n_atoms, 3\)"),
    ("forces flat", lambda: RESULT([1.0, 2.0], FORCES[0]), CommitteeError, r"member_forces have shape \(3, 3\)"),
    ("forces ragged", lambda: RESULT([1.0, 2.0], [[[0, 0, 0]], [[0, 0]]]), CommitteeError, "expected equal shapes of numbers"),
    ("aggregation", lambda: RESULT([1.0], aggregation="median"), ConfigError, "aggregation is 'median', expected 'mean' or 'reference'"),
    ("reference outside", lambda: RESULT([1.0], aggregation="reference", reference_member=1), ConfigError, "reference_member is 1, expected 0 to 0"),
    ("reference negative", lambda: RESULT([1.0, 2.0], reference_member=-1), ConfigError, "reference_member is -1, expected 0 to 1"),
    ("reference bool", lambda: RESULT([1.0], reference_member=True), ConfigError, "reference_member is True, expected a member's number"),
    ("reference text", lambda: RESULT([1.0], reference_member="0"), ConfigError, "reference_member is '0', expected a member's number"),
]  # fmt: skip


def train(s: SimpleNamespace, **given: object) -> object:
    committee = given.pop("committee_config", Committee(2, 1, output_dir=str(s.tmp / "run")))
    config = given.pop("config", training())
    return Potential(ARCH, descriptor()).train(
        **({"structures": s.structures} | given), config=config, committee_config=committee
    )


def occupied(s: SimpleNamespace, *names: str) -> Committee:
    """A folder that holds something already."""
    for name in names:
        (s.tmp / "run" / name).mkdir(parents=True)
    return Committee(2, 1, output_dir=str(s.tmp / "run"))


def metadata(s: SimpleNamespace, text: str | None = None, *states: str) -> Path:
    """The metadata of a committee whose members have no files."""
    members = [
        TorchCommitteeMember(i, i, 0, "cpu", s.tmp / f"member_{i:03d}", status=st).entry(s.tmp)
        for i, st in enumerate(states)
    ]
    (s.tmp / METADATA).write_text(json.dumps({"members": members}) if text is None else text)
    return s.tmp


def predicted(s: SimpleNamespace) -> object:
    return s.committee.predict(s.structures)


def mixed(**changed: object) -> Potential:
    potentials = [random_potential(), random_potential(**changed)]
    if not changed:
        potentials[1].model.atomic_energies = {"Ti": -1.0, "O": -2.0}
    return Potential.from_members(potentials)


def other_layers() -> Potential:
    from aenet_ray import TorchANNPotential

    one = random_potential()
    return Potential.from_members([one, TorchANNPotential({s: [(3, "tanh")] for s in ("Ti", "O")}, one.descriptor)])


def file_in_the_way(s: SimpleNamespace) -> object:
    (s.tmp / "file").write_text("")
    return train(s, committee_config=Committee(1, output_dir=str(s.tmp / "file" / "run")))


def damaged_model(s: SimpleNamespace) -> object:
    (s.tmp / "one.pt").write_bytes(b"nothing")
    return Potential.from_files([s.tmp / "one.pt"])


USE = [
    ("no committee_config", lambda s: train(s, committee_config=None), ConfigError, "committee_config is missing; give TorchCommitteeConfig"),
    ("committee_config a number", lambda s: train(s, committee_config=4), ConfigError, "committee_config is int, expected TorchCommitteeConfig"),
    ("no data", lambda s: train(s, structures=None), ConfigError, "nothing is given; expected exactly one of structures"),
    ("data twice", lambda s: train(s, dataset=s.structures), ConfigError, "structures and dataset are given"),
    ("test without train", lambda s: train(s, test_dataset=s.structures), ConfigError, "test_dataset goes with train_dataset"),
    ("missing file", lambda s: train(s, structures="nowhere.xsf"), StructureError, "nowhere.xsf"),
    ("unknown device", lambda s: train(s, committee_config=Committee(2, devices=["tpu9"])), ConfigError, "device: 'tpu9'"),
    ("no forces", lambda s: train(s, structures=[s.plain] * 4, config=training(force_weight=0.5)), TrainingError, "force_weight=0.5, but none"),
    ("other species", lambda s: train(s, structures=[s.other]), DescriptorError, "H"),
    ("shared and weighted by errors", lambda s: train(s, committee_config=Committee(2, 1, share_batches=True), config=training(sampling_policy="error_weighted")), ConfigError, "share_batches: with sampling_policy 'error_weighted'"),
    ("on Ray with devices", lambda s: train(s, scaling=ScalingConfig(), committee_config=Committee(2, devices=["cpu"])), ConfigError, "Ray gives each trial its device"),
    ("together and several workers", lambda s: train(s, scaling=ScalingConfig(num_workers=2), committee_config=Committee(2, members_per_trial=2)), ConfigError, "members_per_trial=2 trains members in one process, scaling.num_workers=2"),
    ("parts of a GPU without one", lambda s: train(s, scaling=ScalingConfig(), committee_config=Committee(2, gpus_per_trial=0.5)), ConfigError, "gpus_per_trial=0.5, but scaling.use_gpu is false"),
    ("parts of a GPU for several workers", lambda s: train(s, scaling=ScalingConfig(num_workers=2, use_gpu=True), config=training(device=None), committee_config=Committee(2, gpus_per_trial=0.5)), ConfigError, "gpus_per_trial=0.5 is for trials of one worker"),
    ("device against scaling", lambda s: train(s, scaling=ScalingConfig(use_gpu=True)), ConfigError, "device='cpu' contradicts scaling"),
    ("scaling a number", lambda s: train(s, scaling=2), ConfigError, "scaling"),
    ("seeds that count from elsewhere", lambda s: begun_with(4).plan(base_seed=5), TrainingError, "member 0 began with seed 4, now 5 is asked for. Give the same seeds, or choose another output_dir"),
    ("other seeds in a list", lambda s: begun_with(4).plan(member_seeds=[4, 9]), TrainingError, "member 1 began with seed 5, now 9 is asked for"),
    ("seed of the training that changed", lambda s: begun_with(4).plan(training(seed=8)), TrainingError, "member 0 began with seed 4, now 8 is asked for"),
    ("fewer members than began", lambda s: begun_with(4).plan(n=1), TrainingError, "num_members is 1, but 2 members have begun; give at least as many"),
    ("nothing to resume", lambda s: train(s, run=RunConfig(resume="must")), TrainingError, "no committee to resume"),
    ("folders of something else", lambda s: train(s, committee_config=occupied(s, "member_000")), TrainingError, f"holds member_000 but no {METADATA}"),
    ("folder cannot be made", file_in_the_way, TrainingError, "the committee's folder cannot be made"),
    ("predict untrained", lambda s: Potential(ARCH, descriptor()).predict(s.structures), CommitteeError, "no members yet: train it, or read one"),
    ("export untrained", lambda s: Potential(ARCH, descriptor()).to_aenet_ascii(s.tmp), CommitteeError, "no members to export"),
    ("calculator untrained", lambda s: AenetCommitteeCalculator(Potential(ARCH, descriptor())), CommitteeError, "no members yet"),
    ("predict aggregation", lambda s: s.committee.predict(s.structures, aggregation="max"), ConfigError, "aggregation is 'max'"),
    ("predict reference", lambda s: s.committee.predict(s.structures, aggregation="reference", reference_member=7), ConfigError, "reference_member is 7, expected 0 to 1"),
    ("predict other species", lambda s: s.committee.predict([s.other]), DescriptorError, "H"),
    ("predict_dataset list", lambda s: s.committee.predict_dataset(s.structures), ConfigError, "list is no dataset of aenet_ray"),
    ("sort by nothing known", lambda s: predicted(s).sort_by("spread"), ConfigError, "column 'spread'; expected one of energy_std"),
    ("top of nothing known", lambda s: predicted(s).top_uncertain(metric="energy"), ConfigError, "metric 'energy'; expected one of energy_std"),
    ("top without forces", lambda s: predicted(s).top_uncertain(metric="max_force_uncertainty"), ConfigError, "needs forces; predict with eval_forces=True"),
    ("top negative", lambda s: predicted(s).top_uncertain(-1), ConfigError, "n is -1, expected a whole number"),
    ("top fraction", lambda s: predicted(s).top_uncertain(0.5), ConfigError, r"n is 0\.5, expected a whole number"),
    ("no folder", lambda s: Potential.from_directory(s.tmp / "away"), FileNotFoundError, "expected a committee's folder"),
    ("no metadata", lambda s: Potential.from_directory(s.tmp), FileNotFoundError, f"{METADATA}: no such file"),
    ("metadata no JSON", lambda s: Potential.from_directory(metadata(s, "{")), CommitteeError, "is no metadata of a committee"),
    ("metadata of something else", lambda s: Potential.from_directory(metadata(s, "[1]")), CommitteeError, "is no metadata of a committee"),
    ("metadata without members", lambda s: Potential.from_directory(metadata(s, "{}")), CommitteeError, "KeyError: 'members'"),
    ("no member listed", lambda s: Potential.from_directory(metadata(s)), CommitteeError, "no member is completed .it lists none"),
    ("none completed", lambda s: Potential.from_directory(metadata(s, None, "failed", "pending")), CommitteeError, "member 0 failed, member 1 pending"),
    ("model missing", lambda s: Potential.from_directory(metadata(s, None, "completed")), CommitteeError, "model files are missing: .*member_000/model.pt"),
    ("no files", lambda s: Potential.from_files([]), CommitteeError, "needs at least one member"),
    ("one path", lambda s: Potential.from_files("model.pt"), CommitteeError, "one path given .model.pt., expected a list"),
    ("file missing", lambda s: Potential.from_files([s.tmp / "gone.pt"]), FileNotFoundError, "gone.pt"),
    ("file damaged", damaged_model, CheckpointError, "one.pt: cannot be read"),
    ("other descriptor", lambda s: mixed(rad_order=4, rad_cutoff=4.0), CommitteeError, "member 1: its descriptor is .*members of a committee share it"),
    ("other atomic energies", lambda s: mixed(), CommitteeError, "member 1: its atomic energies is .*that of member 0"),
    ("other architecture", lambda s: other_layers(), CommitteeError, "member 1: its architecture is"),
]  # fmt: skip


@pytest.fixture(scope="module")
def some():
    rng = np.random.default_rng(0)
    species = ["Ti", "O", "O"]
    shapes = [rng.normal(size=(3, 3)) * 0.1 + [[0, 0, 0], [1.9, 0, 0], [0, 1.9, 0]] for _ in range(6)]
    structures = [Structure(x, species, -2470.0 + k, np.zeros((3, 3))) for k, x in enumerate(shapes)]
    committee = Potential.from_members([random_potential(seed=s) for s in range(2)])
    plain = Structure(shapes[0], species, -2470.0)
    other = Structure(shapes[0], ["H", "O", "O"], -2470.0, np.zeros((3, 3)))
    return SimpleNamespace(structures=structures, committee=committee, plain=plain, other=other)


@pytest.mark.parametrize(("tried", "error", "message"), [row[1:] for row in SETTINGS], ids=[row[0] for row in SETTINGS])
def test_settings(tried, error, message):
    with pytest.raises(error, match=message) as found:
        tried()
    assert isinstance(found.value, ValueError)


@pytest.mark.parametrize(("tried", "error", "message"), [row[1:] for row in USE], ids=[row[0] for row in USE])
def test_use(tried, error, message, some, tmp_path):
    with pytest.raises(error, match=message):
        tried(SimpleNamespace(**vars(some), tmp=tmp_path))
    assert not list(tmp_path.glob("run/member_*/history.csv")), "refused before any member started"


def test_processes_on_a_shared_gpu_are_wanted_explicitly(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ConfigError, match=r"max_parallel=2 on cuda without devices: .*devices=\['cuda:0', 'cuda:1'\]"):
        plan_members(Committee(4, max_parallel=2), training(device=None))
    assert len(plan_members(Committee(4, max_parallel=2, devices=["cuda:0"]), training(device=None))) == 4


@pytest.mark.parametrize("arguments", [["predict", "x.xsf", "-o", "y.extxyz"], ["plot"], ["export", "-o", "aenet"]])
def test_a_committee_where_one_potential_is_expected(arguments, tmp_path, monkeypatch, capsys):
    """It has members, each a potential: no word of a run that has not ended."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "com").mkdir()
    (tmp_path / "com" / "committee_metadata.json").write_text("{}")
    (tmp_path / "x.xsf").write_text("# total energy = 0 eV\n\nATOMS\nO 0 0 0\n")
    command, *more = arguments
    assert main([command, "com", *more]) != 0
    said = capsys.readouterr().err
    assert "com: a committee, expected one potential. Each of its members is one, such as com/member_000." in said
