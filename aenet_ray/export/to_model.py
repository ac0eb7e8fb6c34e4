"""The model that ænet's potential files describe."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.errors import ExportError
from aenet_ray.export.shared_scaling import with_shared_scaling
from aenet_ray.export.species_potential import FloatArray, SpeciesPotential
from aenet_ray.models.ann import ANNModel
from aenet_ray.models.normalization import Normalization


def model_of(
    potentials: Mapping[str, SpeciesPotential], device: str = "cpu", *, allow_longer_angular_cutoff: bool = False
) -> ANNModel:
    """Networks, descriptor and scaling of one potential, float64.

    Args:
        potentials: Of every species, as ``read_potential_files`` returns them.
        allow_longer_angular_cutoff: Read files whose angular cutoff is longer than the radial one, which ænet itself
            evaluates with wrong weights: energies here are then not those of ænet.

    Raises:
        ExportError: Such cutoffs, and this was not allowed.
        DescriptorError: Parameters of the descriptor make no sense.
    """
    shared = with_shared_scaling(potentials)
    p = next(iter(shared.values()))
    if p.ang_cutoff > p.rad_cutoff and not allow_longer_angular_cutoff:
        raise ExportError(
            f"potential of {p.central_species}: the angular cutoff of {p.ang_cutoff} Å is longer than the radial one "
            f"of {p.rad_cutoff} Å. ænet weights angular neighbours beyond the radial cutoff wrongly, so that its "
            "energies are other ones: pass allow_longer_angular_cutoff=True to read it all the same."
        )
    descriptor = ChebyshevDescriptor(
        list(p.species), p.rad_order, p.rad_cutoff, p.ang_order, p.ang_cutoff, p.min_cutoff, device=device
    )
    networks = {s: _with_hidden(q) for s, q in shared.items()}
    model = ANNModel({s: arch for s, (arch, _) in networks.items()}, descriptor, torch.float64)
    with torch.no_grad():
        for species, (_, layers) in networks.items():
            for (weight, bias), (w, b) in zip(model.net.layers(species), layers, strict=True):
                weight.copy_(torch.from_numpy(w))
                bias.copy_(torch.from_numpy(b))
    model.normalization = Normalization(
        E_shift=p.E_shift,
        E_scaling=p.E_scaling,
        feature_mean=p.feature_mean if p.normalize_features else None,
        feature_std=p.feature_std if p.normalize_features else None,
        feature_min=p.feature_min,
        feature_max=p.feature_max,
        normalize_energy=(p.E_scaling, p.E_shift) != (1.0, 0.0),
    )
    model.atomic_energies = dict(p.atomic_energies)
    return model.to(descriptor.device)


def _with_hidden(p: SpeciesPotential) -> tuple[list[tuple[int, str]], list[tuple[FloatArray, FloatArray]]]:
    """Hidden layers and (W, b) of all layers; a network without hidden layers gets a linear node, which changes
    nothing."""
    layers, names = list(p.layers), list(p.activations[:-1])
    if not names:
        layers, names = [*layers, (np.ones((1, 1)), np.zeros(1))], ["linear"]
    return [(len(bias), name) for (_, bias), name in zip(layers, names, strict=False)], layers
