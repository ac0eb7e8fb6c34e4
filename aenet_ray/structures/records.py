"""Structures on their way into a store: a flat block, presence flags, and where each came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aenet_ray.structures.block import StructureBlock
from aenet_ray.structures.structure import IntArray, Structure

LABELS = ("energy", "forces", "stress", "charges", "charge", "multiplicity")
"""Labels a structure may have; the position is the bit in the ``labels`` column."""


@dataclass(slots=True)
class Records:
    """n structures as columns: cheap to send between processes and to append to a store.

    Args:
        block: Geometry and labels of the n structures.
        labels: Bit k set where ``LABELS[k]`` is present, (n,), uint8.
        names, sources, fidelities: Of each structure; None where unnamed.
        frames: Frame of each structure in its source, (n,).
    """

    block: StructureBlock
    labels: NDArray[np.uint8]
    names: list[str | None]
    sources: list[str]
    frames: IntArray
    fidelities: list[str | None]

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def from_structures(cls, structures: Sequence[Structure]) -> Records:
        return cls(
            block=StructureBlock.from_structures(structures),
            labels=np.array([label_bits(s) for s in structures], dtype=np.uint8),
            names=[s.name for s in structures],
            sources=[s.source for s in structures],
            frames=np.array([s.frame for s in structures], dtype=np.int64),
            fidelities=[s.fidelity for s in structures],
        )

    @classmethod
    def from_block(cls, block: StructureBlock) -> Records:
        """Unnamed records of a block; an optional label counts where it is not NaN."""
        n = block.n_structures
        labels = np.zeros(n, dtype=np.uint8)
        for bit, label in enumerate(LABELS):
            labels |= _present(block, label).astype(np.uint8) << np.uint8(bit)
        return cls(block, labels, [None] * n, ["<memory>"] * n, np.zeros(n, dtype=np.int64), [None] * n)

    def select(self, indices: Sequence[int]) -> Records:
        """Structures by index, copied."""
        return Records(
            block=self.block.select(indices),
            labels=self.labels[indices],
            names=[self.names[i] for i in indices],
            sources=[self.sources[i] for i in indices],
            frames=self.frames[indices],
            fidelities=[self.fidelities[i] for i in indices],
        )

    def has(self, label: str) -> NDArray[np.bool_]:
        """Whether each structure has the label, (n,)."""
        return has_label(self.labels, label)

    def where(self, i: int, first: int = 0) -> str:
        """Structure i, for messages; those from memory are counted from ``first``."""
        if self.sources[i] == "<memory>":
            return f"<memory>, structure {first + i}"
        return f"{self.sources[i]}, frame {self.frames[i]}"


def _present(block: StructureBlock, label: str) -> NDArray[np.bool_]:
    if label in ("energy", "forces"):
        return block.has_energy if label == "energy" else block.has_forces
    values = getattr(block, label)
    if values is None:
        return np.zeros(block.n_structures, dtype=bool)
    if label == "charges":
        missing = np.concatenate([[0], np.cumsum(np.isnan(values))])[block.offsets]
        return np.diff(missing) < np.diff(block.offsets)
    return ~np.all(np.isnan(values.reshape(len(values), -1)), axis=1)


def label_bits(structure: Structure) -> int:
    return sum(1 << bit for bit, label in enumerate(LABELS) if getattr(structure, label) is not None)


def has_label(bits: NDArray[np.uint8], label: str) -> NDArray[np.bool_]:
    return (bits >> np.uint8(LABELS.index(label)) & np.uint8(1)).astype(bool)
