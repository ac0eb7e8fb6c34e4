"""The files of a selection: structures, a table, a histogram."""

from __future__ import annotations

from pathlib import Path

from aenet_ray.files import replacing
from aenet_ray.plots.selection import selection_plot
from aenet_ray.selection.result import Selection
from aenet_ray.selection.table import BINS
from aenet_ray.structures.ase_io import to_ase

UNITS = {"energy_std": "eV", "energy_std_per_atom": "eV/atom"}


def write_selection(selection: Selection, path: Path) -> None:
    """Write structures with all their labels, and beside them ``.csv`` and ``.png``."""
    import ase.io

    frames = []
    for s, value in zip(selection.structures, selection.uncertainty.tolist(), strict=True):
        atoms = to_ase(s)
        atoms.info |= {"uncertainty": value, "source": s.source, "frame": s.frame}
        frames.append(atoms)
    with replacing(path) as temporary:
        ase.io.write(str(temporary), frames, format="extxyz")
    selection.to_dataframe().to_csv(path.with_suffix(".csv"), index=False)
    scale = selection.scales["force" in selection.metric]
    selection_plot(
        BINS * scale,
        selection.counts,
        selection.uncertainty,
        quantity=selection.metric.replace("_", " "),
        unit=UNITS.get(selection.metric, "eV/Å"),
        outfile=path.with_suffix(".png"),
    )
