"""Splits: the reference's for every seed, and a file that refuses what cannot be."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from structure_samples import DATA

from aenet_ray.errors import ConfigError
from aenet_ray.structures.split import SplitFile, split_indices

ROWS = json.loads((DATA / "golden" / "splits.json").read_text())["rows"]


@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"n={r['n']} seed={r['seed']} {r['test_fraction']}")
def test_golden(row: dict) -> None:
    train, test = split_indices(row["n"], 100 * row["test_fraction"], row["seed"])
    assert test.tolist() == row["test_sorted"]
    assert train.tolist() == row["train_sorted"]
    train, test = split_indices(row["n"], 100 * row["test_fraction"], row["seed"], keep_order=True)
    assert [*test, *train] == row["shuffled"]
    assert len(test) == row["n_test"]


def test_unseeded_splits_differ_and_bad_ones_raise() -> None:
    assert len({tuple(split_indices(50, 20)[1].tolist()) for _ in range(5)}) > 1
    assert [len(part) for part in split_indices(0, 10, 1)] == [0, 0]
    for n, percent in ((-1, 10), (5, -1), (5, 101), (5, float("nan"))):
        with pytest.raises(ConfigError, match="percentage from 0 to 100"):
            split_indices(n, percent, 0)


def split() -> SplitFile:
    train, test = split_indices(10, 20, 7)
    return SplitFile(parts={"train": train, "test": test}, n_structures=10, store_hash="abc", seed=7, note="ä")


def test_saved_and_loaded(tmp_path: Path) -> None:
    split().save(tmp_path / "split.json")
    again = SplitFile.load(tmp_path / "split.json", store_hash="abc")
    assert (again.seed, again.note, again.n_structures) == (7, "ä", 10)
    for part in ("train", "test"):
        assert np.array_equal(again[part], split()[part])
    assert os.listdir(tmp_path) == ["split.json"]
    with pytest.raises(ConfigError, match="no part 'validation', there are train, test"):
        again["validation"]


def test_of_another_store(tmp_path: Path) -> None:
    split().save(tmp_path / "split.json")
    with pytest.raises(ConfigError, match="made for the store with content hash abc, this one has xyz"):
        SplitFile.load(tmp_path / "split.json", store_hash="xyz")


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"train": [0, 1, 2], "test": [2, 3]}, "structure 2 is in 'train' and in 'test'"),
        ({"train": [0, 0]}, "structure 0 is in 'train' and in 'train'"),
        ({"train": [9, 10]}, "names structures 9 to 10, the store has 0 to 9"),
        ({"train": [-1, 1]}, "names structures -1 to 1"),
        ({"train": [0.5, 1]}, "expected whole numbers"),
        ({"train": [[1], [2]]}, "expected whole numbers"),
    ],
)
def test_impossible_splits(parts: dict, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=reason):
        SplitFile(parts=parts, n_structures=10, store_hash="abc")
    path = tmp_path / "split.json"
    split().save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "parts": parts}))
    with pytest.raises(ConfigError, match=rf"split\.json: .*{reason}"):
        SplitFile.load(path)


def test_files_that_are_no_split(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    with pytest.raises(ConfigError, match="no such split file"):
        SplitFile.load(path)
    for text in ("{", "[]", "{}", '{"format": "aenet_ray.split", "version": 2}'):
        path.write_text(text)
        with pytest.raises(ConfigError, match="not a split file"):
            SplitFile.load(path)
    path.write_text('{"format": "aenet_ray.split", "version": 1, "parts": {}}')
    with pytest.raises(ConfigError, match="incomplete split file: 'n_structures' is missing"):
        SplitFile.load(path)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split().save(tmp_path / "split.json")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        SplitFile(parts={"train": np.arange(3)}, n_structures=3, store_hash="x").save(tmp_path / "split.json")
    assert os.listdir(tmp_path) == ["split.json"]
    assert SplitFile.load(tmp_path / "split.json").seed == 7
