"""Strict, frozen configuration records, readable from YAML, every field overridable."""

from __future__ import annotations

import difflib
import functools
import inspect
import os
import reprlib
import sys
import types
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, ParamSpec, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from aenet_ray.errors import ConfigError, InputTypeError

C = TypeVar("C", bound="Config")
P = ParamSpec("P")
R = TypeVar("R")

SIGNATURE = {"extra_forbidden", "missing"}
"""What pydantic calls the problems that are a TypeError in a function's call."""


class SettingsError(ConfigError):
    """A record's values are not allowed; ``problems``, (path, text) each, let the record around it say where."""

    problems: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, problems: Iterable[tuple[str, str]], prefix: str) -> SettingsError:
        """One line a problem, ``prefix`` (of which nothing may be missing) before its path."""
        found = tuple(problems)
        error = cls(
            "\n".join(f"{prefix}{path}: {text}" if path else f"{prefix.rstrip('.: ')}: {text}" for path, text in found)
        )
        error.problems = found
        return error


class SignatureError(SettingsError, TypeError):
    """A setting that does not exist, is given twice or is missing: what Python itself calls a TypeError."""


class Config(BaseModel):
    """Base of every configuration record: typed, checked, immutable, unknown keys are errors.

    Raises:
        ConfigError: On construction, naming each field, the value found and what is allowed; a TypeError as well where
            a setting is unknown, missing or given twice. On assignment: a record does not change.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)

    known_elsewhere: ClassVar[Mapping[str, str]] = {}
    """Names that users look for here, and what to say instead."""

    def __init__(self, *in_order: Any, **values: Any) -> None:
        """Fields by name, or in the order in which they are declared."""
        names = list(type(self).model_fields)
        name = type(self).__name__
        if len(in_order) > len(names):
            raise SignatureError(
                f"{name}: {len(in_order)} values in order, but it has {len(names)} settings: {', '.join(names)}."
            )
        if twice := [n for n in names[: len(in_order)] if n in values]:
            raise SignatureError(f"{name}: {', '.join(twice)} given twice, by place and by name; leave one out.")
        try:
            super().__init__(**dict(zip(names, in_order, strict=False)), **values)
        except ValidationError as error:
            raise _error_class(error).of(problems_of(type(self), error), f"{name}.") from None

    @classmethod
    def from_mapping(cls: type[C], values: Mapping[str, Any], where: str = "") -> C:
        """Build from plain values, as read from YAML or a checkpoint; ``where`` opens the message."""
        try:
            return cls(**dict(values))
        except SettingsError as error:
            raise (type(error).of(error.problems, f"{where}: ") if where and error.problems else error) from None

    def replace(self: C, **changes: Any) -> C:
        """The same settings with some others, checked as on construction."""
        return type(self)(**{name: getattr(self, name) for name in self.model_fields_set} | changes)

    def __setattr__(self, name: str, value: Any) -> None:
        known = sorted(type(self).model_fields)
        if name not in known:
            raise SignatureError(f"{type(self).__name__}.{name}: unknown setting; {_hint(name, known)}")
        raise ConfigError(
            f"{type(self).__name__}.{name}: settings are frozen, a run must be what its record says; make another "
            f"record by replace({name}={reprlib.repr(value)})."
        )

    @field_validator("*", mode="before")
    @classmethod
    def _no_guesses(cls, value: Any, info: ValidationInfo) -> Any:
        """Plain values out of NumPy's and of paths; and what pydantic would turn into the type asked for is refused
        where that is more likely a slip: True for a number, text or 1 for a switch, text for a whole number."""
        if not isinstance(value, str) and getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
            value = value.item()
        kinds = _kinds(cls.model_fields[info.field_name or ""].annotation)
        number = bool(kinds & {int, float})
        if isinstance(value, bool) and number and bool not in kinds:
            raise ValueError("expected a number, not true or false")
        if bool in kinds and not number and not (isinstance(value, bool) or (value is None and type(None) in kinds)):
            raise ValueError("expected true or false")
        if isinstance(value, str) and int in kinds and not kinds & {str, float}:
            raise ValueError("expected an integer, not text")
        return os.fspath(value) if isinstance(value, os.PathLike) and str in kinds else value


def _kinds(annotation: Any) -> set[Any]:
    """The types that a field admits: {int, NoneType} of ``PositiveInt | None``."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kinds(inner[0])
    if origin in (Union, types.UnionType):
        return set().union(*map(_kinds, inner))
    return set(map(type, inner)) if origin is Literal else {origin or annotation}


def _error_class(error: ValidationError) -> type[SettingsError]:
    """Whether Python would call it a TypeError."""
    found = error.errors()
    inside = [isinstance(p.get("ctx", {}).get("error"), SignatureError) for p in found]
    return SignatureError if any(inside) or {p["type"] for p in found} & SIGNATURE else SettingsError


def _hint(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}."


def known_arguments(**elsewhere: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A constructor whose unknown arguments are answered by the name that may have been meant.

    Args:
        elsewhere: Old names, and what to say of them.

    Raises:
        InputTypeError: On construction (a TypeError, as Python's own).
    """

    def decorated(function: Callable[P, R]) -> Callable[P, R]:
        known = [name for name in inspect.signature(function).parameters if name != "self"]
        owner = function.__qualname__.split(".")[0]

        @functools.wraps(function)
        def checked(*in_order: P.args, **values: P.kwargs) -> R:
            for name in values:
                if name not in known:
                    said = elsewhere.get(name) or _hint(name, known)
                    raise InputTypeError(f"{owner}: unknown argument {name!r}; {said}")
            return function(*in_order, **values)

        return checked

    return decorated


def checked_record(value: Any, kind: type[C], name: str) -> C:
    """An argument that should be a record; the defaults where it is None.

    Raises:
        ConfigError: It is something else; a TypeError as well.
    """
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise SignatureError(
            f"{name}: expected {kind.__name__}(...), found {type(value).__name__} {reprlib.repr(value)}."
        )
    return value


def warn_user(message: str, category: type[Warning]) -> None:
    """Warn at the line that called aenet_ray, however many of ours and of pydantic's calls lie between."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in ("aenet_ray", "pydantic"):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def problems_of(cls: type[BaseModel], error: ValidationError) -> Iterator[tuple[str, str]]:
    """Path of each setting, and what was found and what is allowed; those of records inside under their full path."""
    for problem in error.errors():
        path = ".".join(str(part) for part in problem["loc"])
        inner = problem.get("ctx", {}).get("error")
        if isinstance(inner, SettingsError):
            yield from ((f"{path}.{rest}" if rest else path, text) for rest, text in inner.problems)
        elif problem["type"] == "extra_forbidden":
            yield path, f"unknown setting; {_hint_for(cls, problem['loc'])}"
        elif problem["type"] == "missing":
            yield path, "is required and was not given."
        else:
            message = problem["msg"].removeprefix("Value error, ")
            message = message if inner else f"{message[0].lower()}{message[1:]}"
            yield path, f"{message} (found {reprlib.repr(problem['input'])})." if path else f"{message}."


def _hint_for(cls: type[BaseModel], loc: tuple[Any, ...]) -> str:
    """What may have been meant by the last part of ``loc``: a setting here, or one of a group below."""
    record, name = _record_at(cls, loc), str(loc[-1])
    if name in getattr(record, "known_elsewhere", {}):
        return str(record.known_elsewhere[name])  # type: ignore[attr-defined]
    below = [f"{group}.{name}" for group, inner in _groups(record) if name in inner.model_fields]
    known = sorted(record.model_fields)
    return f"did you mean {' or '.join(map(repr, below))}?" if below else _hint(name, known)


def _groups(record: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Settings of a record that are records themselves."""
    for name, field in record.model_fields.items():
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield name, kind


def _record_at(cls: type[BaseModel], loc: tuple[Any, ...]) -> type[BaseModel]:
    """The record in which the last part of ``loc`` was looked for."""
    current: Any = cls
    for part in loc[:-1]:
        field = getattr(current, "model_fields", {}).get(part)
        annotation = field.annotation if field else None
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        current = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), cls)
    return current


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
    _check_names(values, str(path))
    return values


def _check_names(value: Any, where: str) -> None:
    """Raises:
    ConfigError: A setting's name is no text: ``{rad_cutoff: 6,0}`` has one called 0.
    """
    if isinstance(value, list):
        for item in value:
            _check_names(item, where)
    if not isinstance(value, dict):
        return
    for name, inner in value.items():
        if isinstance(name, (int, float)) and not isinstance(name, bool):
            raise ConfigError(f"{where}: {name} is no setting; is a decimal comma meant as a point?")
        if not isinstance(name, str):
            raise ConfigError(f"{where}: {name!r} is no setting; names are text, put it in quotes.")
        _check_names(inner, f"{where}: {name}")


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
                raise ConfigError(
                    f"override {item!r}: {parent!r} is {reprlib.repr(target)}, not a group of settings; write it as "
                    "KEY: VALUE pairs in the file, or set it as a whole."
                )
        try:
            target[last] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"override {item!r}: value cannot be read: {error}") from None
        _check_names(target[last], f"override {item!r}")
    return values
