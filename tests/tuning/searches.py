"""Small searches that several tests make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TIO2 = Path(__file__).parents[2] / "examples" / "data" / "tio2_ci100_xsf.tar.gz"
ATOMIC_ENERGIES = {"Ti": -1604.604515075, "O": -432.503149303}


def experiment(folder: Path, name: str = "search", **training: Any) -> dict[str, Any]:
    """Settings of a run that trains 100 small structures in a second."""
    return {
        "data": {"files": str(TIO2), "store": str(folder / "structures.h5")},
        "descriptor": {"species": ["Ti", "O"], "rad_order": 4, "rad_cutoff": 5.0, "ang_order": 2, "ang_cutoff": 4.0},
        "network": [[6, "tanh"], [5, "tanh"]],
        "training": {
            "iterations": 9,
            "method": {"name": "adam", "mu": 0.01, "batchsize": 16},
            "testpercent": 20,
            "seed": 3,
            "atomic_energies": ATOMIC_ENERGIES,
            "show_progress": False,
            **training,
        },
        "run": {"name": name, "storage_path": str(folder)},
    }
