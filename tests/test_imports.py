"""Data flows one way, and so do imports; Ray stays at the edge; importing the package stays quick."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import aenet_ray

PACKAGE = Path(aenet_ray.__file__).parent

# Modules and packages in the order of the road: each imports only what stands on an earlier line.
ROAD = [
    {"errors", "units", "progress", "tables", "background", "files", "waiting"},
    {"config", "ray_session"},
    {"legacy"},
    {"structures"},
    {"reference_energies"},
    {"descriptors"},
    {"features"},
    {"datasets"},
    {"models"},
    {"losses"},
    {"training"},
    {"inference"},
    {"export", "plots"},
    {"train_out"},
    {"potential"},
    {"committee"},
    {"selection"},
    {"calculators"},
    {"experiment"},
    {"run_data"},
    {"workflow", "conversion"},
    {"committee_workflow"},
    {"tuning"},
    {"cli"},
]
RANK = {name: rank for rank, names in enumerate(ROAD) for name in names}

# The only files that may import ray, at the top or inside a function.
RAY_FILES = {
    "features/datasource.py",
    "features/pipeline.py",
    "ray_session.py",
    "selection/datasource.py",
    "selection/pipeline.py",
    "committee/launch.py",
    "training/ray_local.py",
    "training/ray_runtime.py",
    "training/launch.py",
    "training/trials.py",
    "tuning/launch.py",
    "tuning/searchers.py",
    "tuning/watch.py",
}
PHYSICS = {
    "numba",
    "vesin",
    "matscipy",
    "scipy",
    "ase",
    "torch_scatter",
    "torch_cluster",
    "aenet_ray.descriptors",
    "aenet_ray.models",
    "aenet_ray.losses",
}


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> list[str]:
    """Dotted names of everything a file imports, inside functions too, for ``from a import b`` both a and a.b."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: line {node.lineno}: relative import"
            names += [node.module or ""] + [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def room(path: Path) -> str:
    """The package or root module a file belongs to."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_backwards(path: Path) -> None:
    here = room(path)
    if here == "__init__":
        pytest.skip("the root offers every public name")
    assert here in RANK, f"{here} has no place on the road yet: add it to ROAD"
    for name in imported(path):
        parts = name.split(".")
        if parts[0] != "aenet_ray" or len(parts) < 2 or parts[1] == here or parts[1].startswith("__"):
            continue
        there = parts[1]
        if there in RANK:
            assert RANK[there] < RANK[here], f"{path.relative_to(PACKAGE)} imports {name}, which comes later"


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_ray_and_physics_are_apart(path: Path) -> None:
    names = imported(path)
    if not any(name.split(".")[0] == "ray" for name in names):
        return
    assert str(path.relative_to(PACKAGE)) in RAY_FILES, "a new file imports ray: is it at the edge? Add it"
    physics = [n for n in names for p in PHYSICS if n == p or n.startswith(p + ".")]
    assert not physics, f"{path.relative_to(PACKAGE)} imports ray and {physics}"


def test_importing_the_package_is_quick_and_brings_no_ray_or_torch() -> None:
    code = (
        "import time, sys; t = time.perf_counter(); import aenet_ray; t = time.perf_counter() - t;"
        "print(t, *[m for m in ('ray', 'torch', 'numba', 'pandas') if m in sys.modules])"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(3)
    ]
    assert min(float(run[0]) for run in runs) < 0.3
    assert runs[0][1:] == []
