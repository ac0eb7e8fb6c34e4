"""The folder of a committee: names, metadata and summaries, all with relative paths."""

from __future__ import annotations

import datetime
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aenet_ray.errors import CommitteeError
from aenet_ray.files import write_json
from aenet_ray.training.run_folder import COMMITTEE_FILE

METADATA = COMMITTEE_FILE
SCHEMA_VERSION = "1.0"
PATHS = ("member_dir", "model_path", "history_json_path", "history_csv_path", "summary_path", "checkpoint_dir")


def member_name(index: int, num_members: int) -> str:
    return f"member_{index:0{max(3, len(str(num_members - 1)))}d}"


@dataclass(slots=True)
class TorchCommitteeMember:
    """One member as metadata and summary tell of it.

    Args:
        status: pending, completed or failed; error says why it failed.
        checkpoint_dir: None without checkpoints.
        metrics: Errors of its run, eV/atom and eV/Å; NaN where not measured.
    """

    member_index: int
    seed: int | None
    split_seed: int | None
    device: str | None
    member_dir: Path
    checkpoint_dir: Path | None = None
    status: str = "pending"
    metrics: dict[str, float] = field(default_factory=dict)
    error: str | None = None

    @property
    def model_path(self) -> Path:
        return self.member_dir / "model.pt"

    @property
    def history_json_path(self) -> Path:
        return self.member_dir / "history.json"

    @property
    def history_csv_path(self) -> Path:
        return self.member_dir / "history.csv"

    @property
    def summary_path(self) -> Path:
        return self.member_dir / "summary.json"

    @property
    def completed(self) -> bool:
        return self.status == "completed"

    def entry(self, directory: Path) -> dict[str, Any]:
        """Its line in the metadata; paths are relative to the committee's folder."""
        paths = {name: getattr(self, name) for name in PATHS}
        return {
            "member_index": self.member_index,
            "seed": self.seed,
            "split_seed": self.split_seed,
            "device": self.device,
            **{k: None if p is None else p.relative_to(directory).as_posix() for k, p in paths.items()},
            "status": self.status,
            "metrics": self.metrics,
            "error": self.error,
        }

    @classmethod
    def from_entry(cls, entry: dict[str, Any], directory: Path) -> TorchCommitteeMember:
        """Read ``entry``; a folder that was moved, or written with absolute paths, is found beside the metadata."""
        checkpoints = entry.get("checkpoint_dir")
        folder = _found(entry["member_dir"], directory)
        return cls(
            member_index=int(entry["member_index"]),
            seed=entry.get("seed"),
            split_seed=entry.get("split_seed"),
            device=entry.get("device"),
            member_dir=folder,
            checkpoint_dir=None if checkpoints is None else folder / Path(checkpoints).name,
            status=entry["status"],
            metrics={k: math.nan if v is None else v for k, v in (entry.get("metrics") or {}).items()},
            error=entry.get("error"),
        )

    def write_summary(self, directory: Path) -> None:
        write_json(self.summary_path, self.entry(directory))

    @classmethod
    def read_summary(cls, path: Path, directory: Path) -> TorchCommitteeMember:
        return cls.from_entry(json.loads(path.read_text()), directory)


def _found(stored: str, directory: Path) -> Path:
    """A member's folder: under the committee's folder, or else where an absolute path says."""
    path = Path(stored)
    if not path.is_absolute():
        return directory / path
    beside = directory / path.name
    return path if path.exists() and not beside.exists() else beside


@dataclass(slots=True)
class CommitteeMetadata:
    """``committee_metadata.json``: what was asked for, and how each member fares.

    Args:
        directory: The committee's folder.
        settings: committee_config, training_config, architecture, descriptor_config and what the data were.
    """

    directory: Path
    members: list[TorchCommitteeMember]
    execution_mode: str
    settings: dict[str, Any]

    def save(self) -> None:
        failed = [m for m in self.members if m.status == "failed"]
        values = {
            "schema_version": SCHEMA_VERSION,
            "timestamp": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "execution_mode": self.execution_mode,
            "output_dir": ".",
            **self.settings,
            "members": [m.entry(self.directory) for m in self.members],
            "failures": [{"member_index": m.member_index, "error": m.error} for m in failed],
        }
        write_json(self.directory / METADATA, values)

    def completed(self) -> list[TorchCommitteeMember]:
        """Members to predict with.

        Raises:
            CommitteeError: There are none, or a model file is missing.
        """
        completed = [m for m in self.members if m.completed]
        if not completed:
            states = ", ".join(f"member {m.member_index} {m.status}" for m in self.members) or "it lists none"
            raise CommitteeError(f"{self.directory}: no member is completed ({states}).")
        missing = [str(m.model_path) for m in completed if not m.model_path.is_file()]
        if missing:
            raise CommitteeError(f"{self.directory}: model files are missing: {', '.join(missing)}.")
        return completed

    @classmethod
    def load(cls, path: str | Path) -> CommitteeMetadata:
        """Read a committee's folder, or its metadata file, ours or aenet-python's.

        Raises:
            FileNotFoundError: There is none.
            CommitteeError: It is damaged, or something else.
        """
        path = Path(path).absolute()
        file = path / METADATA if path.is_dir() else path
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such file; expected a committee's folder or its {METADATA}.")
        try:
            values = json.loads(file.read_text())
            members = [TorchCommitteeMember.from_entry(e, file.parent) for e in values["members"]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise CommitteeError(f"{file}: is no metadata of a committee ({reason}).") from None
        known = ("schema_version", "timestamp", "execution_mode", "output_dir", "members", "failures")
        settings = {k: v for k, v in values.items() if k not in known}
        return cls(file.parent, members, values.get("execution_mode", "sequential"), settings)
