from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from evaluator import atom_energies, feature_gradients

from aenet_ray.errors import ExportError
from aenet_ray.export import read_ascii, write_ascii, write_ascii_files


@pytest.mark.parametrize("species", ["Ti", "O"])
def test_golden_text_is_reproduced_character_for_character(golden, golden_potentials, tmp_path, species):
    path = write_ascii(golden_potentials[species], tmp_path / "out.ascii")
    assert path.read_text().split("\n") == golden["files_portable"][f"demo.{species}.nn.ascii"]


@pytest.mark.parametrize("layout", ["files", "files_portable"])
@pytest.mark.parametrize("species", ["Ti", "O"])
def test_both_layouts_are_read(golden, golden_potentials, same_fields, tmp_path, species, layout):
    path = tmp_path / "in.ascii"
    path.write_text("\n".join(golden[layout][f"demo.{species}.nn.ascii"]))
    read = read_ascii(path)
    derived = ("feature_std", "feature_second_moment")
    told_by_reference = ("description", "training_set", "E_min", "E_max", "E_avg")
    but = derived + (told_by_reference if layout == "files" else ())
    fixed_point = 3e-16 if layout == "files" else 0.0  # written with 17 decimals
    same_fields(read, golden_potentials[species], but=but, atol=fixed_point)
    # The reference's second moment lacks the 1e-12 that its own training puts under the root.
    rtol = 1e-9 if layout == "files" else 1e-12
    np.testing.assert_allclose(read.feature_std, golden_potentials[species].feature_std, rtol=rtol)
    if layout == "files":
        assert read.description == "PyTorch Chebyshev descriptor export"
        assert read.E_min == pytest.approx(-7.666666666666667)


def test_golden_energies_and_forces(golden, golden_potentials, tmp_path):
    from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
    from aenet_ray.structures.block import StructureBlock
    from aenet_ray.structures.structure import Structure

    descriptor = ChebyshevDescriptor(**golden["descriptor"])
    files = write_ascii_files(golden_potentials.values(), tmp_path)
    potentials = [read_ascii(files[s]) for s in descriptor.species]
    keys = ("positions", "species", "cell")
    structures = [Structure(**{k: case[k] for k in keys}) for case in golden["predictions"]]
    for structure, case in zip(structures, golden["predictions"], strict=True):
        block = StructureBlock.from_structures([structure])
        edges, index = descriptor.edges(block), descriptor.species_index(block.numbers)
        features = descriptor.features(edges, index)
        energies, gradients = np.zeros(len(index)), np.zeros_like(features)
        for i, potential in enumerate(potentials):
            energies[index == i] = atom_energies(potential, features[index == i])
            gradients[index == i] = feature_gradients(potential, features[index == i])
        assert energies.sum() == pytest.approx(case["total_energy"], abs=1e-9)
        forces = -descriptor.vjp(edges, index, gradients)[0]
        np.testing.assert_allclose(forces, case["forces"], atol=1e-9)


@pytest.mark.parametrize("n_species", [1, 2, 3, 4, 5])
def test_reading_gives_back_what_was_written(make_potential, same_fields, tmp_path, n_species):
    potential = make_potential(n_species)
    path = write_ascii(potential, tmp_path / "a")
    read = read_ascii(path)
    same_fields(read, potential, but=("feature_std", "feature_second_moment"))
    assert write_ascii(read, tmp_path / "b").read_text() == path.read_text()


def test_extreme_numbers_keep_all_digits(make_potential, same_fields, tmp_path):
    weight = np.array([[-1.2345678901234567e-123, 9.876543210987654e200, -0.0, 5e-324, np.pi, -1e15 / 3]])
    potential = make_potential(1, hidden=(), rad_order=2, ang_order=2, layers=[(weight, [1e-300])])
    read = read_ascii(write_ascii(potential, tmp_path / "a"))
    same_fields(read, potential, but=("feature_std", "feature_second_moment"))


@pytest.mark.parametrize("name", ["linear", "tanh", "sigmoid", "mtanh", "twist"])
def test_activation_codes(make_potential, tmp_path, name):
    path = write_ascii(make_potential(hidden=[(2, name.upper())]), tmp_path / "a")
    code = ["linear", "tanh", "sigmoid", "mtanh", "twist"].index(name)
    assert path.read_text().splitlines()[5].split() == [str(code), "0"]
    assert read_ascii(path).activations == (name, "linear")


def test_raw_features_are_written_so_that_aenet_leaves_them_alone(make_potential, tmp_path):
    potential = make_potential(normalize_features=False)
    features = np.random.default_rng(1).normal(size=(5, potential.n_features))
    read = read_ascii(write_ascii(potential, tmp_path / "a"))
    assert not read.normalize_features
    np.testing.assert_array_equal(read.feature_mean, 0.0)
    np.testing.assert_array_equal(read.second_moment(), 1.0)
    np.testing.assert_array_equal(atom_energies(read, features), atom_energies(potential, features))


def test_nearly_constant_features_keep_their_scale(make_potential, tmp_path):
    """std² is lost in std² + mean² here: stored plainly, the slope would be off by percents."""
    mean, std = np.full(14, 30.0), np.full(14, 0.5)
    std[[2, 7]] = 1e-6, 1e-4
    potential = make_potential(2, feature_mean=mean, feature_std=std)
    features = mean + std * np.random.default_rng(2).normal(size=(6, 14))
    shift, factor = potential.normalizer()
    raw = make_potential(2, normalize_features=False)
    expected = atom_energies(raw, (features - shift) * factor)
    read = read_ascii(write_ascii(potential, tmp_path / "a"))
    np.testing.assert_allclose(atom_energies(read, features), expected, rtol=0, atol=1e-7)


def test_longer_angular_cutoff_is_refused_unless_allowed(make_potential, tmp_path):
    potential = make_potential(rad_cutoff=4.0, ang_cutoff=5.0)
    with pytest.raises(ExportError, match=r"angular cutoff of 5\.0 Å is longer"):
        write_ascii(potential, tmp_path / "a")
    assert not any(tmp_path.iterdir())
    read = read_ascii(write_ascii(potential, tmp_path / "a", allow_longer_angular_cutoff=True))
    assert (read.rad_cutoff, read.ang_cutoff) == (4.0, 5.0)


def test_names_become_one_word(make_potential, tmp_path):
    potential = make_potential(description='TiO2, "rutile"/anatase x 2', training_set="  ")
    read = read_ascii(write_ascii(potential, tmp_path / "a"))
    assert (read.description, read.training_set) == ("TiO2_rutile_anatase_x_2", "aenet_ray")


def test_files_of_all_species(make_potential, tmp_path):
    potentials = [make_potential(central_species=s) for s in ("Ti", "O")]
    files = write_ascii_files(potentials, tmp_path / "new" / "folder", prefix="run")
    assert {s: p.name for s, p in files.items()} == {"Ti": "run.Ti.nn.ascii", "O": "run.O.nn.ascii"}
    assert sorted(tmp_path.rglob("*.nn.ascii")) == sorted(files.values())


def test_a_failed_write_leaves_the_old_file(make_potential, tmp_path, monkeypatch):
    path = write_ascii(make_potential(), tmp_path / "a")
    before = path.read_text()
    monkeypatch.setattr("os.replace", lambda *args: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_ascii(make_potential(seed=1), path)
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


def test_every_truncation_is_noticed(make_potential, tmp_path):
    lines = write_ascii(make_potential(3), tmp_path / "a").read_text().splitlines()
    for n in range(len(lines)):
        (tmp_path / "b").write_text("\n".join(lines[:n]))
        with pytest.raises(ExportError, match=r"line \d+: expected .*found|truncated"):
            read_ascii(tmp_path / "b")


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (1, "four", r"line 1: expected 1 integer \(number of layers\), found 'four'"),
        (1, "-4", r"line 1: expected the number of layers, 2 or more, found -4"),
        (1, "99999999999999999999", r"line 1: expected 1 integer"),
        (3, "45", r"line 20: expected 45 numbers \(weights\), found 'demo'"),
        (5, "10 3 2 1 1", r"line 5: expected 4 integers \(nodes per layer\), found 5"),
        (5, "10 4 2 1", r"line 3: the number of weights .* is 44, expected 57"),
        (5, "10 0 2 1", r"line 5: every layer having nodes"),
        (6, "1 7 0", r"line 6: unknown activation codes \[7\]"),
        (6, "1 2 1", r"output layer's activation is 'tanh', expected 'linear'"),
        (9, "0.1 0.2 nan 0.4", r"line 9: expected 44 numbers \(weights\), found 'nan'"),
        (9, "0.1 0.2 1_0.0 0.4", r"line 9: expected 44 numbers \(weights\), found '1_0.0'"),
        (
            10,
            "0.1 0.2 0.3",
            r"line 20: expected 44 numbers \(weights\), found 'demo'",
        ),
        (21, "Fe", r"Fe: it is not among the descriptor's species \['Ti', 'O'\]"),
        (27, "Behler2011", r"line 27: the basis type is behler2011, expected chebyshev"),
        (33, "4.0 3.0 3.0 1.0", r"line 28: the number of features .* is 10, expected 12"),
        (33, "4.0 2.5 3.0 1.0", r"line 33: the orders are 2\.5 and 1\.0"),
        (43, "0 0 0", r"expected 20 integers \(environment species\), found 19"),
        (62, "maybe", r"line 62: expected T or F"),
        (62, "F", r"line 63: scaling and shift of raw energies is \(1\.25, -7\.3\)"),
        (66, "Fe", r"line 66: the list of species is \['Fe', 'O'\]"),
        (72, "more", r"line 72: expected the end of the file, found 'more'"),
    ],
)
def test_garbled_lines_are_named(golden, tmp_path, line, text, message):
    lines = list(golden["files_portable"]["demo.Ti.nn.ascii"])
    lines[line - 1] = text
    path = tmp_path / "bad.ascii"
    path.write_text("\n".join(lines))
    with pytest.raises(ExportError, match=message) as error:
        read_ascii(path)
    assert str(path) in str(error.value)


def test_fortran_spellings_are_read(golden, tmp_path):
    lines = list(golden["files_portable"]["demo.Ti.nn.ascii"])
    lines[8] = "-1.25D-01, 2*0.5616520 -1.5-101"
    lines[61] = ".TRUE."
    (tmp_path / "a").write_text("\r\n".join(lines))
    first = read_ascii(tmp_path / "a").layers[0][0]
    assert first[:, 0].tolist() == [-0.125, 0.561652, 0.561652]
    assert first[0, 1] == -1.5e-101


@pytest.fixture(scope="session")
def fortran_readers(tmp_path_factory) -> Path:
    compiler = shutil.which("gfortran")
    if compiler is None:
        pytest.skip("no gfortran")
    program = tmp_path_factory.mktemp("fortran") / "readers"
    source = Path(__file__).with_name("readers.f90")
    subprocess.run([compiler, str(source), "-o", str(program)], check=True, cwd=program.parent)
    return program


@pytest.mark.parametrize("orders", [(3, 2), (2, 1), (4, 3), (0, 0)])
@pytest.mark.parametrize("n_species", [1, 2, 3, 4, 5])
def test_both_kinds_of_fortran_readers(make_potential, fortran_readers, tmp_path, n_species, orders):
    potential = make_potential(n_species, rad_order=orders[0], ang_order=orders[1])
    path = write_ascii(potential, tmp_path / "a")
    weights = [np.column_stack(layer).ravel(order="F") for layer in potential.layers]
    energies = [potential.atomic_energies[s] for s in potential.species]
    scaling = [potential.E_scaling, potential.E_shift]
    expected = np.concatenate([*weights, potential.feature_mean, scaling, energies, [-4.0, -2.0, -3.0]])
    for mode in ("fixed", "list"):
        out = subprocess.run([fortran_readers, path, mode], check=True, capture_output=True, text=True).stdout
        np.testing.assert_array_equal(np.array(out.split(), dtype=float), expected, err_msg=mode)
