"""Strict, frozen configuration records, readable from YAML, every field overridable."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from aenet_ray.errors import ConfigError

C = TypeVar("C", bound="Config")


class SettingsError(ConfigError):
    """A record's values are not allowed; ``problems``, (path, text) each, let the record around it say where."""

    problems: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, problems: Iterable[tuple[str, str]], prefix: str) -> SettingsError:
        """One line a problem, ``prefix`` (of which nothing may be missing) before its path."""
        found = tuple(problems)
        error = cls("\n".join(f"{prefix}{path}: {text}" if path else f"{prefix[:-1]}: {text}" for path, text in found))
        error.problems = found
        return error


class Config(BaseModel):
    """Base of every configuration record: typed, checked, immutable, unknown keys are errors.

    Raises:
        ConfigError: On construction, naming each field, the value found and what is allowed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)

    def __init__(self, *in_order: Any, **values: Any) -> None:
        """Fields by name, or in the order in which they are declared."""
        names = list(type(self).model_fields)[: len(in_order)]
        if len(names) < len(in_order) or values.keys() & names:
            raise ConfigError(f"{type(self).__name__}: {len(in_order)} values in order and {sorted(values)} by name.")
        try:
            super().__init__(**dict(zip(names, in_order, strict=True)), **values)
        except ValidationError as error:
            raise SettingsError.of(problems_of(type(self), error), f"{type(self).__name__}.") from None

    @classmethod
    def from_mapping(cls: type[C], values: Mapping[str, Any], where: str = "") -> C:
        """Build from plain values, as read from YAML or a checkpoint; ``where`` opens the message."""
        try:
            return cls(**dict(values))
        except SettingsError as error:
            raise (SettingsError.of(error.problems, f"{where}: ") if where else error) from None


def problems_of(cls: type[BaseModel], error: ValidationError) -> Iterator[tuple[str, str]]:
    """Path of each setting, and what was found and what is allowed; those of records inside under their full path."""
    for problem in error.errors():
        path = ".".join(str(part) for part in problem["loc"])
        inner = problem.get("ctx", {}).get("error")
        if isinstance(inner, SettingsError):
            yield from ((f"{path}.{rest}" if rest else path, text) for rest, text in inner.problems)
        elif problem["type"] == "extra_forbidden":
            known = _fields_at(cls, problem["loc"])
            near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}."
            yield path, f"unknown setting; {hint}"
        elif problem["type"] == "missing":
            yield path, "is required and was not given."
        else:
            message = problem["msg"].removeprefix("Value error, ")
            message = message if inner else f"{message[0].lower()}{message[1:]}"
            yield path, f"{message} (found {reprlib.repr(problem['input'])})." if path else f"{message}."


def _fields_at(cls: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    """Field names of the record in which the last part of ``loc`` was looked for."""
    current: Any = cls
    for part in loc[:-1]:
        field = getattr(current, "model_fields", {}).get(part)
        annotation = field.annotation if field else None
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        current = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), cls)
    return sorted(getattr(current, "model_fields", {}))


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML mapping, safely loaded.

    Raises:
        ConfigError: The file is missing, not YAML, or not a mapping.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; expected a YAML file describing the run.") from None
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds {type(values).__name__}, expected a mapping of settings.")
    return values


def apply_overrides(values: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Set ``a.b=value`` pairs in nested settings; values are parsed as YAML.

    Raises:
        ConfigError: An override has no '=' or goes through something that is not a mapping.
    """
    for item in overrides:
        key, equals, text = item.partition("=")
        if not equals or not key:
            raise ConfigError(f"override {item!r}: expected KEY=VALUE, such as training.iterations=50.")
        target = values
        *parents, last = key.split(".")
        for parent in parents:
            if target.get(parent) is None:
                target[parent] = {}
            target = target[parent]
            if not isinstance(target, dict):
                raise ConfigError(f"override {item!r}: {parent!r} is not a group of settings.")
        try:
            target[last] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"override {item!r}: value cannot be read: {error}") from None
    return values
