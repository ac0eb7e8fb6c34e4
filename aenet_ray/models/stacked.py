"""Networks of one architecture evaluated and trained together: weights with a leading member axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from aenet_ray.models.network import Activation, SpeciesNetworks

Layer = tuple[Tensor, Tensor, Activation]
"""Weights (n_members, n_out, n_in), biases (n_members, n_out), activation."""


class StackedNetworks:
    """A batched matrix product a layer in place of one a member: for small networks the calls are the cost.

    Args:
        layers: Of each species.
    """

    def __init__(self, layers: Sequence[Sequence[Layer]]) -> None:
        self.layers = layers

    @classmethod
    def of(cls, nets: Sequence[SpeciesNetworks]) -> StackedNetworks:
        """Copies of networks of one architecture, on one device, in one precision."""
        return cls(
            [
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
        )

    @classmethod
    def in_tables(cls, net: SpeciesNetworks, values: Tensor, gradients: Tensor) -> StackedNetworks:
        """Networks to train: views of two tables, (n_members, n_parameters), columns in the order of ``parameters()``.

        Args:
            net: Of their architecture.
            values, gradients: Of the parameters; ``gradients`` are the ``grad`` of the views.
        """
        start, place = 0, {}
        for p in net.parameters():
            place[id(p)] = slice(start, start := start + p.numel())

        def leaf(p: Tensor) -> Tensor:
            columns = place[id(p)]
            view = values[:, columns].unflatten(1, p.shape).detach().requires_grad_()
            view.grad = gradients[:, columns].unflatten(1, p.shape)
            return view

        return cls([[(leaf(w), leaf(b), act) for w, b, act in net.steps(k)] for k in range(len(net.species))])

    def leaves(self) -> list[Tensor]:
        """All weights and biases."""
        return [p for layers in self.layers for weight, bias, _ in layers for p in (weight, bias)]

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

    @torch.no_grad()
    def with_gradient(self, x: Tensor, counts: Sequence[int]) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Atom energies, (n_members, n_atoms), and what gives their derivatives by the inputs, float64, as ``x``.

        Without autograd, whose records cost as much as the products. The derivatives are multiplied by the factors
        that the function is called with, (n_members, n_features), float64: scales of the features, for nothing.
        """
        tapes, energies = [], []
        for layers, h in zip(self.layers, torch.split(x, list(counts), dim=1), strict=True):
            tape = []
            for weight, bias, act in layers:
                z = torch.baddbmm(bias.unsqueeze(1), h, weight.transpose(1, 2))
                h = act.value(z)
                tape.append((weight, act, z, h))
            tapes.append(tape)
            energies.append(h)

        @torch.no_grad()
        def gradient(factors: Tensor) -> Tensor:
            parts = []
            for tape, h in zip(tapes, energies, strict=True):
                d = torch.ones_like(h)
                for weight, act, z, y in reversed(tape[1:]):
                    d = torch.bmm(act.pull(d, z, y), weight)
                weight, act, z, y = tape[0]
                parts.append(torch.bmm(act.pull(d, z, y).double(), weight.double() * factors.unsqueeze(1)))
            return torch.cat(parts, dim=1)

        return torch.cat(energies, dim=1).squeeze(2), gradient

    @torch.no_grad()
    def with_pullback(self, x: Tensor, counts: Sequence[int]) -> tuple[Tensor, Callable[[Tensor], None]]:
        """Atom energies, and what adds the gradient of Σ_a d_a e_a of every member to its row, given d (as energies).

        As ``SpeciesNetworks.forward_with_pullback``.
        """
        tapes, parts = [], []
        for layers, h in zip(self.layers, torch.split(x, list(counts), dim=1), strict=True):
            tape = []
            for weight, bias, act in layers:
                z = torch.baddbmm(bias.unsqueeze(1), h, weight.transpose(1, 2))
                y = act.value(z)
                tape.append((weight, bias, act, h, z, y))
                h = y
            tapes.append(tape)
            parts.append(h)

        @torch.no_grad()
        def pullback(d: Tensor) -> None:
            for tape, part in zip(tapes, torch.split(d.unsqueeze(2), list(counts), dim=1), strict=True):
                for weight, bias, act, h, z, y in reversed(tape):
                    part = act.pull(part, z, y)
                    assert weight.grad is not None, "in_tables makes the gradients"
                    assert bias.grad is not None
                    weight.grad.baddbmm_(part.transpose(1, 2), h)
                    bias.grad.add_(part.sum(1))
                    if h is not tape[0][3]:
                        part = torch.bmm(part, weight)

        return torch.cat(parts, dim=1).squeeze(2), pullback
