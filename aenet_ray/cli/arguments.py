"""Arguments that several commands have, and what follows from them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def add_run_file(parser: argparse.ArgumentParser, what: str, example: str) -> None:
    """A run's file and settings that go before those in it; see ``read_run_file``.

    Args:
        what: Help of the file.
        example: A setting as it may be given.
    """
    parser.add_argument("experiment", help=what)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=f"settings, such as {example}")
    parser.add_argument("--quiet", action="store_true", default=argparse.SUPPRESS, help="no progress, no lines")


def read_run_file(args: argparse.Namespace) -> dict[str, Any]:
    """The file's settings, with those of the command line.

    Raises:
        ConfigError: The file is no mapping, or a setting is malformed.
    """
    from aenet_ray.config import apply_overrides, read_yaml

    values = apply_overrides(read_yaml(args.experiment), args.overrides)
    return apply_overrides(values, ["training.show_progress=false"]) if args.quiet else values


def name_run(values: dict[str, Any]) -> str:
    """The run's name, which the settings have from now on: the time's, if they have none. See ``can_go_on``."""
    from aenet_ray.training.run_folder import time_name

    run = values.get("run") or {}
    if not isinstance(run, dict):
        return ""  # refused with all other settings
    values["run"] = run | {"name": run.get("name") or time_name()}
    return str(values["run"]["name"])


@contextmanager
def can_go_on(where: str, name: str) -> Iterator[None]:
    """An interrupt says how to go on.

    Args:
        name: Of the run's folder, which the time gave where the command has no ``run.name``.

    Raises:
        KeyboardInterrupt: With that line.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit):  # Ray Train makes the second of the first
        again = f"run.name={name} run.resume=auto"
        raise KeyboardInterrupt(f"interrupted; the same command with {again} goes on {where}") from None


def add_on_error(parser: argparse.ArgumentParser, what: str, report: str) -> None:
    """``--on-error``: stop, or skip.

    Args:
        what: Where it stops, such as 'the first structure'.
        report: Lists what was left out.
    """
    parser.add_argument(
        "--on-error",
        choices=("raise", "skip"),
        default="raise",
        help=f"stop at {what} that cannot be used (default), or leave it out and list it in {report}",
    )
