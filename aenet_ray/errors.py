"""Errors users read: where, what was found, what was expected, what to do.

Each takes one string, so that it survives the trip from a worker process, and derives from the
built-in class that aenet-python raises in the same place.
"""


class AenetRayError(Exception):
    """Base of every error that aenet_ray raises on purpose."""


class StructureError(AenetRayError, ValueError):
    """A structure, or the file it comes from, cannot be used."""


class MissingFileError(StructureError, FileNotFoundError):
    """A file of structures is not there."""


class StoreError(AenetRayError, RuntimeError):
    """A structure store or feature store is missing, damaged or of another version."""


class SharedDataError(StoreError):
    """Structures or a split that all trials of a search share are gone, damaged or others."""


class UnsafeFileError(AenetRayError, RuntimeError):
    """A file asks for a class or function that no data needs: it may have been made to run code."""


class ConfigError(AenetRayError, ValueError):
    """A setting, or a combination of settings, is not allowed."""


class DescriptorError(AenetRayError, ValueError):
    """A descriptor's parameters, or the species it meets, do not fit."""


class UnknownSpeciesError(DescriptorError, KeyError):
    """Structures hold species that a descriptor was not made for."""

    __str__ = Exception.__str__  # a KeyError shows its message in quotes


class TrainingError(AenetRayError, RuntimeError):
    """A run cannot start, continue or resume."""


class NoTrainingDataError(TrainingError, ValueError):
    """No structure is left to train on, or none has what is to be learned."""


class CheckpointError(AenetRayError, RuntimeError):
    """A checkpoint or model file is missing, damaged or does not fit the run."""


class MissingCheckpointError(CheckpointError, FileNotFoundError):
    """The checkpoint to go on from is not there."""


class ReferenceEnergyError(AenetRayError, ValueError):
    """Energies of species cannot be fitted to these samples, or an option of the fit is not allowed."""


class ReferenceEnergyTypeError(ReferenceEnergyError, TypeError):
    """A sample, or an option of the fit, is of the wrong type."""


class CommitteeError(AenetRayError, ValueError):
    """A committee's members are missing or do not belong together."""


class ExportError(AenetRayError, ValueError):
    """A potential cannot be written in, or read from, another program's format."""


class PlotError(AenetRayError, ValueError):
    """There is nothing to draw, or what should be compared does not match."""


class InputTypeError(AenetRayError, TypeError):
    """Something of another kind than expected was given."""
