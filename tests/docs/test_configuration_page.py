"""docs/configuration.md is what the records say: generated, complete, never stale."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path

import pytest

import aenet_ray

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def generator():
    return runpy.run_path(str(DOCS / "generate_configuration.py"))


def test_the_page_is_fresh(generator):
    written = (DOCS / "configuration.md").read_text(encoding="utf-8")
    assert written == generator["page"](), "stale: run python docs/generate_configuration.py"


def test_every_record_and_every_field_is_there(generator):
    package = Path(aenet_ray.__file__).parent
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in package.rglob("*.py")]
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    records: set[str] = set()
    while found := {c.name for c in classes if {ast.unparse(b) for b in c.bases} & {"Config", *records}} - records:
        records |= found
    assert {r.__name__ for r in generator["RECORDS"]} == records
    text = generator["page"]()
    for record in generator["RECORDS"]:
        part = text.split(f"\n## {record.__name__}\n")[1].split("\n## ")[0]
        assert [line.split("`")[1] for line in part.splitlines() if line.startswith("| `")] == list(record.model_fields)


def test_a_field_without_a_docstring_is_an_error(generator):
    from aenet_ray.config import Config

    class Silent(Config):
        setting: int = 3

    with pytest.raises(LookupError, match=r"Silent\.setting has no docstring"):
        generator["section"](Silent)


def test_a_changed_default_shows(generator):
    from pydantic import Field

    from aenet_ray.config import Config

    class Told(Config):
        """About it."""

        setting: int | None = Field(3, ge=1, le=9)
        """What |it|
        does: ``this``."""

    assert (
        generator["section"](Told).splitlines()[-1]
        == "| `setting` | integer ≥ 1, ≤ 9, none | `3` | What \\|it\\| does: `this`. |"
    )
