"""``aenet-ray convert``: reports, refusals and what the results are good for."""

from __future__ import annotations

import numpy as np
import pytest
from legacy_files import changed, model_payload, pickled, unpacked, with_pickle, write_model
from potentials import golden, golden_potential, golden_structure

from aenet_ray.cli.main import main
from aenet_ray.potential import TorchANNPotential
from aenet_ray.structures.store import StructureStore


def test_training_hdf5_and_its_report(tmp_path, capsys):
    old, new = unpacked("training.h5", tmp_path), tmp_path / "new.h5"
    assert main(["convert", str(old), "-o", str(new), "--workers", "0"]) == 0
    text = capsys.readouterr().out
    assert "5 structures, 24 atoms (energy of 4, forces of 2)" in text
    assert "species: O, Ti; from 3 sources" in text
    assert "Stored features of 5 structures agree with ours (largest difference" in text
    assert "Stored force derivatives of 2 structures agree with ours" in text
    assert "atomic_energies: {O: -432.503149303, Ti: -1604.604515075}" in text
    assert "max_energy 5.0 eV/atom" in text
    with StructureStore(new) as store:
        store.verify()
    assert main(["info", str(new)]) == 0


def test_the_older_layout(tmp_path, capsys):
    old = unpacked("older.h5", tmp_path)
    assert main(["convert", str(old), "-o", str(tmp_path / "new.h5")]) == 0
    assert "Stored force derivatives of 1 structures agree with ours" in capsys.readouterr().out


def test_other_features_are_said_and_ours_used(tmp_path, capsys):
    def wrong(file):
        values = file["torch_cache/features/values"]
        values[1] = values[1] + 1e-3
        del file["torch_cache/force_derivatives"]

    old = changed(unpacked("training.h5", tmp_path), wrong)
    assert main(["convert", str(old), "-o", str(tmp_path / "new.h5")]) == 0
    text = capsys.readouterr().out
    assert "Stored features of 1 of 5 structures differ from ours by up to 1.0e-03; ours are used." in text
    assert main(["convert", str(old), "-o", str(tmp_path / "new.h5"), "--no-check"]) == 0
    assert "differ" not in capsys.readouterr().out


def test_no_features(tmp_path, capsys):
    def without(file):
        del file["torch_cache"]

    old = changed(unpacked("training.h5", tmp_path), without)
    assert main(["convert", str(old), "-o", str(tmp_path / "new.h5")]) == 0
    assert "holds no features to compare with" in capsys.readouterr().out


def test_bad_entries(tmp_path, capsys, caplog):
    old, new = unpacked("training.h5", tmp_path), tmp_path / "new.h5"
    with_pickle(old, 3, pickled(positions=np.full((3, 3), np.nan), species=["Ti", "O", "O"], energy=-2480.25))
    assert main(["convert", str(old), "-o", str(new)]) == 2
    assert "positions are NaN or infinite" in capsys.readouterr().err
    assert not new.exists()
    assert main(["convert", str(old), "-o", str(new), "--on-error", "skip"]) == 0
    captured = capsys.readouterr().out
    assert (captured + caplog.text).count("left out") == 1
    assert "4 structures" in captured


def test_a_model(tmp_path, capsys):
    case = golden("periodic_orthorhombic_tio2")
    old = write_model(tmp_path / "model.pt", model_payload(case))
    assert main(["convert", str(old), "-o", str(tmp_path / "ours.pt")]) == 0
    assert "Networks for Ti, O in float64." in capsys.readouterr().out
    out = TorchANNPotential.from_file(tmp_path / "ours.pt").predict([golden_structure(case)], eval_forces=True)
    assert out.total_energy[0] == pytest.approx(case["total_energy"], abs=1e-9)
    np.testing.assert_allclose(out.forces[0], case["forces"], rtol=0, atol=1e-8)


def test_other_commands_take_an_old_model(tmp_path, capsys):
    case = golden("periodic_orthorhombic_tio2")
    old = write_model(tmp_path / "model.pt", model_payload(case))
    assert main(["export", str(old), "-o", str(tmp_path)]) == 0
    assert (tmp_path / "potential.Ti.nn.ascii").exists()
    xyz = unpacked("training.h5", tmp_path)
    assert main(["predict", str(old), str(xyz), "--no-forces"]) == 0
    assert len([line for line in capsys.readouterr().out.splitlines() if "rutile" in line]) == 3


def test_ours_need_no_conversion(tmp_path, capsys):
    old, new = unpacked("training.h5", tmp_path), tmp_path / "new.h5"
    main(["convert", str(old), "-o", str(new), "--quiet"])
    assert capsys.readouterr().out == ""
    assert main(["convert", str(new), "-o", str(tmp_path / "again.h5")]) == 2
    assert "is a structure store of aenet_ray already; there is nothing to convert" in capsys.readouterr().err


def test_help(capsys):
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "Training HDF5 and TrnSet files (text, HDF5) become structure stores" in text
    assert "--isolated" in text


@pytest.mark.parametrize("command", ["info", "featurize", "evaluate"])
def test_where_a_store_belongs_the_command_is_named(tmp_path, capsys, command):
    old = str(unpacked("training.h5", tmp_path))
    case = golden("periodic_orthorhombic_tio2")
    model = str(write_model(tmp_path / "model.pt", model_payload(case)))
    descriptor = tmp_path / "d.yaml"
    descriptor.write_text("{species: [Ti, O], rad_order: 2, rad_cutoff: 3.0, ang_order: 1, ang_cutoff: 2.5}")
    arguments = {
        "info": ["info", old],
        "featurize": ["featurize", old, "--descriptor", str(descriptor), "-o", str(tmp_path)],
        "evaluate": ["evaluate", model, old, "-o", str(tmp_path / "e")],
    }
    assert main(arguments[command]) == 2
    assert f"Convert it: 'aenet-ray convert {old} -o " in capsys.readouterr().err


@pytest.mark.parametrize("form", ["ascii", "binary"])
def test_a_potential_of_aenet(tmp_path, capsys, form):
    case = golden("periodic_orthorhombic_tio2")
    potential = golden_potential(case)
    files = (potential.to_aenet_ascii if form == "ascii" else potential.to_aenet_binary)(tmp_path / "aenet")
    for k, given in enumerate(([tmp_path / "aenet"], list(files.values()))):
        new = tmp_path / f"{k}.pt"
        assert main(["convert", *map(str, given), "-o", str(new)]) == 0
        assert "Networks for Ti, O on" in capsys.readouterr().out
        out = TorchANNPotential.from_file(new).predict([golden_structure(case)], eval_forces=True)
        assert out.total_energy[0] == pytest.approx(case["total_energy"], abs=1e-9)
        np.testing.assert_allclose(out.forces[0], case["forces"], rtol=0, atol=1e-8)
    assert main(["convert", str(files["Ti"]), "-o", str(tmp_path / "half.pt")]) == 2
    assert "there is no file of O" in capsys.readouterr().err
    assert not (tmp_path / "half.pt").exists()


def test_several_files_are_those_of_a_potential(tmp_path, capsys):
    old = str(unpacked("training.h5", tmp_path))
    assert main(["convert", old, old, "-o", str(tmp_path / "new.h5")]) == 2
    assert "2 files given; expected one, or those of one ænet potential" in capsys.readouterr().err
