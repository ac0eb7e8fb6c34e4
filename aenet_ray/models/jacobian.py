"""The derivative of every structure's energy with respect to every weight, for second-order training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from aenet_ray.models.network import SpeciesNetworks


@torch.no_grad()
def structure_jacobian(
    net: SpeciesNetworks, x: Tensor, counts: Sequence[int], structure: Tensor, n_structures: int
) -> tuple[Tensor, Tensor]:
    """Atom energies, and the Jacobian of structure energies.

    Args:
        x: Normalised features sorted by species, and by structure within a species, (n_atoms, n_features).
        counts: Rows of each species.
        structure: Structure of each row, (n_atoms,).

    Returns:
        (n_atoms,), and (n_structures, n_parameters) in the order of ``net.parameters()``.
    """
    energies, columns = [], []
    for k, (h, owner) in enumerate(zip(x.split(list(counts)), structure.split(list(counts)), strict=True)):
        tape = []
        for weight, bias, act in net.steps(k):
            z = torch.addmm(bias, h, weight.t())
            y = act.value(z)
            tape.append((weight, act, h, z, y))
            h = y
        energies.append(h)
        by_structure = _Grouping(owner, n_structures)
        d, own = torch.ones_like(h), []
        for weight, act, h, z, y in reversed(tape):
            d = act.pull(d, z, y)
            d_grouped = by_structure(d)
            outer = torch.bmm(d_grouped.transpose(1, 2), by_structure(h))
            own += [d_grouped.sum(1), outer.flatten(1)]
            d = d @ weight
        columns += own[::-1]
    return torch.cat(energies).squeeze(1), torch.cat(columns, dim=1)


class _Grouping:
    """Rows of atoms laid out by structure, (n_structures, most atoms, columns), zeros behind each.

    Sums of outer products over the atoms of each structure are then one batched product; the padding costs less
    than a segment sum of all outer products would.
    """

    def __init__(self, structure: Tensor, n_structures: int) -> None:
        count = torch.bincount(structure, minlength=n_structures)
        first = count.cumsum(0) - count
        self.shape = n_structures, int(count.max()) if n_structures else 0
        self.row = structure * self.shape[1] + torch.arange(len(structure), device=structure.device) - first[structure]

    def __call__(self, values: Tensor) -> Tensor:
        columns = values.shape[1]
        padded = values.new_zeros(self.shape[0] * self.shape[1], columns)
        padded[self.row] = values
        return padded.view(*self.shape, columns)
