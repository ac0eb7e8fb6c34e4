"""One multilayer perceptron per species over rows sorted by species."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aenet_ray.models.architecture import Architecture, check_architecture


@dataclass(frozen=True, slots=True)
class Activation:
    """An activation function of ænet.

    Args:
        value: y(x).
        pull: (∂L/∂y, x, y) to ∂L/∂x.
    """

    value: Callable[[Tensor], Tensor]
    pull: Callable[[Tensor, Tensor, Tensor], Tensor]


def scaled_tanh(x: Tensor) -> Tensor:
    """1.7159 tanh(2x/3), LeCun's choice."""
    return 1.7159 * torch.tanh(x * (2.0 / 3.0))


def _pull_scaled_tanh(d: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return d * (1.7159 * (2.0 / 3.0) * (1.0 - torch.tanh(x * (2.0 / 3.0)).square()))


# Of the names in ``architecture.ACTIVATION_NAMES``.
ACTIVATIONS: dict[str, Activation] = {
    "linear": Activation(lambda x: x, lambda d, x, y: d),
    "tanh": Activation(torch.tanh, lambda d, x, y: torch.ops.aten.tanh_backward(d, y)),
    "sigmoid": Activation(torch.sigmoid, lambda d, x, y: torch.ops.aten.sigmoid_backward(d, y)),
    "mtanh": Activation(scaled_tanh, _pull_scaled_tanh),
    "twist": Activation(lambda x: scaled_tanh(x) + 0.1 * x, lambda d, x, y: _pull_scaled_tanh(d, x, y) + 0.1 * d),
}


class SpeciesNetworks(nn.Module):
    """Energies of atoms from their normalised features, a network per species.

    Args:
        arch: Hidden layers per species; the output layer, one linear node, is added.
        species: Descriptor order; parameter names count from it.
        n_features: Inputs of every network.
        dtype: Of the parameters. They are drawn in float32 and cast, so that a seed gives the same
            network in both precisions.
    """

    def __init__(
        self, arch: Architecture, species: Sequence[str], n_features: int, dtype: torch.dtype = torch.float64
    ) -> None:
        super().__init__()
        self.arch = check_architecture(arch, species)
        self.species = tuple(species)
        self.n_features = n_features
        self.functions = nn.ModuleList(self._perceptron(k + 1, s) for k, s in enumerate(self.species))
        self.to(dtype)

    def _perceptron(self, k: int, symbol: str) -> nn.ModuleDict:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        n_in = self.n_features
        for number, nodes in enumerate([*(n for n, _ in self.arch[symbol]), 1], start=1):
            layers[f"Linear_Sp{k}_F{number}"] = _linear(n_in, nodes)
            n_in = nodes
        return nn.ModuleDict(layers)

    def steps(self, k: int) -> list[tuple[nn.Parameter, nn.Parameter, Activation]]:
        """(W, b, activation) of each layer of species number k."""
        names = [*(a for _, a in self.arch[self.species[k]]), "linear"]
        linears = self.functions[k].values()  # type: ignore[operator]
        return [(m.weight, m.bias, ACTIVATIONS[a]) for m, a in zip(linears, names, strict=True)]

    def forward(self, x: Tensor, counts: Sequence[int]) -> Tensor:
        """Atom energies, (n_atoms,), in the units of the network.

        Args:
            x: Normalised features sorted by species, (n_atoms, n_features).
            counts: Rows of each species, in species order.
        """
        parts = []
        for k, h in enumerate(torch.split(x, list(counts))):
            for weight, bias, act in self.steps(k):
                h = act.value(torch.addmm(bias, h, weight.t()))
            parts.append(h)
        return torch.cat(parts).squeeze(1)

    @torch.no_grad()
    def forward_with_pullback(self, x: Tensor, counts: Sequence[int]) -> tuple[Tensor, Callable[[Tensor], None]]:
        """Atom energies, and what adds the gradient of Σ_a d_a e_a to the parameters' ``grad``, given d.

        The same numbers as autograd's, in a third of the operations: in a step on stored features the network
        is small enough for their overhead to be the cost.
        """
        tapes, parts = [], []
        for k, h in enumerate(torch.split(x, list(counts))):
            tape = []
            for weight, bias, act in self.steps(k):
                z = torch.addmm(bias, h, weight.t())
                y = act.value(z)
                tape.append((weight, bias, act, h, z, y))
                h = y
            tapes.append(tape)
            parts.append(h)

        @torch.no_grad()
        def pullback(d: Tensor) -> None:
            for tape, part in zip(tapes, torch.split(d.unsqueeze(1), list(counts)), strict=True):
                for weight, bias, act, h, z, y in reversed(tape):
                    part = act.pull(part, z, y)
                    assert weight.grad is not None, "FlatParameters makes the gradients"
                    assert bias.grad is not None
                    weight.grad.addmm_(part.t(), h)
                    bias.grad.add_(part.sum(0))
                    if h is not tape[0][3]:
                        part = part @ weight

        return torch.cat(parts).squeeze(1), pullback

    def layers(self, symbol: str) -> list[tuple[Tensor, Tensor]]:
        """(W, b) of each layer of one species, output layer last; W is (n_out, n_in)."""
        return [(w, b) for w, b, _ in self.steps(self.species.index(symbol))]


def _linear(n_in: int, n_out: int) -> nn.Linear:
    """Uniform weights and biases in ±1/sqrt(n_in), float32 (PyTorch's own initialisation, spelled out)."""
    layer = nn.Linear(n_in, n_out, dtype=torch.float32)
    bound = 1.0 / math.sqrt(n_in)
    nn.init.uniform_(layer.weight, -bound, bound)
    nn.init.uniform_(layer.bias, -bound, bound)
    return layer
