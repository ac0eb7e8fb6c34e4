"""Files of aenet-python and ænet made into aenet_ray's own, with an account of what was there and how it agrees."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from aenet_ray import legacy
from aenet_ray.datasets.aenet_python import convert_training_file
from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.errors import AenetRayError, CheckpointError, ConfigError, StoreError, StructureError, UnsafeFileError
from aenet_ray.legacy import model_file as aenet_python
from aenet_ray.legacy.caches import derivative_cache, feature_cache
from aenet_ray.legacy.training_hdf5 import DESCRIPTOR_KEYS, TrainingFile
from aenet_ray.legacy.trnset import Item, TrnSet
from aenet_ray.models.model_file import load_payload, read_model_file, write_model_file
from aenet_ray.potential import TorchANNPotential
from aenet_ray.structures.block import StructureBlock
from aenet_ray.structures.build import build_store
from aenet_ray.structures.readers import from_entry
from aenet_ray.structures.store import StructureStore
from aenet_ray.structures.structure import Structure
from aenet_ray.structures.writer import BuildReport

TOLERANCE = {"float64": {"features": 1e-10}, "float32": {"features": 1e-4, "force derivatives": 1e-3}}
"""By what stored values may differ from ours, by the type they are stored in, absolute."""


@dataclass(slots=True)
class Converted:
    """What a conversion wrote.

    Args:
        path: The new file. kind: Of the old one, a key of ``legacy.KINDS``, 'model' or 'potential'.
        built: Of a structure store, what was written and left out.
        notes: What there is to know about it, one sentence each.
    """

    path: Path
    kind: str
    built: BuildReport | None = None
    notes: list[str] = field(default_factory=list)


def convert(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    on_error: Literal["raise", "skip"] = "raise",
    isolated: bool = False,
    energies: Literal["auto", "cohesive", "total"] = "auto",
    check: bool = True,
    workers: int | None = 0,
    progress: bool = False,
) -> Converted:
    """Write a file of aenet-python anew: training HDF5 and TrnSet become structure stores, model files ours, as do
    potentials of ænet.

    Args:
        source: Training HDF5, TrnSet (text or HDF5), model.pt or checkpoint, told by its content; or the files of an
            ænet potential (``.nn``, ``.nn.ascii``), one a species, or their folder.
        output: The new file; replaced when complete.
        on_error: 'skip' leaves out structures that cannot be used and lists them in ``<output>.skipped.csv``.
        isolated: Structures of a TrnSet that knows no cell are isolated. Otherwise they are refused.
        energies: What a TrnSet's energies are; 'auto' finds out from its header.
        check: Compare stored features and derivatives with ours.
        workers: Processes that read records, as for ``build_store``.

    Raises:
        FileNotFoundError: No such file.
        UnsafeFileError: It holds more than data.
        StructureError, StoreError, CheckpointError: It is damaged, ours already, of another kind, or cannot be
            converted as it is.
        ExportError: A potential of ænet is damaged, or its files do not belong together.
    """
    sources = [Path(source)] if isinstance(source, str | os.PathLike) else [Path(s) for s in source]
    output = Path(output)
    if on_error not in ("raise", "skip") or energies not in ("auto", "cohesive", "total"):
        raise ConfigError(
            f"on_error={on_error!r}, energies={energies!r}; expected raise or skip, and auto, cohesive or total."
        )
    for path in sources:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file.")
    if sources and all(_of_aenet(path) for path in sources):
        return _potential(sources, output)
    if len(sources) != 1:
        raise StructureError(
            f"convert: {len(sources)} files given; expected one, or those of one ænet potential (.nn, .nn.ascii)."
        )
    source = sources[0]
    if source.is_dir():
        raise StructureError(f"{source}: a directory; give the files in it one by one.")
    if output.exists() and output.samefile(source):
        raise StructureError(f"{output}: is the input; write the new file under another name.")
    options = {"on_error": on_error, "workers": workers, "progress": progress}
    kind = legacy.kind_of(source)
    if kind == "training":
        return _training(source, output, check, options)
    if kind is not None:
        return _trnset(source, output, isolated, energies, options)
    return _other(source, output)


def _of_aenet(path: Path) -> bool:
    """Whether it is a potential file of ænet, or a folder with some, by name."""
    names = [p.name for p in path.iterdir()] if path.is_dir() else [path.name]
    return any(name.endswith((".nn", ".nn.ascii")) for name in names)


def _potential(paths: list[Path], output: Path) -> Converted:
    potential = TorchANNPotential.from_aenet(paths[0] if len(paths) == 1 else paths)
    potential.save(output)
    descriptor, energies = potential.descriptor, potential.atomic_energies
    notes = [
        f"Networks for {', '.join(potential.arch)} on {descriptor.n_features} features, cutoffs "
        f"{descriptor.rad_cutoff:g} and {descriptor.ang_cutoff:g} Å.",
        f"Its atomic energies, eV: {', '.join(f'{s} {e!r}' for s, e in energies.items())}.",
        "Its weights may be other numbers than in the files, since one normaliser serves all species; energies are the "
        "same. It can be trained on, without resume_from.",
    ]
    return Converted(output, "potential", notes=notes)


def _other(source: Path, output: Path) -> Converted:
    """A model file, or something there is no need or no way to convert."""
    with open(source, "rb") as file:
        head = file.read(8)
    if head == b"\x89HDF\r\n\x1a\n":
        with StructureStore(source):  # says what it is, if it is none
            raise StoreError(f"{source}: is a structure store of aenet_ray already; there is nothing to convert.")
    if not head:
        raise StructureError(f"{source}: the file is empty.")
    if not head.startswith((b"PK", b"\x80")):
        raise StructureError(
            f"{source}: no file of aenet-python: expected {', '.join(legacy.KINDS.values())}, model.pt or a "
            "checkpoint. Structure files are read by 'aenet-ray build'; ænet's potentials must end in .nn or .nn.ascii."
        )
    payload = load_payload(source)
    if not aenet_python.is_payload(payload):
        read_model_file(source)  # says what is wrong with it
        raise CheckpointError(f"{source}: is a model file of aenet_ray already; there is nothing to convert.")
    translated = aenet_python.translate(payload, source)
    notes = [f"Networks for {', '.join(translated['architecture'])} in {translated['precision']}."]
    if "epoch" in translated:
        notes.append(f"Training can go on after epoch {translated['epoch'] + 1} (resume_from).")
    if not translated["atomic_energies"]:
        notes.append("It holds no atomic energies: what it predicts are the energies it was trained on.")
    return Converted(write_model_file(output, translated), "model", notes=notes)


# training HDF5


def _training(source: Path, output: Path, check: bool, options: dict[str, Any]) -> Converted:
    with TrainingFile(source) as file:
        settings = file.filter_settings  # damaged ones are found before the work
        notes = _check_caches(file) if check else []
    skip = options.pop("on_error") == "skip"
    built = convert_training_file(source, output, skip_errors=skip, **options)
    if settings.enabled:
        notes.append(
            f"The file was built with max_energy {settings.max_referenced_energy_per_atom} eV/atom: structures above "
            "it are not in it."
        )
    if settings.atomic_energies:
        energies = ", ".join(f"{s}: {e!r}" for s, e in settings.atomic_energies.items())
        notes.append(
            f"Its atomic energies, which HDF5StructureDataset finds in the new file: atomic_energies: {{{energies}}}."
        )
    return Converted(built.path, "training", built, notes)


def _check_caches(file: TrainingFile) -> list[str]:
    """How stored features and derivatives compare with ours. Neither is taken over: ours are made anew in seconds."""
    try:
        features, derivatives = feature_cache(file), derivative_cache(file)
        config = file.descriptor_config
    except StoreError as error:
        return [f"Stored features were not compared: {error}"]
    if config is None or (features is None and derivatives is None):
        return ["The file holds no features to compare with."]
    descriptor = ChebyshevDescriptor(**{key: config[key] for key in DESCRIPTOR_KEYS})
    worst: dict[str, list[float]] = {"features": [], "force derivatives": []}
    unreadable: Counter[str] = Counter()
    for entry in file.entries():
        try:
            stored = None if features is None else features[entry.index]
            blocks = None if derivatives is None else derivatives[entry.index]
            if stored is None and blocks is None:
                continue
            ours = _Ours(descriptor, from_entry(entry))
            if stored is not None:
                worst["features"].append(ours.features_differ(stored))
            if blocks is not None:
                worst["force derivatives"].append(ours.gradients_differ(blocks.contract))
        except UnsafeFileError:
            raise
        except AenetRayError as error:
            unreadable[f"entry {entry.index}: {error}"] += 1
    precise = {"features": features, "force derivatives": derivatives}
    notes = [_agreement(what, v, getattr(precise[what], "dtype", "")) for what, v in worst.items() if v]
    if unreadable:
        notes.append(
            f"{unreadable.total()} entries could not be compared, the first because of: {next(iter(unreadable))}"
        )
    return notes


class _Ours:
    """Our descriptor on one structure."""

    def __init__(self, descriptor: ChebyshevDescriptor, structure: Structure) -> None:
        block = StructureBlock.from_structures([structure])
        self.descriptor, self.edges = descriptor, descriptor.edges(block)
        self.species = descriptor.species_index(block.numbers)

    def features_differ(self, stored: np.ndarray) -> float:
        found = self.descriptor.features(self.edges, self.species)
        return float("inf") if stored.shape != found.shape else float(np.abs(stored - found).max())

    def gradients_differ(self, contract: Any) -> float:
        shape = self.edges.n_atoms, self.descriptor.n_features
        g = np.cos(np.arange(shape[0] * shape[1])).reshape(shape)
        found, _ = self.descriptor.vjp(self.edges, self.species, g)
        return float(np.abs(contract(g) - found).max())


def _agreement(what: str, differences: list[float], dtype: str) -> str:
    limit = TOLERANCE.get(dtype, {}).get(what, 1e-8)
    off = sum(not d <= limit for d in differences)
    worst = max(differences)
    if not off:
        return f"Stored {what} of {len(differences)} structures agree with ours (largest difference {worst:.1e})."
    return (
        f"Stored {what} of {off} of {len(differences)} structures differ from ours by up to {worst:.1e}; "
        "ours are used. aenet-python computes wrong ones for atoms outside their cell."
    )


# TrnSet


def _trnset(source: Path, output: Path, isolated: bool, energies: str, options: dict[str, Any]) -> Converted:
    trnset = TrnSet(source)
    header = trnset.header
    if header.normalized:
        raise StructureError(
            f"{source}: its energies are normalised (scale {header.scale:g}, shift {header.shift:g}); what that "
            "did to forces and fingerprints is not recorded. Build a store from the original files ('aenet-ray build')."
        )
    which = trnset.energies_are() if energies == "auto" else energies
    if which == "unknown":
        raise StructureError(
            f"{source}: its energies are neither cohesive nor total ones by its header (from {header.e_min:g} to "
            f"{header.e_max:g} eV/atom). Say which: --energies cohesive, or --energies total."
        )
    counts: Counter[str] = Counter()
    built = build_store(_items(trnset, which, isolated, counts), output, allow_duplicates=True, **options)
    notes = [f"Its energies are {which} ones" + ("; atomic energies were added." if which == "cohesive" else ".")]
    if counts["zero forces"]:
        n = counts["zero forces"]
        notes.append(f"{n} structures have only zeros for forces, as a TrnSet has for none: they count as absent.")
    if counts["features"]:
        notes.append("Fingerprints are not taken over: a TrnSet does not tell their descriptor. Ours are made anew.")
    return Converted(built.path, str(trnset.kind), built, notes)


def _items(trnset: TrnSet, which: str, isolated: bool, counts: Counter[str]) -> Iterator[Structure]:
    for i, item in enumerate(trnset):
        if item.cell is None and not isolated:
            raise StructureError(
                f"{trnset.path}: structure {i} ({item.path}) has no cell in it, as always in a TrnSet as text: whether "
                "it was periodic is not known. If all such structures are isolated, say --isolated; otherwise build a "
                "store from the original files with 'aenet-ray build'."
            )
        counts["features"] += item.features is not None
        counts["zero forces"] += not item.forces.any()
        yield _structure(trnset, item, which)


def _structure(trnset: TrnSet, item: Item, which: str) -> Structure:
    return Structure(
        item.positions,
        item.species,
        item.energy + (trnset.references(item) if which == "cohesive" else 0.0),
        item.forces if item.forces.any() else None,
        item.cell,
        None if item.cell is None else np.full(3, item.periodic),
        source=item.path,
    )


def describe(converted: Converted) -> list[str]:
    """A report of a conversion, line by line."""
    lines = []
    if converted.built is not None:
        with StructureStore(converted.path) as store:
            labels = ", ".join(f"{name} of {n:,}" for name, n in store.label_counts.items() if n) or "no labels"
            lines.append(f"{converted.path}: {len(store):,} structures, {store.n_atoms:,} atoms ({labels})")
            lines.append(f"species: {', '.join(store.species)}; from {len(set(store.sources())):,} sources")
    else:
        lines.append(f"{converted.path}: a model file")
    return lines + converted.notes
