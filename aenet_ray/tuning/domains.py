"""What one setting of a search may be: a range or a list, sampled here or by a searcher's library."""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from aenet_ray.errors import ConfigError

RANGES = {
    "uniform": ("low", "high"),
    "quniform": ("low", "high", "step"),
    "loguniform": ("low", "high"),
    "qloguniform": ("low", "high", "step"),
    "randint": ("low", "high"),
    "qrandint": ("low", "high", "step"),
    "lograndint": ("low", "high"),
}
"""Kinds of ranges and their numbers. The names are Ray Tune's: ``randint`` and ``lograndint`` leave ``high`` out,
``qrandint`` takes it in."""
LISTS = ("choice", "grid")
WHOLE = ("randint", "qrandint", "lograndint")
# YAML 1.1 takes 1e-4, without a dot, for text.
SCIENTIFIC = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")


@dataclass(frozen=True, slots=True)
class Domain:
    """One setting's range or list.

    Args:
        kind: One of ``RANGES`` or ``LISTS``.
        arguments: The numbers of a range, or the values of a list.
    """

    kind: str
    arguments: tuple[Any, ...]

    @property
    def is_list(self) -> bool:
        return self.kind in LISTS

    @property
    def is_log(self) -> bool:
        return "log" in self.kind

    def sample(self, generator: np.random.Generator) -> Any:
        """One value; of a ``grid`` none is drawn, see ``grid_points``."""
        if self.is_list:
            return self.arguments[int(generator.integers(len(self.arguments)))]
        low, high, *step = self.arguments
        whole = self.kind in WHOLE
        end = high - 1 if self.kind in ("randint", "lograndint") else high
        if self.is_log:
            value = math.exp(generator.uniform(math.log(low), math.log(end + 1 if whole else end)))
        else:
            value = generator.uniform(low, end + 1 if whole else end)
        if step:
            return self.snap(value)
        return min(math.floor(value), end) if whole else value

    def snap(self, value: Any) -> Any:
        """A proposed value as it is used: a plain number, a multiple of the step where there is one."""
        value = value.item() if isinstance(value, np.generic) else value
        if self.is_list or len(self.arguments) < 3:
            return value
        low, high, step = self.arguments
        value = round(value / step) * step
        return min(max(int(value) if self.kind in WHOLE else round(value, 12), low), high)

    def corners(self) -> list[Any]:
        """Values among which a setting that is not allowed shows: the ends of a range, all of a list."""
        if self.is_list:
            return list(self.arguments)
        low, high = self.arguments[:2]
        return [low, high - 1 if self.kind in ("randint", "lograndint") else high]


def parse_domain(path: str, given: Any) -> Domain:
    """``{loguniform: [1e-4, 1e-2]}`` or ``{choice: [10, 16]}``.

    Raises:
        ConfigError: It is none of these, or its numbers make no range.
    """
    where, known = f"tune.space.{path}", (*LISTS, *RANGES)
    if not isinstance(given, Mapping) or len(given) != 1:
        raise ConfigError(
            f"{where}: found {given!r}, expected one of {', '.join(known)}, such as {{choice: [10, 16]}}."
        )
    kind, arguments = next(iter(given.items()))
    if kind not in known:
        near = difflib.get_close_matches(str(kind), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}."
        raise ConfigError(f"{where}: {kind!r} is no kind of range; {hint}")
    if not isinstance(arguments, (list, tuple)) or not arguments:
        wanted = f"[{', '.join(RANGES[kind])}]" if kind in RANGES else "a list of values"
        raise ConfigError(f"{where}: {kind}: found {arguments!r}, expected {wanted}.")
    if kind in LISTS:
        values = tuple(_number(v) for v in arguments)
        if any(values[i] == v and type(values[i]) is type(v) for i, v in _pairs(values)):
            raise ConfigError(f"{where}: {kind}: {list(values)} names a value twice.")
        return Domain(kind, values)
    return Domain(kind, _checked_range(where, kind, arguments))


def _pairs(values: tuple[Any, ...]) -> list[tuple[int, Any]]:
    return [(i, values[j]) for i, j in itertools.combinations(range(len(values)), 2)]


def _checked_range(where: str, kind: str, arguments: Any) -> tuple[Any, ...]:
    names = RANGES[kind]
    numbers = tuple(_number(v) for v in arguments)
    text = f"{where}: {kind}: [{', '.join(map(str, arguments))}]"
    if len(numbers) != len(names):
        raise ConfigError(f"{text} has {len(numbers)} numbers, expected [{', '.join(names)}].")
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
            raise ConfigError(f"{text}: {number!r} is no finite number.")
        if kind in WHOLE and not isinstance(number, int):
            raise ConfigError(f"{text}: {number!r} is not whole, as {kind} needs.")
    low, high, *step = numbers
    if not low < high:
        raise ConfigError(f"{text}: low must be below high.")
    if "log" in kind and low <= 0:
        raise ConfigError(f"{text}: a logarithmic range begins above 0.")
    if step and not 0 < step[0] <= high - low:
        raise ConfigError(f"{text}: the step must be above 0 and at most high - low.")
    return numbers


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, str) and SCIENTIFIC.fullmatch(value) else value


def grid_points(space: Mapping[str, Domain]) -> list[dict[str, Any]]:
    """All combinations of the settings given as ``grid``; one empty one where there are none."""
    grids = {path: domain.arguments for path, domain in space.items() if domain.kind == "grid"}
    return [dict(zip(grids, point, strict=True)) for point in itertools.product(*grids.values())]
