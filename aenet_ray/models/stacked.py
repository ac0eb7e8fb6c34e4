"""Networks of one architecture evaluated together: weights with a leading member axis."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from aenet_ray.models.network import SpeciesNetworks


class StackedNetworks:
    """A batched matrix product a layer in place of one a member: for small networks the calls are the cost.

    Args:
        nets: Of one architecture, on one device, in one precision.
    """

    def __init__(self, nets: Sequence[SpeciesNetworks]) -> None:
        self.layers = [
            [
                (
                    torch.stack([w for w, _, _ in layer]).detach(),
                    torch.stack([b for _, b, _ in layer]).detach(),
                    layer[0][2],
                )
                for layer in zip(*(net.steps(k) for net in nets), strict=True)
            ]
            for k in range(len(nets[0].species))
        ]

    def energies(self, x: Tensor, counts: Sequence[int]) -> Tensor:
        """Atom energies of every member, (n_members, n_atoms), in the units of the networks.

        Args:
            x: Normalised features sorted by species, (n_members, n_atoms, n_features); members may share memory.
            counts: Rows of each species.
        """
        parts = []
        for layers, h in zip(self.layers, torch.split(x, list(counts), dim=1), strict=True):
            for weight, bias, act in layers:
                h = act.value(torch.baddbmm(bias.unsqueeze(1), h, weight.transpose(1, 2)))
            parts.append(h)
        return torch.cat(parts, dim=1).squeeze(2)
