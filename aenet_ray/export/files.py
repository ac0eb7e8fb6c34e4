"""Potential files as they are put in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from aenet_ray.export.species_potential import SpeciesPotential
from aenet_ray.files import replacing


def write_each(
    write: Callable[[SpeciesPotential, Path], Path],
    potentials: Iterable[SpeciesPotential],
    output_dir: str | Path,
    prefix: str,
    suffix: str,
) -> dict[str, Path]:
    """Write ``{prefix}.{species}{suffix}`` for each potential; species to absolute path."""
    directory = Path(output_dir).absolute()
    return {p.central_species: write(p, directory / f"{prefix}.{p.central_species}{suffix}") for p in potentials}


def write_atomically(path: str | Path, content: bytes) -> Path:
    """Write a file that appears complete or not at all; missing folders are made. Returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return path
