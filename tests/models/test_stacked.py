"""Networks with a leading member axis."""

from __future__ import annotations

import pytest
import torch

from aenet_ray.models.architecture import ACTIVATION_NAMES
from aenet_ray.models.network import SpeciesNetworks
from aenet_ray.models.stacked import StackedNetworks


@pytest.mark.parametrize("name", ACTIVATION_NAMES)
@pytest.mark.parametrize("counts", [[5, 4], [9, 0]])
def test_gradient_is_that_of_autograd(name: str, counts: list[int]) -> None:
    torch.manual_seed(0)
    nets = [SpeciesNetworks({"Ti": [(4, name), (3, name)], "O": [(5, name)]}, ["Ti", "O"], 6) for _ in range(3)]
    stacked, factors = StackedNetworks.of(nets), torch.rand(3, 6, dtype=torch.float64)
    x = torch.randn(1, 9, 6, dtype=torch.float64).repeat(3, 1, 1).requires_grad_()
    expected = stacked.energies(x, counts)
    (slopes,) = torch.autograd.grad(expected.sum(), x)
    found, gradient = stacked.with_gradient(x.detach(), counts)
    torch.testing.assert_close(found, expected.detach(), rtol=0.0, atol=0.0)
    torch.testing.assert_close(gradient(factors), slopes * factors.unsqueeze(1), rtol=1e-13, atol=1e-14)
