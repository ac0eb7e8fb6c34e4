"""What training a committee leaves behind, read from its folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aenet_ray.committee.layout import METADATA, PATHS, CommitteeMetadata, TorchCommitteeMember
from aenet_ray.committee.member import train_out
from aenet_ray.train_out import TrainOut

if TYPE_CHECKING:
    import pandas as pd

Statistics = dict[str, float]


@dataclass
class TorchCommitteeTrainResult:
    """A trained committee.

    Args:
        output_dir: Its folder, absolute.
        members: In the order of their numbers.
        execution_mode: sequential or parallel.
    """

    output_dir: Path
    members: list[TorchCommitteeMember]
    execution_mode: str

    @classmethod
    def from_directory(cls, path: str | Path) -> TorchCommitteeTrainResult:
        """Raises:
        FileNotFoundError, CommitteeError: There is no committee there.
        """
        metadata = CommitteeMetadata.load(path)
        return cls(metadata.directory, metadata.members, metadata.execution_mode)

    @property
    def metadata_path(self) -> Path:
        return self.output_dir / METADATA

    @property
    def completed_members(self) -> list[TorchCommitteeMember]:
        return [m for m in self.members if m.completed]

    @property
    def failed_members(self) -> list[TorchCommitteeMember]:
        return [m for m in self.members if m.status == "failed"]

    @cached_property
    def trainouts(self) -> list[TrainOut]:
        """What training each completed member gave."""
        return [train_out(m.member_dir) for m in self.completed_members]

    @property
    def stats(self) -> dict[str, Statistics]:
        """Mean, population standard deviation, min, max and number n of each metric's finite values over members."""
        names = list(dict.fromkeys(name for m in self.completed_members for name in m.metrics))
        return {name: _statistics([m.metrics.get(name, np.nan) for m in self.completed_members]) for name in names}

    def to_dataframe(self) -> pd.DataFrame:
        """One row a member: numbers, seeds, status, absolute paths, metrics."""
        import pandas as pd

        rows = []
        for m in self.members:
            paths = {name: None if getattr(m, name) is None else str(getattr(m, name)) for name in PATHS}
            head = {"member_index": m.member_index, "seed": m.seed, "split_seed": m.split_seed, "device": m.device}
            rows.append({**head, "status": m.status, "error": m.error, **paths, **m.metrics})
        return pd.DataFrame(rows)

    def __str__(self) -> str:
        """A table for people: in thousandths of ``stats``, as the lines of the epochs are."""
        lines = [f"committee of {len(self.members)} in {self.output_dir} ({self.execution_mode})"]
        lines += [f"  member {m.member_index} failed: {m.error}" for m in self.failed_members]
        stats = self.stats
        shown = {name: stats[name] for name in SHOWN if name in stats and stats[name]["n"]}
        if shown:
            units = "meV/atom" + (", forces meV/Å" if any("force" in name for name in shown) else "")
            lines.append(f"  {'mean ± spread of members':24} {units}")
        for name, values in shown.items():
            lines.append(f"  {name:24} {1000 * values['mean']:8.2f} ± {1000 * values['std']:.2f}")
        return "\n".join(lines)


SHOWN = (
    "final_MAE_train",
    "final_RMSE_train",
    "final_MAE_test",
    "final_RMSE_test",
    "final_RMSE_force_train",
    "final_RMSE_force_test",
)


def _statistics(values: list[float]) -> Statistics:
    finite = np.array([v for v in values if np.isfinite(v)])
    if not len(finite):
        return {"mean": np.nan, "std": np.nan, "min": np.nan, "max": np.nan, "n": 0}
    low, high = float(finite.min()), float(finite.max())
    return {"mean": float(finite.mean()), "std": float(finite.std()), "min": low, "max": high, "n": len(finite)}
