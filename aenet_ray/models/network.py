"""One multilayer perceptron per species over rows sorted by species."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from aenet_ray.errors import ConfigError

Architecture = Mapping[str, Sequence[tuple[int, str]]]
"""Species to hidden layers, ``{'Ti': [(15, 'tanh'), (15, 'tanh')]}``."""


class ScaledTanh(nn.Module):
    """1.7159 tanh(2x/3), plus 0.1 x for 'twist'; ænet's codes 3 and 4."""

    def __init__(self, slope: float = 0.0) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        y = 1.7159 * torch.tanh(x * (2.0 / 3.0))
        return y + self.slope * x if self.slope else y


ACTIVATIONS: dict[str, type[nn.Module] | tuple[type[nn.Module], float]] = {
    "linear": nn.Identity,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "mtanh": ScaledTanh,
    "twist": (ScaledTanh, 0.1),
}
"""In the order of ænet's integer codes 0 to 4."""


def activation(name: str) -> nn.Module:
    entry = ACTIVATIONS[name]
    return entry[0](entry[1]) if isinstance(entry, tuple) else entry()


def check_architecture(arch: Architecture, species: Sequence[str]) -> dict[str, list[tuple[int, str]]]:
    """The hidden layers of each descriptor species, activations in lower case.

    Raises:
        ConfigError: A species is missing, has no layers, a layer is no (nodes, activation) pair, the number
            of nodes is not a positive integer or the activation is unknown.
    """
    checked = {}
    for symbol in species:
        if symbol not in arch:
            raise ConfigError(f"arch: no layers for species {symbol!r}; given are {sorted(arch)}.")
        layers = list(arch[symbol])
        if not layers:
            raise ConfigError(f"arch[{symbol!r}]: empty; expected hidden layers such as [(15, 'tanh')].")
        checked[symbol] = [_check_layer(symbol, layer) for layer in layers]
    return checked


def _check_layer(symbol: str, layer: object) -> tuple[int, str]:
    if not isinstance(layer, (tuple, list)) or len(layer) != 2:
        raise ConfigError(f"arch[{symbol!r}]: layer {layer!r}; expected a pair (nodes, activation).")
    nodes, name = layer
    if isinstance(nodes, bool) or not isinstance(nodes, int) or nodes < 1:
        raise ConfigError(f"arch[{symbol!r}]: {nodes!r} nodes; expected a positive integer.")
    if str(name).lower() not in ACTIVATIONS:
        raise ConfigError(f"arch[{symbol!r}]: activation {name!r}; expected one of {', '.join(ACTIVATIONS)}.")
    return int(nodes), str(name).lower()


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

    def _perceptron(self, k: int, symbol: str) -> nn.Sequential:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        n_in = self.n_features
        for number, (nodes, name) in enumerate(self.arch[symbol], start=1):
            layers[f"Linear_Sp{k}_F{number}"] = _linear(n_in, nodes)
            layers[f"Active_Sp{k}_F{number}"] = activation(name)
            n_in = nodes
        layers[f"Linear_Sp{k}_F{len(self.arch[symbol]) + 1}"] = _linear(n_in, 1)
        return nn.Sequential(layers)

    def forward(self, x: Tensor, counts: Sequence[int]) -> Tensor:
        """Atom energies, (n_atoms,), in the units of the network.

        Args:
            x: Normalised features sorted by species, (n_atoms, n_features).
            counts: Rows of each species, in species order.
        """
        blocks = torch.split(x, list(counts))
        parts = [f(b) for f, b in zip(self.functions, blocks, strict=True) if len(b)]
        return torch.cat(parts).squeeze(1) if parts else x.new_zeros(0)

    def layers(self, symbol: str) -> list[tuple[Tensor, Tensor]]:
        """(W, b) of each layer of one species, output layer last; W is (n_out, n_in)."""
        function = self.functions[self.species.index(symbol)]
        return [(m.weight, m.bias) for m in function if isinstance(m, nn.Linear)]


def _linear(n_in: int, n_out: int) -> nn.Linear:
    """Uniform weights and biases in ±1/sqrt(n_in), float32 (PyTorch's own initialisation, spelled out)."""
    layer = nn.Linear(n_in, n_out, dtype=torch.float32)
    bound = 1.0 / math.sqrt(n_in)
    nn.init.uniform_(layer.weight, -bound, bound)
    nn.init.uniform_(layer.bias, -bound, bound)
    return layer
