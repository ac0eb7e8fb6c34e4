"""Bars on a terminal, one below the other; nothing anywhere else."""

from __future__ import annotations

import io
import sys

import pytest
from runs import config, prepare, small_features

from aenet_ray import progress
from aenet_ray.progress import counted, progress_bar
from aenet_ray.training.config import RunConfig
from aenet_ray.training.driver import train_run


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def watched(monkeypatch) -> Terminal:
    """Called in the test itself: pytest sets its own stderr between fixtures and test."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return stream


def test_a_bar_within_a_bar(monkeypatch):
    terminal = watched(monkeypatch)
    with progress_bar("outer", 2, "epochs") as advance:
        for _ in range(2):
            assert list(counted(range(3), "inner", 3, "batches")) == [0, 1, 2]
            advance(1)
    assert progress._shown == []
    text = terminal.getvalue()
    assert "outer" in text
    assert "2/2" in text


def test_an_error_leaves_no_bar(monkeypatch):
    watched(monkeypatch)

    def stopped() -> None:
        with progress_bar("outer", 2, "epochs"), progress_bar("inner", 3, "batches"):
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        stopped()
    assert progress._shown == []


def test_nothing_where_nobody_watches(monkeypatch):
    terminal = watched(monkeypatch)
    assert list(counted(range(3), "hidden", 3, "batches", show=False)) == [0, 1, 2]
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert list(counted(range(3), "a file", 3, "batches")) == [0, 1, 2]
    assert terminal.getvalue() == sys.stderr.getvalue() == ""


def test_batches_are_shown_if_asked_for(tmp_path, monkeypatch):
    watched(monkeypatch)
    titles, bar = [], progress.progress_bar
    monkeypatch.setattr(
        progress, "progress_bar", lambda t, n, *a, **k: titles.append((t, n, k["show"])) or bar(t, n, *a, **k)
    )
    features = small_features(tmp_path, 20)
    for name, shown in (("with", True), ("without", False)):
        settings = config(iterations=2, show_progress=True, show_batch_progress=shown, testpercent=0)
        train_run(prepare(features, tmp_path / name, settings), None, RunConfig(), show_progress=True)
    epochs = [t for t in titles if t[0].startswith("epoch")]
    assert epochs == [("epoch 1", 2, True), ("epoch 2", 2, True), ("epoch 1", 2, False), ("epoch 2", 2, False)]
