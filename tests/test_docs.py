"""README and docs: links lead somewhere, Python blocks run, commands exist with the options shown."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from user_runs import ROOT, TIO2, blocks, run_block

from aenet_ray.cli.main import COMMANDS, _parse, _parser

FOLDERS = (".", "benchmarks", "cluster_configs", "examples/data", "tests/data")
PAGES = sorted([*(ROOT / folder / "README.md" for folder in FOLDERS), *ROOT.glob("docs/*.md")])
TRIED = ("data", "training")
"""Pages whose Python blocks run as they stand, on the demo's structures under the name ``tio2.tar.gz``."""


def commands() -> list[tuple[str, str]]:
    lines = [(page.name, line) for page in PAGES for block in blocks(page, "bash") for line in block.splitlines()]
    return [(name, line[line.index("aenet-ray ") :]) for name, line in lines if re.search(r"(^|-- )aenet-ray ", line)]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert not missing


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands_exist(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    assert words[0] in (*COMMANDS, "--version")
    if not words[0].startswith("-"):
        _parse(_parser(words[0]), words)


@pytest.mark.parametrize("name", TRIED)
def test_python_blocks_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(TIO2, tmp_path / "tio2.tar.gz")
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / f"{name}.md"
    found = blocks(page, "python")
    assert found
    run_block("\n".join(found), page)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_python_and_yaml_blocks_are_valid(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block, page.name, "exec")
    for block in blocks(page, "yaml"):
        yaml.safe_load(block)


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    assert all(f"({page.name})" in index for page in ROOT.glob("docs/*.md") if page.name != "README.md")
