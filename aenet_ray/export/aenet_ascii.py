"""ænet's ASCII potential files, one per species.

Written in fixed columns, four numbers a line: readable for ænet's library routines, which count
columns, and for list-directed Fortran readers, which split at blanks. Both layouts are read, also
the one with a whole vector on one line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np

from aenet_ray.errors import ExportError
from aenet_ray.export.files import write_atomically, write_each
from aenet_ray.export.rows import ROWS, Row, Values, potential_of, values_of
from aenet_ray.export.species_potential import SpeciesPotential

T = TypeVar("T", int, float)


def write_ascii(potential: SpeciesPotential, path: str | Path, *, allow_longer_angular_cutoff: bool = False) -> Path:
    """Write one species' potential in ænet's ASCII format; the file appears complete or not at all.

    Raises:
        ExportError: The angular cutoff is longer than the radial one: ænet would evaluate such a
            potential differently.
        OSError: The file cannot be written.
    """
    values = values_of(potential, allow_longer_angular_cutoff=allow_longer_angular_cutoff)
    lines = [line for row in ROWS for line in _lines(row, values)]
    return write_atomically(path, ("\n".join(lines) + "\n").encode("ascii"))


def write_ascii_files(
    potentials: Iterable[SpeciesPotential],
    output_dir: str | Path,
    prefix: str = "potential",
    *,
    allow_longer_angular_cutoff: bool = False,
) -> dict[str, Path]:
    """Write ``{prefix}.{species}.nn.ascii`` for each potential; species to absolute path."""
    write = partial(write_ascii, allow_longer_angular_cutoff=allow_longer_angular_cutoff)
    return write_each(write, potentials, output_dir, prefix, ".nn.ascii")


def read_ascii(path: str | Path) -> SpeciesPotential:
    """Read one species' potential from ænet's ASCII format, in either layout of lines.

    Raises:
        ExportError: The file ends early, a line is not what its place demands, or numbers contradict
            each other; the message names the line.
        FileNotFoundError: No such file.
    """
    lines = _Lines(Path(path))
    values: Values = {}
    starts: dict[str, int] = {}
    for row in ROWS:
        starts[row.name] = lines.next_number()
        values[row.name] = lines.read(row, values)
    lines.expect_end()
    return potential_of(values, path, lambda row: f"line {starts[row]}")


def _lines(row: Row, values: Values) -> list[str]:
    value = values[row.name]
    match row.kind:
        case "int":
            return [f"{value:17d}"]
        case "float":
            return [f"{value:24.16E}"]
        case "text":
            return [value]
        case "words":
            return list(value)
        case "flag":
            return ["T" if value else "F"]
        case "ints":
            return _columns([f" {number:17d}" for number in value.tolist()])
        case "floats":
            return _columns([f" {number:24.16E}" for number in value.tolist()])
        case "line":
            return [" ".join(f"{number:24.16E}" for number in value.tolist())]
        case "environment":
            return _environment_lines(values["n_species"], values["n_features"])


def _columns(numbers: Sequence[str], per_line: int = 4) -> list[str]:
    return ["".join(numbers[i : i + per_line]) for i in range(0, len(numbers), per_line)]


def _environment_lines(n_species: int, n_features: int) -> list[str]:
    """Zeros for two readers that disagree on their number.

    Column readers take S·F numbers, four a line, where a blank counts as zero and nothing beyond
    column 72 is seen; list-directed readers take 2·F numbers from as many lines as it needs.
    """
    n_lines = math.ceil(n_species * n_features / 4)
    per_line = 8 if n_species == 1 else 4
    lines, left = [], 2 * n_features
    for lines_after in range(n_lines - 1, -1, -1):
        here = min(per_line, left - lines_after)
        lines.append(f" {0:17d}" * here)
        left -= here
    return lines


class _Lines:
    """Reads values as Fortran's list-directed READ does, but stops at whatever looks wrong."""

    def __init__(self, path: Path) -> None:
        self.path = path
        text = path.read_bytes().decode("utf-8", errors="replace").splitlines()
        self.lines = [(i, line.strip()) for i, line in enumerate(text, start=1) if line.strip()]
        self.at = 0
        self.last = len(text)

    def next_number(self) -> int:
        return self.lines[self.at][0] if self.at < len(self.lines) else self.last

    def fail(self, line: int, expected: str, found: str) -> NoReturn:
        shown = found if len(found) <= 60 else found[:57] + "..."
        raise ExportError(f"{self.path}, line {line}: expected {expected}, found {shown}.")

    def take(self, expected: str) -> tuple[int, str]:
        if self.at >= len(self.lines):
            self.fail(self.last, expected, "the end of the file; it is truncated")
        self.at += 1
        return self.lines[self.at - 1]

    def read(self, row: Row, values: Values) -> Any:
        match row.kind:
            case "int":
                return self.numbers(row, 1, _int)[0]
            case "float":
                return self.numbers(row, 1, _float)[0]
            case "ints":
                return np.array(self.numbers(row, row.count(values), _int), dtype=np.int32)
            case "floats" | "line":
                return np.array(self.numbers(row, row.count(values), _float), dtype=np.float64)
            case "words":
                return self.tokens(row, row.count(values), "symbols")[1]
            case "flag":
                return self.flag(row)
            case "environment":
                return self.environment(row, values)
            case "text":
                return self.take(f"the {row.what}")[1].strip("'\" ")

    def tokens(self, row: Row, count: int, unit: str) -> tuple[list[int], list[str]]:
        """``count`` values from this line and as many more as it takes, with their line numbers."""
        expected = f"{count} {unit} ({row.what})"
        lines: list[int] = []
        tokens: list[str] = []
        while len(tokens) < count:
            number, text = self.take(expected if not tokens else f"{expected}, {len(tokens)} so far")
            new = _split(text)
            tokens += new
            lines += [number] * len(new)
        if len(tokens) != count:
            self.fail(lines[-1], expected, f"{len(tokens)}")
        return lines, tokens

    def numbers(self, row: Row, count: int, convert: Callable[[str], T]) -> list[T]:
        unit = "integer" if convert is _int else "number"
        lines, tokens = self.tokens(row, count, unit if count == 1 else unit + "s")
        numbers = []
        for line, token in zip(lines, tokens, strict=True):
            try:
                numbers.append(convert(token))
            except ValueError:
                self.fail(line, f"{count} {unit}{'s' * (count > 1)} ({row.what})", repr(token))
        if row.kind == "int" and numbers[0] < row.minimum:
            self.fail(lines[0], f"the {row.what}, {row.minimum} or more", str(numbers[0]))
        return numbers

    def flag(self, row: Row) -> bool:
        line, text = self.take(f"T or F ({row.what})")
        letter = text.lstrip(".")[:1].upper()
        if letter not in ("T", "F"):
            self.fail(line, f"T or F ({row.what})", repr(text))
        return letter == "T"

    def environment(self, row: Row, values: Values) -> np.ndarray:
        """Writers differ in the count, so take integers up to the row before the first real number."""
        start = self.at
        while self.at < len(self.lines) and all(map(_is_int, _split(self.lines[self.at][1]))):
            self.at += 1
        self.at = max(self.at - 1, start)  # the last of them is the number of evaluations
        block = [token for _, text in self.lines[start : self.at] for token in _split(text)]
        counts = {2 * values["n_features"], values["n_species"] * values["n_features"]}
        if len(block) not in counts:
            expected = f"{' or '.join(map(str, sorted(counts)))} integers ({row.what})"
            self.fail(self.next_number(), expected, f"{len(block)} before it")
        return np.array([int(token) for token in block], dtype=np.int32)

    def expect_end(self) -> None:
        if self.at < len(self.lines):
            line, text = self.lines[self.at]
            self.fail(line, "the end of the file", repr(text))


def _split(text: str) -> list[str]:
    """Values of a line; ``3*0.0`` stands for three of them."""
    tokens: list[str] = []
    for token in text.replace(",", " ").split():
        repeated = re.fullmatch(r"(\d{1,6})\*(.+)", token)
        tokens += [repeated[2]] * int(repeated[1]) if repeated else [token]
    return tokens


def _is_int(token: str) -> bool:
    return re.fullmatch(r"[+-]?\d+", token) is not None


def _int(token: str) -> int:
    if not _is_int(token) or abs(int(token)) >= 2**31:
        raise ValueError(token)
    return int(token)


def _float(token: str) -> float:
    """A finite number, also with Fortran's D exponent or, beyond E±99, without any letter."""
    plain = re.sub(r"(\.\d*)([+-]\d{3})$", r"\1E\2", token.upper().replace("D", "E"))
    number = float(plain)
    if not math.isfinite(number) or "_" in plain:
        raise ValueError(token)
    return number
