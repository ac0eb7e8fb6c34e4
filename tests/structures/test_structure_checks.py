"""What may not enter a store, and that distances to images are exact."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structure_samples import crystal, labelled, water

from aenet_ray.errors import StructureError
from aenet_ray.structures.block import StructureBlock
from aenet_ray.structures.checks import check, find_problems
from aenet_ray.structures.distances import closest_pairs, closest_within
from aenet_ray.structures.records import Records
from aenet_ray.structures.structure import Structure

NAN = float("nan")
H = water().positions
BAD: list[tuple[Structure, str]] = [
    (water(positions=np.where(H[1, 1] == H, NAN, H)), "positions are NaN or infinite"),
    (water(positions=H + np.inf), "positions are NaN or infinite"),
    (water(energy=NAN), "energy is NaN or infinite"),
    (water(energy=-np.inf), "energy is NaN or infinite"),
    (water(forces=np.full((3, 3), NAN)), "forces are NaN or infinite"),
    (water(charges=[0.1, NAN, 0.0]), "charges are NaN or infinite"),
    (crystal(stress=np.full((3, 3), np.inf)), "stress is NaN or infinite"),
    (water(charge=NAN), "charge is NaN or infinite"),
    (crystal(cell=np.diag([4.0, NAN, 4.0])), "the cell is NaN or infinite"),
    (crystal(cell=np.diag([4.0, 0.0, 4.0])), "the cell has no volume"),
    (crystal(cell=np.ones((3, 3))), "the cell has no volume"),
    (crystal(cell=np.zeros((3, 3))), "the cell has no volume"),
    (crystal(cell=np.array([[4.0, 0, 0], [4.0, 1e-5, 0], [0, 0, 4.0]])), "the cell has no volume"),
    (water(positions=H * 0.1), "are 0.096 Å apart"),
    (crystal(positions=np.array([[0.0, 0, 0], [4.55, 0, 0], [2, 2, 1]])), "an atom and a periodic image, are 0.050 Å"),
    (crystal(positions=np.array([[0.0, 0, 0], [9.2, -4.6, 0], [2, 2, 1]])), "are 0.000 Å apart"),
    (Structure(np.empty((0, 3)), []), "has no atoms"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD, ids=[f"{k}: {reason}" for k, (_, reason) in enumerate(BAD)])
def test_refused_by_name_among_good_ones(bad: Structure, reason: str) -> None:
    bad.source, bad.frame = "set.xyz", 3
    records = Records.from_structures([*labelled(), bad, water()])
    problems = find_problems(records)
    assert list(problems) == [4]
    with pytest.raises(StructureError, match=f"set.xyz, frame 3: .*{reason}"):
        check(records)


def test_good_ones_pass() -> None:
    far = water(positions=H + 1e6)
    open_side = crystal(
        positions=np.array([[0.0, 0, 0], [2, 2, 0], [0, 0, 2.95]]), pbc=np.array([True, True, False]), stress=None
    )
    assert find_problems(Records.from_structures([*labelled(), far, open_side])) == {}
    assert find_problems(Records.from_structures([])) == {}


SHAPES: list[tuple[dict[str, Any], str]] = [
    ({"positions": np.zeros((3, 2))}, r"positions have shape \(3, 2\)"),
    ({"forces": np.zeros((2, 3))}, r"forces have shape \(2, 3\), expected \(3, 3\)"),
    ({"cell": np.zeros(3)}, r"cell have shape \(3,\)|cell has shape \(3,\)"),
    ({"species": ["O", "H"]}, "2 species for 3 positions"),
    ({"species": ["O", "H", "Hx"]}, "unknown species 'Hx'"),
    ({"species": ["O", "H", "0"]}, "unknown species '0'"),
    ({"pbc": np.array([True, False])}, "pbc"),
    ({"pbc": np.array([True, True, True])}, "without a cell"),
    ({"positions": [["a", "b", "c"]] * 3}, "are not numbers"),
]


@pytest.mark.parametrize(("fields", "reason"), SHAPES, ids=[r for _, r in SHAPES])
def test_shapes_and_species(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(StructureError, match=f"a.xsf.*({reason})"):
        water(source="a.xsf", **fields)


def brute_force(s: Structure, radius: float) -> float:
    """Closest pair over all images that could matter, the slow way."""
    images = np.zeros((1, 3))
    if s.cell is not None and s.pbc is not None:
        heights = 1 / np.linalg.norm(np.linalg.inv(s.cell), axis=0)
        spread = np.abs(s.positions @ np.linalg.inv(s.cell)).max(0) * 2
        reach = (np.ceil(radius / heights + spread) + 1).astype(int) * s.pbc
        images = np.array(list(product(*(range(-n, n + 1) for n in reach)))) @ s.cell
    d = np.linalg.norm(s.positions[None, :, None] + images[:, None, None] - s.positions[None, None, :], axis=-1)
    d[np.linalg.norm(images, axis=1) < 1e-12] += np.diag(np.full(s.n_atoms, np.inf))
    return float(d.min()) if d.min() <= radius else np.inf


coordinate = st.floats(-6, 6)
cells = st.tuples(*[st.floats(-1.5, 1.5)] * 9).map(lambda c: np.reshape(c, (3, 3)) + np.diag([3.0, 3.5, 4.0]))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[coordinate] * 3), min_size=1, max_size=5),
    cells,
    st.tuples(*[st.booleans()] * 3),
    st.sampled_from([0.1, 0.9, 2.5, 5.0]),
)
def test_distances_to_images_are_exact(positions: list, cell: np.ndarray, pbc: tuple, radius: float) -> None:
    if abs(np.linalg.det(cell)) < 5.0:
        return
    s = Structure(np.array(positions), ["H"] * len(positions), cell=cell, pbc=np.array(pbc))
    found = closest_within(StructureBlock.from_structures([water(), s]), radius).distances[1]
    expected = brute_force(s, radius)
    if abs(expected - radius) > 1e-9:
        assert found == pytest.approx(expected, abs=1e-9)


def test_closest_pairs_name_the_atoms() -> None:
    block = StructureBlock.from_structures([water(), Structure([[0.0, 0, 0]], ["H"]), crystal()])
    pairs = closest_pairs(block)
    assert pairs.distances == pytest.approx([0.957, np.inf, 1.9799], abs=1e-3)
    assert sorted(pairs.atoms[0].tolist()) in ([0, 1], [0, 2])
    assert pairs.atoms[1].tolist() == [-1, -1]
    assert sorted(pairs.atoms[2].tolist()) in ([4, 5], [4, 6])
