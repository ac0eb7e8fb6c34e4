"""A script written for aenet-python runs here after its import lines are changed, and nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "tests" / "scripts" / "aenet_python_user.py"
ALLOWED = (
    r"(.* is an old name of aenet-python's.*|only \d+ validation structures.*|.*that of the newest run is taken.*)"
)


def test_it_runs_with_its_import_lines_changed(tmp_path):
    text, n = re.subn(r"^from aenet\.\w+ import", "from aenet_ray import", SCRIPT.read_text(), flags=re.MULTILINE)
    assert n == 2
    (tmp_path / "script.py").write_text(text)
    with tarfile.open(ROOT / "examples" / "data" / "tio2_ci100_xsf.tar.gz") as archive:
        members = [m for m in archive.getmembers() if m.name.endswith(".xsf")][:30]
        for member in members:
            member.name = f"xsf/{Path(member.name).name}"
            archive.extract(member, tmp_path, filter="data")
    done = subprocess.run(
        [sys.executable, "-W", "always", "script.py"],
        cwd=tmp_path,
        env=os.environ | {"MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith("done\n")
    said = re.findall(r"^\S+?/script\.py:\d+: \w*Warning: (.*)$", done.stderr, flags=re.MULTILINE)
    assert [w for w in said if not re.fullmatch(ALLOWED, w)] == []
    assert sum("is an old name" in w for w in said) == 6, "each old name is said once, at the user's line"
