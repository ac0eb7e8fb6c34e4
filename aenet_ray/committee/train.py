"""From prepared members to trained ones: one after the other here, or several processes at a time."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import aenet_ray
from aenet_ray.committee.config import TorchCommitteeConfig
from aenet_ray.committee.layout import CommitteeMetadata, TorchCommitteeMember
from aenet_ray.committee.member import train_together
from aenet_ray.errors import TrainingError
from aenet_ray.progress import progress_bar
from aenet_ray.training.config import RunConfig, ScalingConfig
from aenet_ray.training.history import HistoryTail, line
from aenet_ray.waiting import saying

logger = logging.getLogger(__name__)

LOG = "train.log"
Told = Callable[[int, int], None]
"""Member and the epochs it has done."""
Ended = Callable[[TorchCommitteeMember], None]
Running = tuple[list[TorchCommitteeMember], int, subprocess.Popen[bytes], list[HistoryTail]]
"""A process, its members, how often it may be started again, and what they write."""


def train_members(
    metadata: CommitteeMetadata,
    epochs: int,
    committee: TorchCommitteeConfig,
    scaling: ScalingConfig | None,
    run: RunConfig,
    *,
    show_progress: bool,
) -> None:
    """Train the pending members and keep the metadata up to date.

    Args:
        epochs: Of each member.
        scaling: Trials on the Ray that is there; None: this process, or ``max_parallel`` of them.

    Raises:
        TrainingError: Members failed; the metadata and all other members are written by then.
    """
    groups = pending_groups(metadata, committee.members_per_trial)

    def ended(member: TorchCommitteeMember) -> None:
        metadata.members[member.member_index] = member
        metadata.save()
        if show_progress:
            print(_told(member, len(metadata.members)), file=sys.stderr, flush=True)

    if scaling is not None:
        from aenet_ray.committee.launch import train_on_tune

        if groups:
            train_on_tune(metadata, groups, epochs, committee, scaling, run, ended, show_progress=show_progress)
    else:
        with _progress([i for g in groups for i in g], epochs, show=show_progress) as told:
            if committee.max_parallel == 1:
                _in_turn(metadata.directory, groups, told, ended)
            else:
                _side_by_side(metadata.directory, groups, committee.max_parallel, run.max_failures, told, ended)
    failed = [m for m in metadata.members if not m.completed]
    if failed:
        raise TrainingError(
            f"{metadata.directory}: {len(failed)} of {len(metadata.members)} members failed: "
            + "; ".join(f"member {m.member_index}: {m.error}" for m in failed)
            + ". The others can be used (from_directory); run.resume='auto' tries the failed ones again."
        )


def pending_groups(metadata: CommitteeMetadata, together: int) -> list[list[int]]:
    """Numbers of the members that are not completed, by the group they train in."""
    groups: dict[int, list[int]] = {}
    for member in metadata.members:
        if not member.completed:
            groups.setdefault(member.member_index // together, []).append(member.member_index)
    return list(groups.values())


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


def _in_turn(directory: Path, groups: Sequence[list[int]], told: Told, ended: Ended) -> None:
    for group in groups:
        train_together(directory, group, lambda index, row, last: told(index, int(row["epoch"]) + 1), ended)


def _side_by_side(
    directory: Path, groups: Sequence[list[int]], max_parallel: int, max_failures: int, told: Told, ended: Ended
) -> None:
    """``max_parallel`` processes at a time; none outlives this call. One that is killed is started again, up to
    ``max_failures`` times, and goes on from its checkpoints."""
    members = CommitteeMetadata.load(directory).members
    waiting = deque(([members[i] for i in group], max_failures) for group in groups)
    running: list[Running] = []
    threads = max(1, len(os.sched_getaffinity(0)) // max_parallel) if hasattr(os, "sched_getaffinity") else 1

    def waited_for() -> str:
        return "the next epoch of " + ", ".join(m.member_dir.name for group, *_ in list(running) for m in group)

    with ExitStack() as stack:
        stack.callback(_stop_all, running)
        came = stack.enter_context(saying(waited_for))
        while waiting or running:
            while waiting and len(running) < max_parallel:
                group, left = waiting.popleft()
                tails = [HistoryTail(m.history_csv_path) for m in group]
                running.append((group, left, _start(directory, group, threads), tails))
            time.sleep(0.05)
            for one in list(running):
                group, left, process, tails = one
                for member, tail in zip(group, tails, strict=True):
                    if tail.read():
                        came()
                    told(member.member_index, tail.n_rows)
                if process.poll() is None:
                    continue
                running.remove(one)
                _stop(process)
                again = [m for m in group if process.returncode < 0 and left and not m.summary_path.exists()]
                if again:
                    names = ", ".join(m.member_dir.name for m in again)
                    logger.warning("%s: killed by signal %d; started again", names, -process.returncode)
                    waiting.appendleft((again, left - 1))
                for member in group:
                    if member not in again:
                        ended(_ended(directory, member, group[0].member_dir / LOG, process.returncode))


def _stop_all(running: Sequence[Running]) -> None:
    for _, _, process, _ in running:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _start(directory: Path, group: list[TorchCommitteeMember], threads: int) -> subprocess.Popen[bytes]:
    """A fresh interpreter: nothing is inherited, and a script needs no ``if __name__ == '__main__'``."""
    root = str(Path(aenet_ray.__file__).parent.parent)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    numbers = ",".join(str(m.member_index) for m in group)
    arguments = [str(directory), numbers, str(threads), str(os.getpid())]
    for member in group:
        member.summary_path.unlink(missing_ok=True)
    with (group[0].member_dir / LOG).open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "aenet_ray.committee.member", *arguments],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **dict.fromkeys(names, str(threads)), "PYTHONPATH": path},
        )


def _ended(directory: Path, member: TorchCommitteeMember, log: Path, code: int) -> TorchCommitteeMember:
    """What the process wrote about its member; one that was killed wrote nothing."""
    if log.exists() and log.stat().st_size == 0:
        log.unlink()
    if member.summary_path.exists():
        return TorchCommitteeMember.read_summary(member.summary_path, directory)
    said = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    member.status = "failed"
    member.error = f"its process {how}; last words in {log.name}: {said[-1] if said else 'none'}"
    member.write_summary(directory)
    return member
