"""Energies, forces and stress of structures, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from aenet_ray.background import Background
from aenet_ray.config import Config, warn_user
from aenet_ray.features.featurize import KnownFeatures
from aenet_ray.inference.blocks import STAGES, BlockPrediction, DescribedBlock, Evaluator
from aenet_ray.models.ann import ANNModel
from aenet_ray.structures.block import StructureBlock
from aenet_ray.structures.structure import FloatArray, Structure


class PredictionConfig(Config):
    """How predictions are made.

    Neighbours, features and networks of ``batch_size`` structures at a time are in memory.
    """

    timing: bool = False
    """Keep the wall time of each stage in ``PredictOut.timing``."""
    print_atomic_energies: bool = False
    """Keep the energies of atoms in ``PredictOut.atom_energies``."""
    batch_size: PositiveInt = 32
    """Structures predicted together."""
    num_workers: int = Field(0, ge=0)
    """Threads beside this one that predict batches; 0: one batch after the other. Never changes a result."""
    prefetch_factor: PositiveInt = 2
    """Batches under way for each of these threads."""
    persistent_workers: bool = True
    """Accepted for scripts of aenet-python, without effect: the threads live as long as one prediction."""
    debug: bool = False
    """Accepted for scripts of aenet-python, without effect there too."""
    verbosity: int = Field(1, ge=0, le=2)
    """Accepted for scripts of aenet-python, without effect there too."""
    potential_paths: dict[str, str] | None = None
    """Of aenet-python's Fortran predictions; without effect, told by a warning."""
    potential_format: str | None = None
    """As ``potential_paths``."""

    @model_validator(mode="after")
    def _not_of_fortran(self) -> PredictionConfig:
        for name in ("potential_paths", "potential_format"):
            if getattr(self, name) is not None:
                warn_user(
                    f"PredictionConfig.{name} is for aenet-python's Fortran predictions and has no effect: the "
                    "potential is the one whose predict is called.",
                    UserWarning,
                )
        return self


@dataclass
class PredictOut:
    """Predictions in the order of the input.

    Attributes:
        coords: Positions of each structure, (n_atoms, 3), Å.
        forces: (n_atoms, 3) of each, eV/Å, or None.
        stress: (3, 3) of each, eV/Å³, or None.
        atom_types: Symbols of each.
        atom_energies: (n_atoms,) of each, eV, summing to the total energy, or None.
        cohesive_energy, total_energy: Of each, eV.
        structure_paths: File that each came from, one a structure.
        timing: Seconds of each batch by stage: featurization, energy_eval, force_eval, total; or None.
        cells, pbcs: (3, 3), Å, and (3,) of each, None for isolated structures.
        names, frames: Name of each, or None, and number of the frame in its file.
        identifiers: A text for each: name, else path, else ``structure_{index:06d}``; of a dataset, its own.
    """

    coords: list[FloatArray]
    forces: list[FloatArray] | None
    stress: list[FloatArray] | None
    atom_types: list[list[str]]
    atom_energies: list[FloatArray] | None
    cohesive_energy: list[float]
    total_energy: list[float]
    structure_paths: list[str]
    timing: dict[str, list[float]] | None
    cells: list[FloatArray | None]
    pbcs: list[np.ndarray | None]
    names: list[str | None] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    identifiers: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        """What is there and the first energies; the arrays are in the attributes."""
        given = {"forces": self.forces, "stress": self.stress, "atom_energies": self.atom_energies}
        also = "".join(f", {name}" for name, values in given.items() if values is not None)
        shown = ", ".join(f"{e:.4f}" for e in self.total_energy[:3]) + ", …" * (self.num_structures > 3)
        structures = "1 structure" if self.num_structures == 1 else f"{self.num_structures} structures"
        return f"PredictOut({structures}: total_energy [{shown}] eV{also})"

    @property
    def num_structures(self) -> int:
        return len(self.total_energy)

    def num_atoms(self, i: int) -> int:
        return len(self.atom_types[i])

    @property
    def total_energy_per_atom(self) -> list[float]:
        return [e / self.num_atoms(i) for i, e in enumerate(self.total_energy)]

    @property
    def cohesive_energy_per_atom(self) -> list[float]:
        return [e / self.num_atoms(i) for i, e in enumerate(self.cohesive_energy)]

    def to_structures(self) -> list[Structure]:
        """The structures with predicted labels, their names, and where they came from."""
        return [
            Structure(
                self.coords[i],
                self.atom_types[i],
                self.total_energy[i],
                self.forces[i] if self.forces else None,
                self.cells[i],
                self.pbcs[i],
                self.names[i],
                stress=self._stress_label(i),
                source=self.structure_paths[i],
                frame=self.frames[i],
            )
            for i in range(self.num_structures)
        ]

    def _stress_label(self, i: int) -> FloatArray | None:
        """An absent label is None: stress is NaN where the structure is not periodic in all directions."""
        return None if self.stress is None or np.isnan(self.stress[i]).any() else self.stress[i]


def predict_structures(
    model: ANNModel,
    structures: Iterable[Structure],
    config: PredictionConfig,
    *,
    forces: bool = False,
    stress: bool = False,
    known: KnownFeatures | None = None,
) -> PredictOut:
    """Predict structure by structure in blocks; see ``TorchANNPotential.predict``."""
    return predict_members([model], structures, config, forces=forces, stress=stress, known=known)[0]


def predict_members(
    models: Sequence[ANNModel],
    structures: Iterable[Structure],
    config: PredictionConfig,
    *,
    forces: bool = False,
    stress: bool = False,
    known: KnownFeatures | None = None,
) -> list[PredictOut]:
    """Predictions of several networks on one descriptor; neighbours and features are computed once for all.

    Args:
        known: Features of the structures [start, stop) of the input, (n_atoms, n_features), or None for all of them.
    """
    outs, evaluate = [_empty(config, forces=forces, stress=stress) for _ in models], Evaluator(models)

    def predict(chunk: tuple[int, list[Structure]]) -> tuple[list[Structure], StructureBlock, list[BlockPrediction]]:
        start, part = chunk
        block = StructureBlock.from_structures(part)
        features = None if known is None else known(start, start + len(part))
        described = DescribedBlock.of(models[0].descriptor, block, features, only=not (forces or stress))
        return part, block, evaluate(described, forces=forces, stress=stress)

    with Background(config.num_workers, config.prefetch_factor) as background:
        for part, block, results in background.map(predict, _chunks(structures, config.batch_size)):
            _append_structures(outs[0], part)
            for out, result in zip(outs, results, strict=True):
                _append(out, block, result)
    for out in outs[1:]:
        for name in OF_STRUCTURES:
            setattr(out, name, getattr(outs[0], name))
    return outs


def _empty(config: PredictionConfig, *, forces: bool, stress: bool) -> PredictOut:
    return PredictOut(
        [], [] if forces else None, [] if stress else None, [], [] if config.print_atomic_energies else None,
        [], [], [], {name: [] for name in STAGES} if config.timing else None, [], [],
    )  # fmt: skip


def _chunks(structures: Iterable[Structure], size: int) -> Iterator[tuple[int, list[Structure]]]:
    """Number of the first structure, and the structures."""
    start, part = 0, list[Structure]()
    for s in structures:
        part.append(s)
        if len(part) == size:
            yield start, part
            start, part = start + size, []
    if part:
        yield start, part


def identifier(structure: Structure, i: int) -> str:
    """Its name, else its path (and frame, after the first), else ``structure_{i:06d}``."""
    if structure.name:
        return structure.name
    if structure.source == "<memory>":
        return f"structure_{i:06d}"
    return f"{structure.source}#frame={structure.frame}" if structure.frame else structure.source


OF_STRUCTURES = ("coords", "atom_types", "cells", "pbcs", "structure_paths", "identifiers", "names", "frames")
"""Attributes that do not depend on who predicts."""


def _append_structures(out: PredictOut, part: list[Structure]) -> None:
    for s in part:
        out.coords.append(s.positions)
        out.atom_types.append(list(s.species))
        out.cells.append(s.cell)
        out.pbcs.append(s.pbc)
        out.structure_paths.append(s.source)
        out.identifiers.append(identifier(s, len(out.names)))
        out.names.append(s.name)
        out.frames.append(s.frame)


def _append(out: PredictOut, block: StructureBlock, result: BlockPrediction) -> None:
    out.total_energy += result.energy.tolist()
    out.cohesive_energy += result.cohesive.tolist()
    for i in range(block.n_structures):
        atoms = slice(int(block.offsets[i]), int(block.offsets[i + 1]))
        if out.forces is not None and result.forces is not None:
            out.forces.append(result.forces[atoms])
        if out.stress is not None and result.stress is not None:
            out.stress.append(result.stress[i])
        if out.atom_energies is not None:
            out.atom_energies.append(result.atom_energies[atoms])
    if out.timing is not None:
        for name, seconds in (*result.seconds.items(), ("total", sum(result.seconds.values()))):
            out.timing[name].append(seconds)
