"""``aenet-ray atomic-energies data.h5``"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from aenet_ray.cli.main import COMMANDS

if TYPE_CHECKING:
    from rich.table import Table

    from aenet_ray.reference_energies import ReferenceEnergies


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "atomic-energies",
        help=COMMANDS["atomic-energies"],
        description="Fit total energies by the energies of the species: E = Σ n ε. Of a structure store only "
        "the columns of species and energies are read.",
    )
    parser.add_argument("files", nargs="+", metavar="data.h5", help="structure stores, structure files, archives")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--compounds", metavar="TiO2,O2", help="be exact for the lowest structure of each of these compositions instead"
    )
    how.add_argument(
        "--sae", action="store_true", help="leave out what lies beyond the 2nd and 98th percentile of the first fit"
    )
    parser.add_argument(
        "--fixed",
        action="append",
        default=[],
        metavar="Ti=-1604.6",
        help="a known energy, eV; may be repeated",
    )
    parser.add_argument("--subset-size", type=int, metavar="N", help="fit to N structures drawn at random")
    parser.add_argument("--seed", type=int, help="of the draw")
    parser.add_argument("-o", "--output", metavar="energies.yaml", help="also write them, for 'atomic_energies: FILE'")
    parser.set_defaults(func=run, rest="files")


def run(args: argparse.Namespace) -> int:
    from aenet_ray.reference_energies import write_energies
    from aenet_ray.reference_energies.yaml_file import yaml_line
    from aenet_ray.tables import output_console

    result = fit(args)
    console = output_console()
    console.print(table(result))
    console.print(summary(result), soft_wrap=True)
    print(f"\ntraining:\n  {yaml_line(result.atomic_energies)}")
    if args.output:
        write_energies(args.output, result.atomic_energies, {"method": result.method, **result.metadata})
        print(f"\nwritten: {args.output}")
    return 0


def fit(args: argparse.Namespace) -> ReferenceEnergies:
    """By the method asked for. Raises ReferenceEnergyError where the options do not fit together."""
    from aenet_ray.errors import ReferenceEnergyError
    from aenet_ray.reference_energies import ReferenceEnergies

    fixed = fixed_energies(args.fixed)
    if args.compounds is not None:
        if args.subset_size is not None:
            raise ReferenceEnergyError("--subset-size: has no meaning with --compounds, which looks for the lowest.")
        compounds = [c for c in args.compounds.split(",") if c.strip()]
        return ReferenceEnergies.from_reference_compounds(
            args.files, reference_compounds=compounds, fixed_atomic_energies=fixed
        )
    method = ReferenceEnergies.from_sae if args.sae else ReferenceEnergies.from_regression
    return method(args.files, fixed_atomic_energies=fixed, subset_size=args.subset_size, random_seed=args.seed)


def fixed_energies(given: list[str]) -> dict[str, float]:
    """``SPECIES=E`` options, each of one or of several with commas between. Raises ReferenceEnergyError."""
    from aenet_ray.errors import ReferenceEnergyError

    fixed: dict[str, float] = {}
    for item in (part for option in given for part in option.split(",")):
        species, _, text = item.partition("=")
        try:
            energy = float(text)
        except ValueError:
            raise ReferenceEnergyError(
                f"--fixed {item!r}: expected SPECIES=ENERGY in eV, such as Ti=-1604.6."
            ) from None
        if species.strip() in fixed:
            raise ReferenceEnergyError(f"--fixed {item!r}: {species.strip()} was given before.")
        fixed[species.strip()] = energy
    return fixed


def table(result: ReferenceEnergies) -> Table:
    """Species, energies, and what they rest on."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for k, column in enumerate(("species", "energy, eV", "standard error, eV", "atoms", "")):
        made.add_column(column, justify="right" if k in (1, 2, 3) else "left")
    for species, energy in result.atomic_energies.items():
        kind = "fixed" if species in result.metadata["fixed_atomic_energies"] else ""
        error = result.standard_errors.get(species)
        shown = "" if error is None else f"{error:.2g}"
        made.add_row(species, f"{energy:.6f}", shown, f"{result.n_atoms.get(species, 0):,}", kind)
    return made


def summary(result: ReferenceEnergies) -> str:
    """How many structures, of which rank, how well."""
    m = result.metadata
    used = m.get("n_samples_used", m.get("n_reference_compounds"))
    kinds = {
        "regression": f"least squares on {used:,} of {m['n_samples_total']:,} structures",
        "reference_compounds": f"lowest of {m['n_samples_total']:,} structures for each of {used} compounds",
        "sae": f"filtered least squares on {used:,} of {m['n_samples_total']:,} structures",
    }
    wanted = len(m["free_species"])
    return f"{kinds[result.method]}; rmse {m['rmse']:.4g} eV a structure; rank {m['rank']} of {wanted}"
