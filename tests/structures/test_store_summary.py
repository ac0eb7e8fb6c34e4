"""The summary counts right, finds planted outliers and unit slips, and keeps quiet about sound data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.data import atomic_numbers
from structure_samples import DATA, TIO2, labelled

from aenet_ray.structures import summary as summary_module
from aenet_ray.structures.ase_io import from_ase
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.store import StructureStore, write_store
from aenet_ray.structures.structure import Structure
from aenet_ray.structures.summary import StoreSummary, robust_scores, summarize
from aenet_ray.structures.unit_slips import BOHR, HARTREE


def summary_of(structures: list[Structure], path: Path) -> StoreSummary:
    with StructureStore(write_store(structures, path / "s.h5", allow_duplicates=True).path) as store:
        return summarize(store)


def test_counts_of_a_mixture(tmp_path: Path) -> None:
    s = summary_of(labelled(), tmp_path)
    assert (s.n_structures, s.n_atoms, s.n_compositions) == (4, 12, 2)
    assert s.compositions == {"O2Ti": 2, "H2O": 2}
    assert s.species_structures == {"H": 2, "O": 4, "Ti": 2}
    assert s.species_atoms == {"H": 4, "O": 6, "Ti": 2}
    assert s.periodicity == {0: 2, 2: 1, 3: 1}
    assert s.fidelities == {"PBE": 1, "wB97M": 1, "unnamed": 2}
    assert s.force is not None
    assert s.force.largest == pytest.approx(np.sqrt(3))
    assert s.force_rms == pytest.approx(np.sqrt((0.5**2 + 2 * 0.1**2 + 2 * 0.25**2 + 9) / 18))
    assert s.net_force == pytest.approx(np.sqrt(3))
    assert s.nearest_distance is not None
    assert s.nearest_distance.least == pytest.approx(0.957, abs=1e-3)
    assert s.robust_atomic_energies == {}  # two compositions cannot tell three species
    assert json.loads(json.dumps(s.to_dict()))["n_atoms"] == 12


def test_real_data_raise_no_suspicion(tmp_path: Path) -> None:
    s = summary_of(list(read_structures(TIO2)), tmp_path)
    assert s.suspicions == []
    assert s.n_outliers == 0
    assert set(s.robust_atomic_energies) == {"O", "Ti"}
    assert s.volume_per_atom is not None
    assert 7 < s.volume_per_atom.least < s.volume_per_atom.largest < 26
    assert summary_of(list(read_structures(DATA / "ions_aimnet.extxyz")), tmp_path).suspicions == []


def test_planted_outliers_are_named(tmp_path: Path) -> None:
    structures = list(read_structures(TIO2))
    for i, shift in ((17, 400.0), (60, -300.0)):
        structures[i].energy += shift  # type: ignore[operator]
    s = summary_of(structures, tmp_path)
    assert [o.index for o in s.outliers] == [17, 60] or [o.index for o in s.outliers] == [60, 17]
    assert s.n_outliers == 2
    assert structures[17].name in {o.identifier.removesuffix("#frame=0") for o in s.outliers}


def test_composition_fit_is_exact_without_noise(tmp_path: Path) -> None:
    structures = [
        replace(s, energy=-3.0 * s.species.count("Ti") - 7.0 * s.species.count("O")) for s in read_structures(TIO2)
    ]
    s = summary_of(structures, tmp_path)
    assert s.robust_atomic_energies == pytest.approx({"O": -7.0, "Ti": -3.0}, abs=1e-9)
    assert s.n_outliers == 0


def test_nothing_labelled(tmp_path: Path) -> None:
    s = summary_of([replace(s, energy=None, forces=None) for s in read_structures(TIO2)], tmp_path)
    assert (s.energy_per_atom, s.force, s.force_rms, s.relative_energy) == (None, None, None, None)
    assert s.suspicions == []


def test_blocks_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    structures = list(read_structures(TIO2))
    whole = summary_of(structures, tmp_path)
    monkeypatch.setattr(summary_module, "BLOCK_STRUCTURES", 7)
    parts = summary_of(structures, tmp_path)
    for name in ("compositions", "species_atoms", "periodicity", "force", "volume_per_atom", "energy_per_atom"):
        assert getattr(parts, name) == getattr(whole, name), name
    assert parts.nearest_distance == whole.nearest_distance
    assert parts.force_rms == pytest.approx(whole.force_rms, rel=1e-12)
    assert parts.robust_atomic_energies == pytest.approx(whole.robust_atomic_energies, rel=1e-10)


@pytest.fixture(scope="module")
def copper() -> list[Structure]:
    """A trajectory of small random steps, with energies and forces of a model that is its own derivative."""
    rng = np.random.default_rng(3)
    atoms = bulk("Cu", cubic=True)
    frames = []
    for _ in range(40):
        atoms.positions += rng.normal(0, 0.05, (4, 3))
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(from_ase(atoms))
    return frames


def scaled(frames: list[Structure], energy: float = 1, forces: float = 1, length: float = 1) -> list[Structure]:
    return [
        replace(
            s,
            energy=s.energy * energy,  # type: ignore[operator]
            forces=s.forces * forces,  # type: ignore[operator]
            positions=s.positions * length,
            cell=s.cell * length,  # type: ignore[operator]
        )
        for s in frames
    ]


SLIPS = {
    "energies in Hartree": {"energy": 1 / HARTREE},
    "energies in kcal/mol": {"energy": 23.0605},
    "forces in Hartree/Bohr": {"forces": BOHR / HARTREE},
    "forces in kcal/mol/Å": {"forces": 23.0605},
    "forces are gradients": {"forces": -1},
    "positions may be in Bohr": {"length": 1 / BOHR},
    "energies in Hartree and forces in Hartree/Bohr": {"energy": 1 / HARTREE, "forces": BOHR / HARTREE},
    "converted, or scaled, once too often": {"length": BOHR},
}


def test_a_sound_trajectory(copper: list[Structure], tmp_path: Path) -> None:
    assert summary_of(copper, tmp_path).suspicions == []


@pytest.mark.parametrize("what", SLIPS)
def test_unit_slips_of_a_trajectory(what: str, copper: list[Structure], tmp_path: Path) -> None:
    found = summary_of(scaled(copper, **SLIPS[what]), tmp_path).suspicions
    assert any(what in suspicion.what for suspicion in found), found
    assert all(suspicion.evidence for suspicion in found)


@pytest.mark.parametrize(("unit", "value"), [("Hartree", HARTREE), ("kcal/mol", 0.0433641), ("kJ/mol", 0.0103643)])
def test_total_energies_of_all_electrons(unit: str, value: float, tmp_path: Path) -> None:
    """Hartree-Fock energies of atoms, Hartree, known to three digits: H, C, N, O."""
    atom = {"H": -0.5, "C": -37.7, "N": -54.4, "O": -74.8}
    structures = []
    for name in ("CH4", "H2O", "NH3", "C2H6", "CH3OH", "HCN"):
        s = from_ase(molecule(name))
        assert all(x in atomic_numbers for x in s.species)
        structures.append(replace(s, energy=sum(atom[x] for x in s.species) * HARTREE / value))
    (suspicion,) = summary_of(structures, tmp_path).suspicions[:1]
    assert suspicion.what == f"energies may be in {unit}, not eV"


def test_robust_scores() -> None:
    values = np.array([0.0, 1, 2, 3, 4, 1000, np.nan])
    scores = robust_scores(values)
    assert scores[5] > 100 > scores[4] > 0 > scores[0]
    assert not robust_scores(np.ones(4)).any()
