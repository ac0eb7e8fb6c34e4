"""From prepared members to trained ones: one after the other here, or several processes at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import aenet_ray
from aenet_ray.committee.config import MemberPlan
from aenet_ray.committee.layout import METADATA, CommitteeMetadata, TorchCommitteeMember, member_name
from aenet_ray.committee.member import train_member
from aenet_ray.errors import TrainingError
from aenet_ray.features.store import FeatureStore
from aenet_ray.models.ann import ANNModel
from aenet_ray.progress import progress_bar
from aenet_ray.structures.structure import IntArray
from aenet_ray.training.config import RunConfig, TorchTrainingConfig
from aenet_ray.training.history import HistoryTail, Row, line
from aenet_ray.training.prepare import Split, continues, initial_weights, prepare_run
from aenet_ray.training.spec import RunSpec

LOG = "train.log"
Told = Callable[[int, int], None]
"""Member and the epochs it has done."""


def begun(directory: Path, mode: str) -> CommitteeMetadata | None:
    """The committee that the folder holds and that is to go on; None where it is to begin.

    Args:
        mode: ``RunConfig.resume``.

    Raises:
        TrainingError: It holds a committee that may not be resumed, none where one must be, or other members.
    """
    there = (directory / METADATA).exists()
    if mode == "must" and not there:
        raise TrainingError(f"{directory}: no committee to resume (run.resume is 'must').")
    if there and mode == "never":
        raise TrainingError(
            f"{directory}: holds a committee already. Go on with it by run=RunConfig(resume='auto'), or choose another "
            "output_dir."
        )
    strays = [] if there or not directory.is_dir() else sorted(p.name for p in directory.glob("member_*"))
    if strays:
        raise TrainingError(
            f"{directory}: holds {', '.join(strays[:3])} but no {METADATA}: left by something else, or by a committee "
            "stopped before it began. Delete them, or choose another output_dir."
        )
    return CommitteeMetadata.load(directory) if there else None


def prepare_members(
    directory: Path,
    plans: Sequence[MemberPlan],
    known: Sequence[TorchCommitteeMember],
    features: FeatureStore,
    model: ANNModel,
    config: TorchTrainingConfig,
    run: RunConfig,
    split: Split | None,
    ids: IntArray | None,
) -> list[TorchCommitteeMember]:
    """Write the run of every member into its folder; filters, split and normalisation are decided once.

    Args:
        split, ids: As of ``prepare_run``.
        known: Members of before; those completed, with as many epochs as are asked for, stay so.

    Raises:
        TrainingError: A known member began with other settings or data.
    """
    members, base = [], None
    for plan in plans:
        folder = directory / member_name(plan.member_index, len(plans))
        own = plan.config(config)
        done = plan.member_index < len(known) and known[plan.member_index].completed
        before = RunSpec.load(folder).epochs if done else None
        if not continues(folder, "auto", features, model, own):
            if base is None:
                base = prepare_run(folder, features, model, own, split=split, ids=ids, loggers=run.loggers)
            else:
                exact = own.model_copy(update={"precision": base.config.precision})
                replace(base, config=exact, seed=plan.seed, initial=initial_weights(model, plan.seed)).save(folder)
        checkpoints = None if own.checkpoint_dir is None else folder / own.checkpoint_dir
        member = TorchCommitteeMember(
            plan.member_index, plan.seed, plan.split_seed, plan.device, folder, checkpoint_dir=checkpoints
        )
        kept = done and RunSpec.load(folder).epochs == before and member.model_path.exists()
        members.append(known[plan.member_index] if kept else member)
    return members


def train_members(metadata: CommitteeMetadata, epochs: int, max_parallel: int, *, show_progress: bool) -> None:
    """Train the pending members and keep the metadata up to date.

    Args:
        epochs: Of each member.
        max_parallel: Processes at a time; 1 trains in this process.
    """
    pending = [m.member_index for m in metadata.members if not m.completed]
    with _progress(pending, epochs, show=show_progress) as told:
        results = _in_turn if max_parallel == 1 else _side_by_side
        for member in results(metadata.directory, pending, max_parallel, told):
            metadata.members[member.member_index] = member
            metadata.save()
            if show_progress:
                print(_told(member, len(metadata.members)), file=sys.stderr, flush=True)


@contextmanager
def _progress(pending: Sequence[int], epochs: int, *, show: bool) -> Iterator[Told]:
    """A bar over the epochs of all members."""
    done = dict.fromkeys(pending, 0)
    with progress_bar("committee", len(pending) * epochs, "epochs", show=show) as advance:

        def told(index: int, n: int) -> None:
            if n > done[index]:
                advance(n - done[index])
                done[index] = n

        yield told


def _told(member: TorchCommitteeMember, n: int) -> str:
    """One line of what came of a member."""
    head = f"member {member.member_index + 1}/{n}"
    rows = HistoryTail(member.history_csv_path).read()
    if not member.completed:
        return f"{head}  failed: {member.error}"
    return f"{head}  {line(rows[-1], len(rows))}" if rows else f"{head}  no epochs"


def _in_turn(directory: Path, pending: Sequence[int], _: int, told: Told) -> Iterator[TorchCommitteeMember]:
    for index in pending:

        def on_epoch(row: Row, last: bool, index: int = index) -> None:
            told(index, int(row["epoch"]) + 1)

        yield train_member(directory, index, on_epoch)


def _side_by_side(
    directory: Path, pending: Sequence[int], max_parallel: int, told: Told
) -> Iterator[TorchCommitteeMember]:
    """Members as they end, ``max_parallel`` processes at a time; none outlives this call."""
    members = CommitteeMetadata.load(directory).members
    waiting = deque(pending)
    running: dict[int, tuple[subprocess.Popen[bytes], HistoryTail]] = {}
    threads = max(1, len(os.sched_getaffinity(0)) // max_parallel) if hasattr(os, "sched_getaffinity") else 1
    try:
        while waiting or running:
            while waiting and len(running) < max_parallel:
                index = waiting.popleft()
                tail = HistoryTail(members[index].history_csv_path)
                running[index] = _start(directory, members[index], threads), tail
            time.sleep(0.05)
            for index, (process, tail) in list(running.items()):
                tail.read()
                told(index, tail.n_rows)
                if process.poll() is not None:
                    del running[index]
                    _stop(process)
                    yield _ended(directory, members[index], process.returncode)
    finally:
        for process, _ in running.values():
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _start(directory: Path, member: TorchCommitteeMember, threads: int) -> subprocess.Popen[bytes]:
    """A fresh interpreter: nothing is inherited, and a script needs no ``if __name__ == '__main__'``."""
    root = str(Path(aenet_ray.__file__).parent.parent)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    arguments = [str(directory), str(member.member_index), str(threads), str(os.getpid())]
    member.summary_path.unlink(missing_ok=True)
    with (member.member_dir / LOG).open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "aenet_ray.committee.member", *arguments],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **dict.fromkeys(names, str(threads)), "PYTHONPATH": path},
        )


def _ended(directory: Path, member: TorchCommitteeMember, code: int) -> TorchCommitteeMember:
    """What the process wrote about its member; one that was killed wrote nothing."""
    path = member.member_dir / LOG
    if path.stat().st_size == 0:
        path.unlink()
    if member.summary_path.exists():
        return TorchCommitteeMember.read_summary(member.summary_path, directory)
    log = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    member.status = "failed"
    member.error = f"its process {how}; last words in {LOG}: {log[-1] if log else 'none'}"
    member.write_summary(directory)
    return member
