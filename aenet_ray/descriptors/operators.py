"""The descriptor as differentiable torch operations, on the CPU kernel or on torch.

The kernel is linear in what it multiplies, so the backward of J^T g with respect to g is J v, whose backward
is J^T again. Positions are data there; where they need gradients too, second derivatives with respect to them
come from the torch backend, which is slower but exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from aenet_ray.descriptors.neighbors import Edges
from aenet_ray.descriptors.segments import segment_sum
from aenet_ray.descriptors.torch_backend import features_from_edges
from aenet_ray.structures.structure import FloatArray, IntArray

if TYPE_CHECKING:
    from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor


def descriptor_gradient(descriptor: ChebyshevDescriptor, edges: Edges, species_index: IntArray, g: Tensor) -> Tensor:
    """dE/dr = J^T g, (n_atoms, 3) in eV/Å for g in eV; the forces are its negative.

    Args:
        descriptor: Chooses backend and device.
        edges: Neighbours of all atoms.
        species_index: (n_atoms,).
        g: Derivative of the energy with respect to the features, (n_atoms, F), or several of them on the same
            neighbours, (k, n_atoms, F), which give (k, n_atoms, 3). Differentiable any number of times in g.
    """
    problem = _Problem(descriptor, edges, species_index, None)
    if g.ndim == 3 and descriptor.backend == "torch":
        return torch.stack([_gradient(problem, each)[0] for each in g])
    return _gradient(problem, g)[0]


def descriptor_gradient_and_virial(
    descriptor: ChebyshevDescriptor,
    edges: Edges,
    species_index: IntArray,
    g: Tensor,
    structure_offsets: IntArray,
) -> tuple[Tensor, Tensor]:
    """dE/dr as above, and the sum over edges of r_a (dE/dr)_b of each structure, (n_structures, 3, 3), eV.

    The second is the derivative with respect to strain; divided by the volume it is the stress.
    """
    return _gradient(_Problem(descriptor, edges, species_index, np.asarray(structure_offsets)), g)


def descriptor_features(
    descriptor: ChebyshevDescriptor,
    positions: Tensor,
    edges: Edges,
    species_index: IntArray,
    *,
    strain: Tensor | None = None,
    structure_offsets: IntArray | None = None,
) -> Tensor:
    """Features, (n_atoms, F), float64, differentiable in positions and strain.

    Args:
        descriptor: Chooses backend and device.
        positions: (n_atoms, 3), Å; those that ``edges`` were found for.
        edges: Neighbours.
        species_index: (n_atoms,).
        strain: Zeros, (n_structures, 3, 3): a handle for stress, r_b' = r_b + sum_a r_a strain_ab.
        structure_offsets: Needed with ``strain``, (n_structures + 1,).
    """
    offsets = None if strain is None else np.asarray(structure_offsets)
    problem = _Problem(descriptor, edges, species_index, offsets)
    if descriptor.backend == "torch":
        return problem.torch_features(problem.vectors(positions, strain))
    return _Features.apply(positions, strain, problem)


@dataclass(frozen=True)
class _Problem:
    """A descriptor on given edges: what the operations do not differentiate."""

    descriptor: ChebyshevDescriptor
    edges: Edges
    species_index: IntArray
    offsets: IntArray | None

    @property
    def device(self) -> torch.device:
        return self.descriptor.device

    def index(self, values: np.ndarray) -> Tensor:
        return torch.as_tensor(values.astype(np.int64), device=self.device)

    def center(self) -> Tensor:
        return self.index(self.edges.center())

    def structure_of_edge(self) -> Tensor:
        assert self.offsets is not None
        return self.index(np.searchsorted(self.offsets, self.edges.center(), side="right") - 1)

    def constant_vectors(self) -> Tensor:
        return torch.tensor(self.edges.vectors, dtype=self.descriptor.dtype, device=self.device)

    def vectors(self, positions: Tensor | None, strain: Tensor | None) -> Tensor:
        """Edge vectors with their dependence on positions and strain; the values are those of the edges."""
        vectors = self.constant_vectors()
        if positions is not None:
            x = positions.to(vectors)
            moved = x[self.index(self.edges.neighbor)] - x[self.center()]
            vectors = vectors + (moved - moved.detach())
        if strain is not None:
            rows = strain.to(vectors)[self.structure_of_edge()]
            vectors = vectors + (vectors[:, :, None] * rows).sum(1)
        return vectors

    def torch_features(self, vectors: Tensor) -> Tensor:
        d = self.descriptor
        species = self.index(np.asarray(self.species_index)[self.edges.neighbor])
        return features_from_edges(d.settings, vectors, self.center(), species, self.edges.n_atoms)

    def from_edge_gradient(self, vectors: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        """Sum dE/d(edge vector), (n_edges, 3), on atoms and structures."""
        n = self.edges.n_atoms
        grad = segment_sum(q, self.index(self.edges.neighbor), n) - segment_sum(q, self.center(), n)
        if self.offsets is None:
            return grad, q.new_zeros(0, 3, 3)
        pairs = vectors[:, :, None] * q[:, None, :]
        return grad, segment_sum(pairs, self.structure_of_edge(), len(self.offsets) - 1)

    def torch_gradient(
        self, g: Tensor, positions: Tensor | None = None, strain: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """J^T g by automatic differentiation, differentiable in g and, where given, positions and strain."""
        with torch.enable_grad():
            vectors = self.vectors(positions, strain)
            if not vectors.requires_grad:
                vectors.requires_grad_()
            graph = g.requires_grad or positions is not None or strain is not None
            features = self.torch_features(vectors)
            (q,) = torch.autograd.grad(features, vectors, g.to(features), create_graph=graph)
            return self.from_edge_gradient(vectors if graph else vectors.detach(), q)


def _gradient(problem: _Problem, g: Tensor) -> tuple[Tensor, Tensor]:
    if problem.descriptor.backend == "torch":
        grad, virial = problem.torch_gradient(g)
        return grad.to(g), virial.to(g)
    return _Gradient.apply(g, None, None, problem)


def _array(tensor: Tensor) -> FloatArray:
    return tensor.detach().to("cpu", torch.float64).contiguous().numpy()


def _like(values: FloatArray, tensor: Tensor) -> Tensor:
    return torch.from_numpy(values).to(tensor.device, tensor.dtype)


class _Features(Function):
    """Features of positions and strain; backward is _Gradient."""

    @staticmethod
    def forward(ctx: Any, positions: Tensor, strain: Tensor | None, problem: _Problem) -> Tensor:
        ctx.problem = problem
        ctx.save_for_backward(positions, strain)
        return torch.from_numpy(problem.descriptor.features(problem.edges, problem.species_index))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        positions, strain = ctx.saved_tensors
        grad, virial = _Gradient.apply(grads[0], positions, strain, ctx.problem)
        return grad.to(positions), None if strain is None else virial.to(strain), None


class _Gradient(Function):
    """J^T g and the virial; linear in g."""

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, positions: Tensor | None, strain: Tensor | None, problem: _Problem
    ) -> tuple[Tensor, Tensor]:
        ctx.problem = problem
        ctx.save_for_backward(g, positions, strain)
        p = problem
        grad, virial = p.descriptor.vjp(p.edges, p.species_index, _array(g), structure_offsets=p.offsets)
        return _like(grad, g), _like(np.zeros((0, 3, 3)) if virial is None else virial, g)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        v, w = grads
        g, positions, strain = ctx.saved_tensors
        moved: dict[str, Tensor] = {}
        if positions is not None and ctx.needs_input_grad[1]:
            moved["positions"] = positions
        if strain is not None and ctx.needs_input_grad[2]:
            moved["strain"] = strain
        if moved:
            found = _second_order(ctx.problem, g, moved, v, w)
            return found["g"], found.get("positions"), found.get("strain"), None
        return _Tangent.apply(v, w, g.dtype, ctx.problem), None, None, None


def _second_order(problem: _Problem, g: Tensor, moved: dict[str, Tensor], v: Tensor, w: Tensor) -> dict[str, Tensor]:
    """Derivatives of <v, J^T g> + <w, virial> with respect to g, positions and strain, by torch."""
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        inputs = {"g": g if g.requires_grad else g.detach().requires_grad_(), **moved}
        grad, virial = problem.torch_gradient(inputs["g"], moved.get("positions"), moved.get("strain"))
        total = (grad * v).sum() + ((virial * w).sum() if problem.offsets is not None else 0.0)
        found = torch.autograd.grad(total, list(inputs.values()), create_graph=keep, allow_unused=True)
    return {k: torch.zeros_like(inputs[k]) if t is None else t for k, t in zip(inputs, found, strict=True)}


class _Tangent(Function):
    """J v plus the change under strain w; backward is J^T again."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, w: Tensor, dtype: torch.dtype, problem: _Problem) -> Tensor:
        ctx.problem = problem
        p = problem
        strain = None if p.offsets is None else _array(w)
        out = p.descriptor.jvp(p.edges, p.species_index, _array(v), strain=strain, structure_offsets=p.offsets)
        return torch.from_numpy(out).to(v.device, dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad, virial = _Gradient.apply(grads[0], None, None, ctx.problem)
        return grad, virial, None, None


def torch_features(descriptor: ChebyshevDescriptor, edges: Edges, species_index: IntArray) -> FloatArray:
    """Features by the torch backend as a float64 array, (n_atoms, F)."""
    problem = _Problem(descriptor, edges, species_index, None)
    with torch.no_grad():
        return _array(problem.torch_features(problem.constant_vectors()))


def torch_vjp(
    descriptor: ChebyshevDescriptor,
    edges: Edges,
    species_index: IntArray,
    g: FloatArray,
    offsets: IntArray | None,
) -> tuple[FloatArray, FloatArray | None]:
    """J^T g by the torch backend as float64 arrays."""
    problem = _Problem(descriptor, edges, species_index, offsets if offsets is None else np.asarray(offsets))
    grad, virial = problem.torch_gradient(torch.tensor(g, device=descriptor.device))
    return _array(grad), None if offsets is None else _array(virial)


def torch_jvp(
    descriptor: ChebyshevDescriptor,
    edges: Edges,
    species_index: IntArray,
    v: FloatArray,
    strain: FloatArray | None,
    offsets: IntArray | None,
) -> FloatArray:
    """J v by the torch backend: the derivative of the linear map g -> <v, J^T g>."""
    problem = _Problem(descriptor, edges, species_index, offsets if strain is not None else None)
    shape, device, dtype = (edges.n_atoms, descriptor.n_features), descriptor.device, descriptor.dtype
    g = torch.zeros(shape, dtype=dtype, device=device, requires_grad=True)
    grad, virial = problem.torch_gradient(g)
    total = (grad * torch.tensor(v, dtype=dtype, device=device)).sum()
    if strain is not None:
        total = total + (virial * torch.tensor(strain, dtype=dtype, device=device)).sum()
    return _array(torch.autograd.grad(total, g)[0])
