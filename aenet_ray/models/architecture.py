"""Hidden layers per species, checked without importing torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aenet_ray.config import warn_user
from aenet_ray.errors import ConfigError

Architecture = Mapping[str, Sequence[tuple[int, str]]]
"""Species to hidden layers, ``{'Ti': [(15, 'tanh'), (15, 'tanh')]}``."""

ACTIVATION_NAMES = ("linear", "tanh", "sigmoid", "mtanh", "twist")
"""In the order of ænet's integer codes 0 to 4."""


def check_architecture(arch: Architecture, species: Sequence[str]) -> dict[str, list[tuple[int, str]]]:
    """The hidden layers of each descriptor species, activations in lower case.

    Raises:
        ConfigError: A species is missing, has no layers, a layer is no (nodes, activation) pair, the number
            of nodes is not a positive integer or the activation is unknown.
    """
    checked = {}
    if more := [s for s in arch if s not in species]:
        warn_user(
            f"arch: layers of {', '.join(map(str, more))} are not used: no species of the descriptor.",
            UserWarning,
        )
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
    if str(name).lower() not in ACTIVATION_NAMES:
        raise ConfigError(f"arch[{symbol!r}]: activation {name!r}; expected one of {', '.join(ACTIVATION_NAMES)}.")
    return int(nodes), str(name).lower()
