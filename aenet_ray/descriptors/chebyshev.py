"""The Artrith-Urban-Ceder Chebyshev descriptor."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import ArrayLike
from torch import Tensor

from aenet_ray.config import known_arguments
from aenet_ray.descriptors import cluster_search, operators
from aenet_ray.descriptors.coefficients import angular_tables, powers_to_features, typespin
from aenet_ray.descriptors.feature_kernel import features_kernel
from aenet_ray.descriptors.neighbors import Edges, find_neighbors, read_only
from aenet_ray.descriptors.parameters import (
    as_tensor,
    checked_device,
    checked_length,
    checked_offsets,
    checked_order,
    checked_rows,
    checked_species,
    chosen_backend,
)
from aenet_ray.descriptors.several import FEW, jvp_of_each, vjp_of_each
from aenet_ray.descriptors.tangent_kernel import jvp_kernel
from aenet_ray.descriptors.torch_backend import BasisSettings
from aenet_ray.errors import DescriptorError, UnknownSpeciesError
from aenet_ray.structures.structure import FloatArray, IntArray

if TYPE_CHECKING:
    from aenet_ray.structures.block import StructureBlock

NUMERIC_VERSION = 1  # raised when the same parameters would give other numbers, beyond rounding


class ChebyshevDescriptor:
    """Radial and angular Chebyshev features of every atom, plain and weighted by neighbour species.

    One row has [RAD_0.., ANG_0..] and, for more than one species, [RADW_0.., ANGW_0..] after it. Cost is
    linear in the number of neighbours; no triplets and no Jacobian are stored.

    Args:
        species: Chemical symbols. Their order fixes the species weights and is never changed.
        rad_order: Highest radial order, >= 0.
        rad_cutoff: Radial cutoff, Å.
        ang_order: Highest angular order, >= 0.
        ang_cutoff: Angular cutoff, Å; may exceed the radial one.
        min_cutoff: Pairs at this distance or nearer are ignored, Å.
        device: Where features are computed by torch.
        dtype: Type of the tensors returned, torch.float64 or torch.float32. The compiled kernel always
            sums in float64.
        backend: 'compiled' (CPU kernel), 'torch' (any device), or 'auto': compiled on the CPU, torch elsewhere.

    Raises:
        DescriptorError: A parameter is not allowed.

    Source:
        Artrith, Urban, Ceder, Phys. Rev. B 96, 014112 (2017).
    """

    @known_arguments()
    def __init__(
        self,
        species: Sequence[str],
        rad_order: int,
        rad_cutoff: float,
        ang_order: int,
        ang_cutoff: float,
        min_cutoff: float = 0.55,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float64,
        *,
        backend: str = "auto",
    ) -> None:
        self.species = checked_species(species)
        self.rad_order = checked_order("rad_order", rad_order)
        self.rad_cutoff = checked_length("rad_cutoff", rad_cutoff, positive=True)
        self.ang_order = checked_order("ang_order", ang_order)
        self.ang_cutoff = checked_length("ang_cutoff", ang_cutoff, positive=True)
        self.min_cutoff = checked_length("min_cutoff", min_cutoff, positive=False)
        if self.min_cutoff >= self.max_cutoff:
            raise DescriptorError(
                f"min_cutoff is {self.min_cutoff} Å, expected less than the larger cutoff, {self.max_cutoff} Å."
            )
        self.device = checked_device(device)
        if dtype not in (torch.float32, torch.float64):
            raise DescriptorError(f"dtype is {dtype}, expected torch.float32 or torch.float64.")
        self.dtype = dtype
        self.requested_backend = backend
        self.backend = chosen_backend(backend, self.device)
        self.species_to_idx = {s: i for i, s in enumerate(self.species)}
        self.typespin = typespin(len(self.species))
        self.multi = len(self.species) > 1

    @property
    def max_cutoff(self) -> float:
        """The larger of the two cutoffs: how far neighbours are searched, Å."""
        return max(self.rad_cutoff, self.ang_cutoff)

    @property
    def n_features(self) -> int:
        return (2 if self.multi else 1) * (self.rad_order + self.ang_order + 2)

    def get_n_features(self) -> int:
        """Number of features of an atom."""
        return self.n_features

    def config(self) -> dict[str, Any]:
        """Parameters as plain values, for ``from_config``."""
        return {
            "species": list(self.species),
            "rad_order": self.rad_order,
            "rad_cutoff": self.rad_cutoff,
            "ang_order": self.ang_order,
            "ang_cutoff": self.ang_cutoff,
            "min_cutoff": self.min_cutoff,
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            "backend": self.requested_backend,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ChebyshevDescriptor:
        """The descriptor of ``config()``."""
        values = dict(config)
        name = values.pop("dtype", "float64")
        if name not in ("float32", "float64"):
            raise DescriptorError(f"dtype is {name!r}, expected 'float32' or 'float64'.")
        try:
            return cls(dtype=getattr(torch, name), **values)
        except TypeError as error:
            raise DescriptorError(f"Descriptor configuration {config}: {error}.") from None

    def __getstate__(self) -> dict[str, Any]:
        # Without the tables: copied arrays may be written to, which to numba is another type, compiled anew.
        return {name: value for name, value in self.__dict__.items() if name != "_tables"}

    def fingerprint(self) -> str:
        """Hash of all that the numbers depend on; not of type, device or backend."""
        values = [self.species, self.rad_order, self.rad_cutoff, self.ang_order, self.ang_cutoff]
        text = json.dumps(["chebyshev", NUMERIC_VERSION, *values, self.min_cutoff])
        return hashlib.sha256(text.encode()).hexdigest()

    def species_index(self, numbers: ArrayLike) -> IntArray:
        """Position in ``species`` of every atomic number, int64, (n_atoms,).

        Raises:
            UnknownSpeciesError: Names the species that the descriptor does not know (a KeyError as well).
        """
        z = np.asarray(numbers, dtype=np.int64)
        if z.size and not (z.min() > 0 and z.max() < len(chemical_symbols)):
            raise DescriptorError(f"Atomic numbers {sorted(set(z.tolist()))}, expected 1 to 118.")
        index = self._index_of_number[z]
        if (index < 0).any():
            unknown = ", ".join(chemical_symbols[k] for k in np.unique(z[index < 0]))
            raise UnknownSpeciesError(
                f"Unknown species {unknown}: the descriptor was made for {', '.join(self.species)}. "
                "Add them to its species list, or leave these structures out."
            )
        return index

    @cached_property
    def _index_of_number(self) -> IntArray:
        table = np.full(len(chemical_symbols), -1, dtype=np.int64)
        for symbol, i in self.species_to_idx.items():
            table[atomic_numbers[symbol]] = i
        return table

    def edges(self, block: StructureBlock) -> Edges:
        """Neighbours of every atom of a block within the larger cutoff."""
        limits = self.max_cutoff, self.min_cutoff
        if self.backend == "torch" and cluster_search.is_available() and not block.pbc.any():
            return cluster_search.radius_neighbors(block.positions, block.offsets, *limits, self.device)
        return find_neighbors(block.positions, block.offsets, block.cell, block.pbc, *limits)

    def features(self, edges: Edges, species_index: IntArray) -> FloatArray:
        """Features of every atom, float64, (n_atoms, F). Releases the GIL on the compiled backend."""
        if self.backend == "torch":
            return operators.torch_features(self, edges, species_index)
        out = np.empty((edges.n_atoms, self.n_features))
        features_kernel(*self.kernel_input(edges, species_index), out)
        return out

    def vjp(
        self, edges: Edges, species_index: IntArray, g: FloatArray, *, structure_offsets: IntArray | None = None
    ) -> tuple[FloatArray, FloatArray | None]:
        """J^T g: derivative of sum(g * features) with respect to positions and, if asked, strain.

        Args:
            edges: Neighbours.
            species_index: (n_atoms,).
            g: Derivative of the energy with respect to the features, (n_atoms, F); or several, (k, n_atoms, F), of
                energies on the same neighbours, which share the work: eight cost about as much as two. Up to two agree
                to the last bit with what each would give alone, more to rounding.
            structure_offsets: First atom of every structure and the end of the last, (n_structures + 1,);
                given, the virial is returned.

        Returns:
            dE/dr, (n_atoms, 3), the negative of the forces; and sum over edges of r_a (dE/dr)_b,
            (n_structures, 3, 3), or None. Divided by the volume the latter is the stress. With a leading axis (k,) if
            g has one.
        """
        one, shape = np.ndim(g) == 2, (edges.n_atoms, self.n_features)
        g = checked_rows("g", g, shape if one else (len(g), *shape))
        many = g[None] if one else g
        if self.backend == "torch":
            pairs = [operators.torch_vjp(self, edges, species_index, each, structure_offsets) for each in many]
            grad = np.stack([gradient for gradient, _ in pairs])
            virial = np.array([v for _, v in pairs if v is not None])
        else:
            offsets, n = checked_offsets(structure_offsets, edges.n_atoms)
            grad, virial = vjp_of_each(self, edges, species_index, many, offsets, n)
        if structure_offsets is None:
            return grad[0] if one else grad, None
        return (grad[0], virial[0]) if one else (grad, virial)

    def jvp(
        self,
        edges: Edges,
        species_index: IntArray,
        v: FloatArray,
        *,
        strain: FloatArray | None = None,
        structure_offsets: IntArray | None = None,
    ) -> FloatArray:
        """J v: change of the features, (n_atoms, F), for positions changing by ``v`` and cells by ``strain``.

        Args:
            edges: Neighbours.
            species_index: (n_atoms,).
            v: Tangents of the positions, (n_atoms, 3); or several, (k, n_atoms, 3), which give (k, n_atoms, F) and
                share the work, as of :meth:`vjp`.
            strain: Tangents of the edges, r_b' = r_b + sum_a r_a strain_ab, (n_structures, 3, 3).
            structure_offsets: Needed with ``strain``, (n_structures + 1,).
        """
        if strain is not None and structure_offsets is None:
            raise DescriptorError("jvp got strain but no structure_offsets; expected both or none.")
        if np.ndim(v) == 3:
            if len(v) > FEW and strain is None and self.backend != "torch":
                return jvp_of_each(self, edges, species_index, v)
            each = [
                self.jvp(edges, species_index, one, strain=strain, structure_offsets=structure_offsets) for one in v
            ]
            return np.stack(each)
        v = checked_rows("v", v, (edges.n_atoms, 3))
        if self.backend == "torch":
            return operators.torch_jvp(self, edges, species_index, v, strain, structure_offsets)
        offsets, n = checked_offsets(structure_offsets if strain is not None else None, edges.n_atoms)
        tensor = checked_rows("strain", np.zeros((n, 3, 3)) if strain is None else strain, (n, 3, 3))
        out = np.empty((edges.n_atoms, self.n_features))
        jvp_kernel(*self.kernel_input(edges, species_index), v, offsets, n > 0, tensor, out)
        return out

    def kernel_input(self, edges: Edges, species_index: IntArray) -> tuple[Any, ...]:
        """What all kernels begin with: neighbours, species weights, orders, cutoffs and tables."""
        species = np.asarray(species_index)
        if species.size and species.min() < 0:
            raise DescriptorError(f"species index {species.min()}, expected 0 to {len(self.species) - 1}.")
        weight = self.typespin[species]
        if len(weight) != edges.n_atoms:
            raise DescriptorError(f"{len(weight)} species indices for {edges.n_atoms} atoms, expected one each.")
        if not edges.ptr[-1] == len(edges.neighbor) == len(edges.vectors):
            sizes = f"{len(edges.neighbor)} neighbours and {len(edges.vectors)} vectors"
            raise DescriptorError(f"Edges have {sizes}, expected {edges.ptr[-1]} of both, as their ptr says.")
        settings = (self.rad_cutoff, self.rad_order, self.ang_cutoff, self.ang_order, *self._tables)
        flat = read_only(edges.ptr, np.int64), read_only(edges.neighbor, np.int32), read_only(edges.vectors, np.float64)
        return (*flat, read_only(weight, np.float64), self.multi, *settings)

    @cached_property
    def _tables(self) -> tuple[FloatArray, FloatArray]:
        """Recurrence, and the map from squared moments to features in rows padded to eight."""
        tables = angular_tables(self.ang_order)
        expand = np.zeros((len(tables.beta), (self.ang_order + 8) // 8 * 8))
        expand[:, : self.ang_order + 1] = powers_to_features(self.ang_order).T
        return read_only(tables.beta, np.float64), read_only(expand, np.float64)

    @cached_property
    def settings(self) -> BasisSettings:
        """The numbers behind the formulas, for the torch backend."""
        orders = (self.rad_order, self.rad_cutoff, self.ang_order, self.ang_cutoff)
        return BasisSettings(*orders, tuple(self.typespin.tolist()), self.multi)

    def forward_from_positions(
        self,
        positions: ArrayLike | Tensor,
        species: Sequence[str],
        cell: ArrayLike | Tensor | None = None,
        pbc: ArrayLike | None = None,
    ) -> Tensor:
        """Features of one structure, (n_atoms, F), in ``dtype`` on ``device``.

        Differentiable in ``positions`` where these are a tensor that requires gradients.

        Args:
            positions: (n_atoms, 3), Å; need not lie inside the cell.
            species: Chemical symbols, (n_atoms,).
            cell: Lattice vectors as rows, (3, 3), Å; None for an isolated structure.
            pbc: Periodic along each lattice vector, (3,); all true where a cell is given.
        """
        tensor = as_tensor(positions)
        edges, index = self._edges_of(tensor, species, cell, pbc)
        return self._from_edges(tensor, edges, index)

    def forward(
        self,
        positions: ArrayLike | Tensor,
        species: Sequence[str],
        neighbor_indices: Sequence[ArrayLike] | None = None,
        neighbor_vectors: Sequence[ArrayLike] | None = None,
        cell: ArrayLike | None = None,
        pbc: ArrayLike | None = None,
    ) -> Tensor:
        """As ``forward_from_positions``, from neighbour lists where these are given.

        Args:
            positions: (n_atoms, 3), Å.
            species: Chemical symbols, (n_atoms,).
            neighbor_indices: Of every atom, the atoms whose images are its neighbours.
            neighbor_vectors: Of every atom, the vectors to them, (n_neighbours, 3), Å.
            cell: Used without lists, (3, 3), Å.
            pbc: Used without lists, (3,).
        """
        if neighbor_indices is None or neighbor_vectors is None:
            return self.forward_from_positions(positions, species, cell, pbc)
        tensor = as_tensor(positions)
        index = self._index_of(species)
        edges = self._edges_from_lists(len(index), neighbor_indices, neighbor_vectors)
        return self._from_edges(tensor, edges, index)

    __call__ = forward_from_positions

    def compute_feature_gradients(
        self,
        positions: ArrayLike | Tensor,
        species: Sequence[str],
        cell: ArrayLike | None = None,
        pbc: ArrayLike | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Features (N, F) and the dense d features[i, f] / d positions[a, x], (N, F, N, 3). For small systems."""
        tensor = as_tensor(positions).detach()
        edges, index = self._edges_of(tensor, species, cell, pbc)
        n = len(index)
        gradient = np.empty((n, self.n_features, n, 3))
        for a in range(n):
            for x in range(3):
                v = np.zeros((n, 3))
                v[a, x] = 1.0
                gradient[:, :, a, x] = self.jvp(edges, index, v)
        return self._tensor(self.features(edges, index)), self._tensor(gradient)

    def _tensor(self, values: FloatArray) -> Tensor:
        return torch.from_numpy(values).to(self.device, self.dtype)

    def _from_edges(self, positions: Tensor, edges: Edges, index: IntArray) -> Tensor:
        if not positions.requires_grad:
            return self._tensor(self.features(edges, index))
        return operators.descriptor_features(self, positions, edges, index).to(self.device, self.dtype)

    def _index_of(self, species: Sequence[str]) -> IntArray:
        unknown = sorted({str(s) for s in species} - set(self.species))
        if unknown:
            raise UnknownSpeciesError(
                f"Unknown species {', '.join(unknown)}: the descriptor was made for {', '.join(self.species)}."
            )
        return np.array([self.species_to_idx[s] for s in species], dtype=np.int64)

    def _edges_of(self, positions: Tensor, species: Sequence[str], cell: Any, pbc: Any) -> tuple[Edges, IntArray]:
        index = self._index_of(species)
        points = positions.detach().cpu().double().numpy()
        if points.shape != (len(index), 3):
            raise DescriptorError(f"positions have shape {points.shape}, expected ({len(index)}, 3).")
        box = np.zeros((3, 3)) if cell is None else as_tensor(cell).detach().cpu().double().numpy()
        flags = np.full(3, cell is not None) if pbc is None else np.asarray(pbc, dtype=bool) & (cell is not None)
        edges = find_neighbors(points, [0, len(index)], box, flags, self.max_cutoff, self.min_cutoff)
        return edges, index

    def _edges_from_lists(self, n_atoms: int, indices: Sequence[ArrayLike], vectors: Sequence[ArrayLike]) -> Edges:
        if len(indices) != n_atoms or len(vectors) != n_atoms:
            raise DescriptorError(
                f"{len(indices)} index and {len(vectors)} vector lists for {n_atoms} atoms, expected one each."
            )
        rows = [np.asarray(v, dtype=np.float64).reshape(-1, 3) for v in vectors]
        distances = [np.sqrt((r**2).sum(1)) for r in rows]
        keep = [(d > self.min_cutoff) & (d <= self.max_cutoff) for d in distances]
        counts = np.array([k.sum() for k in keep], dtype=np.int64)
        neighbor = [np.asarray(j, dtype=np.int32)[k] for j, k in zip(indices, keep, strict=True)]
        flat = np.concatenate([*neighbor, np.empty(0, np.int32)])
        if flat.size and not (flat.min() >= 0 and flat.max() < n_atoms):
            raise DescriptorError(f"Neighbour indices from {flat.min()} to {flat.max()} for {n_atoms} atoms.")
        return Edges(
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            flat,
            np.concatenate([*(r[k] for r, k in zip(rows, keep, strict=True)), np.empty((0, 3))]),
        )

    def __repr__(self) -> str:
        return (
            f"ChebyshevDescriptor({self.species}, rad {self.rad_order} to {self.rad_cutoff} Å, "
            f"ang {self.ang_order} to {self.ang_cutoff} Å, {self.n_features} features, {self.backend})"
        )
