"""Blocks of structures: what of one depends on geometry alone, and what networks say about it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.descriptors.neighbors import Edges
from aenet_ray.descriptors.several import FEW, LANES, vjp_in_lanes
from aenet_ray.errors import StructureError
from aenet_ray.models.ann import ANNModel
from aenet_ray.models.lanes import LaneNetworks
from aenet_ray.models.stacked import StackedNetworks
from aenet_ray.structures.block import StructureBlock
from aenet_ray.structures.structure import FloatArray, IntArray

STAGES = ("featurization", "energy_eval", "force_eval", "total")
"""What ``PredictOut.timing`` tells apart."""


@dataclass(slots=True)
class BlockPrediction:
    """Of the structures of one block.

    Args:
        energy: Total, (n,), eV; cohesive: less the atomic energies, (n,), eV.
        atom_energies: Sum to ``energy``, (n_atoms,), eV.
        forces: (n_atoms, 3), eV/Å, or None.
        stress: (n, 3, 3), eV/Å³, positive under tension, NaN without a three-dimensional cell, or None.
    """

    energy: FloatArray
    cohesive: FloatArray
    atom_energies: FloatArray
    forces: FloatArray | None = None
    stress: FloatArray | None = None
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DescribedBlock:
    """What of a block depends on geometry alone: made once, whatever the number of networks.

    Args:
        edges: None where neither forces nor stress will be asked for.
        species: Index of each atom, (n_atoms,).
        features: Not normalised, (n_atoms, n_features).
        order: Atoms sorted by species, (n_atoms,); counts: of each species.
        seconds: What it took.
    """

    block: StructureBlock
    edges: Edges | None
    species: IntArray
    features: FloatArray
    order: IntArray
    counts: list[int]
    seconds: float

    @classmethod
    def of(
        cls,
        descriptor: ChebyshevDescriptor,
        block: StructureBlock,
        known: FloatArray | None = None,
        *,
        only: bool = False,
    ) -> DescribedBlock:
        """
        Args:
            known: Features, where they were made before.
            only: Nothing but features is needed.

        Raises:
        DescriptorError: A species the descriptor does not know.
        StructureError: A structure has no atoms.
        """
        start = time.perf_counter()
        if (np.diff(block.offsets) == 0).any():
            raise StructureError("a structure without atoms cannot be predicted; leave it out.")
        species = descriptor.species_index(block.numbers)
        edges = None if only and known is not None else descriptor.edges(block)
        features = descriptor.features(edges, species) if known is None and edges is not None else known
        assert features is not None
        features = features.astype(np.float64, copy=False)
        order = np.argsort(species, kind="stable")
        counts = np.bincount(species, minlength=len(descriptor.species)).tolist()
        return cls(block, edges, species, features, order, counts, time.perf_counter() - start)


def predict_block(
    model: ANNModel, block: StructureBlock, *, forces: bool = False, stress: bool = False
) -> BlockPrediction:
    """Evaluate the potential on a block.

    Raises:
        DescriptorError: A species the descriptor does not know.
        StructureError: A structure has no atoms.
    """
    return Evaluator([model])(DescribedBlock.of(model.descriptor, block), forces=forces, stress=stress)[0]


class Evaluator:
    """Evaluates potentials of one architecture together, with the weights they have now.

    Args:
        models: On one descriptor.
    """

    def __init__(self, models: Sequence[ANNModel]) -> None:
        self.models = models
        few = len(models) <= FEW or models[0].descriptor.backend == "torch"
        compiled = all(m.dtype == torch.float64 and m.device.type == "cpu" for m in models)
        self._networks: _Networks = _Stacked(models) if few or not compiled else _InLanes(models)

    def __reduce__(self) -> tuple[Any, ...]:
        """Actors make their own of the models: activations cannot travel."""
        return Evaluator, (self.models,)

    def __call__(
        self, described: DescribedBlock, *, forces: bool = False, stress: bool = False
    ) -> list[BlockPrediction]:
        """Of each model."""
        times, block = [time.perf_counter()], described.block
        wanted = forces or stress
        normalized, slopes = self._networks.energies(described, gradient=wanted)
        results = [_energies(m, block, described.species, e) for m, e in zip(self.models, normalized, strict=True)]
        times.append(time.perf_counter())
        if wanted and described.edges is not None:
            dedr, virial = self._networks.vjp(described, described.edges, slopes, block.offsets if stress else None)
            forces_of_all = np.negative(dedr, order="C")
            for k, result in enumerate(results):
                result.forces = forces_of_all[k]
                result.stress = None if virial is None else _stress(virial[k], block)
        times.append(time.perf_counter())
        # What is done once for all stands in the first one's account.
        seconds = [described.seconds, *np.diff(times).tolist()]
        for result in results:
            result.seconds = dict(zip(STAGES, seconds, strict=False))
            seconds = [0.0] * 3
        return results


class _Networks(Protocol):
    def energies(self, described: DescribedBlock, *, gradient: bool) -> tuple[FloatArray, Any]:
        """Atom energies in the units of the networks, (n_models, n_atoms), and what ``vjp`` needs."""

    def vjp(
        self, described: DescribedBlock, edges: Edges, slopes: Any, offsets: IntArray | None
    ) -> tuple[FloatArray, FloatArray | None]:
        """dE/dr, (n_models, n_atoms, 3), and virials, (n_models, n_structures, 3, 3), where offsets are given."""


class _Stacked:
    """By torch, on any device; a model alone gets the very bits that it gets with few others."""

    def __init__(self, models: Sequence[ANNModel]) -> None:
        self.models, self.nets = models, StackedNetworks.of([m.net for m in models])
        n_features = models[0].descriptor.n_features
        scalings = [m.normalization.scale_and_offset(n_features) for m in models]
        alike = all(np.array_equal(a, b) for s in scalings[1:] for a, b in zip(s, scalings[0], strict=True))
        self.scalings = scalings[:1] if alike else scalings
        scales = [s / m.normalization.E_scaling for (s, _), m in zip(scalings, models, strict=True)]
        self.factors = torch.from_numpy(np.array(scales)).to(models[0].device)

    def energies(self, described: DescribedBlock, *, gradient: bool) -> tuple[FloatArray, Any]:
        raw, first = described.features[described.order], self.models[0]
        x = torch.from_numpy(np.stack([(raw - offset) * scale for scale, offset in self.scalings]))
        x = x.to(first.device, first.dtype).expand(len(self.models), -1, -1)
        slopes = None
        if gradient:
            output, slopes = self.nets.with_gradient(x, described.counts)
        else:  # without what gradients would be made from, whose memory costs time
            with torch.no_grad():
                output = self.nets.energies(x, described.counts)
        normalized = np.empty((len(self.models), len(raw)))
        normalized[:, described.order] = output.double().cpu().numpy()
        return normalized, slopes

    def vjp(
        self, described: DescribedBlock, edges: Edges, slopes: Any, offsets: IntArray | None
    ) -> tuple[FloatArray, FloatArray | None]:
        place = np.empty_like(described.order)
        place[described.order] = np.arange(len(place))
        g = slopes(self.factors).cpu().index_select(1, torch.from_numpy(place)).numpy()
        return self.models[0].descriptor.vjp(edges, described.species, g, structure_offsets=offsets)


class _InLanes:
    """By compiled code, eight models at a time."""

    def __init__(self, models: Sequence[ANNModel]) -> None:
        self.descriptor = models[0].descriptor
        self.groups = [LaneNetworks(models[k : k + LANES]) for k in range(0, len(models), LANES)]

    def energies(self, described: DescribedBlock, *, gradient: bool) -> tuple[FloatArray, Any]:
        given = described.features, described.order, described.counts
        found = [group(*given, gradient=gradient) for group in self.groups]
        return np.concatenate([energies for energies, _ in found]), [slopes for _, slopes in found]

    def vjp(
        self, described: DescribedBlock, edges: Edges, slopes: Any, offsets: IntArray | None
    ) -> tuple[FloatArray, FloatArray | None]:
        pairs = [
            vjp_in_lanes(self.descriptor, edges, described.species, g, group.n_models, offsets)
            for g, group in zip(slopes, self.groups, strict=True)
        ]
        virials = [virial for _, virial in pairs if virial is not None]
        return np.concatenate([dedr for dedr, _ in pairs]), np.concatenate(virials) if virials else None


def _energies(model: ANNModel, block: StructureBlock, species: IntArray, normalized: FloatArray) -> BlockPrediction:
    norm = model.normalization
    atom_cohesive = normalized / norm.E_scaling + norm.E_shift
    cohesive = np.add.reduceat(atom_cohesive, block.offsets[:-1]) if block.n_atoms else np.empty(0)
    atom_energies = atom_cohesive + model.references[species]
    energy = np.add.reduceat(atom_energies, block.offsets[:-1]) if block.n_atoms else np.empty(0)
    return BlockPrediction(energy, cohesive, atom_energies)


def _stress(virial: FloatArray, block: StructureBlock) -> FloatArray:
    """Virial over volume where the structure is periodic in all directions, else NaN."""
    volume = np.abs(np.linalg.det(block.cell))
    periodic = np.asarray(block.pbc.all(axis=1))
    return np.where(periodic[:, None, None], virial / np.where(periodic, volume, 1.0)[:, None, None], np.nan)
