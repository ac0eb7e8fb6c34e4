"""The differentiable operations, checked by torch's own numerical derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.descriptors.neighbors import Edges, find_neighbors
from aenet_ray.descriptors.operators import (
    descriptor_features,
    descriptor_gradient,
    descriptor_gradient_and_virial,
)

OFFSETS = np.array([0, 3, 5])
INDEX = np.array([0, 1, 1, 0, 1])
PBC = np.array([[True, True, True], [True, True, False]])
CELL = np.array([[[3.1, 0, 0], [0.9, 2.9, 0], [-0.6, 0.7, 3.3]], [[4.0, 0, 0], [0, 4.0, 0], [0, 0, 0]]])
POSITIONS = np.random.default_rng(0).uniform(0.0, 3.0, (5, 3))


def neighbors(positions: np.ndarray = POSITIONS, cell: np.ndarray = CELL) -> Edges:
    return find_neighbors(positions, OFFSETS, cell, PBC, 4.0, 0.55)


def features_of(descriptor: ChebyshevDescriptor, positions: Tensor, strain: Tensor | None = None) -> Tensor:
    edges = neighbors(positions.detach().numpy())
    return descriptor_features(descriptor, positions, edges, INDEX, strain=strain, structure_offsets=OFFSETS)


@pytest.fixture
def descriptor(backend: str) -> ChebyshevDescriptor:
    return ChebyshevDescriptor(["Ti", "O"], 3, 4.0, 2, 3.5, backend=backend)


@pytest.fixture
def g(descriptor: ChebyshevDescriptor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(5, descriptor.n_features, dtype=torch.float64, generator=generator).requires_grad_()


def test_features(descriptor: ChebyshevDescriptor) -> None:
    x = torch.tensor(POSITIONS, requires_grad=True)
    assert gradcheck(lambda x: features_of(descriptor, x), x)
    assert gradgradcheck(lambda x: features_of(descriptor, x), x, atol=1e-4)


def test_gradient(descriptor: ChebyshevDescriptor, g: Tensor) -> None:
    def operation(g: Tensor) -> Tensor:
        return descriptor_gradient(descriptor, neighbors(), INDEX, g)

    assert gradcheck(operation, g)
    assert gradgradcheck(operation, g)


def test_gradient_and_virial(descriptor: ChebyshevDescriptor, g: Tensor) -> None:
    def operation(g: Tensor) -> tuple[Tensor, Tensor]:
        return descriptor_gradient_and_virial(descriptor, neighbors(), INDEX, g, OFFSETS)

    assert gradcheck(operation, g)
    assert gradgradcheck(operation, g)
    assert torch.equal(operation(g)[0], descriptor_gradient(descriptor, neighbors(), INDEX, g))


def test_three_ways_to_the_same_forces_and_stress(descriptor: ChebyshevDescriptor, g: Tensor) -> None:
    x, strain = (
        torch.tensor(POSITIONS, requires_grad=True),
        torch.zeros(2, 3, 3, dtype=torch.float64, requires_grad=True),
    )
    energy = (features_of(descriptor, x, strain) * g).sum()
    forces, stress = torch.autograd.grad(energy, (x, strain))
    gradient, virial = descriptor_gradient_and_virial(descriptor, neighbors(), INDEX, g, OFFSETS)
    torch.testing.assert_close(forces, gradient)
    torch.testing.assert_close(stress, virial)
    array, _ = descriptor.vjp(neighbors(), INDEX, g.detach().numpy())
    torch.testing.assert_close(gradient.detach(), torch.from_numpy(array))


def test_training_on_forces(descriptor: ChebyshevDescriptor) -> None:
    """Weights get the derivative of a force loss, through a network, as central differences see it."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(descriptor.n_features, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    network.double()
    edges = neighbors()
    values = torch.from_numpy(descriptor.features(edges, INDEX))

    def loss() -> Tensor:
        x = values.clone().requires_grad_()
        (g,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
        forces = -descriptor_gradient(descriptor, edges, INDEX, g)
        return (forces - 0.3).square().mean()

    loss().backward()
    weight = network[0].weight
    assert weight.grad is not None
    for row, column in ((0, 0), (2, 3), (3, 11)):
        weight.data[row, column] += 1e-5
        ahead = loss().item()
        weight.data[row, column] -= 2e-5
        behind = loss().item()
        weight.data[row, column] += 1e-5
        assert (ahead - behind) / 2e-5 == pytest.approx(weight.grad[row, column].item(), rel=1e-5, abs=1e-8)


def test_second_derivative_with_strain(descriptor: ChebyshevDescriptor, g: Tensor) -> None:
    """How the virial changes with positions, from the operator and from differences."""
    x, strain = (
        torch.tensor(POSITIONS, requires_grad=True),
        torch.zeros(2, 3, 3, dtype=torch.float64, requires_grad=True),
    )
    energy = (features_of(descriptor, x, strain) * g.detach()).sum()
    (virial,) = torch.autograd.grad(energy, strain, create_graph=True)
    (derivative,) = torch.autograd.grad(virial[0, 0, 1], x)
    v, h = np.random.default_rng(1).normal(size=(5, 3)), 1e-5
    ahead, behind = (
        descriptor.vjp(neighbors(POSITIONS + s * h * v), INDEX, g.detach().numpy(), structure_offsets=OFFSETS)[1]
        for s in (1, -1)
    )
    assert ahead is not None
    assert behind is not None
    numeric = (ahead - behind)[0, 0, 1] / (2 * h)
    assert float((derivative.numpy() * v).sum()) == pytest.approx(numeric, rel=1e-5)


def test_float32_gradients_stay_float32(descriptor: ChebyshevDescriptor, g: Tensor) -> None:
    small = g.detach().float().requires_grad_()
    gradient = descriptor_gradient(descriptor, neighbors(), INDEX, small)
    gradient.sum().backward()
    assert gradient.dtype == torch.float32
    assert small.grad is not None
    assert small.grad.dtype == torch.float32


@pytest.mark.gpu
def test_cuda_gives_the_same_numbers(g: Tensor) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    cpu = ChebyshevDescriptor(["Ti", "O"], 3, 4.0, 2, 3.5)
    gpu = ChebyshevDescriptor(["Ti", "O"], 3, 4.0, 2, 3.5, device="cuda")
    assert gpu.backend == "torch"
    np.testing.assert_allclose(gpu.features(neighbors(), INDEX), cpu.features(neighbors(), INDEX), atol=1e-11)
    on_gpu = g.detach().cuda().requires_grad_()
    one = descriptor_gradient(gpu, neighbors(), INDEX, on_gpu)
    other = descriptor_gradient(cpu, neighbors(), INDEX, g)
    assert one.device.type == "cuda"
    torch.testing.assert_close(one.cpu(), other)
    one.square().sum().backward()
    other.square().sum().backward()
    assert on_gpu.grad is not None
    torch.testing.assert_close(on_gpu.grad.cpu(), g.grad)
