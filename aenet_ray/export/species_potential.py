"""One species' share of a trained potential, as plain numbers: what a potential file holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aenet_ray.errors import ExportError

FloatArray = NDArray[np.float64]

ACTIVATION_CODES: Mapping[str, int] = {"linear": 0, "tanh": 1, "sigmoid": 2, "mtanh": 3, "twist": 4}
"""Codes of ænet's activation functions."""

# ænet switches a feature off where its spread is not above this.
SMALLEST_SPREAD = 1e-10
# From mean²/std² of this size on, std² drowns in the rounding of std² + mean² (see `stored_form`).
LARGEST_RATIO = 1e6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpeciesPotential:
    """Network, descriptor and scaling for the atoms of one species.

    ``W`` is (n_out, n_in) and ``b`` (n_out,); layer k computes ``act_k(W h + b)``. The energy of an
    atom with features G is ``NN((G - mean) / std) / E_scaling + E_shift + atomic_energies[species]``.

    Args:
        central_species: Symbol of the atoms it describes.
        species: All species in the descriptor's order, which defines their weights.
        layers: (W, b) from the first hidden layer to the output node, float64.
        activations: One name a layer, the last one ``linear``; see ``ACTIVATION_CODES``.
        rad_order, rad_cutoff, ang_order, ang_cutoff, min_cutoff: The Chebyshev descriptor; Å.
        feature_mean, feature_std: The normaliser used in training, (n_features,).
        feature_min, feature_max: Range seen in training, (n_features,). Information only; None if unknown.
        normalize_features: False where the network takes raw features; mean and std are then unused.
        E_scaling: 1/eV. E_shift: eV/atom. 1 and 0 where energies were not normalised.
        atomic_energies: Reference energy per species, eV; a missing species counts as zero.
        total_atoms, n_structures, E_min, E_max, E_avg: Of the training set, eV/atom. Information only.
        description, training_set: Become one word each in a file.
        feature_second_moment: The mean of G² as a file gave it. None: std² + mean².

    Raises:
        ExportError: A shape does not fit, a value is not finite, or a species or activation is unknown.
    """

    central_species: str
    species: tuple[str, ...]
    layers: tuple[tuple[FloatArray, FloatArray], ...]
    activations: tuple[str, ...]
    rad_order: int
    rad_cutoff: float
    ang_order: int
    ang_cutoff: float
    min_cutoff: float = 0.55
    feature_mean: FloatArray
    feature_std: FloatArray
    feature_min: FloatArray | None = None
    feature_max: FloatArray | None = None
    normalize_features: bool = True
    E_scaling: float = 1.0
    E_shift: float = 0.0
    atomic_energies: Mapping[str, float] = field(default_factory=dict)
    total_atoms: int = 0
    n_structures: int = 0
    E_min: float = 0.0
    E_max: float = 0.0
    E_avg: float = 0.0
    description: str = "aenet_ray"
    training_set: str = "aenet_ray"
    feature_second_moment: FloatArray | None = None

    def __post_init__(self) -> None:
        self._set("species", tuple(self.species))
        self._set("activations", tuple(name.lower() for name in self.activations))
        self._set("layers", tuple((_floats(weight), _floats(bias)) for weight, bias in self.layers))
        self._set("atomic_energies", dict(self.atomic_energies))
        for name in ("mean", "std", "min", "max", "second_moment"):
            value = getattr(self, f"feature_{name}")
            self._set(f"feature_{name}", None if value is None else _floats(value))
        self._check_species()
        self._check_layers()
        self._check_features()
        self._check_numbers()

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _fail(self, message: str) -> None:
        raise ExportError(f"potential of {self.central_species}: {message}.")

    @property
    def n_features(self) -> int:
        """Length of the feature vector that the descriptor's orders and species give."""
        return (self.rad_order + self.ang_order + 2) * (2 if len(self.species) > 1 else 1)

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Nodes of every layer, input and output included."""
        return (self.layers[0][0].shape[1], *(weight.shape[0] for weight, _ in self.layers))

    def second_moment(self) -> FloatArray:
        """The files' "covariance": the mean of G², (n_features,)."""
        if not self.normalize_features:
            return np.ones(self.n_features)
        if self.feature_second_moment is not None:
            return self.feature_second_moment
        return self.feature_std**2 + self.feature_mean**2

    def normalizer(self) -> tuple[FloatArray, FloatArray]:
        """Shift and factor of ``G' = (G - shift) * factor``, (n_features,) each.

        A factor is zero where ænet switches a feature off.
        """
        if not self.normalize_features:
            return np.zeros(self.n_features), np.ones(self.n_features)
        used = self.feature_std > SMALLEST_SPREAD
        factor = np.divide(1.0, self.feature_std, out=np.zeros(self.n_features), where=used)
        return self.feature_mean, factor

    def stored_form(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """First layer's W and b with the feature average and second moment that belong to them.

        Readers recover std from ``second moment - average²``. For a feature that is all but constant
        this difference is rounding noise: such a feature gets the average 0, where nothing cancels,
        and its mean moves into the biases. The network's output stays the same.
        """
        weight, bias = self.layers[0]
        if not self.normalize_features:
            return weight, bias, np.zeros(self.n_features), self.second_moment()
        average, moment = self.feature_mean, self.second_moment()
        if self.feature_second_moment is None:
            moved = self.feature_mean**2 > LARGEST_RATIO * self.feature_std**2
            if moved.any():
                bias = bias - weight[:, moved] @ (self.feature_mean[moved] / self.feature_std[moved])
                average = np.where(moved, 0.0, average)
                moment = np.where(moved, self.feature_std**2, moment)
        return weight, bias, average, moment

    def _check_species(self) -> None:
        bad = [s for s in self.species if not (0 < len(s) <= 2 and s.isascii() and s.isalpha())]
        if bad or not self.species or len(set(self.species)) != len(self.species):
            self._fail(f"species are {list(self.species)}, expected different chemical symbols")
        if self.central_species not in self.species:
            self._fail(f"it is not among the descriptor's species {list(self.species)}")

    def _check_layers(self) -> None:
        unknown = sorted(set(self.activations) - set(ACTIVATION_CODES))
        if unknown:
            self._fail(f"unknown activations {unknown}, expected some of {list(ACTIVATION_CODES)}")
        if not self.layers or len(self.activations) != len(self.layers):
            self._fail(f"{len(self.activations)} activations for {len(self.layers)} layers")
        if self.activations[-1] != "linear":
            self._fail(f"the output layer's activation is {self.activations[-1]!r}, expected 'linear'")
        n_in = self.n_features
        for k, (weight, bias) in enumerate(self.layers, start=1):
            n_out = 1 if k == len(self.layers) else len(bias)
            if weight.shape != (n_out, n_in) or bias.shape != (n_out,):
                self._fail(
                    f"layer {k} has weights {weight.shape} and biases {bias.shape}, "
                    f"expected ({n_out}, {n_in}) and ({n_out},)"
                )
            if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
                self._fail(f"layer {k} has weights that are not finite")
            n_in = n_out

    def _check_features(self) -> None:
        for name in ("mean", "std", "min", "max", "second_moment"):
            value = getattr(self, f"feature_{name}")
            if value is None:
                continue
            if value.shape != (self.n_features,):
                self._fail(f"feature_{name} has shape {value.shape}, expected ({self.n_features},)")
            if not np.isfinite(value).all():
                self._fail(f"feature_{name} has values that are not finite")
        lowest = 0.0 if self.feature_second_moment is not None else SMALLEST_SPREAD
        if self.normalize_features and (self.feature_std < lowest).any():
            self._fail(f"feature_std goes down to {self.feature_std.min()}, expected more than {lowest}")

    def _check_numbers(self) -> None:
        if self.rad_order < 0 or self.ang_order < 0:
            self._fail(f"orders are {self.rad_order} and {self.ang_order}, expected 0 or more")
        if not (0 < self.rad_cutoff < np.inf and 0 < self.ang_cutoff < np.inf):
            self._fail(f"cutoffs are {self.rad_cutoff} and {self.ang_cutoff} Å, expected more than 0")
        names = ("min_cutoff", "E_scaling", "E_shift", "E_min", "E_max", "E_avg")
        numbers = {name: getattr(self, name) for name in names}
        numbers |= {f"atomic_energies[{s}]": value for s, value in self.atomic_energies.items()}
        bad = {name: value for name, value in numbers.items() if not np.isfinite(value)}
        if bad or self.E_scaling == 0.0:
            self._fail(f"{bad or {'E_scaling': 0.0}} cannot be used, expected finite numbers")


def _floats(value: object) -> FloatArray:
    return np.array(value, dtype=np.float64)
