"""``aenet-ray COMMAND``: one short module per command, imported only when it is asked for."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Sequence

from aenet_ray import __version__
from aenet_ray.errors import AenetRayError

COMMANDS = {
    "build": "read structure files, check them, write a structure store",
    "convert": "turn files of aenet-python, and ænet's potentials, into aenet_ray's own",
    "info": "what a structure store holds, and what looks wrong in it",
    "atomic-energies": "fit the energies of isolated species, for a run's atomic_energies",
    "featurize": "compute the descriptor of every structure of a store",
    "train": "train a potential from a YAML file",
    "tune": "search settings of a run, or cross-validate them, as trials on Ray Tune",
    "committee": "train a committee of the potential that a YAML file describes",
    "predict": "energies, forces and stress of structures",
    "calibrate": "compare a committee's spread with its errors, and scale it",
    "select": "the structures that a committee is least certain of, out of any number",
    "evaluate": "errors of a potential on labelled structures",
    "plot": "learning curves and parity plots",
    "export": "write a potential for other programs",
}
"""Commands and their one-line help; command ``x-y`` lives in ``aenet_ray.cli.x_y`` as ``add_parser`` and ``run``."""


JOBS = {"train", "tune", "committee"}
"""Commands that do more than say something."""

GENERAL = {"--quiet": "warnings and errors only", "--traceback": "show where in the program an error arose"}
"""Options of every command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit code: 0 done, 1 the command found problems, 2 an error of the input."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser(_requested(argv))
    options = _parse(parser, argv)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("aenet_ray").setLevel(logging.WARNING if options.quiet else logging.INFO)
    # Python shows these to programmers only; here they are about the user's own file.
    warnings.filterwarnings("default", "^.* is an old name of aenet-python's", DeprecationWarning)
    if not hasattr(options, "func"):
        parser.print_help()
        return 2
    try:
        return int(options.func(options) or 0)
    except BrokenPipeError:  # the reader of our output left, as `head` does; what was to be made may not be there
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(_requested(argv) in JOBS)
    except (AenetRayError, OSError) as error:
        if options.traceback:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted", file=sys.stderr)
        return 130


def _parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Parse, with options anywhere: argparse fills a command's list of arguments once, and takes what comes behind
    the next option for unknown. A command says by the default ``rest`` which list that belongs to."""
    options, behind = parser.parse_known_args(argv)
    unknown = [a for a in behind if a.startswith("-") or not hasattr(options, "rest")]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if behind:
        getattr(options, options.rest).extend(behind)
    return options


def _requested(argv: Sequence[str]) -> str | None:
    """The command among the arguments: the first that is no option."""
    return next((a for a in argv if not a.startswith("-")), None)


def _also_behind(parser: argparse.ArgumentParser) -> None:
    """The options of all commands, behind the command as well as before it."""
    for option, what in GENERAL.items():
        if option not in parser.format_usage():
            parser.add_argument(option, action="store_true", default=argparse.SUPPRESS, help=what)


def available() -> list[str]:
    """Commands whose module is there; looked up without importing it."""
    return [name for name in COMMANDS if importlib.util.find_spec(_module(name)) is not None]


def _module(command: str) -> str:
    return f"aenet_ray.cli.{command.replace('-', '_')}"


def _parser(requested: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aenet-ray",
        description="Train ænet machine-learning potentials on Ray, from structure files to a potential.",
        epilog="'aenet-ray COMMAND --help' explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"aenet_ray {__version__}")
    for option, what in GENERAL.items():
        parser.add_argument(option, action="store_true", help=what)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name in available():
        if name == requested:
            importlib.import_module(_module(name)).add_parser(subparsers)
            _also_behind(subparsers.choices[name])
        else:
            subparsers.add_parser(name, help=COMMANDS[name])
    return parser


if __name__ == "__main__":
    sys.exit(main())
