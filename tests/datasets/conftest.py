"""A few TiO2 structures and a small descriptor."""

from __future__ import annotations

import pytest
from dataset_samples import TIO2

from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.structures.readers import read_structures
from aenet_ray.structures.structure import Structure


@pytest.fixture(scope="session")
def tio2() -> list[Structure]:
    """The 16 smallest structures with energies and forces."""
    return sorted(read_structures(TIO2), key=lambda s: s.n_atoms)[:16]


@pytest.fixture(scope="session")
def descriptor() -> ChebyshevDescriptor:
    return ChebyshevDescriptor(["Ti", "O"], rad_order=3, rad_cutoff=3.5, ang_order=2, ang_cutoff=3.0)
