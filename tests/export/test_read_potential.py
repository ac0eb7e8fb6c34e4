"""ænet's files read as a potential: golden energies and forces, folding, round trips, and what is refused."""

from __future__ import annotations

import base64
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from evaluator import atom_energies, feature_gradients
from hypothesis import given, settings
from hypothesis import strategies as st
from potentials import random_potential

from aenet_ray import Structure, TorchANNPotential
from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.errors import ExportError
from aenet_ray.export import SpeciesPotential, read_potential_files, write_ascii, write_ascii_files, write_binary_files
from aenet_ray.structures.block import StructureBlock

FORMS = ["files", "files_portable", "files_binary_base64"]
NAMES = {"files": "nn.ascii", "files_portable": "nn.ascii", "files_binary_base64": "nn"}
ACTIVATIONS = ["linear", "tanh", "sigmoid", "mtanh", "twist"]


@pytest.fixture
def golden_files(golden, tmp_path):
    """Writes the golden potential in one of its three forms; species to path."""

    def write(form: str):
        paths = {}
        for species in golden["descriptor"]["species"]:
            path = paths[species] = tmp_path / f"demo.{species}.{NAMES[form]}"
            content = golden[form][path.name]
            path.write_bytes(base64.b64decode(content) if isinstance(content, str) else "\n".join(content).encode())
        return paths

    return write


def structures_of(golden) -> list[Structure]:
    return [Structure(**{k: case[k] for k in ("positions", "species", "cell")}) for case in golden["predictions"]]


@pytest.mark.parametrize("form", FORMS)
def test_golden_energies_and_forces_of_all_three_forms(golden, golden_files, form):
    potential = TorchANNPotential.from_aenet(golden_files(form))
    out = potential.predict(structures_of(golden), eval_forces=True)
    for k, case in enumerate(golden["predictions"]):
        assert out.total_energy[k] == pytest.approx(case["total_energy"], abs=1e-9)
        np.testing.assert_allclose(out.forces[k], case["forces"], rtol=0, atol=1e-8)
    assert potential.atomic_energies == golden["atomic_energies"]
    assert potential.arch == {s: [(3, "tanh"), (2, "sigmoid")] for s in ("Ti", "O")}


def test_every_way_to_name_the_files(golden_files, tmp_path):
    paths = golden_files("files_binary_base64")
    ways = [paths, list(paths.values()), [str(p) for p in reversed(paths.values())], tmp_path, str(tmp_path)]
    for way in ways:
        assert list(read_potential_files(way)) == ["Ti", "O"]


def test_a_folder_may_hold_both_forms_of_one_potential(make_potential, tmp_path):
    shares = [make_potential(central_species=s) for s in ("Ti", "O")]
    write_ascii_files(shares, tmp_path)
    write_binary_files(shares, tmp_path)
    assert list(read_potential_files(tmp_path)) == ["Ti", "O"]
    write_binary_files([make_potential(central_species="Ti", seed=1)], tmp_path)
    with pytest.raises(
        ExportError, match=r"Ti\.nn\.ascii: the potential of Ti, as is .*Ti\.nn; expected one a species"
    ):
        read_potential_files(tmp_path)


def test_the_two_formats_may_be_mixed(golden, golden_files):
    binary, text = golden_files("files_binary_base64"), golden_files("files")
    out = TorchANNPotential.from_aenet([binary["Ti"], text["O"]]).predict(structures_of(golden))
    assert out.total_energy == pytest.approx([case["total_energy"] for case in golden["predictions"]], abs=1e-9)


# Potentials as ænet's own training leaves them: everything differs between the species.


def drawn(rng: np.random.Generator, species, central, hidden, spreads, *, normalize: bool = True) -> SpeciesPotential:
    n_features = 5 * (2 if len(species) > 1 else 1)
    sizes = [n_features, *(n for n, _ in hidden), 1]
    layers = [(rng.normal(size=(b, a)) / np.sqrt(a), rng.normal(size=b)) for a, b in pairwise(sizes)]
    mean = rng.normal(size=n_features)
    return SpeciesPotential(
        central_species=central,
        species=species,
        layers=layers,
        activations=[*(name for _, name in hidden), "linear"],
        rad_order=2,
        rad_cutoff=4.0,
        ang_order=1,
        ang_cutoff=3.0,
        feature_mean=mean,
        feature_std=spreads,
        feature_second_moment=spreads**2 + mean**2 if (spreads == 0).any() else None,
        normalize_features=normalize,
        E_scaling=float(rng.uniform(0.2, 3.0)),
        E_shift=float(rng.normal()),
        atomic_energies={s: float(rng.normal(scale=100.0)) for s in species},
    )


@st.composite
def potentials(draw):
    species = tuple(draw(st.permutations(["Ti", "O", "H"]))[: draw(st.integers(1, 3))])
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    layers = st.lists(st.tuples(st.integers(1, 4), st.sampled_from(ACTIVATIONS)), max_size=3)
    found = []
    for s in species:
        spreads = rng.uniform(0.05, 2.0, 5 * (2 if len(species) > 1 else 1))
        if draw(st.booleans()):
            spreads[rng.integers(len(spreads))] = 0.0  # what ænet switches off
        found.append(drawn(rng, species, s, draw(layers), spreads, normalize=draw(st.booleans())))
    return found


def cluster(species) -> Structure:
    rng = np.random.default_rng(1)
    positions = [[1.7 * i, 1.7 * j, 0.0] for i in range(3) for j in range(2)] + rng.normal(scale=0.2, size=(6, 3))
    return Structure(positions, [species[k % len(species)] for k in range(6)])


def computed_by_aenet(found, structure) -> tuple[float, np.ndarray]:
    """Energy and forces by the formulas of the files alone."""
    p = found[0]
    d = ChebyshevDescriptor(list(p.species), p.rad_order, p.rad_cutoff, p.ang_order, p.ang_cutoff, p.min_cutoff)
    block = StructureBlock.from_structures([structure])
    edges, index = d.edges(block), d.species_index(block.numbers)
    features = d.features(edges, index)
    energies, gradients = np.zeros(len(index)), np.zeros_like(features)
    for k, s in enumerate(d.species):
        own = next(q for q in found if q.central_species == s)
        energies[index == k] = atom_energies(own, features[index == k])
        gradients[index == k] = feature_gradients(own, features[index == k])
    return float(energies.sum()), -d.vjp(edges, index, gradients)[0]


@pytest.mark.parametrize("write", [write_ascii_files, write_binary_files])
@settings(deadline=None, max_examples=40)
@given(found=potentials())
def test_what_is_written_is_read_with_the_same_energies(tmp_path_factory, write, found):
    """Whatever activations, layers and statistics each species has; and once more through our own files."""
    structure = cluster(found[0].species)
    energy, forces = computed_by_aenet(found, structure)
    scale = max(1.0, *(abs(e) for p in found for e in p.atomic_energies.values()))
    first = tmp_path_factory.mktemp("first")
    potential = TorchANNPotential.from_aenet(write(found, first))
    again = TorchANNPotential.from_aenet(potential.to_aenet_ascii(first / "again"))
    for p in (potential, again):
        out = p.predict([structure], eval_forces=True)
        assert out.total_energy[0] == pytest.approx(energy, abs=1e-10 * scale)
        np.testing.assert_allclose(out.forces[0], forces, rtol=0, atol=1e-9)


def test_folding_is_exact_to_1e_10():
    """Without files in between: averages, spreads, scalings and shifts of each species' own."""
    from aenet_ray.export.to_model import model_of
    from aenet_ray.inference.predict import PredictionConfig, predict_structures

    rng = np.random.default_rng(5)
    found = [drawn(rng, ("Ti", "O"), s, [(6, "twist"), (4, "mtanh")], rng.uniform(1e-3, 10.0, 10)) for s in ("Ti", "O")]
    structure = cluster(("Ti", "O"))
    energy, forces = computed_by_aenet(found, structure)
    model = model_of({p.central_species: p for p in found})
    out = predict_structures(model, [structure], PredictionConfig(), forces=True)
    assert out.total_energy[0] == pytest.approx(energy, abs=1e-10)
    np.testing.assert_allclose(out.forces[0], forces, rtol=0, atol=1e-10)


def test_files_of_one_normaliser_keep_their_weights(golden_potentials):
    from aenet_ray.export.shared_scaling import with_shared_scaling

    for s, p in with_shared_scaling(golden_potentials).items():
        for (w, b), (v, c) in zip(p.layers, golden_potentials[s].layers, strict=True):
            np.testing.assert_array_equal(w, v)
            np.testing.assert_array_equal(b, c)


def test_a_trained_potential_survives_the_way_there_and_back(tmp_path):
    potential = random_potential(seed=3)
    structure = cluster(("Ti", "O"))
    expected = potential.predict([structure], eval_forces=True)
    for write in (potential.to_aenet_ascii, potential.to_aenet_binary):
        again = TorchANNPotential.from_aenet(write(tmp_path))
        out = again.predict([structure], eval_forces=True)
        assert out.total_energy[0] == pytest.approx(expected.total_energy[0], abs=1e-10)
        assert out.cohesive_energy[0] == pytest.approx(expected.cohesive_energy[0], abs=1e-10)
        np.testing.assert_allclose(out.forces[0], expected.forces[0], rtol=0, atol=1e-10)


def test_it_can_be_saved_and_trained_on(golden, golden_files, tmp_path):
    potential = TorchANNPotential.from_aenet(golden_files("files_portable"))
    potential.save(tmp_path / "model.pt")
    out = TorchANNPotential.from_file(tmp_path / "model.pt").predict(structures_of(golden))
    assert out.total_energy == pytest.approx([case["total_energy"] for case in golden["predictions"]], abs=1e-9)


def test_longer_angular_cutoffs_are_read_only_when_allowed(make_potential, tmp_path):
    shares = [make_potential(central_species=s, rad_cutoff=3.0, ang_cutoff=3.5) for s in ("Ti", "O")]
    files = write_ascii_files(shares, tmp_path, allow_longer_angular_cutoff=True)
    with pytest.raises(ExportError, match=r"angular cutoff of 3\.5 Å is longer .* allow_longer_angular_cutoff=True"):
        TorchANNPotential.from_aenet(files)
    assert TorchANNPotential.from_aenet(files, allow_longer_angular_cutoff=True).descriptor.ang_cutoff == 3.5


def test_files_that_do_not_belong_together(make_potential, tmp_path):
    ti, o = make_potential(central_species="Ti"), make_potential(central_species="O")

    def write(name, p):
        return write_ascii(p, tmp_path / name)

    a, b = write("ti", ti), write("o", o)
    other_cutoff = write("cut", replace(o, rad_cutoff=6.5))
    swapped = write("swapped", replace(o, species=("O", "Ti")))
    cases = [
        ({"Ti": b, "O": a}, r"o: the potential of O, expected that of Ti"),
        ([a], r"ti: a potential for Ti, O, but there is no file of O; given are .*ti"),
        ([a, b, a], r"ti: the potential of Ti, as is .*ti; expected one a species"),
        ([a, other_cutoff], r"cut: rad_cutoff is 6\.5, but 6\.0 in .*ti; .* one descriptor"),
        ([a, swapped], r"swapped: species is O Ti, but Ti O in .*ti"),
        ([], "none given; expected one a species"),
        (3, "int, expected paths"),
    ]
    for paths, message in cases:
        with pytest.raises(ExportError, match=message):
            read_potential_files(paths)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x00\x00\x00\x04\x00\x00\x00\x04", "big endian; expected little endian"),
        (b"PK\x03\x04....", r"torch model file; read it with TorchANNPotential\.from_file"),
        (b"\x89HDF\r\n", "an HDF5 file"),
        (b"\x1f\x8b\x08", "compressed; unpack it"),
        (b"", r"line 0: expected 1 integer \(number of layers\), found the end of the file"),
        (b"\x04\x00\x00\x00\x03", "record 1: its two length marks do not agree"),
    ],
)
def test_foreign_files_are_named(tmp_path, content, message):
    (tmp_path / "a.nn").write_bytes(content)
    with pytest.raises(ExportError, match=message):
        read_potential_files(tmp_path)


def test_other_bases_are_refused(golden, golden_files):
    paths = golden_files("files_portable")
    lines = paths["Ti"].read_text().splitlines()
    lines[lines.index("Chebyshev")] = "Behler2011"
    paths["Ti"].write_text("\n".join(lines))
    with pytest.raises(ExportError, match=r"demo\.Ti.*line 27: the basis type is behler2011, expected chebyshev"):
        TorchANNPotential.from_aenet(paths)
