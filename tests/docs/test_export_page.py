"""The examples of docs/export.md run as they stand there."""

from __future__ import annotations

import shlex

import pytest
from potentials import random_potential
from user_runs import ROOT, blocks, run_block

from aenet_ray.cli.main import main

PAGE = ROOT / "docs" / "export.md"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a trained model lies."""
    random_potential().save(tmp_path / "model.pt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_python_examples_run_one_after_another(folder):
    write, read = blocks(PAGE, "python")
    run_block(write, PAGE)
    run_block(read, PAGE)
    assert (folder / "from_aenet.pt").exists()


def test_commands_run_and_write_what_their_comments_say(folder):
    for line in blocks(PAGE, "bash")[0].splitlines():
        command, comment = line.split("#")
        assert main(shlex.split(command)[1:]) == 0
        for name in comment.replace(",", " ").split():
            assert (folder / name).is_file()


def test_every_argument_named_on_the_page_exists():
    import inspect

    from aenet_ray import TorchANNPotential

    text = PAGE.read_text()
    for name in ("structures", "compute_stats", "descriptor_stats"):
        assert name in inspect.signature(TorchANNPotential.to_aenet_ascii).parameters
        assert f"`{name}" in text
    assert "allow_longer_angular_cutoff" in inspect.signature(TorchANNPotential.from_aenet).parameters
