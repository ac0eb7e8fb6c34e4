"""Descriptors on every backend, and random structures."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["compiled", "torch"])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param
