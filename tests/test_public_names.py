"""The names at the root: all there, imported when used, typos answered with what was meant."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import aenet_ray


def test_every_name_is_there_and_at_home():
    for name in aenet_ray.__all__:
        value = getattr(aenet_ray, name)
        assert value.__name__ == name
        assert value.__module__.startswith("aenet_ray.")
    assert set(aenet_ray.__all__) <= set(dir(aenet_ray))
    assert sorted(aenet_ray.__all__) == sorted(set(aenet_ray.__all__))


def test_type_checkers_see_the_same_names():
    """What ``TYPE_CHECKING`` imports is what ``__getattr__`` finds."""
    tree = ast.parse(Path(aenet_ray.__file__).read_text(encoding="utf-8"))
    seen = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aenet_ray")
        for alias in node.names
    }
    assert sorted(seen) == sorted(aenet_ray.__all__)
    for name, module in seen.items():
        assert getattr(aenet_ray, name).__module__ == module


def test_a_script_of_aenet_python_finds_its_names():
    code = (
        "from aenet_ray import (Structure, Adam, SGD, TorchTrainingConfig, PredictionConfig, ChebyshevDescriptor,"
        " TorchANNPotential, TrainOut, PredictOut)\n"
        "from aenet_ray import *\n"
        "import sys; print('ray' in sys.modules, StructureStore.__name__)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", "StructureStore"]


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("Structur", "Structure"), ("TorchANNPotental", "TorchANNPotential"), ("TrainingConfig", "TorchTrainingConfig")],
)
def test_typos_are_answered(typo, meant):
    with pytest.raises(AttributeError, match=f"no attribute '{typo}'; did you mean '{meant}'"):
        getattr(aenet_ray, typo)


def test_what_is_far_off_gets_the_list():
    with pytest.raises(AttributeError, match=r"public names are .*TorchANNPotential"):
        aenet_ray.zzz  # noqa: B018
    assert not hasattr(aenet_ray, "__wrapped__")


def test_submodules_import_as_before():
    from aenet_ray import plots, tables

    assert plots.__name__ == "aenet_ray.plots"
    assert tables.__name__ == "aenet_ray.tables"
