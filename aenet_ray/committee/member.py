"""Training of one member: a function of the committee's folder and the member's number, and nothing else.

``python -m aenet_ray.committee.member DIRECTORY INDEX THREADS PARENT`` runs it in a process of its own.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
from pathlib import Path

import torch

from aenet_ray.committee.layout import CommitteeMetadata, TorchCommitteeMember
from aenet_ray.models.model_file import read_model_file, write_model_file
from aenet_ray.train_out import TrainOut
from aenet_ray.training.comm import Solo
from aenet_ray.training.driver import choose_device
from aenet_ray.training.engine import OnEpoch, run_training
from aenet_ray.training.spec import RunSpec

LAST_VALUES = ("train_energy_rmse", "test_energy_rmse", "train_force_rmse", "test_force_rmse")


def train_member(directory: Path, index: int, on_epoch: OnEpoch | None = None) -> TorchCommitteeMember:
    """Train a prepared member to its end, from its newest checkpoint if it has one, and write its summary.

    Args:
        directory: The committee's folder.
        on_epoch: Told of each epoch.

    Returns:
        The member, completed or failed: what goes wrong in one member is told, not raised.
    """
    member = CommitteeMetadata.load(directory).members[index]
    member.summary_path.unlink(missing_ok=True)  # of an earlier attempt
    member.error, member.metrics = None, {}
    try:
        device = choose_device(RunSpec.load(member.member_dir).config.device)
        run_training(member.member_dir, Solo(), device, on_epoch)
        payload = read_model_file(member.model_path)
        payload["extra_metadata"] = {
            "committee_member_index": member.member_index,
            "committee_seed": member.seed,
            "committee_split_seed": member.split_seed,
        }
        write_model_file(member.model_path, payload)
        member.metrics = run_metrics(train_out(member.member_dir), float(payload["best_val_loss"]))
        member.status = "completed"
    except Exception as error:
        member.status, member.error = "failed", f"{type(error).__name__}: {error}"
    member.write_summary(directory)
    return member


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
    directory, index, threads, parent = Path(arguments[0]), *(int(a) for a in arguments[1:])
    _leave_with(parent)
    torch.set_num_threads(threads)
    return 0 if train_member(directory, index).completed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
