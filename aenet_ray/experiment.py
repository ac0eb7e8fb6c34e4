"""One YAML file, walked along the road: structures, features, training, evaluation, export."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PositiveFloat, field_validator

from aenet_ray.config import Config
from aenet_ray.errors import ConfigError
from aenet_ray.models.architecture import check_architecture
from aenet_ray.training.config import RunConfig, ScalingConfig, TorchTrainingConfig, check_together
from aenet_ray.training.loggers import check_loggers

if TYPE_CHECKING:
    from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor

Layers = list[tuple[int, str]]


class DescriptorConfig(Config):
    """``ChebyshevDescriptor``'s parameters."""

    species: list[str]
    """Chemical symbols; their order fixes the species weights."""
    rad_order: int = Field(ge=0)
    """Highest order of the radial polynomials."""
    rad_cutoff: PositiveFloat
    """How far radial functions reach, Å."""
    ang_order: int = Field(ge=0)
    """Highest order of the angular polynomials."""
    ang_cutoff: PositiveFloat
    """How far angular functions reach, Å; not further than radial ones if ænet is to use the potential."""
    min_cutoff: float = Field(0.55, ge=0)
    """Pairs this close, or closer, are left out, Å."""
    dtype: Literal["float32", "float64"] = "float64"
    """Of the features that are computed; what training uses is ``training.precision``."""

    def build(self) -> ChebyshevDescriptor:
        import torch

        from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor

        values = self.model_dump() | {"dtype": getattr(torch, self.dtype)}
        return ChebyshevDescriptor(**values)


class DataConfig(Config):
    """Where structures come from. Paths are relative to the working directory."""

    files: list[str] = Field(min_length=1)
    """Any readable formats, archives of XSF, or one structure store."""
    validation: list[str] = Field(default_factory=list)
    """Files held out for validation; none: ``training.testpercent`` of ``files``."""
    test: list[str] = Field(default_factory=list)
    """Files evaluated once, after training; none: the validation part is."""
    store: str | None = None
    """Structure store to build and reuse; None: in the run's folder."""
    split: str | None = None
    """Split file with the parts ``train`` and ``validation``; it is taken as it is, in place of
    ``training.testpercent``."""
    on_error: Literal["raise", "skip"] = "raise"
    """skip writes what it leaves out to a report."""
    energy_key: str = "energy"
    """Name of the total energy in extended XYZ files."""
    forces_key: str = "forces"
    """Name of the forces in extended XYZ files."""

    @field_validator("files", "validation", "test", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value


class ExperimentConfig(Config):
    """Everything ``aenet-ray train run.yaml`` needs."""

    data: DataConfig
    """Structures to train, validate and test on."""
    descriptor: DescriptorConfig
    """What the network sees of an atom's surroundings."""
    network: dict[str, Layers] | Layers
    """Hidden layers per species, or the same for all: ``[[15, tanh], [15, tanh]]``."""
    training: TorchTrainingConfig = Field(default_factory=TorchTrainingConfig)
    """How the network is trained."""
    scaling: ScalingConfig | None = None
    """Absent: this process, without Ray."""
    run: RunConfig = Field(default_factory=RunConfig)
    """Name and place of what the run leaves behind."""
    features: str | None = None
    """Folder of the feature store, shared by runs; None: ``training.cache_persist_dir``, else ``features`` beside the
    runs."""
    export: bool = True
    """Write ænet's ASCII potential into the run's folder."""

    @field_validator("network", mode="before")
    @classmethod
    def _layers(cls, value: object) -> object:
        """Said here, since neither of two types that do not fit makes a readable message."""
        for layers in value.values() if isinstance(value, dict) else [value]:
            pairs = isinstance(layers, (list, tuple)) and all(
                isinstance(pair, (list, tuple)) and [type(p) for p in pair] == [int, str] for pair in layers
            )
            if not pairs:
                raise ValueError(
                    "expected hidden layers such as [[15, tanh], [15, tanh]], or such a list for each species"
                )
        return value

    @property
    def features_folder(self) -> str:
        """Parent of the feature stores."""
        return self.features or self.training.cache_persist_dir or str(Path(self.run.storage_path) / "features")

    def arch(self) -> dict[str, Layers]:
        if isinstance(self.network, dict):
            return self.network
        return {s: list(self.network) for s in self.descriptor.species}

    def check(self) -> None:
        """Look for what can be wrong before anything is imported or started.

        Raises:
            ConfigError: Files are missing, or settings contradict each other.
        """
        data = self.data
        missing = [f for f in (*data.files, *data.validation, *data.test) if not Path(f).exists()]
        if missing:
            raise ConfigError(f"data: no such file: {', '.join(missing)}; paths are relative to {Path.cwd()}.")
        if data.split is not None and data.validation:
            raise ConfigError("data.split and data.validation are both set; give one of them.")
        if data.split is not None and not Path(data.split).exists():
            raise ConfigError(f"data.split: no such file: {data.split}; paths are relative to {Path.cwd()}.")
        if data.validation and self.training.testpercent and "testpercent" in self.training.model_fields_set:
            raise ConfigError("data.validation and training.testpercent are both set; give one of them.")
        if self.features and (persist := self.training.cache_persist_dir) and Path(persist) != Path(self.features):
            raise ConfigError(
                f"features ({self.features}) and training.cache_persist_dir ({persist}) both name the folder of the "
                "feature store; give one of them."
            )
        check_together(self.training, self.scaling)
        check_architecture(self.arch(), self.descriptor.species)
        check_loggers(self.run.loggers)
        if self.export and self.descriptor.ang_cutoff > self.descriptor.rad_cutoff:
            raise ConfigError(
                f"descriptor.ang_cutoff ({self.descriptor.ang_cutoff} Å) is longer than rad_cutoff "
                f"({self.descriptor.rad_cutoff} Å): ænet evaluates such a potential differently. Shorten it, or "
                "set export: false."
            )

    def to_dict(self) -> dict[str, Any]:
        values = self.model_dump(mode="json")
        values["training"] = self.training.to_dict()
        return values


GROUPS = {"tune": "space", "committee": "num_members"}
"""What a run's file may hold for other commands, with a setting of each."""


def split_groups(values: Mapping[str, Any], where: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """A run's file, as read, apart: what a run needs, and each of ``GROUPS``; empty where it is not there.

    Raises:
        ConfigError: A group is no mapping.
    """
    groups = {}
    for name, example in GROUPS.items():
        group = values.get(name)
        if group is not None and not isinstance(group, dict):
            raise ConfigError(
                f"{where}: {name}: holds {type(group).__name__}, expected a group of settings such as {example}."
            )
        groups[name] = dict(group or {})
    return {k: v for k, v in values.items() if k not in GROUPS}, groups


def environment() -> dict[str, str]:
    """Versions of what a run depends on."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in ("aenet-ray", "ray", "torch", "numpy", "numba", "h5py", "ase"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found
