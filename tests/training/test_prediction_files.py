"""energies.* and forces.*: their columns, what they say, and reading them back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from runs import ATOMIC_ENERGIES, TIO2, small_descriptor

from aenet_ray.errors import PlotError, StructureError
from aenet_ray.potential import TorchANNPotential
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.store import StructureStore, write_store
from aenet_ray.training.config import Adam, RunConfig, TorchTrainingConfig
from aenet_ray.training.prediction_files import identifiers, read_energy_file, read_force_file
from aenet_ray.training.spec import RunSpec


def run(structures, folder, name, **changes):
    settings = {
        "iterations": 2, "seed": 3, "testpercent": 25, "atomic_energies": ATOMIC_ENERGIES, "show_progress": False,
        "method": Adam(batchsize=4), "save_energies": True, "save_forces": True, "force_weight": 0.2, "device": "cpu",
    }  # fmt: skip
    potential = TorchANNPotential({s: [(5, "tanh")] for s in ("Ti", "O")}, small_descriptor())
    where = RunConfig(name=name, storage_path=str(folder))
    out = potential.train(structures, config=TorchTrainingConfig(**(settings | changes)), run=where)
    return potential, out


@pytest.fixture(scope="module")
def structures():
    some = [s for s, _ in zip(read_structures(TIO2), range(16), strict=False)]
    some[2].forces = None
    some[3].name = "a name with blanks"
    return some


@pytest.fixture(scope="module")
def trained(structures, tmp_path_factory):
    return run(structures, tmp_path_factory.mktemp("runs"), "run")


def test_energy_files(structures, trained):
    potential, out = trained
    spec = RunSpec.load(out.run_dir)
    assert list(out.energies) == ["train", "test"]
    for part, ids in (("train", spec.train_ids), ("test", spec.test_ids)):
        table = out.energies[part]
        chosen = [structures[i] for i in ids]
        n = np.array([s.n_atoms for s in chosen])
        reference = np.array([s.energy for s in chosen])
        predicted = np.array(potential.predict(chosen).total_energy)
        np.testing.assert_allclose(table["Ref(eV)"], reference, rtol=1e-6)
        np.testing.assert_allclose(table["ANN(eV)"], predicted, rtol=1e-6)
        np.testing.assert_array_equal(table["#atoms"], n)
        np.testing.assert_allclose(table["Ref(eV/atom)"], reference / n, rtol=1e-6)
        np.testing.assert_allclose(table["ANN(eV/atom)"], predicted / n, rtol=1e-6)
        difference = (reference - predicted) / n
        np.testing.assert_allclose(table["Ref-ANN(eV/atom)"], difference, rtol=1e-5, atol=1e-10)
        np.testing.assert_allclose(table["Cost-Func"], difference * spec.normalization.E_scaling, rtol=1e-5)
        np.testing.assert_array_equal(table["#Sp1"], [s.species.count("Ti") for s in chosen])
        np.testing.assert_array_equal(table["#Sp2"], [s.species.count("O") for s in chosen])
        rmse = math.sqrt((table["Ref-ANN(eV/atom)"] ** 2).mean())
        assert rmse == pytest.approx(out.stats[f"final_RMSE_{part}"], rel=1e-5)


def test_the_lines_are_those_of_aenet(structures, trained):
    _, out = trained
    header, first, *_ = (out.run_dir / "energies.train.0").read_text().splitlines()
    assert header == (
        "#  Ref(eV)        ANN(eV)      #atoms  Ref(eV/atom)   ANN(eV/atom) Ref-ANN(eV/atom)    Cost-Func #Sp1 #Sp2"
        "    Path-of-input-file"
    )
    s = structures[RunSpec.load(out.run_dir).train_ids[0]]
    assert first[0] == " "
    assert first[1:15] == f"{s.energy:14.6E}"
    assert first[31:36] == f"{s.n_atoms:5d}"
    assert len(first.split()) == 10


def test_identifiers_have_no_blanks(structures, trained):
    _, out = trained
    paths = set(out.energies["train"]["Path-of-input-file"]) | set(out.energies["test"]["Path-of-input-file"])
    assert len(paths) == len(structures)
    assert "a_name_with_blanks" in paths
    assert any(p.endswith("structure0001.xsf") or ":" in p for p in paths)


def test_identifiers_of_memory_files_and_databases(structures, tmp_path):
    plain = [type(s)(s.positions, s.species, s.energy, None, s.cell) for s in structures[:3]]
    plain[1] = type(plain[1])(
        plain[1].positions, plain[1].species, -1.0, None, plain[1].cell, source="a b.xyz", frame=1
    )
    with StructureStore(write_store(plain, tmp_path / "s.h5").path) as store:
        assert identifiers(store, always_frame=False) == ["structure_000000", "a_b.xyz#frame=1", "structure_000002"]
        assert identifiers(store, always_frame=True)[0] == "structure_000000#frame=0"


def test_force_files(structures, trained):
    potential, out = trained
    ids = RunSpec.load(out.run_dir).train_ids
    table = out.forces["train"]
    assert 2 in ids
    assert set(table["structure"]) == {k + 1 for k, i in enumerate(ids) if i != 2}, "one structure has no forces"
    for k, i in enumerate(ids):
        rows = table[table["structure"] == k + 1]
        if i == 2:
            continue
        forces = potential.predict([structures[i]], eval_forces=True).forces[0]
        assert rows["atom"].tolist() == list(range(1, structures[i].n_atoms + 1))
        assert rows["species"].tolist() == list(structures[i].species)
        np.testing.assert_allclose(rows[["Fx_ref", "Fy_ref", "Fz_ref"]], structures[i].forces, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(rows[["Fx_ANN", "Fy_ANN", "Fz_ANN"]], forces, rtol=1e-6, atol=1e-8)
        assert rows["path"].iloc[0] == out.energies["train"]["Path-of-input-file"].iloc[k]


def test_figures_of_what_was_kept(trained, tmp_path):
    _, out = trained
    names = [axes.get_title(loc="left") for axes in out.plot_energy_correlation(tmp_path / "e.png").axes]
    assert [n.split()[0] for n in names[:2]] == ["train", "validation"]
    assert (tmp_path / "e.png").read_bytes().startswith(b"\x89PNG")
    assert len(out.plot_force_correlation().axes) == 3


def test_without_validation_or_forces(structures, tmp_path):
    few = [type(s)(s.positions, s.species, s.energy, None, s.cell) for s in structures[:4]]
    _, out = run(few, tmp_path, "run", testpercent=0, force_weight=0.0)
    assert list(out.energies) == ["train"]
    assert not (out.run_dir / "energies.test.0").exists()
    assert len(out.forces["train"]) == 0
    with pytest.raises(PlotError, match="no force files to plot; train with save_forces=True"):
        out.plot_force_correlation()
    _, plain = run(few, tmp_path, "plain", testpercent=0, force_weight=0.0, save_energies=False, save_forces=False)
    assert plain.energies is None
    assert plain.forces is None
    with pytest.raises(PlotError, match="no energy files to plot; train with save_energies=True"):
        plain.plot_energy_correlation()


def test_no_epochs_are_an_evaluation(structures, tmp_path):
    """The errors of the first weights, in the statistics and in the files."""
    potential, out = run(structures, tmp_path, "zero", iterations=0)
    assert len(out.errors) == 0
    chosen = [structures[i] for i in RunSpec.load(out.run_dir).train_ids]
    found = np.array(potential.predict(chosen).total_energy_per_atom)
    expected = math.sqrt(((found - [s.energy / s.n_atoms for s in chosen]) ** 2).mean())
    assert out.stats["final_RMSE_train"] == pytest.approx(expected, rel=1e-9)
    assert math.isfinite(out.stats["final_RMSE_force_test"])
    assert math.isnan(out.stats["min_RMSE_test"])
    assert len(out.energies["train"]) == len(chosen)


@pytest.mark.parametrize(
    ("text", "read", "error", "message"),
    [
        (None, read_energy_file, FileNotFoundError, "train with save_energies or save_forces"),
        ("1 2 3\n", read_energy_file, StructureError, r"begins with '1 2 3\\n', expected a header with 'Ref\(eV\)'"),
        ("# Ref(eV)\n 1 2 1 1 2 1 1 1 x\n 1 2 1\n", read_energy_file, StructureError, "line 3: 3 columns, expected 9"),
        ("# Ref(eV)\n 1 2 one 1 2 1 1 1 x\n", read_energy_file, StructureError, "a column is not of numbers: .*one"),
        ("# Ref(eV)\n", read_force_file, StructureError, "expected a header with 'Fx_ref'"),
        ("# Fx_ref\n 1 1 Ti 0 0 0 0 0\n", read_force_file, StructureError, "line 2: 8 columns, expected 10"),
    ],
)
def test_damaged_files_are_refused(tmp_path, text, read, error, message):
    if text is not None:
        (tmp_path / "f.0").write_text(text)
    with pytest.raises(error, match=message):
        read(tmp_path / "f.0")
