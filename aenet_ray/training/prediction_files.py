"""Energies and forces of every training and validation structure as text, as ænet writes its energies.

``energies.train.0`` and ``energies.test.0`` have the columns of ænet, blank-separated::

    Ref(eV) ANN(eV) #atoms Ref(eV/atom) ANN(eV/atom) Ref-ANN(eV/atom) Cost-Func #Sp1 #Sp2 … Path-of-input-file

Total energies, of ænet's seven digits; Ref-ANN has seven of its own. Cost-Func is (Ref − ANN) times ``E_scaling``;
#Sp1, #Sp2, … count the atoms of the descriptor's species in its order. ``forces.train.0`` and ``forces.test.0`` have
a line for each atom with a reference force::

    structure atom species Fx_ref Fy_ref Fz_ref Fx_ANN Fy_ANN Fz_ANN path

``structure`` is the line of the structure in the energy file, ``atom`` its atom, both from 1; forces in eV/Å.
Paths hold no blanks: these are written as underscores.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np

from aenet_ray.errors import StructureError
from aenet_ray.models.ann import ANNModel
from aenet_ray.structures.store import StructureStore
from aenet_ray.structures.structure import FloatArray, IntArray
from aenet_ray.training.batch import BatchMaker
from aenet_ray.training.evaluation import predict_errors
from aenet_ray.training.spec import RunSpec
from aenet_ray.training.state import batch_maker

if TYPE_CHECKING:
    import pandas as pd

ENERGY_COLUMNS = (
    "Ref(eV)", "ANN(eV)", "#atoms", "Ref(eV/atom)", "ANN(eV/atom)", "Ref-ANN(eV/atom)", "Cost-Func",
)  # fmt: skip
PATH_COLUMN = "Path-of-input-file"
FORCE_COLUMNS = (
    "structure", "atom", "species", "Fx_ref", "Fy_ref", "Fz_ref", "Fx_ANN", "Fy_ANN", "Fz_ANN", "path",
)  # fmt: skip


def write_prediction_files(run_dir: Path, store: StructureStore, model: ANNModel) -> list[Path]:
    """Write what ``save_energies`` and ``save_forces`` of a finished run ask for into its folder.

    Args:
        store: The structures it was trained on.
        model: Trained.

    Returns:
        The files: for training structures, and for those of validation if there are any.
    """
    spec = RunSpec.load(run_dir)
    wanted = [k for k, asked in (("energies", spec.config.save_energies), ("forces", spec.config.save_forces)) if asked]
    written = []
    if wanted:
        maker = batch_maker(spec, model, model.device)
        texts = identifiers(store, always_frame=store.path.parent != run_dir)
        for part, ids in (("train", spec.train_ids), ("test", spec.test_ids)):
            if len(ids):
                paths = {kind: run_dir / f"{kind}.{part}.0" for kind in wanted}
                with maker.background:
                    _write_part(model, maker, ids, [texts[i] for i in ids], paths)
                written += list(paths.values())
    return written


def identifiers(store: StructureStore, *, always_frame: bool) -> list[str]:
    """A text without blanks for each structure: its name, else its file, else ``structure_000012``.

    ``#frame=k`` follows where a file or name has several frames; always for structures of a database.
    """
    texts = store.titles()
    frames = store.frames().tolist()
    several = {text for text, frame in zip(texts, frames, strict=True) if frame > 0}
    return [
        re.sub(r"\s", "_", f"{text}#frame={frame}" if always_frame or text in several else text)
        for text, frame in zip(texts, frames, strict=True)
    ]


def _write_part(model: ANNModel, maker: BatchMaker, ids: IntArray, texts: list[str], paths: dict[str, Path]) -> None:
    store, scaling = maker.store, model.normalization.E_scaling
    with ExitStack() as stack:
        files = {kind: stack.enter_context(path.open("w")) for kind, path in paths.items()}
        for kind, file in files.items():
            file.write(_energy_header(len(store.species)) if kind == "energies" else f"# {' '.join(FORCE_COLUMNS)}\n")
        for part, energy, force in predict_errors(model, maker, ids, forces="forces" in files):
            if "energies" in files:
                rows = zip(
                    store.energy[ids[part]].tolist(),
                    (-energy).tolist(),
                    store.composition[ids[part]].tolist(),
                    texts[part],
                    strict=True,
                )
                files["energies"].writelines(_energy_line(*row, scaling) for row in rows)
            if "forces" in files:
                _write_forces(files["forces"], maker, ids, part, force, texts)


def _energy_header(n_species: int) -> str:
    counts = " ".join(f"#Sp{k + 1}" for k in range(n_species))
    return (
        "#  Ref(eV)        ANN(eV)      #atoms  Ref(eV/atom)   ANN(eV/atom) Ref-ANN(eV/atom)    Cost-Func "
        f"{counts}    {PATH_COLUMN}\n"
    )


def _energy_line(reference: float, difference: float, counts: list[int], text: str, scaling: float) -> str:
    """``difference``: reference − prediction, eV/atom."""
    n = sum(counts)
    predicted = reference - n * difference
    numbers = (reference / n, predicted / n, difference, difference * scaling)
    return (
        f" {reference:14.6E} {predicted:14.6E} {n:5d} {' '.join(f'{v:14.6E}' for v in numbers)} "
        f"{' '.join(f'{c:4d}' for c in counts)}    {text}\n"
    )


def _write_forces(
    file: TextIO, maker: BatchMaker, ids: IntArray, part: slice, errors: FloatArray, texts: list[str]
) -> None:
    """Lines of the atoms of the labelled structures of a part."""
    labelled = np.flatnonzero(maker.store.has_forces[ids[part]]) + part.start
    if not len(labelled):
        return
    block, species = maker.store.geometry(ids[labelled])
    symbols, predicted = maker.store.species, block.forces + errors
    for k, place in enumerate(labelled.tolist()):
        atoms = slice(int(block.offsets[k]), int(block.offsets[k + 1]))
        rows = zip(species[atoms].tolist(), block.forces[atoms].tolist(), predicted[atoms].tolist(), strict=True)
        for atom, (kind, reference, ann) in enumerate(rows, start=1):
            numbers = " ".join(f"{v:15.8E}" for v in (*reference, *ann))
            file.write(f" {place + 1:7d} {atom:5d} {symbols[kind]:>2s} {numbers}    {texts[place]}\n")


def read_energy_file(path: str | Path) -> pd.DataFrame:
    """An energy file of aenet_ray, aenet-python or ænet, a row a structure, under the names of its header's columns.

    Six digits of a total energy say less than the differences do: errors are best taken from ``Ref-ANN(eV/atom)``.

    Raises:
        FileNotFoundError: It is not there.
        StructureError: It is none, or a line is damaged.
    """
    import pandas as pd

    rows = list(_rows(path, "Ref(eV)"))
    n_species = max((len(row) for _, row in rows), default=len(ENERGY_COLUMNS) + 1) - len(ENERGY_COLUMNS) - 1
    names = [*ENERGY_COLUMNS, *(f"#Sp{k + 1}" for k in range(n_species)), PATH_COLUMN]
    table = pd.DataFrame([_checked(path, number, row, names) for number, row in rows], columns=names)
    whole = dict.fromkeys(names, "float64") | dict.fromkeys([n for n in names if n[0] == "#"], "int64")
    return _typed(path, table, whole | {PATH_COLUMN: "str"})


def read_force_file(path: str | Path) -> pd.DataFrame:
    """A force file, a row an atom: ``structure`` and ``atom`` from 1, ``species``, references and predictions (eV/Å).

    Raises:
        FileNotFoundError: It is not there.
        StructureError: It is none, or a line is damaged.
    """
    import pandas as pd

    rows = [_checked(path, number, row, FORCE_COLUMNS) for number, row in _rows(path, "Fx_ref")]
    table = pd.DataFrame(rows, columns=list(FORCE_COLUMNS))
    kinds = dict.fromkeys(FORCE_COLUMNS, "float64") | {"structure": "int64", "atom": "int64"}
    return _typed(path, table, kinds | {"species": "str", "path": "str"})


def _rows(path: str | Path, mark: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and words of each line under the header, in which ``mark`` stands."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; train with save_energies or save_forces to have it written.")
    with path.open(errors="replace") as file:
        header = file.readline()
        if not header.startswith("#") or mark not in header:
            raise StructureError(f"{path}: begins with {header[:40]!r}, expected a header with {mark!r}.")
        for number, line in enumerate(file, start=2):
            if line.strip():
                yield number, line.split()


def _checked(path: str | Path, number: int, row: list[str], names: list[str] | tuple[str, ...]) -> list[str]:
    if len(row) != len(names):
        raise StructureError(f"{path}, line {number}: {len(row)} columns, expected {len(names)}; is the file complete?")
    return row


def _typed(path: str | Path, table: pd.DataFrame, kinds: dict[str, str]) -> pd.DataFrame:
    try:
        return table.astype(kinds)
    except ValueError as error:
        raise StructureError(f"{path}: a column is not of numbers: {error}") from None
