"""The command line from structure files to an exported potential, in this process."""

from __future__ import annotations

import json
import logging
import os
import re
import tarfile
from pathlib import Path

import ase.io
import numpy as np
import pytest
import yaml

from aenet_ray import run_data
from aenet_ray.cli.main import main
from aenet_ray.errors import StructureError
from aenet_ray.experiment import DataConfig
from aenet_ray.features import featurize as featurize_module
from aenet_ray.potential import TorchANNPotential
from aenet_ray.run_data import structures_of
from aenet_ray.structures.ase_io import write_ase
from aenet_ray.structures.build import build_store
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.store import StructureStore
from aenet_ray.structures.structure import Structure
from aenet_ray.structures.xsf import write_xsf

TIO2 = Path(__file__).parents[2] / "examples" / "data" / "tio2_ci100_xsf.tar.gz"


def experiment(folder: Path, **changes) -> dict:
    return {
        "data": {"files": str(TIO2), "store": str(folder / "tio2.h5")},
        "descriptor": {"species": ["Ti", "O"], "rad_order": 4, "rad_cutoff": 4.5, "ang_order": 2, "ang_cutoff": 3.5},
        "network": [[5, "tanh"]],
        "training": {
            "iterations": 4,
            "method": {"name": "adam", "mu": 0.01, "batchsize": 16},
            "force_weight": 0.1,
            "seed": 1,
            "device": "cpu",
            "atomic_energies": {"Ti": -1604.604515075, "O": -432.503149303},
        },
        "run": {"name": "tiny", "storage_path": str(folder / "runs")},
    } | changes


def write(path: Path, values: dict) -> str:
    path.write_text(yaml.safe_dump(values))
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def trained(folder):
    """What ``train`` prints, and the run's folder."""
    import contextlib
    import io

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert main(["train", write(folder / "run.yaml", experiment(folder))]) == 0
    return folder / "runs" / "tiny", out.getvalue(), err.getvalue()


def test_train_leaves_and_says(trained):
    run_dir, out, err = trained
    for name in ("config.yaml", "environment.json", "history.csv", "history.json", "model.pt", "run.json",
                 "report/errors.md", "report/learning_curve.png", "report/parity_energy.png",
                 "report/parity_forces.png", "aenet/potential.Ti.nn.ascii", "aenet/potential.O.nn.ascii"):  # fmt: skip
        assert (run_dir / name).stat().st_size > 0, name
    assert (run_dir.parents[1] / "tio2.h5").exists()
    lines = [line for line in err.splitlines() if line.startswith("epoch")]
    assert len(lines) == 4
    assert re.match(r"epoch 1/4  train E +[\d.]+ meV/atom  F +[\d.]+ meV/Å  valid E", lines[0])
    assert "trained in" in err
    header, row = out.splitlines()[1:3]
    for name in ("structures", "atoms", "E MAE (meV/atom)", "E RMSE (meV/atom)", "F MAE (meV/Å)", "F RMSE (meV/Å)"):
        assert name in header
    assert row.split()[:2] == ["validation", "10"]
    assert "…" not in out, "cut to the width of a terminal that is not there"
    assert out.splitlines()[-1] == f"potential, history and report in {run_dir}"


def test_train_again(trained, folder, capsys):
    """Refused; or finished already, and said so, if it may go on."""
    run_dir, _, _ = trained
    assert main(["train", str(folder / "run.yaml")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == (
        f"error: {run_dir}: holds a run already. Go on with it by run.resume=auto, or choose another run.name."
    )
    before = (run_dir / "model.pt").read_bytes()
    assert main(["train", str(folder / "run.yaml"), "run.resume=auto"]) == 0
    assert len((run_dir / "history.csv").read_text().splitlines()) == 5
    assert len((run_dir / "model.pt").read_bytes()) == len(before)
    assert main(["train", str(folder / "run.yaml"), "run.resume=auto", "training.seed=2"]) == 2
    assert "began with other settings (seed: 1 -> 2)" in capsys.readouterr().err


def test_labels_under_other_names(folder, tmp_path, capsys):
    """The energies of a file that calls them otherwise are found by ``data.energy_key``."""
    lines = []
    for k in range(6):
        lines += ["2", f'TotEnergy={-100.0 - k} dft="x" Properties=species:S:1:pos:R:3:F:R:3 pbc="F F F"']
        lines += [f"Ti 0 0 0 0 0 {0.1 * k}", f"O 0 0 {1.7 + 0.05 * k} 0 0 {-0.1 * k}"]
    (tmp_path / "other.xyz").write_text("\n".join(lines) + "\n")
    values = experiment(
        tmp_path, data={"files": str(tmp_path / "other.xyz"), "energy_key": "TotEnergy", "forces_key": "F"}
    )
    values["run"] = {"name": "keys", "storage_path": str(tmp_path / "runs")}
    assert main(["train", write(tmp_path / "run.yaml", values)]) == 0
    with StructureStore(tmp_path / "runs" / "keys" / "structures.h5") as store:
        assert store.energies(0, 6).tolist() == [-100.0 - k for k in range(6)]
        assert store.n_with("forces") == 6


@pytest.mark.parametrize("before", [True, False])
def test_quiet(trained, folder, capsys, before):
    arguments = ["train", str(folder / "run.yaml"), f"run.name=quiet_{before}", "training.iterations=1"]
    assert main(["--quiet", *arguments] if before else [*arguments, "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "validation" in captured.out
    logging.getLogger("aenet_ray").setLevel(logging.INFO)


def test_held_out_files_and_a_store(folder, trained, capsys):
    """Validation and test in files of their own; the store as input."""
    structures = read_structures(TIO2)
    some = [s for s, _ in zip(structures, range(9), strict=False)]
    write_ase(some[:5], folder / "train.extxyz")
    write_ase(some[5:7], folder / "validation.extxyz")
    write_ase(some[7:], folder / "test.extxyz")
    data = {"files": str(folder / "train.extxyz"), "validation": str(folder / "validation.extxyz"),
            "test": [str(folder / "test.extxyz")]}  # fmt: skip
    values = experiment(folder, data=data, export=False)
    values["run"]["name"] = "held_out"
    assert main(["train", write(folder / "held_out.yaml", values), "training.iterations=1"]) == 0
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[2:4]]
    assert rows == [["validation", "2"], ["test", "2"]]
    assert not (folder / "runs" / "held_out" / "aenet").exists()
    assert main(["train", str(folder / "held_out.yaml"), f"data={{files: {folder / 'tio2.h5'}}}", "run.name=from_store",
                 "training.iterations=1"]) == 0  # fmt: skip
    assert "validation" in capsys.readouterr().out


class TestInputs:
    """Stores follow the files they were built from; a run keeps what it began with."""

    @pytest.fixture
    def some(self, tmp_path):
        return [s for s, _ in zip(read_structures(TIO2), range(14), strict=False)]

    @pytest.fixture
    def built(self, monkeypatch):
        """Names of the files parsed, build after build."""
        calls: list[list[str]] = []
        original = run_data.build_store

        def spy(files, output, *, held_out=(), **options):
            calls.append([Path(f).name for f in (*files, *held_out)])
            return original(files, output, held_out=held_out, **options)

        monkeypatch.setattr(run_data, "build_store", spy)
        return calls

    @staticmethod
    def directory(path: Path, structures) -> str:
        path.mkdir()
        for k, s in enumerate(structures):
            write_ase([s], path / f"{k}.extxyz")
        return str(path)

    def test_a_file_changed_within_a_directory_is_seen(self, some, tmp_path, built):
        data = DataConfig(files=[self.directory(tmp_path / "d", some[:3])])
        first, _ = structures_of(data, tmp_path, progress=False)
        again, _ = structures_of(data, tmp_path, progress=False)
        assert len(built) == 1
        before = (tmp_path / "d").stat()
        write_ase([some[7]], tmp_path / "d" / "1.extxyz")  # in place: the directory does not change
        os.utime(tmp_path / "d", ns=(before.st_atime_ns, before.st_mtime_ns))
        changed, _ = structures_of(data, tmp_path, progress=False)
        assert first.content_hash == again.content_hash != changed.content_hash
        assert changed.energies()[1] == pytest.approx(some[7].energy)

    @pytest.mark.parametrize("kind", ["archive", "directory", "frames", "store"])
    @pytest.mark.parametrize("on_error", ["raise", "skip"])
    def test_validation_files_are_counted_in_one_pass(self, some, tmp_path, built, kind, on_error):
        train, held_out = some[:5], some[5:8]
        if on_error == "skip":
            close = Structure(np.zeros((2, 3)), ["O", "O"], 1.0)
            train, held_out = [close, *train], [held_out[0], close, *held_out[1:]]
        paths = []
        for name, part in (("train", train), ("held_out", held_out)):
            if kind == "directory":
                paths.append(self.directory(tmp_path / name, part))
            elif kind == "archive":
                paths.append(str(tmp_path / f"{name}.tar"))
                with tarfile.open(paths[-1], "w") as archive:
                    for k, s in enumerate(part):
                        write_xsf(s, tmp_path / "one.xsf")
                        archive.add(tmp_path / "one.xsf", f"{k}.xsf")
            else:
                paths.append(str(tmp_path / f"{name}.extxyz"))
                write_ase(part, paths[-1])
                if kind == "store":
                    build_store(paths[-1], tmp_path / f"{name}.h5", on_error=on_error, progress=False)
                    paths[-1] = str(tmp_path / f"{name}.h5")
        (tmp_path / "run").mkdir()
        # A whole input again among those held out: its structures came before, so they are not there twice.
        again = [paths[0]] if on_error == "skip" else []
        data = DataConfig(files=paths[:1], validation=paths[1:] + again, on_error=on_error)
        store, split = structures_of(data, tmp_path / "run", progress=False)
        np.testing.assert_array_equal(split.train_ids, np.arange(5))
        np.testing.assert_array_equal(split.test_ids, np.arange(5, 8))
        np.testing.assert_allclose(store.energies()[5:], [s.energy for s in some[5:8]])
        assert len(built) == 1
        _, same = structures_of(data, tmp_path / "run", progress=False)
        np.testing.assert_array_equal(same.test_ids, split.test_ids)
        assert len(built) == 1
        left = {"structures.h5", "structures.h5.inputs.json"}
        assert {p.name for p in (tmp_path / "run").iterdir()} - {"structures.h5.skipped.csv"} == left

    def test_nothing_left_for_validation_is_an_error(self, some, tmp_path):
        write_ase(some[:3], tmp_path / "train.extxyz")
        write_ase([Structure(np.zeros((2, 3)), ["O", "O"], 1.0)], tmp_path / "bad.extxyz")
        data = DataConfig(
            files=[str(tmp_path / "train.extxyz")], validation=[str(tmp_path / "bad.extxyz")], on_error="skip"
        )
        for _ in range(2):
            with pytest.raises(StructureError, match=r"3 structures of data\.files and 0 of data\.validation"):
                structures_of(data, tmp_path, progress=False)

    def test_a_run_keeps_its_structures_and_follows_its_test_files(self, some, tmp_path, capsys, built):
        write_ase(some[:10], tmp_path / "train.extxyz")
        write_ase(some[10:12], tmp_path / "test.extxyz")
        data = {"files": str(tmp_path / "train.extxyz"), "test": str(tmp_path / "test.extxyz")}
        values = experiment(tmp_path, data=data, export=False)
        values["training"]["iterations"] = 1
        values["run"]["resume"] = "auto"
        path = write(tmp_path / "run.yaml", values)
        run_dir = tmp_path / "runs" / "tiny"
        assert main(["train", path]) == 0
        store = (run_dir / "structures.h5").read_bytes()
        assert built == [["train.extxyz"], ["test.extxyz"]]

        write_ase(some[10:14], tmp_path / "test.extxyz")
        os.utime(tmp_path / "train.extxyz")  # touched, but the same
        capsys.readouterr()
        assert main(["train", path]) == 0
        assert ["test", "4"] in [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
        assert built[2:] == [["train.extxyz"], ["test.extxyz"]]
        assert (run_dir / "structures.h5").read_bytes() == store

        write_ase(some[:9], tmp_path / "train.extxyz")
        before = sorted(p.name for p in run_dir.iterdir())
        assert main(["train", path]) == 2
        error = capsys.readouterr().err
        assert "began with other structures (10 with" in error
        assert "choose another run.name" in error
        assert (run_dir / "structures.h5").read_bytes() == store
        assert sorted(p.name for p in run_dir.iterdir()) == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.iteration=3"], "run.yaml: training.iteration: unknown setting; did you mean 'iterations'?"),
        (["training.force_weight=2"], "training.force_weight: input should be less than or equal to 1 (found 2)."),
        (["data.files=[none.xsf]"], "data: no such file: none.xsf; paths are relative to"),
        (["network={Ti: [[5, tanh]]}", "run.name=x"], "no layers for species 'O'; given are ['Ti']"),
        (["descriptor.species=[Ti, Q]", "run.name=x"], "'Q'"),
        (
            ["descriptor.species=[Ti, N]", "run.name=x"],
            "holds species O, which the descriptor (species Ti, N) does not",
        ),
        (["run.name=x", "run.resume=must"], "nothing to resume"),
        (["network=[[5, tanhh]]", "run.name=x"], "activation 'tanhh'; expected one of linear, tanh"),
        (["descriptor.ang_cutoff=9", "run.name=x"], "set export: false"),
        (
            ["data.test=[si.xsf]", "run.name=x"],
            "data.test (si.xsf): holds species Si, which descriptor.species (Ti",
        ),
        (["data.test=[bare.xsf]", "run.name=x"], "data.test (bare.xsf): no structure has an energy to compare with"),
        (["iterations"], "override 'iterations': expected KEY=VALUE"),
        (["run.name=x", "training.device=tpu"], "device"),
    ],
)
def test_train_errors_are_said_before_anything_starts(trained, folder, capsys, monkeypatch, overrides, message):
    monkeypatch.chdir(folder)
    (folder / "si.xsf").write_text("# total energy = -1.0 eV\nATOMS\nSi 0 0 0\nSi 0 0 2.3\n")
    (folder / "bare.xsf").write_text("ATOMS\nTi 0 0 0\nO 0 0 1.9\n")
    assert main(["train", str(folder / "run.yaml"), *overrides]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    last = captured.err.splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert "Traceback" not in captured.err
    assert not (folder / "runs" / "x" / "history.csv").exists()


def test_no_experiment(tmp_path, capsys):
    assert main(["train", str(tmp_path / "none.yaml")]) == 2
    assert f"error: {tmp_path}/none.yaml: no such file" in capsys.readouterr().err


@pytest.fixture
def five(tmp_path):
    """Five structures, one an isolated cluster."""
    found = [s for s, _ in zip(read_structures(TIO2), range(5), strict=False)]
    found[4].cell = found[4].pbc = None
    write_ase(found, tmp_path / "five.extxyz")
    return found, str(tmp_path / "five.extxyz")


def test_predict(trained, five, tmp_path, capsys):
    run_dir, _, _ = trained
    structures, path = five
    model = TorchANNPotential.from_file(run_dir / "model.pt")
    expected = model.predict(structures, eval_forces=True, eval_stress=True)
    assert main(["predict", str(run_dir / "model.pt"), path]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header == "# structure  n_atoms  energy/eV  energy_per_atom/eV"
    assert [int(r.split()[-3]) for r in rows] == [s.n_atoms for s in structures]
    assert [r.split()[0] for r in rows] == [f"{path}#frame={k}" for k in range(5)]
    np.testing.assert_allclose([float(r.split()[-2]) for r in rows], expected.total_energy, atol=1e-7)
    np.testing.assert_allclose([float(r.split()[-1]) for r in rows], expected.total_energy_per_atom, atol=1e-7)
    output = tmp_path / "predicted.extxyz"
    assert main(["predict", str(run_dir / "model.pt"), path, "-o", str(output), "--stress"]) == 0
    assert f"written: {output}\n" in capsys.readouterr().err
    for k, atoms in enumerate(ase.io.read(output, ":")):
        assert atoms.get_potential_energy() == pytest.approx(expected.total_energy[k], abs=1e-6)
        np.testing.assert_allclose(atoms.get_forces(), expected.forces[k], atol=1e-6)
        if k < 4:
            np.testing.assert_allclose(atoms.get_stress(voigt=False), expected.stress[k], atol=1e-7)
        else:
            assert "stress" not in atoms.calc.results, "there is none without a cell"
    assert main(["predict", str(run_dir / "model.pt"), path, "-o", str(output), "--no-forces"]) == 0
    assert "forces" not in ase.io.read(output).calc.results
    assert main(["predict", str(run_dir), path, "-o", str(tmp_path / "p.traj"), "--quiet"]) == 0, "the run's folder"
    assert len(ase.io.read(tmp_path / "p.traj", ":")) == 5


def test_predict_replaces_no_data(trained, five, tmp_path, capsys):
    run_dir, _, _ = trained
    _, path = five
    store, hidden = build_store(path, tmp_path / "w2.h5", progress=False).path, tmp_path / "w2.xyz"
    hidden.write_bytes(store.read_bytes())
    for output, message in ((store, "expected a name that ends in .xyz or .extxyz"), (hidden, "HDF5 file is there"),
                            (Path(path), "would be replaced"), (tmp_path / "out", "expected a name")):  # fmt: skip
        before = output.read_bytes() if output.exists() else None
        assert main(["predict", str(run_dir), path, "-o", str(output)]) == 2
        captured = capsys.readouterr()
        assert message in captured.err
        assert captured.out == "", "refused before anything is predicted"
        assert before == (output.read_bytes() if output.exists() else None)


def test_evaluate(trained, five, tmp_path, capsys):
    run_dir, _, _ = trained
    structures, path = five
    output = tmp_path / "evaluation"
    assert main(["evaluate", str(run_dir / "model.pt"), path, "-o", str(output)]) == 0
    title, _, row, last = capsys.readouterr().out.splitlines()
    assert title == f"Errors of {run_dir / 'model.pt'}"
    assert last == f"table and parity plots in {output}"
    assert {p.name for p in output.iterdir()} == {"errors.md", "parity_energy.png", "parity_forces.png"}
    out = TorchANNPotential.from_file(run_dir / "model.pt").predict(structures, eval_forces=True)
    energy = [abs(e - s.energy) / s.n_atoms for e, s in zip(out.total_energy, structures, strict=True)]
    force = np.concatenate([f - s.forces for f, s in zip(out.forces, structures, strict=True)])
    values = [float(v) for v in row.split()[-4:]]
    assert values[0] == pytest.approx(1000 * np.mean(energy), rel=0.01)
    assert values[3] == pytest.approx(1000 * np.sqrt((force**2).mean()), rel=0.01)
    assert main(["evaluate", str(run_dir / "model.pt"), path, "-o", str(tmp_path / "e"), "--no-forces"]) == 0
    assert "F MAE" not in capsys.readouterr().out
    assert not (tmp_path / "e" / "parity_forces.png").exists()
    store = str(run_dir.parents[1] / "tio2.h5")
    assert main(["evaluate", str(run_dir / "model.pt"), store, "-o", str(tmp_path / "s")]) == 0
    assert "tio2.h5" in capsys.readouterr().out


def test_plot(trained, folder, tmp_path, capsys):
    run_dir, _, _ = trained
    assert main(["plot", str(run_dir)]) == 0
    assert capsys.readouterr().out.strip() == str(run_dir / "report" / "learning_curve.png")
    target = tmp_path / "new" / "curve.pdf"
    assert main(["plot", str(run_dir / "history.csv"), "-o", str(target)]) == 0
    assert target.read_bytes().startswith(b"%PDF")
    assert main(["plot", str(tmp_path)]) == 2
    assert "history.csv: no such file; expected the folder of a run, or its history.csv" in capsys.readouterr().err
    (tmp_path / "history.csv").write_text((run_dir / "history.csv").read_text().splitlines()[0] + "\n")
    assert main(["plot", str(tmp_path)]) == 2
    assert "no epoch has finished yet" in capsys.readouterr().err


def test_export(trained, tmp_path, capsys):
    run_dir, _, _ = trained
    assert main(["export", str(run_dir / "model.pt"), "-o", str(tmp_path / "out"), "--prefix", "tio2"]) == 0
    names = [Path(line).name for line in capsys.readouterr().out.splitlines()]
    assert names == ["tio2.Ti.nn.ascii", "tio2.O.nn.ascii"]
    for name in names:
        at_the_end_of_training = run_dir / "aenet" / name.replace("tio2", "potential")
        assert (tmp_path / "out" / name).read_text().replace("tio2", "potential") == at_the_end_of_training.read_text()


@pytest.mark.parametrize("command", ["predict", "evaluate", "export"])
def test_wrong_model_files(command, five, tmp_path, capsys):
    _, path = five
    (tmp_path / "wrong.pt").write_bytes(b"PK nonsense")
    rest = [] if command == "export" else [path]
    for model, message in ((path, "cannot be read as a model file"), ("wrong.pt", "cannot be read as a model file"),
                           ("none.pt", "no such model file or checkpoint"), ("", "without model.pt")):  # fmt: skip
        assert main([command, str(tmp_path / model), *rest]) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ")
        assert message in captured.err
        assert captured.err.count("\n") == 1
        assert captured.out == ""


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_wrong_structure_files(trained, command, tmp_path, capsys):
    run_dir, _, _ = trained
    (tmp_path / "si.xsf").write_text("# total energy = -1.0 eV\nATOMS\nSi 0 0 0\nSi 0 0 2.3\n")
    for name, message in (("none.xsf", "none.xsf"), ("si.xsf", "Si")):
        assert main([command, str(run_dir / "model.pt"), str(tmp_path / name), "-o", str(tmp_path / "out.xyz")]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert message in error
        assert "Traceback" not in error


def test_featurize_is_what_training_finds(trained, folder, tmp_path, capsys, monkeypatch):
    store = str(folder / "tio2.h5")
    assert main(["featurize", store, "--descriptor", str(folder / "run.yaml")]) == 0
    entry = Path(capsys.readouterr().out.strip())
    assert str(entry) == json.loads((folder / "runs" / "tiny" / "run.json").read_text())["features"]

    alone = tmp_path / "descriptor.json"
    alone.write_text(json.dumps(experiment(folder)["descriptor"]))
    assert main(["featurize", store, "--descriptor", str(alone), "-o", str(tmp_path / "f")]) == 0
    assert Path(capsys.readouterr().out.strip()) == tmp_path / "f" / entry.name
    assert (
        main(["featurize", store, "--descriptor", str(alone), "-o", str(tmp_path / "f"), "--precision", "float32"]) == 0
    )
    single = Path(capsys.readouterr().out.strip())
    assert json.loads((single / "index.json").read_text())["dtype"] == "float32"

    # A run in float32 takes what is there: making a shard would fail.
    monkeypatch.setattr(featurize_module, "write_shard", None)
    values = experiment(folder, data={"files": store}, features=str(tmp_path / "f"))
    values["run"]["name"] = "featurized"
    arguments = ["train", write(tmp_path / "run.yaml", values), "training.precision=float32", "training.iterations=1"]
    assert main(arguments) == 0


@pytest.mark.parametrize(
    ("text", "more", "message"),
    [
        ("{rad_order: 3}", [], "descriptor.yaml: species: is required and was not given."),
        ("[1]", [], "holds list, expected a mapping"),
        (
            "{species: [Si], rad_order: 3, rad_cutoff: 4, ang_order: 1, ang_cutoff: 3}",
            [],
            "which the descriptor (species Si)",
        ),
        ("{}", ["--actors", "0"], "--actors: 0, expected at least 1"),
    ],
)
def test_featurize_errors(trained, folder, tmp_path, capsys, text, more, message):
    (tmp_path / "descriptor.yaml").write_text(text)
    arguments = ["featurize", str(folder / "tio2.h5"), "--descriptor", str(tmp_path / "descriptor.yaml")]
    assert main([*arguments, "-o", str(tmp_path / "f"), *more]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.ray
def test_featurize_on_ray(trained, folder, tmp_path, capsys, ray_local):
    """The same entry, with the same numbers, from a pool of actors."""
    store, descriptor = str(folder / "tio2.h5"), str(folder / "run.yaml")
    assert main(["featurize", store, "--descriptor", descriptor, "-o", str(tmp_path), "--actors", "2"]) == 0
    entry = Path(capsys.readouterr().out.strip().splitlines()[-1])
    local = Path(json.loads((folder / "runs" / "tiny" / "run.json").read_text())["features"])
    assert entry == tmp_path / local.name
    for name in ("shard_000000/features.npy", "composition.npy"):
        np.testing.assert_array_equal(np.load(entry / name), np.load(local / name))


@pytest.mark.parametrize("how", [KeyboardInterrupt, SystemExit])
def test_interrupted(folder, tmp_path, capsys, monkeypatch, how):
    """Control-C, also as Ray Train hands it on, ends with the way to go on."""

    def walk(*_):
        raise how

    monkeypatch.setattr("aenet_ray.workflow.walk", walk)
    values = experiment(folder) | {"run": {"name": "stopped", "storage_path": str(tmp_path)}}
    assert main(["train", write(tmp_path / "run.yaml", values)]) == 130
    assert f"run.resume=auto goes on in {tmp_path / 'stopped'}" in capsys.readouterr().err
