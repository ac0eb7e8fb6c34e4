"""Strict, frozen configuration records, readable from YAML, every field overridable."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from aenet_ray.errors import ConfigError

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Base of every configuration record: typed, checked, immutable, unknown keys are errors.

    Raises:
        ConfigError: On construction, naming each field, the value found and what is allowed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(describe(type(self), error)) from None

    @classmethod
    def from_mapping(cls: type[C], values: Mapping[str, Any], where: str = "") -> C:
        """Build from plain values, as read from YAML or a checkpoint; ``where`` opens the message."""
        try:
            return cls(**dict(values))
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}" if where else str(error)) from None


def describe(cls: type[BaseModel], error: ValidationError) -> str:
    """One line a problem: field, what was found, what is allowed."""
    lines = []
    for problem in error.errors():
        path = ".".join(str(part) for part in problem["loc"]) or cls.__name__
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(problem["loc"][-1]), _fields_at(cls, problem["loc"]), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(_fields_at(cls, problem['loc']))}."
            lines.append(f"{cls.__name__}: unknown setting {path!r}{hint}")
        elif problem["type"] == "missing":
            lines.append(f"{cls.__name__}.{path} is required and was not given.")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{cls.__name__}.{path}: {message[0].lower()}{message[1:]} (found {problem['input']!r}).")
    return "\n".join(lines)


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
