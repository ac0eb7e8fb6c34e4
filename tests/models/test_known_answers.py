"""Networks on features against known answers, on every way to compute features on a CPU."""

from __future__ import annotations

import numpy as np
import pytest
from potentials import NETWORK_CASES, golden, golden_potential, golden_structure

from aenet_ray.inference.predict import PredictionConfig

# Of §10: copied numbers, so that a change of the golden files shows.
TOTALS = {
    "molecule_1species_h4": -1.2475554958,
    "molecule_2species_water": -471.3758380879,
    "molecule_3species_methanol": -628.5615560995,
    "molecule_4species_absent_species": -0.6947134329,
    "periodic_orthorhombic_tio2": -4984.9010692782,
    "periodic_triclinic_small": -2482.3968697580,
    "isolated_atom": -15.7201574118,
}


@pytest.fixture(scope="module", params=NETWORK_CASES)
def case(request):
    return golden(request.param)


@pytest.fixture(scope="module", params=["compiled", "torch"])
def prediction(request, case):
    potential = golden_potential(case, backend=request.param)
    config = PredictionConfig(print_atomic_energies=True)
    return potential, potential.predict([golden_structure(case)], eval_forces=True, config=config)


def test_energies(case, prediction):
    _, out = prediction
    assert out.total_energy[0] == pytest.approx(case["total_energy"], abs=1e-9)
    assert out.cohesive_energy[0] == pytest.approx(case["cohesive_energy"], abs=1e-9)
    if case["case"] in TOTALS:
        assert out.total_energy[0] == pytest.approx(TOTALS[case["case"]], abs=1e-9)


def test_outputs_of_every_atom(case, prediction):
    potential, out = prediction
    norm, references = potential.model.normalization, case["atomic_energies"] or {}
    referenced = out.atom_energies[0] - [references.get(s, 0.0) for s in case["structure"]["species"]]
    found = (referenced - norm.E_shift) * norm.E_scaling
    np.testing.assert_allclose(found, case["network_outputs_per_atom_normalized"], atol=1e-9, rtol=0)


def test_atoms_sum_to_the_total(prediction):
    _, out = prediction
    assert out.atom_energies[0].sum() == pytest.approx(out.total_energy[0], abs=1e-10)


def test_forces(case, prediction):
    _, out = prediction
    np.testing.assert_allclose(out.forces[0], case["forces"], atol=1e-8, rtol=0)


@pytest.mark.parametrize("backend", ["compiled", "torch"])
def test_many_structures_at_once_are_each_alone(backend):
    """A block of cells and molecules of one species list, in batches that cut it anywhere."""
    case = golden("periodic_orthorhombic_tio2")
    potential = golden_potential(case, backend=backend)
    structures = [golden_structure(case) for _ in range(5)]
    for k, s in enumerate(structures):
        s.positions = s.positions + 0.1 * k * np.sin(np.arange(s.positions.size)).reshape(-1, 3)
    structures[2].cell = structures[2].pbc = None
    structures[3].positions, structures[3].species = structures[3].positions[:2], structures[3].species[:2]
    config = PredictionConfig(batch_size=2, timing=True)
    together = potential.predict(structures, eval_forces=True, eval_stress=True, config=config)
    assert together.num_structures == 5
    assert len(together.timing["total"]) == 3
    for k, s in enumerate(structures):
        alone = potential.predict([s], eval_forces=True, eval_stress=True)
        assert alone.total_energy[0] == pytest.approx(together.total_energy[k], abs=1e-10)
        np.testing.assert_allclose(alone.forces[0], together.forces[k], atol=1e-11)
        np.testing.assert_allclose(alone.stress[0], together.stress[k], atol=1e-13)
        assert np.isnan(together.stress[k]).any() == (k == 2)


def test_nothing_to_predict_is_an_empty_answer():
    case = golden("molecule_2species_water")
    out = golden_potential(case).predict([], eval_forces=True)
    assert (out.num_structures, out.total_energy, out.forces) == (0, [], [])
