"""The files that PyTables wrote, unpacked."""

from __future__ import annotations

from pathlib import Path

import pytest
from legacy_files import unpacked


@pytest.fixture
def training_file(tmp_path) -> Path:
    return unpacked("training.h5", tmp_path)


@pytest.fixture
def older_file(tmp_path) -> Path:
    return unpacked("older.h5", tmp_path)


@pytest.fixture
def trnset_file(tmp_path) -> Path:
    return unpacked("trnset.h5", tmp_path)
