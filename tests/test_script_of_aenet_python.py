"""A script written for aenet-python runs here after its import lines are changed, and nothing else."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

from user_runs import ROOT, TIO2, run_script

SCRIPT = ROOT / "tests" / "scripts" / "aenet_python_user.py"
ALLOWED = (
    r"(.* is an old name of aenet-python's.*|only \d+ validation structures.*|.*that of the newest run is taken.*)"
)


def test_it_runs_with_its_import_lines_changed(tmp_path):
    text, n = re.subn(r"^from aenet\.\w+ import", "from aenet_ray import", SCRIPT.read_text(), flags=re.MULTILINE)
    assert n == 2
    (tmp_path / "script.py").write_text(text)
    with tarfile.open(TIO2) as archive:
        members = [m for m in archive.getmembers() if m.name.endswith(".xsf")][:30]
        for member in members:
            member.name = f"xsf/{Path(member.name).name}"
            archive.extract(member, tmp_path, filter="data")
    done = run_script("script.py", tmp_path, "always")
    assert done.stdout.endswith("done\n")
    said = re.findall(r"^\S+?/script\.py:\d+: \w*Warning: (.*)$", done.stderr, flags=re.MULTILINE)
    assert [w for w in said if not re.fullmatch(ALLOWED, w)] == []
    assert sum("is an old name" in w for w in said) == 6, "each old name is said once, at the user's line"
