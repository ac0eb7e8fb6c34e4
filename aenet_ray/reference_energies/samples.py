"""What energies are fitted to: (composition, energy) of structures, from wherever they come, checked."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from aenet_ray.errors import MissingFileError, ReferenceEnergyError, ReferenceEnergyTypeError, StructureError
from aenet_ray.structures.labels import LabelKeys
from aenet_ray.structures.readers import Piece, cut_extxyz, parse_piece, read_structures
from aenet_ray.structures.store import StructureStore
from aenet_ray.structures.structure import FloatArray, IntArray, Structure

Sample = tuple[dict[str, int], float]
"""Atoms of each species, and the total energy, eV."""

BLOCK_STRUCTURES = 8192


def iter_samples(samples: Any, keys: LabelKeys | None = None) -> Iterator[tuple[dict[str, int], float | None]]:
    """Checked samples of (composition, energy) pairs, structure stores, datasets, paths, Structures, ASE Atoms, or an
    iterable of these. The energy is None for a structure that has none.

    Raises:
        ReferenceEnergyError, ReferenceEnergyTypeError: A sample cannot be used; names its number.
        StructureError: A file cannot be read.
    """
    keys = keys or LabelKeys()
    if isinstance(samples, StructureStore):
        yield from store_samples(samples)
    elif isinstance(samples, str | os.PathLike) and _is_store(samples):
        with StructureStore(samples) as store:
            yield from store_samples(store)
    elif isinstance(samples, str | os.PathLike | Structure) or hasattr(samples, "get_chemical_symbols"):
        for structure in read_structures(samples, keys=keys):
            yield dict(Counter(structure.species)), _finite(structure.energy, structure.source)
    elif isinstance(samples, Sized) and hasattr(samples, "get_structure"):  # a dataset
        for i in range(len(samples)):
            yield from iter_samples(samples.get_structure(i), keys)
    elif isinstance(samples, Iterable) and not isinstance(samples, Mapping):
        for number, item in enumerate(samples):
            if _is_pair(item):
                yield check_sample(item, f"sample {number}")
            elif isinstance(item, str | os.PathLike | Structure | StructureStore) or hasattr(
                item, "get_chemical_symbols"
            ):
                yield from iter_samples(item, keys)
            else:
                raise ReferenceEnergyTypeError(
                    f"sample {number}: {item!r:.80}; expected a pair (composition, energy), such as "
                    "({'Ti': 1, 'O': 2}, -2470.3), a path, a Structure or ASE Atoms."
                )
    else:
        raise ReferenceEnergyTypeError(
            f"samples: {type(samples).__name__}; expected pairs (composition, energy), a structure store, paths, "
            "Structures or ASE Atoms."
        )


def _is_pair(item: Any) -> bool:
    return isinstance(item, tuple | list) and len(item) == 2 and not isinstance(item[0], str | os.PathLike | Structure)


def _is_store(path: str | os.PathLike[str]) -> bool:
    return os.fspath(path).endswith((".h5", ".hdf5"))


def stores_of(samples: Any) -> list[StructureStore]:
    """The structure stores that samples are; empty where they are, or hold, anything else."""
    items = samples if isinstance(samples, list | tuple) else [samples]
    if not all(isinstance(s, StructureStore) or (isinstance(s, str | os.PathLike) and _is_store(s)) for s in items):
        return []
    return [s if isinstance(s, StructureStore) else StructureStore(s) for s in items]


def _finite(energy: float | None, where: str) -> float | None:
    if energy is not None and not math.isfinite(energy):
        raise ReferenceEnergyError(f"{where}: the energy is {energy}, expected a finite number, eV.")
    return energy


def store_blocks(store: StructureStore) -> Iterator[tuple[IntArray, FloatArray]]:
    """Atoms of each of ``store.species``, (n, n_species), and energies, (n,), eV, NaN where absent, by blocks.

    Reads the columns of species and energies alone.
    """
    for start in range(0, len(store), BLOCK_STRUCTURES):
        stop = min(start + BLOCK_STRUCTURES, len(store))
        yield store.compositions(start, stop), store.energies(start, stop)


def store_samples(store: StructureStore) -> Iterator[tuple[dict[str, int], float | None]]:
    for counts, energies in store_blocks(store):
        for row, energy in zip(counts.tolist(), energies.tolist(), strict=True):
            yield (
                {s: n for s, n in zip(store.species, row, strict=True) if n},
                None if math.isnan(energy) else energy,
            )


def check_sample(sample: Any, where: str) -> Sample:
    """Composition and energy of one pair.

    Raises:
        ReferenceEnergyTypeError: No pair, no mapping, a bool or text for a number.
        ReferenceEnergyError: A count is negative or no whole number, no atom at all, an energy that is not finite.
    """
    composition, energy = sample
    if isinstance(energy, bool) or not isinstance(energy, int | float | np.number):
        raise ReferenceEnergyTypeError(f"{where}: energy {energy!r}, expected a number, eV.")
    if not math.isfinite(energy):
        raise ReferenceEnergyError(f"{where}: the energy is {energy}, expected a finite number, eV.")
    return check_composition(composition, where), float(energy)


def check_composition(composition: Any, where: str) -> dict[str, int]:
    """Atoms of each species, zeros left out. Raises as ``check_sample`` does."""
    if not isinstance(composition, Mapping):
        raise ReferenceEnergyTypeError(
            f"{where}: composition {composition!r:.80}, expected a mapping such as {{'Ti': 1, 'O': 2}}."
        )
    counts = {}
    for species, n in composition.items():
        if not isinstance(species, str) or not species:
            raise ReferenceEnergyTypeError(f"{where}: species {species!r}, expected a symbol such as 'Ti'.")
        if isinstance(n, bool | np.bool_) or not isinstance(n, int | float | np.number):
            raise ReferenceEnergyTypeError(f"{where}: {n!r} atoms of {species}, expected a whole number.")
        if not math.isfinite(n) or n < 0 or n != int(n):
            raise ReferenceEnergyError(f"{where}: {n} atoms of {species}, expected a whole number, 0 or more.")
        if n:
            counts[species] = int(n)
    if not counts:
        raise ReferenceEnergyError(f"{where}: composition {dict(composition)} has no atoms.")
    return counts


def parse_formula(formula: str) -> dict[str, int]:
    """Atoms of each element of a formula: elements and whole numbers, no brackets; repeated elements add up.

    Raises:
        ReferenceEnergyError: It is no such formula.
    """
    text, counts, at = formula.strip(), Counter[str](), 0
    for match in re.finditer(r"([A-Z][a-z]?)(\d*)", text):
        if match.start() != at:
            break
        symbol, at = match[1], match.end()
        if symbol not in chemical_symbols[1:]:
            raise ReferenceEnergyError(f"compound {formula!r}: {symbol!r} is no chemical symbol.")
        counts[symbol] += int(match[2] or 1)
    if at != len(text) or not sum(counts.values()):
        raise ReferenceEnergyError(
            f"compound {formula!r}: expected elements with whole numbers and no brackets, such as TiO2 or Ti2O4."
        )
    return {s: n for s, n in counts.items() if n}


def iter_composition_energy_samples_from_files(
    paths: Any, *, frmt: str | None = None, **read_kwargs: Any
) -> Iterator[Sample]:
    """One (composition, energy) a frame, read when it is asked for.

    Args:
        paths: One path or many.
        frmt: 'xsf', 'extxyz' (or 'xyz'), or a name of ASE's; None tells it by suffix and content.
        read_kwargs: ``energy_key``: name of the energy in extended XYZ files.

    Raises:
        StructureError: A file is missing or cannot be read, or a frame has no energy; names file and frame.
        ReferenceEnergyError: An argument is unknown.
    """
    keys = _label_keys(read_kwargs)
    paths = [paths] if isinstance(paths, str | os.PathLike) else paths
    return _file_samples(paths, frmt, keys)


def _label_keys(read_kwargs: Mapping[str, Any]) -> LabelKeys:
    known = ("energy_key",)
    for name in read_kwargs:
        if name not in known:
            near = difflib.get_close_matches(name, (*known, "frmt"), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are frmt and {', '.join(known)}."
            raise ReferenceEnergyTypeError(
                f"iter_composition_energy_samples_from_files: unknown argument {name!r}; {hint}"
            )
    return LabelKeys(energy=read_kwargs.get("energy_key", "energy"))


def _file_samples(paths: Iterable[Any], frmt: str | None, keys: LabelKeys) -> Iterator[Sample]:
    for path in paths:
        for structure in _frames(os.fspath(path), frmt, keys):
            where = f"{structure.source}#{structure.frame}"
            if structure.energy is None:
                raise StructureError(
                    f"{where}: has no energy to fit to. Leave it out, or name its key with energy_key='...'."
                )
            yield check_sample((Counter(structure.species), structure.energy), where)


def _frames(path: str, frmt: str | None, keys: LabelKeys) -> Iterator[Structure]:
    if frmt is None:
        yield from read_structures(path, keys=keys)
    elif frmt.lower() == "xsf":
        if not os.path.isfile(path):
            raise MissingFileError(f"{path}: no such file.")
        yield from parse_piece(Piece("xsf", path), keys)
    elif frmt.lower() in ("xyz", "extxyz"):
        if not os.path.isfile(path):
            raise MissingFileError(f"{path}: no such file.")
        for piece in cut_extxyz(path):
            yield from parse_piece(piece, keys)
    else:
        from aenet_ray.structures.ase_io import read_ase

        yield from read_ase(path, keys=keys, frmt=frmt)
