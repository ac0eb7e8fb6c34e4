"""Structures and files that the tests of this folder share."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from aenet_ray.structures.structure import Structure

DATA = Path(__file__).parents[1] / "data"
TIO2 = DATA / "tio2_ci100_xsf.tar.gz"

RUTILE = """# total energy = -19517.09425849 eV

CRYSTAL
PRIMVEC
  4.594 0.0 0.0
  0.0 4.594 0.0
  0.0 0.0 2.959
PRIMCOORD
3 1
Ti 0.0 0.0 0.0 0.1 0.2 0.3
O 1.40117 1.40117 0.0 -0.1 0.0 0.0
O 3.19283 3.19283 0.0 0.0 -0.2 -0.3
"""


def water(shift: float = 0.0, **changes: Any) -> Structure:
    """A water molecule; keywords replace fields."""
    fields: dict[str, Any] = {
        "positions": np.array([[shift, 0.0, 0.118], [0.0, 0.755, -0.471], [0.0, -0.755, -0.471]]),
        "species": ["O", "H", "H"],
        "energy": -16.5 + shift,
        "forces": np.array([[0.0, 0.0, 0.5], [0.0, 0.1, -0.25], [0.0, -0.1, -0.25]]),
    }
    return Structure(**{**fields, **changes})


def crystal(**changes: Any) -> Structure:
    """A TiO2 cell with stress; keywords replace fields."""
    fields: dict[str, Any] = {
        "positions": np.array([[0.0, 0.0, 0.0], [1.4, 1.4, 0.0], [3.2, 3.2, 0.0]]),
        "species": ["Ti", "O", "O"],
        "energy": -100.0,
        "cell": np.diag([4.6, 4.6, 2.96]),
        "stress": np.array([[0.1, 0.4, 0.5], [0.4, 0.2, 0.6], [0.5, 0.6, 0.3]]),
    }
    return Structure(**{**fields, **changes})


def labelled() -> list[Structure]:
    """Structures of every kind: each label present somewhere and absent somewhere."""
    slab = crystal(pbc=np.array([True, True, False]), stress=None, forces=np.ones((3, 3)), name="slab é")
    ion = water(0.01, charges=np.array([-0.8, 0.4, 0.4]), charge=-1.0, multiplicity=2.0, fidelity="wB97M", name="ion")
    bare = water(0.02, energy=None, forces=None, source="bare.xyz", frame=7)
    return [crystal(name="bulk", fidelity="PBE"), slab, ion, bare]


def tar_of(path: Path, files: list[tuple[str, str]]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, text in files:
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


def assert_same(a: Structure, b: Structure) -> None:
    """Every field equal, bit by bit."""
    for name in a.__dataclass_fields__:
        x, y = getattr(a, name), getattr(b, name)
        assert (x is None) == (y is None), (name, x, y)
        assert x is None or np.array_equal(x, y), (name, x, y)
