"""``atomic_energies: fit`` and ``atomic_energies: energies.yaml``."""

from __future__ import annotations

import numpy as np
import pytest
from runs import TIO2, config, small_descriptor

from aenet_ray import ReferenceEnergies, Structure, StructureStore
from aenet_ray.errors import ConfigError
from aenet_ray.features.featurize import featurize
from aenet_ray.features.store import FeatureStore
from aenet_ray.models.ann import ANNModel
from aenet_ray.reference_energies import write_energies
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.store import write_store
from aenet_ray.training import checkpoint
from aenet_ray.training.choose import Split
from aenet_ray.training.prepare import prepare_run
from aenet_ray.training.spec import RunSpec


def features_of(structures, folder) -> FeatureStore:
    path = write_store(structures, folder / "structures.h5").path
    return FeatureStore(featurize(StructureStore(path), small_descriptor(), folder, progress=False))


@pytest.fixture(scope="module")
def structures():
    """TiO2, some with vacancies, and oxygen molecules."""
    rng = np.random.default_rng(0)
    found = [s for s, _ in zip(read_structures(TIO2), range(20), strict=False)]
    molecules = [Structure([[0, 0, 0], [0, 0, d]], ["O", "O"], -870.0 + d) for d in rng.uniform(1.1, 1.6, 10).tolist()]
    return found + molecules


@pytest.fixture(scope="module")
def store(structures, tmp_path_factory):
    return features_of(structures, tmp_path_factory.mktemp("features"))


def prepared(store, run_dir, *, split=None, start=None, **changes) -> RunSpec:
    settings = {"atomic_energies": "fit", "force_weight": 0.0, "testpercent": 30} | changes
    model = ANNModel({s: [(4, "tanh")] for s in ("Ti", "O")}, small_descriptor())
    return prepare_run(run_dir, store, model, config(**settings), split=split, start=start)


def fitted(structures, ids) -> dict[str, float]:
    return ReferenceEnergies.from_regression([structures[i] for i in ids]).atomic_energies


def test_it_is_fitted_to_the_training_part_alone_and_recorded(structures, store, tmp_path):
    spec = prepared(store, tmp_path)
    assert spec.atomic_energies == pytest.approx(fitted(structures, spec.train_ids), rel=1e-12)
    assert spec.atomic_energies != pytest.approx(fitted(structures, range(30)), rel=1e-9)
    recorded = RunSpec.load(tmp_path)
    assert recorded.atomic_energies == spec.atomic_energies
    assert recorded.config.atomic_energies == "fit"


def test_the_split_is_that_of_given_energies(structures, store, tmp_path):
    spec = prepared(store, tmp_path / "a")
    given = prepared(store, tmp_path / "b", atomic_energies=spec.atomic_energies)
    np.testing.assert_array_equal(spec.train_ids, given.train_ids)
    np.testing.assert_array_equal(spec.test_ids, given.test_ids)


def test_max_energy_is_of_fitted_energies(structures, store, tmp_path):
    whole = prepared(store, tmp_path / "a")
    above = (store.energy - store.composition @ [whole.atomic_energies[s] for s in store.species]) / store.n_atoms
    limit = float(np.median(above))
    spec = prepared(store, tmp_path / "b", max_energy=limit)
    assert spec.atomic_energies == whole.atomic_energies
    np.testing.assert_array_equal(spec.train_ids, [i for i in whole.train_ids if above[i] <= limit])
    np.testing.assert_array_equal(spec.test_ids, [i for i in whole.test_ids if above[i] <= limit])


def test_a_given_split_is_used(structures, store, tmp_path):
    split = Split(np.arange(5, 30), np.arange(5))
    spec = prepared(store, tmp_path, split=split)
    np.testing.assert_array_equal(spec.train_ids, split.train_ids)
    assert spec.atomic_energies == pytest.approx(fitted(structures, range(5, 30)), rel=1e-12)


def test_one_composition_is_refused_and_the_way_out_said(structures, tmp_path):
    stoichiometric = [s for s in structures if s.species.count("O") == 2 * s.species.count("Ti")]
    store = features_of(stoichiometric, tmp_path)
    with pytest.raises(
        ConfigError, match=r"fit: .*O:Ti = 2:1.*Fix the energy of one of O, Ti.*--fixed.*energies\.yaml"
    ):
        prepared(store, tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_species_outside_of_the_training_part_is_refused(structures, store, tmp_path):
    with pytest.raises(ConfigError, match="Ti is in no training structure"):
        prepared(store, tmp_path, split=Split(np.arange(20, 30), np.arange(20)))


def test_going_on_from_a_checkpoint_keeps_its_energies(store, tmp_path):
    spec = prepared(store, tmp_path / "a")
    model = ANNModel({s: [(4, "tanh")] for s in ("Ti", "O")}, small_descriptor())
    model.atomic_energies = {"Ti": -1600.0, "O": -430.0}
    start = checkpoint.model_payload(model) | {"epoch": 3, "seed": 7, "split_hash": spec.split_hash}
    assert prepared(store, tmp_path / "b", start=start).atomic_energies == {"Ti": -1600.0, "O": -430.0}


def test_energies_from_a_file(store, tmp_path):
    path = write_energies(tmp_path / "energies.yaml", {"O": -432.1, "Ti": -1604.2}, {"method": "regression"})
    spec = prepared(store, tmp_path / "run", atomic_energies=str(path))
    assert spec.atomic_energies == {"Ti": -1604.2, "O": -432.1}
    assert RunSpec.load(tmp_path / "run").config.atomic_energies == {"Ti": -1604.2, "O": -432.1}
    assert config(atomic_energies=path).atomic_energies == {"O": -432.1, "Ti": -1604.2}
    (tmp_path / "sae.yaml").write_text("22: -1604.2\n8: -432.1\n")
    assert config(atomic_energies=str(tmp_path / "sae.yaml")).atomic_energies == {"Ti": -1604.2, "O": -432.1}
