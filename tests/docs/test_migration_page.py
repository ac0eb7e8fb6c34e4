"""docs/migration.md: what its tables say is what the code does."""

from __future__ import annotations

import builtins
import re
import warnings
from pathlib import Path

import pytest
import yaml

import aenet_ray
from aenet_ray import TorchTrainingConfig, errors
from aenet_ray.cli.main import _parse, _parser
from aenet_ray.training.old_names import OLD_NAMES, RENAMED, OldNameWarning

PAGE = (Path(__file__).parents[2] / "docs" / "migration.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """Cells of the first table after a heading, without its head."""
    lines = PAGE[PAGE.index(heading) :].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| ---"))
    table = []
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_old_name_is_there_with_its_successor():
    said = {name.split("=")[0]: code(new) for old, new in rows("## Renamed settings") for name in code(old)}
    assert set(said) == set(OLD_NAMES)
    assert {old: said[old][0] for old in RENAMED} == RENAMED


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("cached_features: true", "cache_features: true"),
        ("cached_features_for_force: true", "cache_features: true"),
        ("cache_triplets: true", "cache_force_triplets: true"),
        ("cache_force_neighbors: true", "cache_neighbors: true"),
        ("E_atomic: {Ti: -1.0}", "atomic_energies: {Ti: -1.0}"),
        ("force_resample_each_epoch: false", "force_resample_num_epochs: 0"),
        ("{force_resample_each_epoch: true, epochs_per_force_window: 3}", "force_resample_num_epochs: 3"),
        ("energy_target: total", "{}"),
        ("{energy_target: cohesive, atomic_energies: {Ti: -1.0}}", "atomic_energies: {Ti: -1.0}"),
    ],
)
def test_old_names_do_what_the_page_says(old, new):
    with pytest.warns(OldNameWarning):
        made = TorchTrainingConfig(**yaml.safe_load(old))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert made == TorchTrainingConfig(**yaml.safe_load(new))


def test_contradictions_are_refused():
    with pytest.warns(OldNameWarning), pytest.raises(ValueError, match="contradict"):
        TorchTrainingConfig(cached_features=True, cache_features=False)


def test_defaults_that_differ():
    for name, _, here, _ in rows("Defaults that differ"):
        if code(name):
            assert getattr(TorchTrainingConfig(), code(name)[0]) == yaml.safe_load(here)


def test_names_on_the_page_exist():
    for group in re.findall(r"^from aenet_ray import (.*)$", PAGE, flags=re.MULTILINE):
        assert all(hasattr(aenet_ray, name.strip()) for name in group.split(","))
    for cell in code(PAGE):
        kind, _, method = cell.partition("(")[0].partition(".")
        if kind.startswith(("Torch", "HDF5")):
            assert hasattr(getattr(aenet_ray, kind), method) if method else hasattr(aenet_ray, kind), cell
        elif kind.endswith("Error") and kind[0].isupper() and not method:
            assert hasattr(errors, kind) or hasattr(builtins, kind), cell
        elif cell.startswith("aenet-ray "):
            _parse(_parser(cell.split()[1]), cell.split()[1:])
