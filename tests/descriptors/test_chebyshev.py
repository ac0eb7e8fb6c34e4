"""The descriptor against its definition, its parameters, and what it refuses."""

from __future__ import annotations

import pickle
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from direct_descriptor import direct_features, direct_neighbors

from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.descriptors.coefficients import chebyshev_to_legendre, typespin
from aenet_ray.descriptors.feature_kernel import features_kernel
from aenet_ray.errors import DescriptorError
from aenet_ray.structures.block import StructureBlock
from aenet_ray.structures.structure import Structure

SKEWED = np.array([[3.4, 0.0, 0.0], [1.1, 3.0, 0.0], [-0.8, 0.9, 3.6]])
VALID: dict[str, Any] = {
    "species": ["Ti", "O"], "rad_order": 6, "rad_cutoff": 5.0, "ang_order": 3, "ang_cutoff": 4.0,
}  # fmt: skip


def make(**changes: Any) -> ChebyshevDescriptor:
    return ChebyshevDescriptor(**{**VALID, **changes})


def random_atoms(symbols: list[str], n: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    return rng.uniform(-1.0, 2.0, size=(n, 3)) @ SKEWED, [symbols[k % len(symbols)] for k in range(n)]


@pytest.mark.parametrize(
    ("changes", "pbc"),
    [
        ({}, [True, True, True]),
        ({}, [True, False, True]),
        ({}, [False, False, False]),
        ({"species": ["Si"]}, [True, True, True]),
        ({"species": ["Li", "Mn", "O"]}, [True, True, False]),
        ({"species": ["Li", "Ni", "Mn", "O"]}, [True, True, True]),
        ({"rad_order": 0, "ang_order": 0}, [True, True, True]),
        ({"rad_order": 1, "ang_order": 1}, [True, True, True]),
        ({"rad_order": 20, "ang_order": 12, "ang_cutoff": 3.5}, [True, True, True]),
        ({"rad_cutoff": 2.5, "ang_cutoff": 4.5}, [True, True, True]),
        ({"rad_cutoff": 0.9, "ang_cutoff": 4.0, "rad_order": 60}, [True, True, True]),
    ],
)
def test_against_the_definition(changes: dict[str, Any], pbc: list[bool], backend: str) -> None:
    descriptor = make(**changes, backend=backend)
    positions, species = random_atoms(descriptor.species, 5 if any(pbc) else 20)
    features = descriptor.forward_from_positions(positions, species, SKEWED, pbc)
    expected = direct_features(descriptor, positions, species, SKEWED, np.array(pbc))
    assert np.abs(expected).max() > 1.0
    np.testing.assert_allclose(features.numpy(), expected, rtol=1e-12, atol=1e-10)


def test_many_neighbors(backend: str) -> None:
    """Several hundred neighbours an atom, both sides of the padding."""
    descriptor = make(rad_cutoff=8.0, ang_cutoff=7.0, backend=backend)
    positions, species = random_atoms(["O", "Ti"], 2)
    features = descriptor.forward_from_positions(positions, species, SKEWED)
    expected = direct_features(descriptor, positions, species, SKEWED, np.ones(3, bool))
    np.testing.assert_allclose(features.numpy(), expected, rtol=1e-11, atol=1e-8)


@pytest.mark.parametrize("n", range(1, 35))
def test_every_number_of_neighbors(n: int) -> None:
    """Lanes come in eights and sixteens: no count may go wrong."""
    descriptor = make(species=["Si"], rad_cutoff=6.0, ang_cutoff=6.0)
    positions = np.random.default_rng(n).normal(size=(n + 1, 3))
    features = descriptor.forward_from_positions(positions, ["Si"] * (n + 1))
    expected = direct_features(descriptor, positions, ["Si"] * (n + 1), np.zeros((3, 3)), np.zeros(3, bool))
    np.testing.assert_allclose(features.numpy(), expected, rtol=1e-11, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_one_neighbor_has_no_angle(backend: str, dtype: torch.dtype) -> None:
    descriptor = make(backend=backend, dtype=dtype)
    features = descriptor.forward_from_positions([[0.1, 0.2, 0.3], [1.3, -0.7, 1.1]], ["Ti", "O"])
    angular = features[:, [7, 8, 9, 10, 18, 19, 20, 21]]
    assert features.dtype == dtype
    assert (features[:, :7] != 0.0).all()
    assert (angular == 0.0).all()


def test_absent_species_and_lonely_atoms(backend: str) -> None:
    descriptor = make(species=["Li", "Ti", "O", "H"], backend=backend)
    positions = [[0.0, 0.0, 0.0], [0.0, 0.0, 1.5], [40.0, 0.0, 0.0]]
    features = descriptor.forward_from_positions(positions, ["Ti", "O", "O"])
    expected = direct_features(descriptor, np.array(positions), ["Ti", "O", "O"], np.zeros((3, 3)), np.zeros(3, bool))
    np.testing.assert_allclose(features.numpy(), expected, atol=1e-12)
    assert (features[2] == 0.0).all()


def test_float32_is_float64_rounded() -> None:
    positions, species = random_atoms(["Ti", "O"], 5)
    one, other = (
        make(dtype=t).forward_from_positions(positions, species, SKEWED) for t in (torch.float32, torch.float64)
    )
    assert torch.equal(one, other.float())


def test_a_block_is_its_structures(backend: str) -> None:
    descriptor = make(backend=backend)
    structures = []
    for n in (1, 4, 2):
        positions, species = random_atoms(["O", "Ti"], n, seed=n)
        structures.append(Structure(positions, species, cell=SKEWED if n != 2 else None))
    block = StructureBlock.from_structures(structures)
    together = descriptor.features(descriptor.edges(block), descriptor.species_index(block.numbers))
    alone = [descriptor.forward_from_positions(s.positions, s.species, s.cell, s.pbc).numpy() for s in structures]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-12)


def test_given_neighbor_lists(backend: str) -> None:
    descriptor = make(backend=backend)
    positions, species = random_atoms(["Ti", "O"], 3)
    lists = direct_neighbors(positions, SKEWED, np.ones(3, bool), 5.0, 0.0)  # min_cutoff is applied later
    features = descriptor.forward(positions, species, *zip(*lists, strict=True))
    torch.testing.assert_close(
        features, descriptor.forward_from_positions(positions, species, SKEWED), rtol=0, atol=1e-11
    )
    torch.testing.assert_close(descriptor.forward(positions, species, cell=SKEWED), features, rtol=0, atol=1e-11)
    with pytest.raises(DescriptorError, match="1 index and 1 vector lists for 3 atoms"):
        descriptor.forward(positions, species, [[0]], [[[1.0, 0.0, 0.0]]])
    with pytest.raises(DescriptorError, match="Neighbour indices from 3 to 3 for 3 atoms"):
        descriptor.forward(positions, species, [[3], [], []], [[[1.0, 0.0, 0.0]], [], []])


def test_no_atoms(backend: str) -> None:
    descriptor = make(backend=backend)
    edges = descriptor.edges(StructureBlock.from_structures([]))
    index = np.zeros(0, np.int64)
    assert descriptor.features(edges, index).shape == (0, 22)
    assert descriptor.vjp(edges, index, np.zeros((0, 22)))[0].shape == (0, 3)
    assert descriptor.jvp(edges, index, np.zeros((0, 3))).shape == (0, 22)


def test_read_only_edges_are_taken() -> None:
    """Memory-mapped shards are read-only, and need no second compiled version."""
    descriptor = make()
    block = StructureBlock.from_structures([Structure(*random_atoms(["Ti", "O"], 4), cell=SKEWED)])
    edges, index = descriptor.edges(block), descriptor.species_index(block.numbers)
    expected = descriptor.features(edges, index)
    for array in (edges.ptr, edges.neighbor, edges.vectors, index):
        array.flags.writeable = False
    np.testing.assert_array_equal(descriptor.features(edges, index), expected)
    assert len(features_kernel.signatures) == 1


def test_copies_compute_the_same_and_compile_nothing() -> None:
    descriptor = make()
    block = StructureBlock.from_structures([Structure(*random_atoms(["Ti", "O"], 4), cell=SKEWED)])
    edges, index = descriptor.edges(block), descriptor.species_index(block.numbers)
    expected, known = descriptor.features(edges, index), len(features_kernel.signatures)
    for other in (pickle.loads(pickle.dumps(descriptor)), deepcopy(descriptor)):
        assert other.config() == descriptor.config()
        np.testing.assert_array_equal(other.features(edges, index), expected)
    assert len(features_kernel.signatures) == known


def test_names_and_sizes() -> None:
    descriptor = make(species=["O", "Ti"])
    assert descriptor.species == ["O", "Ti"]
    assert descriptor.species_to_idx == {"O": 0, "Ti": 1}
    assert descriptor.get_n_features() == descriptor.n_features == 2 * (7 + 4)
    assert make(species=["Ti"]).n_features == 7 + 4
    assert descriptor.species_index([22, 8, 8]).tolist() == [1, 0, 0]
    assert (descriptor.multi, make(species=["Ti"]).multi) == (True, False)


@pytest.mark.parametrize(
    ("n", "weights"), [(1, [0]), (2, [-1, 1]), (3, [-1, 0, 1]), (4, [-2, -1, 1, 2]), (5, [-2, -1, 0, 1, 2])]
)
def test_typespin(n: int, weights: list[int]) -> None:
    assert typespin(n).tolist() == weights


def test_legendre_coefficients() -> None:
    x = np.linspace(-1.0, 1.0, 31)
    legendre = np.polynomial.legendre.legvander(x, 25) @ chebyshev_to_legendre(25).T
    np.testing.assert_allclose(legendre, np.polynomial.chebyshev.chebvander(x, 25), atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"species": []}, "species is empty"),
        ({"species": ["Ti", "Xx"]}, "species contains 'Xx'"),
        ({"species": ["Ti", "Ti"]}, r"species is \['Ti', 'Ti'\], expected every symbol once"),
        ({"rad_order": -1}, "rad_order is -1, expected an integer >= 0"),
        ({"ang_order": 2.5}, "ang_order is 2.5, expected an integer"),
        ({"rad_order": True}, "rad_order is True"),
        ({"rad_cutoff": 0.0}, "rad_cutoff is 0.0, expected a finite length > 0"),
        ({"ang_cutoff": float("nan")}, "ang_cutoff is nan"),
        ({"min_cutoff": -0.1}, "min_cutoff is -0.1, expected a finite length >= 0"),
        ({"min_cutoff": 5.0}, "min_cutoff is 5.0 Å, expected less than the larger cutoff"),
        ({"dtype": torch.float16}, r"dtype is torch.float16, expected torch.float32 or torch.float64"),
        ({"backend": "fortran"}, "backend is 'fortran', expected one of auto, compiled, torch"),
        ({"backend": "compiled", "device": "meta"}, "backend is 'compiled' on device meta"),
        ({"device": "gpu"}, "device is 'gpu'"),
    ],
)
def test_parameters_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DescriptorError, match=message):
        make(**changes)


def test_unknown_species_are_named() -> None:
    with pytest.raises(DescriptorError, match="Unknown species H, N: the descriptor was made for Ti, O"):
        make().species_index([22, 7, 1, 8])
    with pytest.raises(DescriptorError, match="Unknown species H"):
        make().forward_from_positions([[0.0, 0.0, 0.0]], ["H"])
    with pytest.raises(DescriptorError, match="expected 1 to 118"):
        make().species_index([0])


def test_shapes_are_checked() -> None:
    with pytest.raises(DescriptorError, match=r"positions have shape \(2, 2\), expected \(2, 3\)"):
        make().forward_from_positions([[0.0, 0.0], [1.0, 1.0]], ["Ti", "O"])
    block = StructureBlock.from_structures([Structure(np.eye(3), ["O"] * 3)])
    edges = make().edges(block)
    with pytest.raises(DescriptorError, match="2 species indices for 3 atoms"):
        make().features(edges, np.zeros(2, np.int64))
    with pytest.raises(DescriptorError, match=r"g has shape \(3, 5\), expected \(3, 22\)"):
        make().vjp(edges, np.zeros(3, np.int64), np.zeros((3, 5)))
    with pytest.raises(DescriptorError, match=r"v has shape \(2, 3\), expected \(3, 3\)"):
        make().jvp(edges, np.zeros(3, np.int64), np.zeros((2, 3)))
    with pytest.raises(DescriptorError, match=r"structure_offsets are \[0, 2\], expected a rising list from 0 to 3"):
        make().vjp(edges, np.zeros(3, np.int64), np.zeros((3, 22)), structure_offsets=[0, 2])
    with pytest.raises(DescriptorError, match="Edges have 5 neighbours and 6 vectors, expected 6 of both"):
        make().features(replace(edges, neighbor=edges.neighbor[1:]), np.zeros(3, np.int64))
    with pytest.raises(DescriptorError, match="strain but no structure_offsets"):
        make().jvp(edges, np.zeros(3, np.int64), np.zeros((3, 3)), strain=np.zeros((1, 3, 3)))


def test_backend_follows_device() -> None:
    assert make().backend == "compiled"
    assert make(backend="torch").backend == "torch"
    assert make(device="meta").backend == "torch"


def test_config_and_pickle_give_the_same_descriptor() -> None:
    descriptor = make(dtype=torch.float32, min_cutoff=0.7, backend="torch")
    positions, species = random_atoms(["Ti", "O"], 3)
    expected = descriptor.forward_from_positions(positions, species, SKEWED)
    for copy in (ChebyshevDescriptor.from_config(descriptor.config()), pickle.loads(pickle.dumps(descriptor))):
        assert copy.config() == descriptor.config()
        assert copy.fingerprint() == descriptor.fingerprint()
        assert torch.equal(copy.forward_from_positions(positions, species, SKEWED), expected)
    with pytest.raises(DescriptorError, match="colour"):
        ChebyshevDescriptor.from_config({**descriptor.config(), "colour": 1})
    with pytest.raises(DescriptorError, match="dtype is 'int8'"):
        ChebyshevDescriptor.from_config({**descriptor.config(), "dtype": "int8"})


def test_fingerprint_knows_what_matters() -> None:
    same = [make(), make(dtype=torch.float32), make(backend="torch"), make(rad_cutoff=5)]
    assert len({d.fingerprint() for d in same}) == 1
    other = [
        make(species=["O", "Ti"]), make(rad_order=7), make(rad_cutoff=5.1), make(ang_order=4), make(ang_cutoff=4.1),
        make(min_cutoff=0.5),
    ]  # fmt: skip
    assert len({d.fingerprint() for d in [make(), *other]}) == 7
