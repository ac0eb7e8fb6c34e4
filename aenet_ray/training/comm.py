"""Sums over workers: one process, or a torch.distributed group."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch.distributed as dist
from torch import Tensor


class Comm(ABC):
    """The only collective that training needs, and who we are."""

    rank: int = 0
    size: int = 1

    @abstractmethod
    def sum_(self, values: Tensor) -> Tensor:
        """Sum in place over all workers; every worker must call it."""


@final
class Solo(Comm):
    """One process: sums are what they are."""

    def sum_(self, values: Tensor) -> Tensor:
        return values


@final
class Group(Comm):
    """The default torch.distributed group."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def sum_(self, values: Tensor) -> Tensor:
        dist.all_reduce(values)
        return values
