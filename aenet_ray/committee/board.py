"""All members of a committee in training at a glance: one table on a terminal, else a line now and then."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aenet_ray.committee.layout import TorchCommitteeMember
from aenet_ray.training.history import HistoryTail, Row

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = 40
STATES = ("running", "waiting", "completed", "failed")


@dataclass
class MemberLine:
    """What is known of a member while the committee trains.

    Args:
        state: waiting, running, completed or failed.
        row: Its newest epoch; None before the first.
    """

    member: TorchCommitteeMember
    state: str
    tail: HistoryTail
    row: Row | None = None

    @property
    def epochs(self) -> int:
        return 0 if self.row is None else int(self.row["epoch"]) + 1


@dataclass
class Board:
    """Lines of all members, from what they write into their folders.

    Args:
        epochs: At which they end, if not early.
    """

    epochs: int
    lines: list[MemberLine] = field(default_factory=list)

    @classmethod
    def of(cls, members: list[TorchCommitteeMember], epochs: int) -> Board:
        lines = [
            MemberLine(m, "completed" if m.completed else "waiting", HistoryTail(m.history_csv_path)) for m in members
        ]
        board = cls(epochs, lines)
        board.look()
        return board

    def look(self) -> bool:
        """Read what is new; whether there was something."""
        news = False
        for line in self.lines:
            rows = line.tail.read()
            if rows:
                line.row, news = rows[-1], True
        return news

    def status(self) -> str:
        """All members in one line."""
        counts = Counter(line.state for line in self.lines)
        states = ", ".join(f"{counts[s]} {s}" for s in STATES if counts[s])
        done = sum(self.epochs if line.state == "completed" else line.epochs for line in self.lines)
        losses = [line.row["test_energy_rmse"] for line in self.lines if line.row is not None]
        known = sorted(1000 * v for v in losses if math.isfinite(v))
        middle = f"; median validation RMSE {known[len(known) // 2]:.2f} meV/atom" if known else ""
        return f"members: {states}; {100 * done / max(1, self.epochs * len(self.lines)):.0f} % of the epochs{middle}"

    def table(self) -> Table:
        from rich.table import Table

        table = Table(title=self.status(), title_justify="left", header_style="bold")
        for name in ("member", "", "epoch", "train E", "valid E", "train F", "valid F", "lr"):
            table.add_column(name, justify="left" if name in ("member", "") else "right", no_wrap=True)
        ordered = sorted(self.lines, key=lambda line: (STATES.index(line.state), line.member.member_index))
        for line in ordered[:SHOWN]:
            table.add_row(line.member.member_dir.name, line.state, f"{line.epochs}/{self.epochs}", *_numbers(line.row))
        if len(ordered) > SHOWN:
            table.add_row(f"and {len(ordered) - SHOWN} more")
        table.caption = "RMSE: E meV/atom, F meV/Å"
        return table


def _numbers(row: Row | None) -> list[str]:
    if row is None:
        return []
    names = ("train_energy_rmse", "test_energy_rmse", "train_force_rmse", "test_force_rmse")
    values = [1000 * row[name] for name in names]
    return ["–" if math.isnan(v) else f"{v:.2f}" for v in values] + [f"{row['learning_rate']:.2g}"]
