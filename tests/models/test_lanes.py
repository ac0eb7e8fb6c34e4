"""Networks evaluated together by compiled code say what each says alone through torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.descriptors.several import FEW
from aenet_ray.inference import blocks
from aenet_ray.inference.blocks import BlockPrediction, DescribedBlock, Evaluator
from aenet_ray.models.ann import ANNModel
from aenet_ray.models.architecture import ACTIVATION_NAMES, Architecture
from aenet_ray.models.lanes import LaneNetworks
from aenet_ray.models.normalization import Normalization
from aenet_ray.structures.block import StructureBlock
from aenet_ray.structures.structure import Structure

SPECIES = ["Ti", "O"]
DESCRIPTOR = ChebyshevDescriptor(SPECIES, 3, 4.0, 2, 3.0)


def models(n: int, arch: Architecture, dtype: torch.dtype = torch.float64, scaled: bool = True) -> list[ANNModel]:
    """Each with weights, and a normalisation, of its own."""
    made = []
    for seed in range(n):
        torch.manual_seed(seed)
        made.append(ANNModel(arch, DESCRIPTOR, dtype))
        if scaled:
            mean, std = np.random.default_rng(seed).uniform(0.5, 2.0, (2, DESCRIPTOR.n_features))
            made[-1].normalization = Normalization(0.3, 1.7 + seed, mean, std)
    return made


def block(numbers: list[list[int]]) -> StructureBlock:
    """Crystals with atoms of these atomic numbers."""
    rng, structures = np.random.default_rng(0), []
    for own in numbers:
        symbols = [{22: "Ti", 8: "O"}[z] for z in own]
        cell = 3.1 * np.eye(3) + 0.2 * rng.normal(size=(3, 3))
        structures.append(Structure(rng.uniform(0, 1, (len(own), 3)) @ cell, symbols, cell=cell, pbc=[True] * 3))
    return StructureBlock.from_structures(structures)


MIXED = [[22, 8, 8], [8, 22], [8], [22, 22, 8, 8, 8]]


def assert_same(found: BlockPrediction, expected: BlockPrediction, rtol: float = 1e-11) -> None:
    for name in ("energy", "cohesive", "atom_energies", "forces", "stress"):
        a, b = getattr(found, name), getattr(expected, name)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * (1.0 + np.abs(b).max()), err_msg=name)


@pytest.mark.parametrize("n", [FEW + 1, 8, 11])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("name", ACTIVATION_NAMES)
def test_each_as_alone(name: str, scaled: bool, n: int) -> None:
    """Odd and even numbers of nodes, and species with different numbers of layers."""
    several = models(n, {"Ti": [(5, name), (4, name), (1, name)], "O": [(3, name)]}, scaled=scaled)
    described = DescribedBlock.of(DESCRIPTOR, block(MIXED))
    together = Evaluator(several)(described, forces=True, stress=True)
    assert len(together) == n
    for model, found in zip(several, together, strict=True):
        assert_same(found, Evaluator([model])(described, forces=True, stress=True)[0])
    only = Evaluator(several)(described)
    assert [e.energy.tolist() for e in only] == [e.energy.tolist() for e in together]


@pytest.mark.parametrize("numbers", [[[8, 8, 8, 8, 8]], [[22]], [[22, 22, 22, 22], [8]]])
def test_species_that_are_absent(numbers: list[list[int]]) -> None:
    several = models(6, {"Ti": [(5, "tanh")], "O": [(4, "twist"), (2, "tanh")]})
    described = DescribedBlock.of(DESCRIPTOR, block(numbers))
    for model, found in zip(several, Evaluator(several)(described, forces=True, stress=True), strict=True):
        assert_same(found, Evaluator([model])(described, forces=True, stress=True)[0])


@pytest.mark.parametrize("name", ACTIVATION_NAMES)
def test_far_out_and_not_a_number(name: str) -> None:
    """Saturated nodes stay finite; an atom without numbers takes no other along."""
    several = models(8, {s: [(6, name), (6, name)] for s in SPECIES}, scaled=False)
    features = np.random.default_rng(0).normal(size=(9, DESCRIPTOR.n_features)) * np.logspace(-6, 8, 9)[:, None]
    order, counts = np.arange(9), [5, 4]
    networks = LaneNetworks(several)
    energies, slopes = networks(features, order, counts, gradient=True)
    assert np.isfinite(energies).all()
    for k, model in enumerate(several):
        x = torch.tensor(features, requires_grad=True)
        expected = model.net(x, counts)
        (gradient,) = torch.autograd.grad(expected.sum(), x)
        size = 1.0 + np.abs(features).max(axis=1) * (name in ("linear", "twist"))
        assert (np.abs(energies[k] - expected.detach().numpy()) / size).max() < 1e-13
        np.testing.assert_allclose(slopes[..., k], gradient, rtol=1e-10, atol=1e-14)
    features[2, 1] = np.nan
    again, _ = networks(features, order, counts, gradient=False)
    assert np.isnan(again[:, 2]).all()
    np.testing.assert_array_equal(np.delete(again, 2, 1), np.delete(energies, 2, 1))


@pytest.mark.parametrize(
    ("n", "dtype", "expected"), [(8, "float64", True), (FEW, "float64", False), (8, "float32", False)]
)
def test_who_computes(n: int, dtype: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few members get the bits that each gets alone, and float32 stays float32: both through torch."""
    made: list[object] = []
    monkeypatch.setattr(blocks, "LaneNetworks", lambda given: made.append(given) or LaneNetworks(given))
    several = models(n, {s: [(4, "tanh")] for s in SPECIES}, getattr(torch, dtype))
    described = DescribedBlock.of(DESCRIPTOR, block(MIXED))
    for model, found in zip(several, Evaluator(several)(described, forces=True, stress=True), strict=True):
        alone = Evaluator([model])(described, forces=True, stress=True)[0]
        assert_same(found, alone, 0.0 if n == FEW else 1e-11 if expected else 1e-5)
    assert bool(made) == expected


@pytest.mark.parametrize("n", [2, 8])
def test_travels_to_actors(n: int) -> None:
    from ray import cloudpickle

    evaluate = Evaluator(models(n, {s: [(4, "tanh")] for s in SPECIES}))
    described = DescribedBlock.of(DESCRIPTOR, block(MIXED))
    for a, b in zip(evaluate(described), cloudpickle.loads(cloudpickle.dumps(evaluate))(described), strict=True):
        np.testing.assert_array_equal(a.energy, b.energy)
