"""Training of members: a function of the committee's folder and the members' numbers, and nothing else.

``python -m aenet_ray.committee.member DIRECTORY INDEX[,INDEX...] THREADS PARENT`` runs it in a process of its own.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from aenet_ray.committee.layout import CommitteeMetadata, TorchCommitteeMember
from aenet_ray.models.model_file import read_model_file, write_model_file
from aenet_ray.train_out import TrainOut
from aenet_ray.training.comm import Solo
from aenet_ray.training.driver import choose_device
from aenet_ray.training.engine import run_training
from aenet_ray.training.history import Row
from aenet_ray.training.members import OnMemberEpoch, run_members
from aenet_ray.training.spec import RunSpec

LAST_VALUES = ("train_energy_rmse", "test_energy_rmse", "train_force_rmse", "test_force_rmse")


def train_together(
    directory: Path,
    indices: Sequence[int],
    on_epoch: OnMemberEpoch | None = None,
    on_end: Callable[[TorchCommitteeMember], None] | None = None,
) -> list[TorchCommitteeMember]:
    """Train prepared members to their ends, from their newest checkpoints if they have some, and write summaries.

    Args:
        directory: The committee's folder.
        indices: Of members on one device.
        on_epoch: Told of each epoch, with the member's number.
        on_end: Told of each member when it has ended, completed or failed.

    Returns:
        The members, completed or failed: what goes wrong in one member is told, not raised.
    """
    known = CommitteeMetadata.load(directory).members
    members = [known[i] for i in indices]
    for member in members:
        member.summary_path.unlink(missing_ok=True)  # of an earlier attempt
        member.status, member.error, member.metrics = "pending", None, {}

    def epoch(place: int, row: Row, last: bool) -> None:
        if on_epoch is not None:
            on_epoch(indices[place], row, last)

    def ended(place: int, error: Exception | None) -> None:
        conclude(members[place], directory, error)
        if on_end is not None:
            on_end(members[place])

    try:
        device = choose_device(members[0].device)
        if len(members) > 1:
            run_members([m.member_dir for m in members], device, epoch, ended)
        else:
            run_training(members[0].member_dir, Solo(), device, lambda row, last: epoch(0, row, last))
            ended(0, None)
    except Exception as error:
        for place, member in enumerate(members):
            if member.status == "pending":
                ended(place, error)
    return members


def conclude(member: TorchCommitteeMember, directory: Path, error: Exception | None) -> None:
    """Write into model and summary what the member is, and what came of it."""
    try:
        if error is not None:
            raise error
        payload = read_model_file(member.model_path)
        payload["extra_metadata"] = {
            "committee_member_index": member.member_index,
            "committee_seed": member.seed,
            "committee_split_seed": member.split_seed,
        }
        write_model_file(member.model_path, payload)
        member.metrics = run_metrics(train_out(member.member_dir), float(payload["best_val_loss"]))
        member.status = "completed"
    except Exception as failure:
        member.status, member.error = "failed", f"{type(failure).__name__}: {failure}"
    member.write_summary(directory)


def train_out(run_dir: Path) -> TrainOut:
    """What ``train`` returned for the run in ``run_dir``, from its files."""
    values = json.loads((run_dir / "history.json").read_text())
    history = {k: [math.nan if v is None else float(v) for v in column] for k, column in values.items()}
    return TrainOut(history, RunSpec.load(run_dir).config, run_dir)


def run_metrics(out: TrainOut, best_val_loss: float) -> dict[str, float]:
    """Final and lowest errors of a run, under the names that summaries use."""
    last = {name: out.history[name][-1] if out.history[name] else math.nan for name in LAST_VALUES}
    return {**out.stats, **last, "best_val_loss": best_val_loss, "epochs_recorded": len(out.learning_rate)}


def _leave_with(parent: int) -> None:
    """End this process when the one that started it is gone: its pipe, our standard input, is closed then."""

    def wait() -> None:
        os.read(0, 1)  # sys.stdin has a lock, which would be held at the end of the process
        os._exit(1)

    if os.getppid() != parent:
        os._exit(1)
    threading.Thread(target=wait, daemon=True).start()


def main(arguments: list[str]) -> int:
    directory, indices = Path(arguments[0]), [int(i) for i in arguments[1].split(",")]
    threads, parent = (int(a) for a in arguments[2:])
    _leave_with(parent)
    torch.set_num_threads(threads)
    return 0 if all(m.completed for m in train_together(directory, indices)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
