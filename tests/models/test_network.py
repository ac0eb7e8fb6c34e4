"""The networks: activations, gradients without autograd, initial weights, names."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from potentials import golden

from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.errors import ConfigError
from aenet_ray.models.ann import ANNModel
from aenet_ray.models.architecture import check_architecture
from aenet_ray.models.network import ACTIVATIONS, SpeciesNetworks
from aenet_ray.training.flat import FlatParameters
from aenet_ray.training.prepare import initial_weights

ARCH = {"Ti": [(7, "tanh"), (4, "sigmoid")], "O": [(5, "twist")]}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_and_their_derivatives(name):
    x, y, dydx = torch.tensor(golden("activations")["rows"][name], dtype=torch.float64).T
    activation = ACTIVATIONS[name]
    found = activation.value(x)
    np.testing.assert_allclose(found, y, atol=1e-12, rtol=0)
    upstream = torch.linspace(-2, 3, len(x), dtype=torch.float64)
    np.testing.assert_allclose(activation.pull(upstream, x, found), upstream * dydx, atol=1e-12, rtol=0)


def test_activations_have_their_integer_codes():
    assert golden("activations")["codes"] == {name: k for k, name in enumerate(ACTIVATIONS)}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("counts", [[9, 4], [0, 6], [5, 0]])
def test_pullback_is_autograd(name, counts):
    torch.manual_seed(2)
    network = SpeciesNetworks({"Ti": [(7, name), (4, name), (3, name)], "O": [(5, name)]}, ["Ti", "O"], 6)
    x = torch.randn(sum(counts), 6, dtype=torch.float64)
    d = torch.randn(sum(counts), dtype=torch.float64)
    expected = torch.autograd.grad((network(x, counts) * d).sum(), list(network.parameters()))
    flat = FlatParameters(network)
    flat.gradient += 0.5  # it adds to what is there
    energies, pullback = network.forward_with_pullback(x, counts)
    pullback(d)
    torch.testing.assert_close(energies, network(x, counts).detach(), atol=1e-14, rtol=0)
    found = flat.gradient - 0.5
    torch.testing.assert_close(found, torch.cat([g.reshape(-1) for g in expected]), atol=1e-12, rtol=1e-12)


def test_initial_weights_are_a_function_of_the_seed():
    model = ANNModel(ARCH, ChebyshevDescriptor(["Ti", "O"], 5, 4.0, 3, 3.5))
    before = torch.random.get_rng_state()
    one, two, other = (initial_weights(model, seed) for seed in (3, 3, 4))
    assert torch.equal(before, torch.random.get_rng_state()), "drawing weights must not disturb other draws"
    for name, value in one.items():
        assert torch.equal(value, two[name])
        assert not torch.equal(value, other[name])
    own = initial_weights(model, None)
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_initial_weights_fill_their_range_in_float32(dtype):
    torch.manual_seed(0)
    network = SpeciesNetworks({"Ti": [(60, "tanh"), (50, "tanh")]}, ["Ti"], 40, dtype)
    for weight, bias in network.layers("Ti"):
        bound = 1 / math.sqrt(weight.shape[1])
        for values in (weight, bias):
            assert values.dtype == dtype
            assert values.abs().max() <= bound * (1 + 1e-7)
            assert torch.equal(values, values.float().to(dtype)), "drawn in float32, the same in both precisions"
        assert weight.abs().max() > 0.9 * bound
        assert weight.detach().mean().abs() < 0.2 * bound


def test_parameter_names_are_those_of_the_reference():
    model = ANNModel(ARCH, ChebyshevDescriptor(["Ti", "O"], 5, 4.0, 3, 3.5))
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes == {
        "net.functions.0.Linear_Sp1_F1.weight": (7, 20),
        "net.functions.0.Linear_Sp1_F1.bias": (7,),
        "net.functions.0.Linear_Sp1_F2.weight": (4, 7),
        "net.functions.0.Linear_Sp1_F2.bias": (4,),
        "net.functions.0.Linear_Sp1_F3.weight": (1, 4),
        "net.functions.0.Linear_Sp1_F3.bias": (1,),
        "net.functions.1.Linear_Sp2_F1.weight": (5, 20),
        "net.functions.1.Linear_Sp2_F1.bias": (5,),
        "net.functions.1.Linear_Sp2_F2.weight": (1, 5),
        "net.functions.1.Linear_Sp2_F2.bias": (1,),
    }


@pytest.mark.filterwarnings("ignore:arch. layers of Si")
def test_activation_names_in_any_case_and_species_beyond_the_descriptor():
    network = SpeciesNetworks({"Ti": [(2, "Tanh")], "O": [[3, "SIGMOID"]], "Si": []}, ["Ti", "O"], 4)
    assert network.arch == {"Ti": [(2, "tanh")], "O": [(3, "sigmoid")]}


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ({"Ti": [(5, "tanh")]}, r"no layers for species 'O'; given are \['Ti'\]"),
        ({"Ti": [(5, "tanh")], "O": []}, r"arch\['O'\]: empty"),
        ({"Ti": [(5, "tanh")], "O": [(5, "relu")]}, "activation 'relu'; expected one of linear, tanh, sigmoid"),
        ({"Ti": [(0, "tanh")], "O": [(5, "tanh")]}, r"arch\['Ti'\]: 0 nodes; expected a positive integer"),
        ({"Ti": [(2.5, "tanh")], "O": [(5, "tanh")]}, "2.5 nodes"),
        ({"Ti": [5, 5], "O": [(5, "tanh")]}, r"layer 5; expected a pair"),
    ],
)
def test_bad_architectures_are_refused(arch, message):
    with pytest.raises(ConfigError, match=message):
        SpeciesNetworks(arch, ["Ti", "O"], 4)


def test_layers_of_other_species_are_said() -> None:
    with pytest.warns(UserWarning, match="arch: layers of Si are not used"):
        assert check_architecture({s: [(5, "tanh")] for s in ("Ti", "Si")}, ["Ti"]) == {"Ti": [(5, "tanh")]}
