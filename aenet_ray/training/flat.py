"""All parameters of a module as one vector: one optimiser tensor, one message between workers."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FlatParameters:
    """Makes a module's parameters and gradients views of two flat buffers.

    Networks of 10³ to 10⁵ weights in a dozen small tensors spend their optimiser step and their all-reduce
    on overhead; as one tensor both cost next to nothing.

    Args:
        module: Its parameters must share one dtype and device; they stay its own, under their own names.
        n_extra: Numbers that travel behind the gradient in the same message.
    """

    def __init__(self, module: nn.Module, n_extra: int = 0) -> None:
        self._parameters = list(module.parameters())
        values = torch.cat([p.detach().reshape(-1) for p in self._parameters])
        self.vector = nn.Parameter(values)
        self.live_in(values, torch.zeros(len(values) + n_extra, dtype=values.dtype, device=values.device))

    def live_in(self, vector: Tensor, message: Tensor) -> None:
        """Keep the values in ``vector``, which has them already, and the message in ``message``; rows of tables, say.

        Parameters and ``self.vector`` stay the objects they are: optimisers need not know.
        """
        n = len(vector)
        self.vector.data = vector
        self.message, self.gradient, self.extra = message, message[:n], message[n:]
        self.vector.grad = self.gradient
        start = 0
        for p in self._parameters:
            stop = start + p.numel()
            p.data = vector[start:stop].view(p.shape)
            p.grad = self.gradient[start:stop].view(p.shape)
            start = stop

    def zero_grad(self) -> None:
        self.message.zero_()

    def scale_gradient(self, factor: float) -> Tensor:
        return self.gradient.mul_(factor)

    def clip(self, longest: float) -> None:
        """Shorten the gradient to this 2-norm where it is longer; one that is not finite stays so."""
        norm = self.gradient.norm()
        self.gradient.mul_(torch.clamp(longest / norm, max=1.0))
