"""What is decided before a run starts: filters, split, references, normalisation, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from potentials import golden
from runs import ATOMIC_ENERGIES, TIO2, config, small_descriptor

from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.errors import ConfigError, TrainingError
from aenet_ray.features.featurize import featurize
from aenet_ray.features.store import FeatureStore
from aenet_ray.models.ann import ANNModel
from aenet_ray.potential import TorchANNPotential
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.store import StructureStore, write_store
from aenet_ray.training.choose import Split, choose_split
from aenet_ray.training.config import RunConfig
from aenet_ray.training.prepare import prepare_run
from aenet_ray.training.run_folder import holds_run
from aenet_ray.training.spec import RunSpec

N = 30


@pytest.fixture(scope="module")
def structures():
    return [s for s, _ in zip(read_structures(TIO2), range(N), strict=False)]


@pytest.fixture(scope="module")
def store(structures, tmp_path_factory):
    return features_of(structures, tmp_path_factory.mktemp("features"))


def features_of(structures, folder, descriptor=None) -> FeatureStore:
    path = write_store(structures, folder / "structures.h5").path
    return FeatureStore(featurize(StructureStore(path), descriptor or small_descriptor(), folder, progress=False))


def model(descriptor=None) -> ANNModel:
    chosen = descriptor or small_descriptor()
    return ANNModel({s: [(4, "tanh")] for s in chosen.species}, chosen)


def prepared(store, run_dir, *, split=None, **changes) -> RunSpec:
    return prepare_run(run_dir, store, model(), config(**changes), split=split)


def per_atom(structures) -> np.ndarray:
    return np.array([(s.energy - sum(ATOMIC_ENERGIES[a] for a in s.species)) / s.n_atoms for s in structures])


def magnitudes(structures) -> np.ndarray:
    return np.array([np.linalg.norm(s.forces, axis=1).max() for s in structures])


def everything(spec: RunSpec) -> np.ndarray:
    return np.sort(np.concatenate([spec.train_ids, spec.test_ids]))


def test_max_energy_is_of_referenced_energies_per_atom(structures, store, tmp_path):
    energies = per_atom(structures)
    limit = float(np.sort(energies)[N // 2])
    spec = prepared(store, tmp_path, max_energy=limit)
    np.testing.assert_array_equal(everything(spec), np.flatnonzero(energies <= limit))
    assert 0 < len(everything(spec)) < N


def test_max_forces_is_of_magnitudes(structures, store, tmp_path):
    largest = magnitudes(structures)
    limit = float(np.sort(largest)[N // 2])
    spec = prepared(store, tmp_path, max_forces=limit)
    np.testing.assert_array_equal(everything(spec), np.flatnonzero(largest <= limit))


def test_structures_without_forces_pass_max_forces(structures, tmp_path):
    some = [type(s)(s.positions, s.species, s.energy, None if k < 3 else s.forces, s.cell) for k, s in
            enumerate(structures[:10])]  # fmt: skip
    spec = prepared(features_of(some, tmp_path), tmp_path / "run", max_forces=1e-6, force_weight=0.0)
    np.testing.assert_array_equal(everything(spec), [0, 1, 2])


def test_filters_come_before_the_split(structures, store, tmp_path):
    limit = float(np.sort(per_atom(structures))[19])
    spec = prepared(store, tmp_path, max_energy=limit, testpercent=50)
    assert (len(spec.train_ids), len(spec.test_ids)) == (10, 10)


@pytest.mark.parametrize("percent", [0, 3, 10, 50, 99])
def test_the_split_is_that_of_its_seed(store, tmp_path, percent):
    spec = prepared(store, tmp_path / "one", testpercent=percent, split_seed=5)
    assert len(spec.test_ids) == int(N * percent / 100)
    np.testing.assert_array_equal(everything(spec), np.arange(N))
    other = prepared(store, tmp_path / "two", testpercent=percent, split_seed=5, seed=99)
    np.testing.assert_array_equal(spec.test_ids, other.test_ids)
    by_seed = prepared(store, tmp_path / "three", testpercent=percent, seed=5)
    np.testing.assert_array_equal(spec.test_ids, by_seed.test_ids)


def test_known_splits():
    rows = golden("splits")["rows"]
    assert len(rows) > 5
    for row in rows:
        if row["n_test"] < row["n"]:
            settings = config(testpercent=100 * row["test_fraction"], split_seed=row["seed"])
            split = choose_split(settings, np.arange(row["n"]), 0, None)
            np.testing.assert_array_equal(split.test_ids, row["test_sorted"])
            np.testing.assert_array_equal(split.train_ids, row["train_sorted"])


def test_a_given_split_loses_what_the_filters_drop(structures, store, tmp_path):
    energies = per_atom(structures)
    limit = float(np.sort(energies)[20])
    given = Split(np.arange(0, 20), np.arange(20, N))
    spec = prepared(store, tmp_path, split=given, max_energy=limit)
    np.testing.assert_array_equal(spec.train_ids, [i for i in range(20) if energies[i] <= limit])
    np.testing.assert_array_equal(spec.test_ids, [i for i in range(20, N) if energies[i] <= limit])


def test_normalisation_is_of_the_training_part_alone(structures, store, tmp_path):
    spec = prepared(store, tmp_path, testpercent=40)
    rows = np.concatenate(
        [small_descriptor().forward_from_positions(s.positions, s.species, s.cell).numpy()
         for s in (structures[i] for i in spec.train_ids)]
    )  # fmt: skip
    norm = spec.normalization
    np.testing.assert_allclose(norm.feature_mean, rows.mean(axis=0), atol=1e-11)
    np.testing.assert_allclose(norm.feature_std, np.sqrt(rows.var(axis=0) + 1e-12), atol=1e-11)
    np.testing.assert_array_equal(norm.feature_min, rows.min(axis=0))
    np.testing.assert_array_equal(norm.feature_max, rows.max(axis=0))
    energies = per_atom(structures)[spec.train_ids]
    assert norm.E_shift == pytest.approx((energies.max() + energies.min()) / 2, abs=1e-11)
    assert norm.E_scaling == pytest.approx(2 / (energies.max() - energies.min()), rel=1e-10)


def test_each_override_replaces_its_own_value_only(store, tmp_path):
    plain = prepared(store, tmp_path / "plain").normalization
    shift = prepared(store, tmp_path / "shift", E_shift=-1.5).normalization
    scaling = prepared(store, tmp_path / "scaling", E_scaling=0.25).normalization
    assert (shift.E_shift, shift.E_scaling) == (-1.5, plain.E_scaling)
    assert (scaling.E_shift, scaling.E_scaling) == (plain.E_shift, 0.25)
    stats = {"mean": np.full(store.n_features, 2.0), "cov": np.full(store.n_features, 3.0)}  # arrays, too
    given = prepared(store, tmp_path / "stats", feature_stats=stats).normalization
    np.testing.assert_array_equal(given.feature_mean, stats["mean"])
    np.testing.assert_array_equal(given.feature_std, stats["cov"])
    np.testing.assert_array_equal(given.feature_min, plain.feature_min)
    off = prepared(store, tmp_path / "off", normalize_features=False, normalize_energy=False).normalization
    assert off.feature_mean is None
    assert (off.E_shift, off.E_scaling) == (0.0, 1.0)
    with pytest.raises(ConfigError, match=rf"feature_stats: 3 columns, the descriptor has {store.n_features}"):
        prepared(store, tmp_path / "bad", feature_stats={"mean": [0.0] * 3, "std": [1.0] * 3})


def test_one_energy_is_not_scaled(structures, tmp_path):
    store = features_of(structures[:1], tmp_path)
    norm = prepared(store, tmp_path / "run", testpercent=0).normalization
    assert (norm.E_shift, norm.E_scaling) == (0.0, 1.0)


def test_without_references_totals_are_trained_on_and_it_is_said(store, tmp_path):
    with pytest.warns(UserWarning, match="no atomic_energies: training on total energies"):
        spec = prepared(store, tmp_path, atomic_energies=None)
    assert spec.atomic_energies == {"Ti": 0.0, "O": 0.0}


def test_a_species_without_reference_is_refused(store, tmp_path):
    with pytest.raises(ConfigError, match="atomic_energies: none for O; given are Ti"):
        prepared(store, tmp_path, atomic_energies={"Ti": -1604.6})


def test_a_species_that_does_not_occur_needs_no_reference(structures, tmp_path):
    descriptor = ChebyshevDescriptor(["Ti", "O", "Si"], 2, 4.0, 1, 3.0)
    store = features_of(structures[:6], tmp_path, descriptor)
    spec = prepare_run(tmp_path / "run", store, model(descriptor), config())
    assert spec.atomic_energies == ATOMIC_ENERGIES | {"Si": 0.0}


def test_absent_energies_are_left_out_and_counted(structures, tmp_path):
    some = list(structures[:6])
    some[4] = type(some[4])(some[4].positions, some[4].species, None, some[4].forces, some[4].cell)
    with pytest.warns(UserWarning, match=r"1 of 6 structures have no energy \(the first is number 4\); they are left"):
        spec = prepared(features_of(some, tmp_path), tmp_path / "run", testpercent=20)
    assert sorted([*spec.train_ids, *spec.test_ids]) == [0, 1, 2, 3, 5]


def test_nothing_left_is_refused(store, tmp_path):
    with pytest.raises(TrainingError, match=r"max_energy=-1000.0 and max_forces=None leave none of 30 .* eV/atom"):
        prepared(store, tmp_path, max_energy=-1000.0)
    with pytest.raises(TrainingError, match="no training structures"):
        prepared(store, tmp_path, split=Split(np.arange(0), np.arange(5)))
    assert not (tmp_path / "run.json").exists(), "refused, and yet begun"


def test_forces_that_are_not_there_are_refused(structures, tmp_path):
    some = [type(s)(s.positions, s.species, s.energy, None, s.cell) for s in structures[:6]]
    store = features_of(some, tmp_path)
    with pytest.raises(TrainingError, match=r"force_weight=0\.3, but none of the 6 training structures has forces"):
        prepared(store, tmp_path / "run")
    assert len(prepared(store, tmp_path / "run", force_weight=0.0).train_ids) == 6


def test_folders_that_hold_a_run(store, tmp_path):
    assert not holds_run(tmp_path / "run", "never")
    with pytest.raises(TrainingError, match="nothing to resume"):
        holds_run(tmp_path / "run", "must")
    prepared(store, tmp_path / "run")
    assert not holds_run(tmp_path / "run", "never"), "prepared, but no worker ever started: it may begin again"
    (tmp_path / "run" / "history.csv").touch()
    with pytest.raises(TrainingError, match="holds a run already"):
        holds_run(tmp_path / "run", "never")
    assert holds_run(tmp_path / "run", "auto")
    assert holds_run(tmp_path / "run", "must")


def test_a_run_on_file_is_the_run(store, tmp_path):
    spec = prepared(store, tmp_path, testpercent=20, max_energy=5.0, feature_stats=None, seed=None)
    read = RunSpec.load(tmp_path)
    assert read.config == spec.config
    assert read.config.seed is None
    assert (read.seed, read.epochs, read.arch) == (spec.seed, spec.epochs, spec.arch)
    assert read.descriptor == spec.descriptor
    np.testing.assert_array_equal(read.train_ids, spec.train_ids)
    np.testing.assert_array_equal(read.normalization.feature_std, spec.normalization.feature_std)
    assert all(torch.equal(read.initial[k], v) for k, v in spec.initial.items())
    json.loads((tmp_path / "run.json").read_text())
    with pytest.raises(TrainingError, match=r"holds no run \(run\.json is missing\)"):
        RunSpec.load(tmp_path / "elsewhere")


def test_first_weights_are_of_the_seed_or_the_models_own(store, tmp_path):
    own = model()
    seeded = [prepare_run(tmp_path / n, store, model(), config(seed=3)).initial for n in ("a", "b")]
    kept = prepare_run(tmp_path / "c", store, own, config(seed=None)).initial
    for name, value in own.state_dict().items():
        assert torch.equal(seeded[0][name], seeded[1][name])
        assert torch.equal(kept[name], value)
        assert not torch.equal(seeded[0][name], value)


# through the public class


def potential() -> TorchANNPotential:
    return TorchANNPotential({s: [(4, "tanh")] for s in ("Ti", "O")}, small_descriptor())


@pytest.mark.parametrize("kind", ["records", "atoms", "path", "store", "store_path"])
def test_every_kind_of_input(structures, tmp_path, kind):
    from aenet_ray.structures.ase_io import to_ase, write_ase

    few = structures[:8]
    write_ase(few, tmp_path / "few.extxyz")
    path = write_store(few, tmp_path / "few.h5").path
    inputs = {
        "records": few,
        "atoms": [to_ase(s) for s in few],
        "path": tmp_path / "few.extxyz",
        "store": StructureStore(path),
        "store_path": str(path),
    }
    run = RunConfig(name="run", storage_path=str(tmp_path / "runs"))
    out = potential().train(inputs[kind], config=config(iterations=1, testpercent=25, device="cpu"), run=run)
    spec = RunSpec.load(out.run_dir)
    assert (len(spec.train_ids), len(spec.test_ids)) == (6, 2)
    assert np.isfinite(out.stats["final_RMSE_force_train"])


def test_a_split_in_two_parts(structures, tmp_path):
    run = RunConfig(name="run", storage_path=str(tmp_path / "runs"))
    out = potential().train(
        train_dataset=structures[:8], test_dataset=structures[8:11], config=config(iterations=1), run=run
    )
    spec = RunSpec.load(out.run_dir)
    np.testing.assert_array_equal(spec.train_ids, np.arange(8))
    np.testing.assert_array_equal(spec.test_ids, [8, 9, 10])


def test_no_data_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="nothing is given; expected exactly one of structures, dataset"):
        potential().train(config=config(), run=RunConfig(name="run", storage_path=str(tmp_path)))


def test_cohesive_energies(structures):
    one = potential()
    with pytest.raises(ConfigError, match="no atomic energies known"):
        one.cohesive_energy(structures[0])
    expected = per_atom(structures)[0] * structures[0].n_atoms
    assert one.cohesive_energy(structures[0], ATOMIC_ENERGIES) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "nothing is given"),
        (("structures", "train_dataset"), "structures and train_dataset are given"),
        (("structures", "dataset"), "structures and dataset are given"),
        (("structures", "test_dataset"), "test_dataset goes with train_dataset, but structures is given"),
    ],
)
def test_data_given_in_two_ways_is_refused(structures, tmp_path, given, message):
    potential = TorchANNPotential({s: [(3, "tanh")] for s in ("Ti", "O")}, small_descriptor())
    run = RunConfig(name="run", storage_path=str(tmp_path))
    with pytest.raises(ConfigError, match=message):
        potential.train(**dict.fromkeys(given, structures), config=config(iterations=1), run=run)
    assert not (tmp_path / "run").exists()
