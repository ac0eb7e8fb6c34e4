"""What is computed of a range of structures: features, and what training needs beside them."""

from __future__ import annotations

import numpy as np

from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.structures.block import StructureBlock, chunks_by_atoms
from aenet_ray.structures.compositions import count_species
from aenet_ray.structures.structure import FloatArray, IntArray

# An atom has hundreds of edges of 28 bytes: as many atoms as keep them within a processor's cache.
EDGE_ATOMS = 1024


def structure_moments(features: FloatArray, offsets: IntArray) -> FloatArray:
    """Sum, sum of squares, minimum and maximum over each structure's atoms, (n, 4, n_features)."""
    starts = offsets[:-1]
    return np.stack(
        [
            np.add.reduceat(features, starts),
            np.add.reduceat(features**2, starts),
            np.minimum.reduceat(features, starts),
            np.maximum.reduceat(features, starts),
        ],
        axis=1,
    )


def block_features(block: StructureBlock, descriptor: ChebyshevDescriptor, species: IntArray) -> FloatArray:
    """Features of all atoms, (n_atoms, n_features), with the edges of few atoms in memory at a time."""
    features = np.empty((block.n_atoms, descriptor.n_features))
    for part in chunks_by_atoms(np.diff(block.offsets), EDGE_ATOMS):
        atoms = slice(int(block.offsets[part.start]), int(block.offsets[part.stop]))
        edges = descriptor.edges(block.take(part.start, part.stop))
        features[atoms] = descriptor.features(edges, species[atoms])
    return features


def shard_columns(
    block: StructureBlock, descriptor: ChebyshevDescriptor, dtype: str, features: FloatArray | None = None
) -> dict[str, np.ndarray]:
    """All columns of a shard, features included, which are computed unless they are known."""
    species = descriptor.species_index(block.numbers)
    features = block_features(block, descriptor, species) if features is None else features.astype(np.float64)
    magnitude = np.sqrt(np.einsum("ax,ax->a", block.forces, block.forces))
    return {
        "features": features.astype(dtype),
        "positions": block.positions,
        "species": species.astype(np.int8),
        "forces": block.forces,
        "n_atoms": np.diff(block.offsets).astype(np.int32),
        "cell": block.cell,
        "pbc": block.pbc,
        "energy": block.energy,
        "has_forces": block.has_forces,
        "max_force": np.maximum.reduceat(magnitude, block.offsets[:-1]),
        "composition": count_species(species, block.offsets, len(descriptor.species)).astype(np.int32),
        "moments": structure_moments(features, block.offsets),
    }
