"""Where the structures of these tests come from."""

from __future__ import annotations

from pathlib import Path

TIO2 = Path(__file__).parents[1] / "data" / "tio2_ci100_xsf.tar.gz"
REFERENCES = {"Ti": -1604.604515075, "O": -432.503149303}
