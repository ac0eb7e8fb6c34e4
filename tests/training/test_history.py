"""The table of epochs: a file that is always whole, and what follows it while it grows."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from aenet_ray.training.history import COLUMNS, History, HistoryTail

FIRST = ",".join(COLUMNS)


def row(epoch: int, loss: float = 0.5) -> dict[str, float]:
    return {"epoch": float(epoch), "train_loss": loss, "test_loss": math.nan}


def history(path: Path, epochs: int) -> History:
    table = History(path)
    for epoch in range(epochs):
        table.append(row(epoch))
    return table


def epochs_of(rows: list[dict[str, float]]) -> list[int]:
    return [int(r["epoch"]) for r in rows]


def test_each_row_once(tmp_path):
    path = tmp_path / "history.csv"
    tail = HistoryTail(path)
    assert tail.read() == []
    table = history(path, 2)
    first = tail.read()
    assert epochs_of(first) == [0, 1]
    assert first[0]["train_loss"] == 0.5
    assert math.isnan(first[0]["test_loss"])
    assert tuple(first[0]) == COLUMNS
    assert tail.read() == []
    table.append(row(2))
    assert epochs_of(tail.read()) == [2]
    assert tail.n_rows == 3


def test_a_line_counts_when_it_is_whole(tmp_path):
    path = tmp_path / "history.csv"
    tail = HistoryTail(path)
    text = f"{FIRST}\r\n0" + "," * (len(COLUMNS) - 1) + "\r\n1" + "," * (len(COLUMNS) - 1) + "\r\n"
    found = []
    for end in range(len(text) + 1):  # one character more each time, in the header as well
        with path.open("a", newline="") as file:
            file.write(text[end - 1 : end])
        found += [(end, epoch) for epoch in epochs_of(tail.read())]
    middle = text.index("\n1") + 1
    assert found == [(middle, 0), (len(text), 1)]


def test_only_what_was_appended_is_read(tmp_path, monkeypatch):
    """Work for an epoch does not grow with the epochs before it."""
    path = tmp_path / "history.csv"
    table = history(path, 300)
    tail = HistoryTail(path)
    tail.read()
    parsed = []
    one = HistoryTail._row
    monkeypatch.setattr(HistoryTail, "_row", lambda self, cells: parsed.append(cells) or one(self, cells))
    tail.read()
    table.append(row(300))
    tail.read()
    assert len(parsed) == 1


@pytest.mark.parametrize("in_place", [False, True])
def test_a_replaced_or_cut_file_is_read_anew(tmp_path, in_place):
    path = tmp_path / "history.csv"
    table = history(path, 5)
    tail = HistoryTail(path)
    tail.read()
    if in_place:
        lines = path.read_text().splitlines(keepends=True)[:3]
        path.write_text("".join(lines))
    else:
        History(path, {k: v[:2] for k, v in table.columns().items()})
    assert epochs_of(tail.read()) == [0, 1]
    assert tail.n_rows == 2


def test_a_reader_never_sees_a_cut_file(tmp_path, monkeypatch):
    """Until the new file is complete the old one is there, and nothing else is left in the folder."""
    path = tmp_path / "history.csv"
    table = history(path, 40)
    before, seen, replace = path.read_bytes(), [], os.replace

    def watched(source, target):
        seen.append(path.read_bytes())
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    table.replace_last(row(39, loss=0.25))
    table.rewrite()
    assert seen == [before]
    assert path.read_bytes().splitlines()[:-1] == before.splitlines()[:-1]
    assert b"0.25" in path.read_bytes().splitlines()[-1]
    assert [p.name for p in tmp_path.iterdir()] == ["history.csv"]
