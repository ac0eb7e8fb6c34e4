"""Features and force derivatives that aenet-python kept in a training HDF5, in both layouts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from aenet_ray.errors import StoreError
from aenet_ray.legacy.hdf5 import attribute, check_hash, check_version, column_names, dataset, reading
from aenet_ray.legacy.training_hdf5 import TrainingFile

CACHE = "aenet.torch_training.cache.v2"
PAYLOAD = "aenet.torch_training.local_derivatives.v1"


class _Rows:
    """A table that tells which row of some lists belongs to which entry, and those lists."""

    def __init__(self, file: h5py.File, path: Path, group: str, counts: tuple[str, ...]) -> None:
        self.file, self.path, self.group = file, path, group
        index = dataset(file, path, f"{group}/index")
        column_names(index, path, ("entry_idx", "cache_row", "n_atoms", *counts))
        with reading(path, f"{group}/index"):
            self.index = index[:]
        self.row = {int(e): k for k, e in enumerate(self.index["entry_idx"])}
        if len(self.row) != len(self.index):
            raise StoreError(f"{path}: {group}/index names an entry twice.")

    def __len__(self) -> int:
        return len(self.index)

    def list(self, name: str, row: int, shape: tuple[int, ...], dtype: str) -> NDArray:
        """Row of a list, in its shape.

        Raises:
            StoreError: It has another length.
        """
        values = dataset(self.file, self.path, f"{self.group}/{name}")
        with reading(self.path, f"{self.group}/{name}, row {row}"):
            found = np.asarray(values[row])
        if found.dtype.kind not in "fiu" or found.size != int(np.prod(shape)):
            raise StoreError(
                f"{self.path}: {self.group}/{name}, row {row}: {found.size} values of {found.dtype}, expected shape "
                f"{shape}."
            )
        return found.reshape(shape).astype(dtype)


class FeatureCache:
    """Raw features by entry.

    Raises:
        StoreError: Damaged or of an unknown version.
    """

    def __init__(self, source: TrainingFile) -> None:
        node = source.file["torch_cache"]
        check_version(node, {"schema_version": 2, "cache_format": CACHE}, "/torch_cache")
        check_hash(node, "descriptor_compat_json", "descriptor_compat_sha256")
        self.dtype = attribute(node, "storage_dtype", "float64")
        self._rows = _Rows(source.file, source.path, "torch_cache/features", ("n_features",))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, entry: int) -> NDArray[np.float64] | None:
        """(n_atoms, n_features), float64; None where there are none."""
        if entry not in self._rows.row:
            return None
        line = self._rows.index[self._rows.row[entry]]
        shape = (int(line["n_atoms"]), int(line["n_features"]))
        return self._rows.list("values", int(line["cache_row"]), shape, "f8")


@dataclass(frozen=True, slots=True)
class LocalDerivatives:
    """Derivatives of the features of one structure, one block a pair and a triplet.

    Args:
        n_atoms: Atoms of the structure.
        center, neighbor: Of each pair, (E,). grad: ∂g_n/∂r_neighbor, (E, n_r + 1, 3), 1/Å.
        weight: Species weight of the neighbour, (E,); None for one species.
        tri: Centre and the two neighbours of each triplet, (3, T).
        tri_grad: ∂h_m/∂r of these three, (3, T, n_a + 1, 3), 1/Å.
        tri_weight: Product of the species weights, (T,); None for one species.
    """

    n_atoms: int
    center: NDArray[np.int64]
    neighbor: NDArray[np.int64]
    grad: NDArray[np.float64]
    weight: NDArray[np.float64] | None
    tri: NDArray[np.int64]
    tri_grad: NDArray[np.float64]
    tri_weight: NDArray[np.float64] | None

    def contract(self, g: NDArray[np.float64]) -> NDArray[np.float64]:
        """J^T g, (n_atoms, 3): the derivative of Σ g · features with respect to positions; forces are its negative.

        Args:
            g: (n_atoms, n_features).
        """
        n_rad, n_ang = self.grad.shape[1], self.tri_grad.shape[2]
        half = n_rad + n_ang
        pair, triple = g[self.center, :n_rad], g[self.tri[0], n_rad:half]
        if self.weight is not None and self.tri_weight is not None:
            pair = pair + self.weight[:, None] * g[self.center, half : half + n_rad]
            triple = triple + self.tri_weight[:, None] * g[self.tri[0], half + n_rad :]
        out = np.zeros((self.n_atoms, 3))
        q = np.einsum("en,enx->ex", pair, self.grad)
        np.add.at(out, self.neighbor, q)
        np.subtract.at(out, self.center, q)
        for atoms, grad in zip(self.tri, self.tri_grad, strict=True):
            np.add.at(out, atoms, np.einsum("tm,tmx->tx", triple, grad))
        return out


class DerivativeCache:
    """Force derivatives by entry; only entries with forces have any.

    Args:
        group: ``torch_cache/force_derivatives``, or ``force_derivatives`` in older files.

    Raises:
        StoreError: Damaged or of an unknown version.
    """

    def __init__(self, source: TrainingFile, group: str) -> None:
        node = source.file[group]
        check_version(node, {"schema_version": 1, "payload_format": PAYLOAD}, f"/{group}")
        check_hash(node, "descriptor_compat_json", "descriptor_compat_sha256")
        n_rad, n_ang = attribute(node, "n_radial_features"), attribute(node, "n_angular_features")
        if not isinstance(n_rad, int) or not isinstance(n_ang, int) or n_rad < 1 or n_ang < 1:
            raise StoreError(f"{source.path}: /{group} names {n_rad!r} radial and {n_ang!r} angular features.")
        self.n_rad, self.n_ang = n_rad, n_ang
        self.dtype = attribute(node, "storage_dtype", "float64")
        self.multi = bool(attribute(node, "multi", False))
        self._rows = _Rows(source.file, source.path, group, ("n_radial_edges", "n_angular_triplets"))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, entry: int) -> LocalDerivatives | None:
        """The blocks of an entry; None where there are none."""
        if entry not in self._rows.row:
            return None
        line = self._rows.index[self._rows.row[entry]]
        row, n = int(line["cache_row"]), int(line["n_atoms"])
        edges, triplets = int(line["n_radial_edges"]), int(line["n_angular_triplets"])

        def atoms(name: str, count: int) -> NDArray[np.int64]:
            values = self._rows.list(name, row, (count,), "i8")
            if count and not (values.min() >= 0 and values.max() < n):
                raise StoreError(f"{self._rows.path}: {name} of entry {entry} names atoms that are not there.")
            return values

        def grads(name: str, count: int, n_functions: int) -> NDArray[np.float64]:
            return self._rows.list(name, row, (count, n_functions, 3), "f8")

        def weights(name: str, count: int) -> NDArray[np.float64] | None:
            return self._rows.list(name, row, (count,), "f8") if self.multi else None

        return LocalDerivatives(
            n,
            atoms("radial/center_idx", edges),
            atoms("radial/neighbor_idx", edges),
            grads("radial/dG_drij", edges, self.n_rad),
            weights("radial/neighbor_typespin", edges),
            np.stack([atoms(f"angular/{a}_idx", triplets) for a in ("center", "neighbor_j", "neighbor_k")]),
            np.stack([grads(f"angular/grads_{a}", triplets, self.n_ang) for a in "ijk"]),
            weights("angular/triplet_typespin", triplets),
        )


def feature_cache(source: TrainingFile) -> FeatureCache | None:
    """The features kept in a file; None where there are none."""
    return FeatureCache(source) if "torch_cache/features" in source.file else None


def derivative_cache(source: TrainingFile) -> DerivativeCache | None:
    """The derivatives kept in a file, in the newer or the older layout; None where there are none."""
    for group in ("torch_cache/force_derivatives", "force_derivatives"):
        if group in source.file:
            return DerivativeCache(source, group)
    return None
