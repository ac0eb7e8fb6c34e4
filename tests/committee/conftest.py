"""The structures that small committees train on."""

from __future__ import annotations

from pathlib import Path

import pytest
from committees import tio2

from aenet_ray.structures.structure import Structure


@pytest.fixture(scope="module")
def structures(data_dir: Path) -> list[Structure]:
    return tio2(data_dir)
