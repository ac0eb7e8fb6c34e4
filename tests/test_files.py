"""A file is replaced at once, or stays as it was."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from aenet_ray.files import replacing, write_json, write_text


def test_a_file_is_replaced_and_nothing_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for text in ("one", "two"):
        write_text(path, text)
        assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("written", [True, False])
def test_what_fails_leaves_the_old_file_and_nothing_over(tmp_path: Path, written: bool) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def stopped() -> None:
        with replacing(path) as temporary:
            if written:
                temporary.write_text("half")
            assert path.read_text() == "old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_text(tmp_path / "nowhere" / "a.txt", "text")


def test_json_is_valid_where_numbers_are_not(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [1.5, math.nan], 2: {"b": (math.inf, None, "text")}})

    def refuse(name: str) -> None:
        raise AssertionError(name)

    found = json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)
    assert found == {"a": [1.5, None], "2": {"b": [None, None, "text"]}}
