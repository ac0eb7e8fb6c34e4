"""Candidates and committees for tests of selection."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from potentials import random_potential

from aenet_ray import TorchCommitteePotential
from aenet_ray.committee.layout import CommitteeMetadata, TorchCommitteeMember
from aenet_ray.selection.result import Selection
from aenet_ray.structures.ase_io import write_ase
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.store import write_store
from aenet_ray.structures.structure import Structure


def members(n: int = 3) -> TorchCommitteePotential:
    return TorchCommitteePotential.from_members([random_potential(seed=s) for s in range(n)])


def shaken(data_dir: Path, copies: int, seed: int = 0) -> list[Structure]:
    """The TiO2 structures, and copies with displaced atoms; names tell them apart."""
    rng = np.random.default_rng(seed)
    known = list(read_structures(data_dir / "tio2_ci100_xsf.tar.gz"))[:25]
    return [
        replace(
            s, positions=s.positions + 0.03 * k * rng.normal(size=s.positions.shape), name=f"c{i}-{k}", source=f"{k}"
        )
        for k in range(copies)
        for i, s in enumerate(known)
    ]


def candidate_files(data_dir: Path, folder: Path) -> list[Path]:
    """100 candidates: a store of 60, and extended XYZ of the others."""
    structures = shaken(data_dir, 4)
    write_store(structures[:60], folder / "c.h5")
    write_ase(structures[60:], folder / "c.extxyz")
    return [folder / "c.h5", folder / "c.extxyz"]


def assert_same(a: Selection, b: Selection) -> None:
    assert [s.name for s in a.structures] == [s.name for s in b.structures]
    assert np.array_equal(a.values, b.values, equal_nan=True)
    assert np.array_equal(a.counts, b.counts)
    assert (a.n_candidates, a.n_atoms) == (b.n_candidates, b.n_atoms)


def saved(committee: TorchCommitteePotential, folder: Path) -> Path:
    """A committee's folder."""
    entries = []
    for i, member in enumerate(committee.members):
        path = folder / f"member_{i:03d}"
        path.mkdir(parents=True)
        member.save(path / "model.pt")
        entries.append(TorchCommitteeMember(i, i, 0, "cpu", path, status="completed"))
    CommitteeMetadata(folder, entries, "sequential", {}).save()
    return folder
