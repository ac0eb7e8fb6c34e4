"""Prediction with uncertainty: features once, order and names of the input, sorting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from committees import tio2
from potentials import random_potential

from aenet_ray import AenetCommitteeCalculator, PredictionConfig, TorchCommitteePotential
from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.models.normalization import Normalization
from aenet_ray.structures.structure import Structure


@pytest.fixture(scope="module")
def committee():
    return TorchCommitteePotential.from_members([random_potential(seed=s) for s in range(4)])


@pytest.fixture(scope="module")
def structures(data_dir):
    return tio2(data_dir, 9)


def doubled(s: Structure) -> Structure:
    """The same crystal as a cell of twice the size."""
    positions = np.concatenate([s.positions, s.positions + s.cell[0]])
    return Structure(positions, s.species * 2, cell=s.cell * [[2], [1], [1]], name="big")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("n", "rtol"), [(2, 0.0), (4, 1e-12)])
def test_each_member_predicts_as_it_does_alone(committee, structures, workers, n, rtol):
    """Two of them to the last bit; more share lanes, each to rounding."""
    committee = TorchCommitteePotential.from_members(committee.members[:n])
    config = PredictionConfig(batch_size=4, num_workers=workers)
    result = committee.predict(structures, eval_forces=True, config=config)
    assert len(result) == 9
    assert result.num_members == n
    for k, member in enumerate(committee.members):
        alone = member.predict(structures, eval_forces=True, config=config)
        np.testing.assert_allclose([r.member_energies[k] for r in result], alone.total_energy, rtol=rtol)
        for i in range(9):
            np.testing.assert_allclose(result[i].member_forces[k], alone.forces[i], rtol=rtol, atol=rtol)
        assert result.member_outputs[k].total_energy == [r.member_energies[k] for r in result]
    np.testing.assert_allclose(result.energy_std, [r.energy_std for r in result], rtol=1e-12)
    np.testing.assert_allclose(result.energy, [r.energy for r in result], rtol=1e-12)
    assert result.max_force_uncertainty.tolist() == [r.force_uncertainty.max() for r in result]


def test_features_are_computed_once_for_all_members(committee, structures, monkeypatch):
    """The reference computes them for every member."""
    calls = []
    features = ChebyshevDescriptor.features
    monkeypatch.setattr(ChebyshevDescriptor, "features", lambda *a: calls.append(1) or features(*a))
    result = committee.predict(structures, eval_forces=True, config=PredictionConfig(batch_size=3, timing=True))
    assert len(calls) == 3
    assert result.member_outputs[0].timing["featurization"][0] > 0
    assert result.member_outputs[1].timing["featurization"] == [0, 0, 0]


def test_identical_members_have_zero_uncertainty(structures):
    same = TorchCommitteePotential.from_members([random_potential(seed=3) for _ in range(3)])
    result = same.predict(structures, eval_forces=True)
    assert not result.energy_std.any()
    assert not result.max_force_uncertainty.any()


def test_reference_member(committee, structures):
    result = committee.predict(structures, True, aggregation="reference", reference_member=2)
    alone = committee.members[2].predict(structures, True)
    np.testing.assert_allclose(result.energy, alone.total_energy, rtol=1e-12)
    np.testing.assert_allclose(result[5].forces, alone.forces[5], rtol=1e-12, atol=1e-12)
    assert result.energy.tolist() == result.member_outputs[2].total_energy
    assert result.to_dataframe()["aggregation"].unique().tolist() == ["reference"]
    np.testing.assert_allclose(result.energy_mean, committee.predict(structures).energy)


def test_table(committee, structures):
    table = committee.predict(structures).to_dataframe()
    assert list(table)[:12] == [
        "index", "source_index", "identifier", "energy", "energy_mean", "energy_std", "member_energies",
        "max_force_uncertainty", "mean_force_uncertainty", "num_members", "aggregation", "reference_member",
    ]  # fmt: skip
    assert len(table) == 9
    assert table["identifier"][0].endswith(".xsf")
    assert table["source_index"].isna().all()
    assert table["max_force_uncertainty"].isna().all()
    assert table["member_energies"][3].shape == (4,)


def test_sorting_keeps_track_of_the_input(committee, structures):
    result = committee.predict(structures, eval_forces=True)
    for column in ("energy_std", "energy_std_per_atom", "max_force_uncertainty", "mean_force_uncertainty"):
        ordered = result.sort_by(column)
        values = getattr(result, column)
        assert ordered.indices.tolist() == np.argsort(-values, kind="stable").tolist()
        assert getattr(ordered, column).tolist() == sorted(values, reverse=True)
        assert result.top_uncertain(4, metric=column).indices.tolist() == ordered.indices[:4].tolist()
    assert result.sort_by("energy", ascending=True).energy.tolist() == sorted(result.energy)
    top = result.top_uncertain(2)
    assert top.identifiers == [result.identifiers[i] for i in top.indices]
    assert np.array_equal(top[1].forces, result[int(top.indices[1])].forces)
    assert top.top_uncertain(1).indices.tolist() == top.indices[:1].tolist()
    assert len(result.top_uncertain(99)) == 9
    np.testing.assert_allclose([r.energy for r in result[-2:]], result.energy[-2:], rtol=1e-14)
    assert result[-1].energy == pytest.approx(result.energy[-1], rel=1e-14)


def test_the_metric_per_atom_does_not_favour_big_structures(committee, structures):
    """A crystal and the same crystal in a doubled cell are as uncertain per atom; not so in total."""
    result = committee.predict([structures[0], doubled(structures[0])])
    np.testing.assert_allclose(result.energy_std[1], 2 * result.energy_std[0], rtol=1e-9)
    np.testing.assert_allclose(*result.energy_std_per_atom, rtol=1e-9)
    assert result.top_uncertain(1).identifiers == ["big"]


def test_nothing_to_predict(committee):
    result = committee.predict([])
    assert len(result) == len(result.energy) == len(result.to_dataframe()) == len(result.top_uncertain()) == 0


def test_names_of_structures_in_memory(committee, structures):
    s = structures[0]
    plain = Structure(s.positions, s.species, cell=s.cell)
    named = Structure(s.positions, s.species, cell=s.cell, name="rutile")
    assert committee.predict([plain, named, plain]).identifiers == ["structure_000000", "rutile", "structure_000002"]


def test_files_of_every_member_for_aenet(committee, tmp_path):
    written = committee.to_aenet_ascii(tmp_path / "ascii", prefix="tio2")
    assert [sorted(w) for w in written] == [["O", "Ti"]] * 4
    assert written[2]["Ti"] == (tmp_path / "ascii/member_002/tio2.Ti.nn.ascii").absolute()
    assert len({w["O"].read_text() for w in written}) == 4


def test_read_from_files(committee, structures, tmp_path):
    for k, member in enumerate(committee.members):
        member.save(tmp_path / f"{k}.pt")
    read = TorchCommitteePotential.from_files([tmp_path / f"{k}.pt" for k in range(4)])
    assert np.array_equal(read.predict(structures).energy_std, committee.predict(structures).energy_std)
    assert read.atomic_energies == {"Ti": -10, "O": -20}


def test_ase_calculator(committee, structures):
    from ase import Atoms

    s = structures[0]
    atoms = Atoms(s.species, s.positions, cell=s.cell, pbc=True, calculator=AenetCommitteeCalculator(committee))
    (expected,) = committee.predict([s], eval_forces=True)
    assert atoms.get_potential_energy() == pytest.approx(expected.energy)
    np.testing.assert_allclose(atoms.get_forces(), expected.forces, atol=1e-12)
    np.testing.assert_allclose(atoms.calc.results["forces_std"], expected.forces_std, atol=1e-12)
    assert atoms.calc.results["energy_std"] == pytest.approx(expected.energy_std)
    np.testing.assert_allclose(atoms.calc.get_property("forces_std", atoms), expected.forces_std, atol=1e-12)
    stress = [m.predict([s], eval_stress=True).stress[0] for m in committee.members]
    np.testing.assert_allclose(atoms.get_stress(voigt=False), np.mean(stress, axis=0), atol=1e-12)


@pytest.mark.parametrize("n", [2, 6])
def test_ase_calculator_follows_its_members(structures, n):
    """Weights changed in place, a normalisation replaced, a member added: the next step has them."""
    from ase import Atoms

    s, committee = structures[0], TorchCommitteePotential.from_members([random_potential(seed=k) for k in range(n)])
    atoms = Atoms(s.species, s.positions, cell=s.cell, pbc=True, calculator=AenetCommitteeCalculator(committee))

    def changed_energy() -> float:
        atoms.calc.reset()
        (expected,) = committee.predict([s])
        assert atoms.get_potential_energy() == pytest.approx(expected.energy)
        return expected.energy

    energies = [changed_energy()]
    with torch.no_grad():
        for p in committee.members[1].model.parameters():
            p.mul_(2.0)
    energies.append(changed_energy())
    committee.members[0].model.normalization = Normalization(E_shift=1.0, E_scaling=0.5)
    energies.append(changed_energy())
    committee.members.append(random_potential(seed=99))
    energies.append(changed_energy())
    assert len(set(energies)) == 4
