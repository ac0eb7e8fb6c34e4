"""Selecting: from any number of candidates to the few that are worth another reference calculation."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from aenet_ray.committee.calibration import fingerprint
from aenet_ray.committee.potential import TorchCommitteePotential
from aenet_ray.committee.predict_result import METRICS
from aenet_ray.errors import CommitteeError, ConfigError, StructureError
from aenet_ray.progress import progress_bar
from aenet_ray.selection.candidates import CHUNK_ATOMS, OnError, Source, list_sources, unchanged
from aenet_ray.selection.journal import Journal
from aenet_ray.selection.result import Selection
from aenet_ray.selection.score import Scored, Scorer
from aenet_ray.selection.table import farthest_points
from aenet_ray.structures.build import write_skipped
from aenet_ray.structures.structure import IntArray, Structure

logger = logging.getLogger(__name__)

SAVE_SECONDS = 5.0
Scores = Generator[Scored, None, None]
Runner = Callable[[Scorer, Sequence[Source], Journal], Scores]
"""Scores the chunks of all sources that are not done, in any order."""


def select_structures(
    committee: TorchCommitteePotential | str | os.PathLike[str],
    candidates: Any,
    *,
    top: int = 200,
    metric: str = "energy_std_per_atom",
    diverse: bool = False,
    pool: int = 5,
    output: str | os.PathLike[str] | None = None,
    workers: int = 0,
    on_error: OnError = "raise",
    calibrated: bool = False,
    restart: bool = False,
    device: str | None = None,
    progress: bool = True,
) -> Selection:
    """The candidates that a committee is least certain of.

    Memory does not grow with their number, and the result does not depend on the number of workers. With an output,
    progress is written beside it every few seconds, and the same call goes on where a killed one was.

    Args:
        committee: The committee, or its folder.
        candidates: Files, folders, structure stores, structures, or a list of these.
        top: How many to select; all where there are fewer.
        metric: energy_std (favours big structures), energy_std_per_atom, max_force_uncertainty, or
            mean_force_uncertainty; the last two compute the forces of every member.
        diverse: Of the ``pool * top`` least certain, select ``top`` that lie far apart in the space of mean features.
        pool: As said.
        output: Extended XYZ file to write; beside it a table (.csv), a histogram (.png), and a list of candidates
            left out, if any.
        workers: Actors on Ray; 0: this process, without Ray.
        on_error: 'raise' stops at the first candidate that cannot be used, 'skip' leaves it out and lists it.
        calibrated: Scale uncertainties by the committee's calibration.
        restart: Forget the progress of an earlier call.
        device: Of a committee read from a folder.
        progress: Show a progress bar.

    Raises:
        ConfigError: A setting makes no sense.
        CommitteeError: The committee has fewer than two members, or is not calibrated.
        StructureError: A candidate cannot be used, or none can.
        StoreError: A store, or the progress of an earlier call, is damaged or of something else; or a file of
            candidates was deleted or changed while they were scored.
    """
    _check(top=top, pool=pool, workers=workers, metric=metric, on_error=on_error)
    if not isinstance(committee, TorchCommitteePotential):
        committee = TorchCommitteePotential.from_directory(os.fspath(committee), device)
    scales = _scales(committee, metric, calibrated)
    sources = list_sources(candidates)
    target = None if output is None else _target(output, sources)
    note = None if target is None else target.with_name(f"{target.name}.progress")
    with unchanged(sources, note):
        scorer = Scorer(committee, metric, top * pool if diverse else top, vectors=diverse)
        about = {
            "members": fingerprint(committee.members),
            "candidates": [s.fingerprint() for s in sources],
            "metric": metric,
            "n_keep": scorer.n_keep,
            "diverse": diverse,
            "chunk_atoms": CHUNK_ATOMS,
        }
        journal = Journal.new(about, metric, scorer.n_keep, scorer.n_dimensions)
        if note is not None and note.exists():
            if restart:
                note.unlink()
            else:
                journal.load(note)
                logger.info("going on: %d candidates are done", journal.n_structures)
        _score_all(journal, scorer, sources, note, _runner(committee, workers), on_error, progress)
        selection = _selection(journal, sources, top, diverse, target, scales)
    if target is not None and note is not None:
        from aenet_ray.selection.output import write_selection

        write_selection(selection, target)
        note.unlink(missing_ok=True)
    return selection


def _check(*, top: int, pool: int, workers: int, metric: str, on_error: str) -> None:
    for name, value, lowest in (("top", top, 1), ("pool", pool, 1), ("workers", workers, 0)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < lowest:
            raise ConfigError(f"select: {name} is {value!r}, expected a whole number, at least {lowest}.")
    if metric not in METRICS:
        raise ConfigError(f"select: metric {metric!r}; expected one of {', '.join(METRICS)}.")
    if on_error not in ("raise", "skip"):
        raise ConfigError(f"select: on_error is {on_error!r}, expected 'raise' or 'skip'.")


def _scales(committee: TorchCommitteePotential, metric: str, calibrated: bool) -> tuple[float, float]:
    if committee.num_members < 2:
        raise CommitteeError(
            f"a committee of {committee.num_members} has no spread to select by; expected at least two members."
        )
    if not calibrated:
        return 1.0, 1.0
    found = committee.calibration()
    scales = found.energy_scale, found.force_scale
    if np.isnan(scales["force" in metric]):
        raise CommitteeError(f"select: the committee's calibration has no scale for {metric}; calibrate with labels.")
    return scales


def _target(output: str | os.PathLike[str], sources: Sequence[Source]) -> Path:
    path = Path(output).absolute()
    if path.suffix not in (".xyz", ".extxyz"):
        raise ConfigError(f"select: output {path.name!r}; expected an extended XYZ file, .extxyz or .xyz.")
    if not path.parent.is_dir():
        raise ConfigError(f"select: {path.parent}: no such folder; make it before selecting into it.")
    if path.is_dir():
        raise ConfigError(f"select: {path}: a folder; expected a file to write.")
    if path.resolve() in [p.resolve() for s in sources for p in s.paths]:
        raise ConfigError(f"select: {path} is one of the candidates; choose another output.")
    return path


def _runner(committee: TorchCommitteePotential, workers: int) -> Runner:
    if not workers:
        return in_process
    devices = {m.model.device.type for m in committee.members}
    if devices != {"cpu"}:
        raise ConfigError(
            f"select: workers={workers} with members on {', '.join(devices)}; select there with workers=0."
        )
    from aenet_ray.selection.pipeline import on_ray

    return on_ray(workers)


def in_process(scorer: Scorer, sources: Sequence[Source], journal: Journal) -> Scores:
    """One chunk after the other."""
    for source in sources:
        yield from (scorer(chunk) for chunk in source.chunks() if chunk.key not in journal.done)


def _score_all(
    journal: Journal,
    scorer: Scorer,
    sources: Sequence[Source],
    note: Path | None,
    run: Runner,
    on_error: OnError,
    progress: bool,
) -> None:
    sizes = [s.n_structures for s in sources]
    total = None if None in sizes else sum(n for n in sizes if n is not None)
    if on_error == "raise":
        _refuse(journal)
    saved = time.monotonic()
    with (
        progress_bar("selecting", total, "structures", show=progress) as advance,
        closing(run(scorer, sources, journal)) as scores,
    ):
        advance(journal.n_structures + len(journal.skipped))
        for scored in scores:
            journal.add(scored)
            advance(scored.n_structures + len(scored.skipped))
            if on_error == "raise":
                _refuse(journal)
            if note is not None and time.monotonic() - saved >= SAVE_SECONDS:
                journal.save(note)
                saved = time.monotonic()
    if not journal.n_structures:
        reason = journal.skipped[0].reason if journal.skipped else "there are none"
        raise StructureError(f"no candidate can be used; the first: {reason}")


def _refuse(journal: Journal) -> None:
    if journal.skipped:
        raise StructureError(
            f"{journal.skipped[0].reason} Leave it out, or skip such candidates: on_error='skip' (--on-error skip)."
        )


def _selection(
    journal: Journal,
    sources: Sequence[Source],
    top: int,
    diverse: bool,
    target: Path | None,
    scales: tuple[float, float],
) -> Selection:
    kept, distances = journal.kept, None
    if diverse:
        rows, distances = farthest_points(kept.vectors, top)
        kept = kept.take(rows)
    report = None if target is None else write_skipped(target, journal.skipped)
    return Selection(
        read_again(sources, kept.place),
        kept,
        journal.metric,
        distances,
        journal.counts,
        journal.n_structures,
        journal.n_atoms,
        len(journal.skipped),
        report,
        scales,
    )


def read_again(sources: Sequence[Source], place: IntArray) -> list[Structure]:
    """Structures by their places: only the chunks that hold some are parsed again."""
    wanted: dict[tuple[int, int], set[int]] = {}
    for source, chunk, index in place.tolist():
        wanted.setdefault((source, chunk), set()).add(index)
    found: dict[tuple[int, int, int], Structure] = {}
    for source in sources:
        last = max((chunk for number, chunk in wanted if number == source.number), default=-1)
        for chunk in source.chunks():
            if chunk.key[1] > last:
                break
            if chunk.key in wanted:
                found |= {(*chunk.key, i): s for i, s in chunk.structures(wanted[chunk.key]).items()}
    return [found[tuple(p)] for p in place.tolist()]
