"""``aenet-ray evaluate model.pt FILES…``: a table of errors and parity plots."""

from __future__ import annotations

import argparse

from aenet_ray.cli.main import COMMANDS


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("evaluate", help=COMMANDS["evaluate"])
    parser.add_argument("model", help="model.pt, a checkpoint, or the folder of a run")
    parser.add_argument("files", nargs="+", help="structures in any readable format, or one structure store")
    parser.add_argument("-o", "--output", default="evaluation", help="folder of table and plots (default: evaluation)")
    parser.add_argument("--no-forces", action="store_true", help="energies only")
    parser.set_defaults(func=run, rest="files")


def run(args: argparse.Namespace) -> int:
    import tempfile
    from pathlib import Path

    from aenet_ray.errors import StructureError
    from aenet_ray.inference.evaluate import evaluate_store
    from aenet_ray.potential import TorchANNPotential
    from aenet_ray.structures.build import build_store
    from aenet_ray.structures.store import StructureStore
    from aenet_ray.tables import print_errors
    from aenet_ray.workflow import write_errors

    potential, show = TorchANNPotential.from_file(args.model), not args.quiet
    with tempfile.TemporaryDirectory() as folder:
        if len(args.files) == 1 and args.files[0].endswith((".h5", ".hdf5")):
            path = Path(args.files[0])
        else:
            path = build_store(args.files, Path(folder) / "structures.h5", workers=None, progress=show).path
        with StructureStore(path) as store:
            name = Path(args.files[0]).name if len(args.files) == 1 else f"{len(args.files)} files"
            if not store.has_energy_any:
                raise StructureError(
                    f"{name}: none of {len(store)} structures has an energy to compare with. Give files with energies "
                    "('aenet-ray build --energy-key' reads those of another name), or use 'aenet-ray predict'."
                )
            forces = not args.no_forces and store.has_forces_any
            evaluation = evaluate_store(potential.model, store, name=name, forces=forces, progress=show)
    Path(args.output).mkdir(parents=True, exist_ok=True)
    write_errors(Path(args.output), [evaluation])
    print_errors([evaluation.row()], f"Errors of {args.model}")
    print(f"table and parity plots in {args.output}")
    return 0
