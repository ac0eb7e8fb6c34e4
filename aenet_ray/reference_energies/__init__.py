"""Energies of isolated species: fitted to many structures, or solved from a few compounds."""

from aenet_ray.reference_energies.fit import ReferenceEnergies
from aenet_ray.reference_energies.samples import iter_composition_energy_samples_from_files
from aenet_ray.reference_energies.yaml_file import read_energies, write_energies

__all__ = [
    "ReferenceEnergies",
    "iter_composition_energy_samples_from_files",
    "read_energies",
    "write_energies",
]
