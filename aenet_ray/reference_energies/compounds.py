"""Reference compounds: which compositions they are, and which of them no sample has."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from aenet_ray.errors import ReferenceEnergyError, ReferenceEnergyTypeError
from aenet_ray.reference_energies.samples import check_composition, parse_formula

Key = tuple[tuple[str, int], ...]
"""A composition, sorted and hashable."""


def key_of(composition: Mapping[str, int]) -> Key:
    return tuple(sorted(composition.items()))


def formula(counts: Iterable[tuple[str, int]]) -> str:
    return "".join(f"{s}{n if n > 1 else ''}" for s, n in counts)


def checked_compounds(given: Iterable[str | Mapping[str, int]]) -> dict[Key, dict[str, int]]:
    """Each compound under its key, in the order given."""
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise ReferenceEnergyTypeError(
            f"reference_compounds: {given!r:.60}, expected a list of formulas or mappings, such as ['TiO2', 'O2']."
        )
    compounds: dict[Key, dict[str, int]] = {}
    for number, item in enumerate(given):
        where = f"reference_compounds[{number}]"
        counts = parse_formula(item) if isinstance(item, str) else check_composition(item, where)
        key = key_of(counts)
        if key in compounds:
            raise ReferenceEnergyError(f"{where}: {formula(key)} was given before; expected each compound once.")
        compounds[key] = counts
    if not compounds:
        raise ReferenceEnergyError("reference_compounds: empty; expected formulas such as ['TiO2', 'O2'].")
    return compounds


def require_found(missing: list[Key], compounds: Mapping[Key, Mapping[str, int]], present: Counter[Key]) -> None:
    """Raises:
    ReferenceEnergyError: A compound is in no sample; the message lists compositions that are there.
    """
    if not missing:
        return
    asked = ", ".join(formula(compounds[key].items()) for key in missing)
    # Those of the same ratio first: a cell of several formula units is what is most often meant.
    ratios = {_ratio(key) for key in missing}
    near = sorted(present, key=lambda key: (_ratio(key) not in ratios, -present[key], sum(n for _, n in key)))
    shown = ", ".join(f"{formula(key)} ({present[key]})" for key in near[:8])
    more = f" and {len(near) - 8} more" if len(near) > 8 else ""
    raise ReferenceEnergyError(
        f"reference compounds {asked}: no sample has exactly this number of atoms; expected one that has, with an "
        f"energy. Compositions that are there, and how often: {shown}{more}."
    )


def _ratio(key: Key) -> Key:
    divisor = math.gcd(*(n for _, n in key))
    return tuple((s, n // divisor) for s, n in key)
