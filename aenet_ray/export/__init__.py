"""Potentials in the formats of other programs."""

from aenet_ray.export.aenet_ascii import read_ascii, write_ascii, write_ascii_files
from aenet_ray.export.aenet_binary import read_binary, write_binary, write_binary_files
from aenet_ray.export.read_files import read_potential_file, read_potential_files
from aenet_ray.export.species_potential import ACTIVATION_CODES, SpeciesPotential

__all__ = [
    "ACTIVATION_CODES",
    "SpeciesPotential",
    "read_ascii",
    "read_binary",
    "read_potential_file",
    "read_potential_files",
    "write_ascii",
    "write_ascii_files",
    "write_binary",
    "write_binary_files",
]
