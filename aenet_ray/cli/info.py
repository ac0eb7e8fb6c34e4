"""``aenet-ray info data.h5``"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from aenet_ray.cli.main import COMMANDS

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from aenet_ray.structures.store import StructureStore
    from aenet_ray.structures.summary import Spread, StoreSummary


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("info", help=COMMANDS["info"], description=f"Show {COMMANDS['info']}.")
    parser.add_argument("store", metavar="data.h5", help="a structure store")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--verify", action="store_true", help="also read everything and compare with the content hash")
    parser.add_argument("--outliers", type=int, default=10, metavar="N", help="how many to list (default: 10)")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    from aenet_ray.structures.store import StructureStore
    from aenet_ray.structures.summary import summarize
    from aenet_ray.tables import output_console

    with StructureStore(args.store) as store:
        if args.verify:
            store.verify()
        summary = summarize(store, n_outliers=args.outliers)
        energies, note = atomic_energies(store)
    if args.json:
        values = {**summary.to_dict(), "atomic_energies": energies, "atomic_energies_note": note}
        json.dump(values, sys.stdout, indent=1, ensure_ascii=False)
        print()
    else:
        show(summary, energies, note, output_console(), verified=args.verify)
    return 0


def atomic_energies(store: StructureStore) -> tuple[dict[str, float], str]:
    """What ``aenet-ray atomic-energies`` fits to the same data, eV, and how; none, and why, where it refuses."""
    from aenet_ray.reference_energies.least_squares import explain_rank
    from aenet_ray.reference_energies.table import compositions_of

    fit = compositions_of([store])
    if not fit.n_samples:
        return {}, "No energies to fit by species."
    solution = fit.solve()
    if solution.rank < len(solution.energies):
        return {}, f"No energies by species: {explain_rank(solution, fit.n_samples)}"
    return solution.energies, f"Energies by species: least squares on {fit.n_samples:,} structures."


def show(
    summary: StoreSummary, energies: dict[str, float], note: str, console: Console, *, verified: bool = False
) -> None:
    """Print a summary as tables."""
    checked = " (verified)" if verified else ""
    console.print(summary.path, style="bold", markup=False, soft_wrap=True)
    console.print(
        f"{summary.n_structures:,} structures, {summary.n_atoms:,} atoms, {summary.n_bytes / 1e6:.1f} MB, "
        f"content hash {summary.content_hash}{checked}\n",
        soft_wrap=True,
    )
    console.print(_labels(summary))
    console.print(_species(summary, energies))
    console.print(f"{note}\n", markup=False)
    console.print(_compositions(summary))
    console.print(_ranges(summary))
    if summary.outliers:
        console.print(_outliers(summary))
    for suspicion in summary.suspicions:
        console.print(f"[bold yellow]suspicious:[/] {suspicion.what}\n            [dim]{suspicion.evidence}[/]")
    if not summary.suspicions:
        console.print("[green]units:[/] nothing suspicious in energies, forces and distances")


def _table(title: str, *columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for k, column in enumerate(columns):
        table.add_column(column, justify="left" if k == 0 else "right", overflow="fold")
    return table


def _labels(summary: StoreSummary) -> Table:
    table = _table("Labels", "label", "structures", "share")
    for name, count in summary.label_counts.items():
        share = f"{100 * count / summary.n_structures:.1f} %"
        table.add_row(name, f"{count:,}" if count else "-", share if count else "", style=None if count else "dim")
    for name, count in summary.fidelities.items():
        table.add_row(f"fidelity {name}", f"{count:,}", f"{100 * count / summary.n_structures:.1f} %")
    return table


def _species(summary: StoreSummary, energies: dict[str, float]) -> Table:
    fitted = ["fitted energy, eV"] if energies else []
    table = _table("Species", "species", "structures", "atoms", *fitted)
    for species, count in summary.species_structures.items():
        energy = [f"{energies[species]:.6f}" if species in energies else ""] if energies else []
        table.add_row(species, f"{count:,}", f"{summary.species_atoms[species]:,}", *energy)
    return table


def _compositions(summary: StoreSummary) -> Table:
    table = _table(f"Compositions ({summary.n_compositions:,})", "formula", "structures", "share")
    for formula, count in list(summary.compositions.items())[:12]:
        table.add_row(formula, f"{count:,}", f"{100 * count / summary.n_structures:.1f} %")
    listed = sum(list(summary.compositions.values())[:12])
    if listed < summary.n_structures:
        rest = summary.n_structures - listed
        table.add_row("others", f"{rest:,}", f"{100 * rest / summary.n_structures:.1f} %", style="dim")
    return table


def _ranges(summary: StoreSummary) -> Table:
    kinds = {0: "isolated", 1: "periodic along 1", 2: "periodic along 2", 3: "periodic"}
    periodic = ", ".join(f"{kinds[k]} {n:,}" for k, n in summary.periodicity.items())
    table = _table(f"Ranges ({periodic})", "", "least", "median", "largest")

    def row(name: str, spread: Spread | None, decimals: int) -> None:
        if spread is not None:
            values = (spread.least, spread.median, spread.largest)
            table.add_row(name, *(f"{value:.{decimals}f}" for value in values))

    row("atoms", summary.atoms_per_structure, 0)
    row("volume, Å³/atom", summary.volume_per_atom, 2)
    row("energy, eV/atom", summary.energy_per_atom, 4)
    row("above the fit by composition, eV/atom", summary.relative_energy, 4)
    row("largest force, eV/Å", summary.force, 4)
    sample = "" if summary.n_distances in (0, summary.n_structures) else f" ({summary.n_distances:,} with a pair seen)"
    row(f"closest atoms, Å{sample}", summary.nearest_distance, 3)
    if summary.force_rms is not None:
        table.caption = f"force components: {summary.force_rms:.4f} eV/Å rms; largest net force {summary.net_force:.0e}"
        table.caption = f"{table.caption} eV/Å an atom"
        table.caption_justify = "left"
    return table


def _outliers(summary: StoreSummary) -> Table:
    from rich.text import Text

    shown = len(summary.outliers)
    title = f"Energy outliers ({summary.n_outliers:,}; the worst {shown})"
    table = _table(title, "structure", "index", "eV/atom above the fit", "robust z")
    for outlier in summary.outliers:
        table.add_row(
            Text(outlier.identifier), str(outlier.index), f"{outlier.energy_per_atom:+.3f}", f"{outlier.score:+.0f}"
        )
    return table
