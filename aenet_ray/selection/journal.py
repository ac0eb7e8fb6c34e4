"""What a selection has done so far, in one small file: a killed one goes on from there."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from aenet_ray.errors import StoreError
from aenet_ray.files import replacing
from aenet_ray.selection.score import Scored
from aenet_ray.selection.table import BINS, Kept
from aenet_ray.structures.parsing import Skipped
from aenet_ray.structures.structure import IntArray

SCHEMA = 1


@dataclass(slots=True, eq=False)
class Journal:
    """Chunks that are done, and the least certain structures of them.

    Args:
        about: What the selection depends on, as JSON: another one cannot go on with it.
        metric, n_keep: What is kept.
        done: Keys of the chunks.
    """

    about: dict[str, Any]
    metric: str
    n_keep: int
    kept: Kept
    counts: IntArray
    n_structures: int = 0
    n_atoms: int = 0
    done: set[tuple[int, int]] = field(default_factory=set)
    skipped: list[Skipped] = field(default_factory=list)

    @classmethod
    def new(cls, about: dict[str, Any], metric: str, n_keep: int, n_dimensions: int) -> Journal:
        return cls(about, metric, n_keep, Kept.empty(n_dimensions), np.zeros(len(BINS) - 1, dtype=np.int64))

    def add(self, scored: Scored) -> None:
        """Take in a chunk; a second time it counts for nothing."""
        if scored.key in self.done:
            return
        self.done.add(scored.key)
        self.kept = Kept.joined([self.kept, scored.kept]).best(self.n_keep, self.metric)
        self.counts = self.counts + scored.counts
        self.n_structures, self.n_atoms = self.n_structures + scored.n_structures, self.n_atoms + scored.n_atoms
        self.skipped += scored.skipped

    def save(self, path: Path) -> None:
        """Replace the file at once."""
        texts = {"schema": SCHEMA, "about": self.about, "n": [self.n_structures, self.n_atoms], "skipped": self.skipped}
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                texts=np.array(json.dumps(texts)),
                place=self.kept.place,
                values=self.kept.values,
                n_atoms=self.kept.n_atoms,
                vectors=self.kept.vectors,
                counts=self.counts,
                done=np.array(sorted(self.done), dtype=np.int64).reshape(-1, 2),
            )

    def load(self, path: Path) -> None:
        """Go on from the file.

        Raises:
            StoreError: It is damaged, or of a selection with other settings, members or candidates.
        """
        again = "Delete it, or give restart=True (--restart), to begin anew."
        try:
            with np.load(path, allow_pickle=False) as file:
                texts = json.loads(str(file["texts"]))
                kept = Kept(*(file[name] for name in ("place", "values", "n_atoms", "vectors")))
                counts, done = file["counts"], {(int(a), int(b)) for a, b in file["done"]}
            schema, about = texts["schema"], texts["about"]
            (n_structures, n_atoms), skipped = texts["n"], [Skipped(*s) for s in texts["skipped"]]
        except Exception as error:  # whatever a damaged archive makes of itself
            raise StoreError(f"{path}: damaged ({type(error).__name__}: {error}). {again}") from None
        expected = json.loads(json.dumps(self.about))
        differs = [k for k in expected if about.get(k) != expected[k]]
        if schema != SCHEMA or differs:
            what = "; ".join(f"{k} {about.get(k)!r}, now {expected[k]!r}" for k in differs) or f"version {schema}"
            raise StoreError(f"{path}: progress of another selection ({what}). {again}")
        self.kept, self.counts, self.done, self.skipped = kept, counts, done, skipped
        self.n_structures, self.n_atoms = n_structures, n_atoms
