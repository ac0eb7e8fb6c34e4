"""``to_aenet_ascii`` and ``to_aenet_binary``: statistics are never others than those trained with."""

from __future__ import annotations

import numpy as np
import pytest
from evaluator import atom_energies
from potentials import random_potential

from aenet_ray import ChebyshevDescriptor, Structure, TorchANNPotential
from aenet_ray.errors import ExportError
from aenet_ray.export import read_ascii, read_binary
from aenet_ray.models.normalization import Normalization
from aenet_ray.structures.block import StructureBlock


def crystals(n: int = 4, seed: int = 0) -> list[Structure]:
    rng = np.random.default_rng(seed)
    fractions = [[0, 0, 0], [0.5, 0.5, 0.5], [0.3, 0.3, 0], [0.7, 0.7, 0], [0.2, 0.8, 0.5], [0.8, 0.2, 0.5]]
    found = []
    for k in range(n):
        positions = np.array(fractions) * [4.6, 4.6, 2.95] + rng.normal(scale=0.05, size=(6, 3))
        found.append(Structure(positions, ["Ti"] * 2 + ["O"] * 4, -100.0 - 0.1 * k, cell=np.diag([4.6, 4.6, 2.95])))
    return found


def features_of(descriptor: ChebyshevDescriptor, structures: list[Structure]) -> tuple[np.ndarray, np.ndarray]:
    block = StructureBlock.from_structures(structures)
    index = descriptor.species_index(block.numbers)
    return descriptor.features(descriptor.edges(block), index), index


@pytest.fixture
def trained() -> tuple[TorchANNPotential, list[Structure]]:
    """A potential whose normaliser is of four structures."""
    potential, structures = random_potential(), crystals()
    features, _ = features_of(potential.descriptor, structures)
    mean = features.mean(axis=0)
    std = np.sqrt(np.maximum(np.square(features).mean(axis=0) - mean**2, 0.0) + 1e-12)
    potential.model.normalization = Normalization(
        -3.0, 0.8, mean, std, features.min(axis=0), features.max(axis=0), True
    )
    return potential, structures


def written(potential, tmp_path, **arguments):
    files = potential.to_aenet_ascii(tmp_path, **arguments)
    return {s: read_ascii(path) for s, path in files.items()}


def aenet_energy(shares, potential, structure) -> float:
    """What ænet computes from files."""
    features, index = features_of(potential.descriptor, [structure])
    return sum(atom_energies(shares[s], features[index == k]).sum() for k, s in enumerate(potential.descriptor.species))


def test_other_structures_never_change_the_statistics(trained, tmp_path):
    """The reference recomputes average and covariance from them: its files are then of another potential."""
    potential, structures = trained
    expected = potential.predict(structures).total_energy
    others = crystals(3, seed=9)
    with pytest.warns(
        UserWarning, match=r"these 18 atoms have other averages than those trained with .*the trained ones"
    ):
        shares = written(potential, tmp_path, structures=others)
    for structure, energy in zip(structures, expected, strict=True):
        assert aenet_energy(shares, potential, structure) == pytest.approx(energy, abs=1e-9)
    features, _ = features_of(potential.descriptor, others)
    for share in shares.values():
        np.testing.assert_allclose(share.feature_min, features.min(axis=0), atol=1e-12)
        np.testing.assert_allclose(share.feature_max, features.max(axis=0), atol=1e-12)
        assert (share.n_structures, share.total_atoms) == (3, 18)
        assert share.E_min == pytest.approx((-100.2 + 2 * 10 + 4 * 20) / 6)


def test_the_training_structures_are_taken_without_a_word(trained, tmp_path, recwarn):
    potential, structures = trained
    shares = written(potential, tmp_path, structures=structures)
    assert not recwarn.list
    assert shares["Ti"].n_structures == 4
    assert written(potential, tmp_path, structures=crystals(2, 7), compute_stats=False)["O"].n_structures == 2
    assert not recwarn.list


def test_statistics_that_are_the_trained_ones_are_taken(trained, tmp_path):
    potential, _ = trained
    norm = potential.model.normalization
    stats = {
        "min": [-5.0] * len(norm.feature_mean), "max": np.full(len(norm.feature_mean), 7.0),
        "avg": norm.feature_mean.tolist(), "cov": norm.feature_std**2 + norm.feature_mean**2 - 1e-12,
    }  # fmt: skip
    plain, given = written(potential, tmp_path / "a"), written(potential, tmp_path / "b", descriptor_stats=stats)
    for s in ("Ti", "O"):
        np.testing.assert_array_equal(given[s].feature_mean, plain[s].feature_mean)
        np.testing.assert_array_equal(given[s].second_moment(), plain[s].second_moment())
        assert set(given[s].feature_min) == {-5.0}
        assert set(given[s].feature_max) == {7.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"avg": lambda a: a + 0.01}, r"avg of feature 0 is .*, the potential was trained with .* Leave"),
        ({"cov": lambda a: a * 1.01}, r"cov of feature 0 is .*other energies"),
        ({"avg": lambda a: a[:-1]}, r"avg has shape \(15,\), expected \(16,\)"),
        ({"min": lambda a: a * np.nan}, "min has shape .*finite numbers"),
        ({"std": lambda a: a}, "unknown keys std; expected some of min, max, avg, cov"),
        ({"min": lambda a: a + 1e9}, "min is above max"),
        ({"avg": lambda a: ["x"] * 16}, "avg are no numbers"),
    ],
)
def test_other_statistics_are_refused(trained, tmp_path, change, message):
    potential, _ = trained
    norm = potential.model.normalization
    stats = {"avg": norm.feature_mean, "cov": norm.feature_std**2 + norm.feature_mean**2}
    stats |= {"min": norm.feature_min, "max": norm.feature_max}
    stats |= {key: make(stats.get(key, norm.feature_mean)) for key, make in change.items()}
    with pytest.raises(ExportError, match=message):
        potential.to_aenet_ascii(tmp_path / "out", descriptor_stats=stats)
    assert not (tmp_path / "out").exists()


def test_networks_of_raw_features_get_average_0_and_covariance_1(tmp_path):
    """The reference writes the statistics of the structures: ænet then normalises what was never normalised."""
    potential, structures = random_potential(), crystals()
    shares = written(potential, tmp_path, structures=structures)
    for share in shares.values():
        assert not share.feature_mean.any()
        assert (share.second_moment() == 1.0).all()
    energy = potential.predict(structures).total_energy
    assert aenet_energy(shares, potential, structures[0]) == pytest.approx(energy[0], abs=1e-9)
    with pytest.raises(ExportError, match=r"it takes raw features: avg is 0, cov is 1"):
        potential.to_aenet_ascii(tmp_path, descriptor_stats={"avg": np.ones(16)})


def test_constant_features_stay_finite(tmp_path):
    """The reference's cov − avg² is negative for them: NaN in ænet."""
    potential, structures = random_potential(), crystals()
    features, _ = features_of(potential.descriptor, structures)
    mean, std = features.mean(axis=0), features.std(axis=0) + 1e-3
    mean[3], std[3] = 17.0, 1e-6
    potential.model.normalization = Normalization(-3.0, 0.8, mean, std, normalize_energy=True)
    for share in written(potential, tmp_path).values():
        spread = share.second_moment() - share.feature_mean**2
        assert (spread > 0).all()
        np.testing.assert_allclose(np.sqrt(spread), std, rtol=1e-6)


def test_binary_says_what_ascii_says(trained, tmp_path, same_fields):
    potential, structures = trained
    binary = potential.to_aenet_binary(tmp_path, "run", structures=structures)
    assert {s: p.name for s, p in binary.items()} == {"Ti": "run.Ti.nn", "O": "run.O.nn"}
    text = potential.to_aenet_ascii(tmp_path, "run", structures=structures)
    for s in ("Ti", "O"):
        same_fields(read_binary(binary[s]), read_ascii(text[s]))


def test_longer_angular_cutoff_is_refused_and_nothing_written(tmp_path):
    potential = random_potential(rad_cutoff=3.0, ang_cutoff=3.5)
    for write in (potential.to_aenet_ascii, potential.to_aenet_binary):
        with pytest.raises(ExportError, match=r"angular cutoff of 3\.5 Å is longer than the radial one of 3\.0"):
            write(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_line_writes_either_format(tmp_path, capsys):
    from aenet_ray.cli.main import main

    random_potential().save(tmp_path / "model.pt")
    for form, suffixes in (("ascii", ["nn.ascii"]), ("binary", ["nn"]), ("both", ["nn.ascii", "nn"])):
        folder = tmp_path / form
        assert main(["export", str(tmp_path / "model.pt"), "-o", str(folder), "--format", form]) == 0
        expected = [str(folder / f"potential.{s}.{suffix}") for suffix in suffixes for s in ("Ti", "O")]
        assert capsys.readouterr().out.split() == expected
        assert TorchANNPotential.from_aenet(expected[:2]).descriptor.species == ["Ti", "O"]
