"""Where labels are found in formats that let everybody choose the names."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelKeys:
    """Keys of the labels in extended XYZ files and ASE's ``info`` and ``arrays``.

    Args:
        energy: Total energy, eV, in the comment line (``info``).
        forces: Column (``arrays``), eV/Å.
        stress: Comment line, nine numbers or ASE's six, eV/Å³, positive under tension.
        charges: Column, e. ``charge`` is understood as well, as ASE writes it.
        fidelity: Level of theory given to structures that name none.
    """

    energy: str = "energy"
    forces: str = "forces"
    stress: str = "stress"
    charges: str = "charges"
    fidelity: str | None = None


DEFAULT_KEYS = LabelKeys()
_said: set[tuple[str, str]] = set()


def hint_other_keys(source: str, wanted: str, key: str, present: Iterable[str]) -> None:
    """Say once a file that the label is not under its key but, it seems, under another one."""
    if (source, wanted) in _said:
        return
    others = [key for key in present if key.lower().endswith(wanted) or wanted in key.lower().split("_")]
    if others:
        _said.add((source, wanted))
        logger.warning(
            "%s: no %r, but %s: labels are read from the key named by the option %s_key (--%s-key).",
            source,
            key,
            " and ".join(map(repr, others)),
            wanted,
            wanted,
        )
