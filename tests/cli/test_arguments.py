"""What is given in another order, or is not there: said or done, never dropped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from aenet_ray.cli.main import _parse, _parser, main
from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.potential import TorchANNPotential
from aenet_ray.structures.ase_io import write_ase
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.structure import Structure

TIO2 = Path(__file__).parents[2] / "examples" / "data" / "tio2_ci100_xsf.tar.gz"


@pytest.fixture
def model(tmp_path):
    """A potential as it is before training."""
    descriptor = ChebyshevDescriptor(["Ti", "O"], 3, 4.0, 2, 3.0)
    potential = TorchANNPotential({s: [(3, "tanh")] for s in ("Ti", "O")}, descriptor)
    potential.save(tmp_path / "model.pt")
    return potential, str(tmp_path / "model.pt")


@pytest.fixture
def three() -> list[Structure]:
    """The last one an isolated cluster."""
    found = [s for s, _ in zip(read_structures(TIO2), range(3), strict=False)]
    found[2].cell = found[2].pbc = None
    return found


@pytest.mark.parametrize("command", ["build", "convert", "info", "atomic-energies", "train", "predict", "export"])
def test_general_options_behind_the_command(command):
    arguments = [command, "a", *(["b"] if command == "predict" else []), "-o", "c", "--quiet", "--traceback"]
    if command in ("info", "train"):
        arguments = [command, "a", "--quiet", "--traceback"]
    options = _parse(_parser(command), arguments)
    assert options.quiet
    assert options.traceback


@pytest.mark.parametrize(
    ("arguments", "name", "expected"),
    [
        (["train", "run.yaml", "--quiet", "run.name=q"], "overrides", ["run.name=q"]),
        (["train", "run.yaml", "a=1", "--quiet", "b=2", "c=3"], "overrides", ["a=1", "b=2", "c=3"]),
        (["train", "--quiet", "run.yaml", "a=1"], "overrides", ["a=1"]),
        (["predict", "m.pt", "a.xyz", "-o", "out.xyz", "b.xyz"], "files", ["a.xyz", "b.xyz"]),
        (["evaluate", "m.pt", "a.xyz", "--no-forces", "b.xyz"], "files", ["a.xyz", "b.xyz"]),
        (["build", "a.xyz", "-o", "data.h5", "b.xyz"], "files", ["a.xyz", "b.xyz"]),
    ],
)
def test_options_anywhere(arguments, name, expected):
    assert getattr(_parse(_parser(arguments[0]), arguments), name) == expected


@pytest.mark.parametrize("arguments", [["train", "run.yaml", "--quite", "a=1"], ["export", "m.pt", "-o", "x", "more"]])
def test_what_is_unknown_is_refused(arguments, capsys):
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    unknown = "--quite" if "--quite" in arguments else "more"
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"unrecognized arguments: {unknown}")


def test_stress_is_printed(model, three, tmp_path, capsys):
    potential, path = model
    write_ase(three, tmp_path / "three.extxyz")
    assert main(["predict", path, str(tmp_path / "three.extxyz"), "--stress"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split("energy_per_atom/eV")[1].split() == [f"{c}/eV/Å³" for c in ("xx", "yy", "zz", "yz", "xz", "xy")]
    stress = potential.predict(three, eval_stress=True).stress
    for row, expected in zip(rows, stress, strict=True):
        found = [float(x) for x in row.split()[-6:]]
        np.testing.assert_allclose(found, expected[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]], atol=1e-8)
    assert rows[2].split()[-1] == "nan"


def test_evaluate_without_energies(model, three, tmp_path, capsys):
    for structure in three:
        structure.energy = None
    write_ase(three, tmp_path / "three.extxyz")
    assert main(["evaluate", model[1], str(tmp_path / "three.extxyz"), "-o", str(tmp_path / "e")]) == 2
    assert "error: three.extxyz: none of 3 structures has an energy to compare with." in capsys.readouterr().err
    assert not (tmp_path / "e").exists()


RUN_FILE = {
    "data": {"files": str(TIO2)},
    "descriptor": {"species": ["Ti", "O"], "rad_order": 3, "rad_cutoff": 4.0, "ang_order": 2, "ang_cutoff": 3.0},
    "network": [[3, "tanh"]],
    "training": {"iterations": 1, "atomic_energies": {"Ti": -1604.6, "O": -432.5}},
    "tune": {"space": {"training.method.mu": {"loguniform": [1e-4, 1e-2]}}},
    "committee": {"num_members": 2},
}


@pytest.mark.parametrize(
    ("command", "job"),
    [
        ("committee", "aenet_ray.committee_workflow.run_committee"),
        ("tune", "aenet_ray.tuning.run.run_tune"),
        ("train", "aenet_ray.workflow.walk"),
    ],
)
@pytest.mark.parametrize("name", ["series/mine", None])
def test_interrupted_says_how_to_go_on(tmp_path, monkeypatch, capsys, command, job, name):
    """One file serves all three; without run.name the folder's name is the time, which another start would not have."""

    def interrupted(settings: object, *_: object) -> None:
        run = settings["run"]["name"] if isinstance(settings, dict) else settings.run.name
        asked.append(run)
        raise KeyboardInterrupt

    asked: list[str | None] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job, interrupted)
    Path("run.yaml").write_text(yaml.safe_dump(RUN_FILE))
    assert main([command, "run.yaml", *([f"run.name={name}"] if name else [])]) == 130
    said = capsys.readouterr().err
    assert f"run.name={asked[0] or next(Path('runs').iterdir()).name} run.resume=auto goes on" in said
    assert (asked[0] == name) or name is None


def test_featurize_reads_the_same_file(tmp_path, three, capsys):
    write_ase(three[:1], tmp_path / "one.xyz")
    assert main(["build", str(tmp_path / "one.xyz"), "-o", str(tmp_path / "one.h5")]) == 0
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(RUN_FILE))
    given = ["--descriptor", str(tmp_path / "run.yaml"), "-o", str(tmp_path / "features")]
    assert main(["featurize", str(tmp_path / "one.h5"), *given]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("command", ["committee", "tune", "train"])
@pytest.mark.parametrize(
    ("file", "what", "own"),
    [
        ("run.json", "a run of 'aenet-ray train'", "train"),
        ("committee_metadata.json", "a committee", "committee"),
        ("search.json", "a search of 'aenet-ray tune'", "tune"),
    ],
)
def test_a_folder_of_something_else_is_left_alone(tmp_path, monkeypatch, capsys, command, file, what, own):
    if command == own:
        return
    monkeypatch.chdir(tmp_path)
    folder = Path("runs/mine")
    folder.mkdir(parents=True)
    (folder / file).write_text("{}")
    Path("run.yaml").write_text(yaml.safe_dump(RUN_FILE))
    assert main([command, "run.yaml", "run.name=mine", "run.resume=auto"]) == 2
    assert f"{folder.absolute()}: holds {what}. Choose another run.name" in capsys.readouterr().err
    assert [p.name for p in folder.iterdir()] == [file]
