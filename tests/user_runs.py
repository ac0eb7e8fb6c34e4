"""What the documentation shows, as its readers run it: blocks of pages, and scripts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TIO2 = ROOT / "examples" / "data" / "tio2_ci100_xsf.tar.gz"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def run_block(code: str, page: Path) -> None:
    exec(compile(code, page.name, "exec"), {"__name__": "page"})


def run_script(script: Path | str, folder: Path, warnings: str) -> subprocess.CompletedProcess[str]:
    """Run in a folder of its own, to the end.

    Args:
        warnings: As Python's option -W.
    """
    done = subprocess.run(
        [sys.executable, "-W", warnings, str(script)],
        cwd=folder,
        env=os.environ | {"MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done
