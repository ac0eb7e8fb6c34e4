"""Write docs/configuration.md from the configuration records: their fields, types, defaults and docstrings.

    python docs/generate_configuration.py

A test fails when the page is not what this would write.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from aenet_ray.committee.config import TorchCommitteeConfig
from aenet_ray.config import Config
from aenet_ray.experiment import DataConfig, DescriptorConfig, ExperimentConfig
from aenet_ray.inference.predict import PredictionConfig
from aenet_ray.training.config import (
    LBFGS,
    SGD,
    Adam,
    AdamW,
    NaturalGradient,
    RunConfig,
    ScalingConfig,
    TorchTrainingConfig,
)
from aenet_ray.training.old_names import RENAMED
from aenet_ray.tuning.config import TuneConfig

PAGE = Path(__file__).parent / "configuration.md"

RECORDS = (
    TorchTrainingConfig, Adam, AdamW, SGD, LBFGS, NaturalGradient, PredictionConfig, ScalingConfig, RunConfig,
    ExperimentConfig, DataConfig, DescriptorConfig, TorchCommitteeConfig, TuneConfig,
)  # fmt: skip

INTRODUCTION = """# Configuration

Made from the configuration records by `python docs/generate_configuration.py`: change the docstrings there, not here.

Every setting is given by name, the first ones also by place: `TorchTrainingConfig(100, Adam(0.001, 32))`. In a YAML
file (`aenet-ray train run.yaml`) the same names stand under the part they belong to, and each can be set on the
command line: `training.iterations=50 training.method.mu=0.01`. Values are checked when a record is made: a wrong one
is refused with the setting, what was found and what is allowed; an unknown name with the one that may have been meant.
A record does not change; `config.replace(iterations=50)` makes another."""

OLD_NAMES = """## Names of the past

A `TorchTrainingConfig` of older generations of aenet-python is taken as it is; a `DeprecationWarning` names the
present name. Old and present names that contradict each other are refused.

| old name | present name |
| --- | --- |
{rows}
| `force_resample_each_epoch=False` | `force_resample_num_epochs=0` |
| `force_resample_each_epoch=True`, `epochs_per_force_window=N` | `force_resample_num_epochs=N`; 1 without a window |
| `energy_target='cohesive'` | `atomic_energies`, which it needs |
| `energy_target='total'` | no `atomic_energies` |""".format(
    rows="\n".join(f"| `{old}` | `{new}` |" for old, new in RENAMED.items())
)

NAMES = {int: "integer", float: "number", str: "text", bool: "true, false", type(None): "none", Any: "anything"}
SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def docstrings(record: type[Config]) -> dict[str, str]:
    """The text behind each field, of the record and of those it builds on."""
    found: dict[str, str] = {}
    for cls in reversed([c for c in record.__mro__ if issubclass(c, Config) and c is not Config]):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found[ast.unparse(field.target)] = inspect.cleandoc(str(text.value.value))
    return found


def limits(metadata: list[Any]) -> str:
    """What a number or a list is held to, as annotations say it."""
    found = []
    for item in metadata:
        found += [f"{sign} {getattr(item, name)}" for name, sign in SIGNS.items() if hasattr(item, name)]
        if hasattr(item, "min_length"):
            found.append("not empty")
    return ", ".join(found)


def allowed(annotation: Any, metadata: list[Any]) -> str:
    """A type in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return allowed(inner[0], [*metadata, *inner[1:]])
    if origin in (Union, types.UnionType):
        # A limit of a union holds for what can have it.
        return ", ".join(allowed(a, metadata if a is not type(None) else []) for a in inner)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (list, tuple):
        parts = [a for a in inner if a is not Ellipsis]
        text = "list of " + " and ".join(allowed(a, []) for a in parts) if len(parts) == 1 else pair(parts)
    elif origin is dict:
        text = f"mapping of {allowed(inner[0], [])} to {allowed(inner[1], [])}"
    elif isinstance(annotation, type) and issubclass(annotation, Config):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    else:
        text = NAMES[annotation]
    held = limits(metadata)
    return f"{text} {held}" if held else text


def pair(parts: list[Any]) -> str:
    return "(" + ", ".join(allowed(a, []) for a in parts) + ")"


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    assert value is not PydanticUndefined
    if isinstance(value, Config):
        return f"`{type(value).__name__}()`"
    words = {None: "none", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else f"`{value}`"


def cell(text: str) -> str:
    return " ".join(text.replace("``", "`").replace("|", "\\|").split())


def section(record: type[Config]) -> str:
    """Heading, what the record is, and a table of its fields.

    Raises:
        LookupError: A field has no docstring.
    """
    texts = docstrings(record)
    rows = []
    for name, field in record.model_fields.items():
        if name not in texts:
            raise LookupError(f"{record.__name__}.{name} has no docstring; write one line under it.")
        row = (f"`{name}`", cell(allowed(field.annotation, field.metadata)), cell(default(field)), cell(texts[name]))
        rows.append(f"| {' | '.join(row)} |")
    about = inspect.cleandoc(record.__doc__ or "").split("\n\nSource:")[0].replace("``", "`")
    head = "| setting | allowed | default | what it does |\n| --- | --- | --- | --- |"
    return "\n\n".join((f"## {record.__name__}", about, "\n".join((head, *rows))))


def page() -> str:
    return "\n\n".join((INTRODUCTION, *map(section, RECORDS), OLD_NAMES)) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
