"""Reference energies: known answers, NumPy's lstsq, streams, and what is refused."""

from __future__ import annotations

import json
import random
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from ase.data import chemical_symbols

from aenet_ray import (
    ChebyshevDescriptor,
    ReferenceEnergies,
    Structure,
    StructureDataset,
    StructureStore,
    iter_composition_energy_samples_from_files,
)
from aenet_ray.errors import ReferenceEnergyError
from aenet_ray.reference_energies.least_squares import CompositionFit
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.store import write_store

DATA = Path(__file__).parents[1] / "data"
TIO2 = DATA / "tio2_ci100_xsf.tar.gz"
GOLDEN = json.loads((DATA / "golden" / "reference_energies.json").read_text())
SAMPLES = [(composition, energy) for composition, energy in GOLDEN["samples"]]


def close(found: object, expected: object) -> None:
    """Equal, numbers to rounding; dictionaries have the same keys."""
    if isinstance(expected, dict):
        assert isinstance(found, dict)
        assert found.keys() == expected.keys()
        for key in expected:
            close(found[key], expected[key])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            close(a, b)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
    else:
        assert found == expected
        assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("regression", {}),
        ("regression_fixed_O", {"fixed_atomic_energies": {"O": -432.5}}),
        ("regression_subset", {"subset_size": 4, "random_seed": 3}),
    ],
)
def test_golden_regression(name, arguments):
    result = ReferenceEnergies.from_regression(iter(SAMPLES), **arguments)
    close(result.atomic_energies, GOLDEN[name]["atomic_energies"])
    close(result.metadata, GOLDEN[name]["metadata"])
    assert result.method == "regression"


def test_golden_reference_compounds():
    case = GOLDEN["reference_compounds"]
    result = ReferenceEnergies.from_reference_compounds(iter(SAMPLES), reference_compounds=case["reference_compounds"])
    close(result.atomic_energies, case["atomic_energies"])
    close(result.metadata, case["metadata"])
    assert result.method == "reference_compounds"


def test_golden_sae():
    golden = json.loads((DATA / "golden" / "sae.json").read_text())
    samples = [
        ({chemical_symbols[z]: row.count(z) for z in set(row)}, energy)
        for group in golden["groups"].values()
        for row, energy in zip(group["numbers"], group["energy"], strict=True)
    ]
    result = ReferenceEnergies.from_sae(iter(samples))

    def symbols(table):
        return {chemical_symbols[int(z)]: e for z, e in table.items()}

    close(result.atomic_energies, symbols(golden["final_sae"]) and dict(sorted(symbols(golden["final_sae"]).items())))
    close(result.metadata["first_pass_atomic_energies"], symbols(golden["first_pass_sae"]))
    close(result.metadata["residual_limits"], golden["percentiles_2_98_of_first_pass_residual"])
    assert result.metadata["n_samples_total"] == golden["n_total"]
    assert result.metadata["n_samples_used"] == golden["n_kept_strict_inequalities"]
    assert result.method == "sae"


@pytest.mark.parametrize("n_species", [1, 3, 7])
def test_many_samples_give_what_lstsq_gives(n_species):
    rng = np.random.default_rng(n_species)
    counts = rng.integers(0, 60, (20_000, n_species))
    counts[:, 0] += 1
    species = chemical_symbols[1 : n_species + 1]
    energies = counts @ rng.uniform(-5000, -10, n_species) + rng.normal(scale=3.0, size=len(counts))
    matrix = counts[:, np.argsort(species)].astype(float)
    expected, rss, rank, singular = np.linalg.lstsq(matrix, energies, rcond=None)
    one_by_one, by_rows = CompositionFit(), CompositionFit()
    for row, energy in zip(counts.tolist(), energies.tolist(), strict=True):
        one_by_one.add(dict(zip(species, row, strict=True)), energy)
    by_rows.add_rows(species, counts, energies)
    for fit in (one_by_one, by_rows):
        found = fit.solve()
        np.testing.assert_allclose(list(found.energies.values()), expected, rtol=1e-11)
        np.testing.assert_allclose(found.singular_values, singular, rtol=1e-12)
        assert found.rank == rank
        assert found.residual_sum_squares == pytest.approx(rss[0], rel=1e-8)


def test_a_stream_is_never_kept():
    def stream(n):
        for k in range(n):
            yield {"Ti": 1 + k % 3, "O": 2 + k % 5}, -1000.0 * (k % 7)

    tracemalloc.start()
    ReferenceEnergies.from_regression(stream(20_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6  # 20 000 samples are 7 MB


@pytest.fixture(scope="module")
def structures():
    found = [s for s, _ in zip(read_structures(TIO2), range(12), strict=False)]
    oxygen = [Structure([[0.0, 0.0, 0.0]], ["O"], -432.5 - 0.1 * k) for k in range(3)]
    return [*found, *oxygen]


@pytest.fixture(scope="module")
def store(structures, tmp_path_factory):
    return StructureStore(write_store(structures, tmp_path_factory.mktemp("s") / "data.h5").path)


def test_every_kind_of_input_gives_the_same(structures, store, tmp_path):
    from aenet_ray.structures.ase_io import to_ase, write_ase

    write_ase(structures, tmp_path / "all.extxyz")
    pairs = [({s: x.species.count(s) for s in set(x.species)}, x.energy) for x in structures]
    expected = ReferenceEnergies.from_regression(pairs)
    inputs = [
        store, store.path, str(store.path), structures, iter(structures), [to_ase(s) for s in structures],
        StructureDataset(structures, ChebyshevDescriptor(["Ti", "O"], 2, 3.0, 1, 3.0)),
        tmp_path / "all.extxyz", [tmp_path / "all.extxyz"],
        iter_composition_energy_samples_from_files([tmp_path / "all.extxyz"]),
        iter_composition_energy_samples_from_files(str(tmp_path / "all.extxyz"), frmt="extxyz"),
        iter_composition_energy_samples_from_files([store.path]),
    ]  # fmt: skip
    for samples in inputs:
        found = ReferenceEnergies.from_regression(samples)
        close(found.atomic_energies, expected.atomic_energies)
        close(found.metadata, expected.metadata)
    subset = {"subset_fraction": 0.9, "random_seed": 1}
    for samples in (store, [str(store.path)], structures):
        found = ReferenceEnergies.from_regression(samples, **subset)
        close(found.metadata, ReferenceEnergies.from_regression(pairs, **subset).metadata)


def test_filtered_regression_of_a_store_is_that_of_its_samples(tmp_path):
    rng = np.random.default_rng(3)
    many = []
    for k in range(120):
        species = ["Ti"] * (1 + k % 4) + ["O"] * (1 + k % 5)
        positions = [[3.0 * i, 0.0, 0.0] for i in range(len(species))]
        many.append(Structure(positions, species, None if k == 7 else -100.0 * k + rng.normal()))
    path = write_store(many, tmp_path / "data.h5").path
    half = StructureStore(write_store(many[60:], tmp_path / "half.h5").path)
    for options in ({}, {"subset_size": 50, "random_seed": 2}):
        with pytest.warns(UserWarning, match="1 of 120 structures have no energy"):
            expected = ReferenceEnergies.from_sae(many, **options)
        with pytest.warns(UserWarning, match="1 of 120 structures have no energy"):
            found = ReferenceEnergies.from_sae(str(path), **options)
        close(found.metadata, expected.metadata)
        close(found.atomic_energies, expected.atomic_energies)
    assert ReferenceEnergies.from_sae([half, half]).metadata["n_samples_total"] == 120


def test_files_are_read_one_frame_at_a_time(tmp_path):
    lazy = iter_composition_energy_samples_from_files([TIO2, tmp_path / "missing.xsf"])
    composition, energy = next(lazy)
    assert set(composition) == {"Ti", "O"}
    assert energy < 0


def test_structures_without_energy_are_left_out_and_said(structures, tmp_path):
    some = [*structures, Structure([[0.0, 0.0, 0.0]], ["O"])]
    path = write_store(some, tmp_path / "data.h5").path
    for samples in (some, StructureStore(path)):
        with pytest.warns(UserWarning, match="1 of 16 structures have no energy; they are left out"):
            result = ReferenceEnergies.from_regression(samples)
        assert result.metadata["n_samples_total"] == 15


@pytest.mark.parametrize(
    ("compositions", "message"),
    [
        ([{"Ti": 1, "O": 2}, {"Ti": 2, "O": 4}], r"rank 1, but 2 energies .*: all structures have O:Ti = 2:1, .*"
         r"Fix the energy of one of O, Ti .*--fixed O=E"),
        ([{"Ti": 1, "O": 2}], "all structures have O:Ti = 2:1"),
        ([{"C": 1, "H": 2, "N": 3}, {"C": 2, "H": 4, "N": 1}], "C:H = 1:2.*one of C, H "),
        ([{"Li": 1, "Ti": 1, "O": 2}, {"Li": 2, "Ti": 2, "O": 4}], "2 of Li, O, Ti"),
        ([{"Li": 2, "O": 1}, {"Ti": 1, "O": 2}, {"Li": 2, "Ti": 1, "O": 3}, {"Li": 2, "Ti": 3, "O": 7}],
         r"2 O = Li \+ 4 Ti|Li \+ 4 Ti = 2 O"),
    ],
)  # fmt: skip
def test_rank_deficiency_is_explained(compositions, message):
    samples = [(c, -100.0 * sum(c.values())) for c in compositions]
    with pytest.raises(ReferenceEnergyError, match=message):
        ReferenceEnergies.from_regression(samples)


@pytest.mark.parametrize("n", [2, 14, 100, 9000])
def test_rounding_of_the_triangle_is_no_rank(n):
    sizes = np.random.default_rng(n).integers(1, 40, n)
    fit = CompositionFit()
    fit.add_rows(["Ti", "O", "Sr"], sizes[:, None] * [1, 3, 1], -3000.0 * sizes)
    assert fit.solve().rank == 1
    assert fit.solve().relations == ["O:Ti = 3:1", "Sr:Ti = 1:1"]


def test_what_is_fixed_makes_the_rest_determined():
    samples = [({"Ti": n, "O": 2 * n}, -2470.0 * n) for n in (1, 2, 4)]
    found = ReferenceEnergies.from_regression(samples, fixed_atomic_energies={"Ti": -1604.6})
    assert found.atomic_energies == pytest.approx({"O": -432.7, "Ti": -1604.6})
    everything = ReferenceEnergies.from_regression(samples, fixed_atomic_energies={"Ti": -1600.0, "O": -435.0})
    assert everything.atomic_energies == {"O": -435.0, "Ti": -1600.0}
    assert everything.metadata["rmse"] == pytest.approx(0.0, abs=1e-9)


def test_percentiles_that_fall_on_samples_leave_them_out():
    """Of 51 residuals −25 … 25 around the mean, the 2nd and 98th percentiles are the second and the last but one."""
    found = ReferenceEnergies.from_sae([({"Ar": 1}, float(k)) for k in range(51)])
    assert found.metadata["n_samples_used"] == 47
    assert found.metadata["residual_limits"] == pytest.approx([-24.0, 24.0])
    assert found.atomic_energies == {"Ar": pytest.approx(25.0)}


def test_a_subset_is_drawn_as_aenet_python_draws_it():
    rng, size = random.Random(11), 5
    chosen = list(range(size))
    for t in range(size + 1, 201):
        slot = rng.randint(0, t - 1)
        if slot < size:
            chosen[slot] = t - 1
    found = ReferenceEnergies.from_regression(
        (({"Ar": 1}, float(k)) for k in range(200)), subset_size=size, random_seed=11
    )
    assert found.atomic_energies["Ar"] == pytest.approx(np.mean(chosen))


def test_sae_of_one_composition_is_of_least_norm_and_said():
    samples = [({"Ti": 1, "O": 2}, -2500.0 + k) for k in range(100)]
    with pytest.warns(UserWarning, match="SAE of least norm.*O:Ti = 2:1"):
        found = ReferenceEnergies.from_sae(samples)
    assert found.atomic_energies["O"] == pytest.approx(2 * found.atomic_energies["Ti"])


def test_a_species_in_no_compound_is_said():
    samples = [*SAMPLES, ({"H": 2}, -31.7)]
    with pytest.warns(UserWarning, match="H of the samples is in none of them"):
        ReferenceEnergies.from_reference_compounds(samples, reference_compounds=["TiO2", "O2"])


def test_formulas():
    from aenet_ray.reference_energies.samples import parse_formula

    assert parse_formula("CH3OH") == {"C": 1, "H": 4, "O": 1}
    assert parse_formula("Ti2O4") == {"Ti": 2, "O": 4}


def test_standard_errors_are_those_of_least_squares():
    rng = np.random.default_rng(3)
    counts = rng.integers(1, 9, (40, 2))
    energies = counts @ [-5.0, -7.0] + rng.normal(0, 0.3, 40)
    samples = [({"O": int(o), "Ti": int(t)}, float(e)) for (o, t), e in zip(counts, energies, strict=True)]
    found = ReferenceEnergies.from_regression(samples)
    residual = energies - counts @ list(found.atomic_energies.values())
    covariance = np.linalg.inv(counts.T @ counts) * (residual @ residual) / 38
    errors = found.standard_errors
    assert list(errors) == ["O", "Ti"]
    assert list(errors.values()) == pytest.approx(np.sqrt(np.diag(covariance)).tolist(), rel=1e-9)
    exact = ReferenceEnergies.from_regression([({"O": 1}, -5.0), ({"Ti": 1, "O": 1}, -12.0)])
    assert exact.standard_errors == {}
    fixed = ReferenceEnergies.from_regression(samples, fixed_atomic_energies={"O": -5.0})
    assert list(fixed.standard_errors) == ["Ti"]


def test_an_absent_compound_is_echoed_and_those_there_are_listed():
    samples = [({"Ti": 4, "O": 8}, -1.0)] * 3 + [({"O": 2}, -1.0)] * 5
    expected = r"compounds TiO2: .* how often: O8Ti4 \(3\), O2 \(5\)\."
    with pytest.raises(ReferenceEnergyError, match=expected):
        ReferenceEnergies.from_reference_compounds(samples, reference_compounds=["TiO2"])
