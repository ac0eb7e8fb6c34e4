"""What every test shares: quiet, quick Ray settings, data folders, one torch thread, ``--slow``."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Ray reads these when it is first imported, the processes it starts inherit them.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # else a token file appears in the home directory
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")  # a report waits for the next check
os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "60")  # fail, rather than retry for ever
os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")  # else each worker's print shows twice
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.pop("RAY_ADDRESS", None)  # never somebody's running cluster

import pytest

TESTS = Path(__file__).resolve().parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run tests longer than a minute")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip slow tests unless asked, and run Ray's last: a broken unit test then shows at once."""
    if not config.getoption("--slow"):
        skip = pytest.mark.skip(reason="longer than a minute: run with --slow")
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(skip)
    items.sort(key=lambda item: ("fault" in item.keywords, "ray" in item.keywords))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Data that the tests bring along, with its origin in its README."""
    return TESTS / "data"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The reference data beside the repository; tests that need all of it skip without."""
    folder = TESTS.parent.parent / "shared"
    if not folder.is_dir():
        pytest.skip("the reference data is not beside this checkout")
    return folder


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """One torch thread: sums in a fixed order, and no fight over two cores."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def ray_local() -> Iterator[Any]:
    """One local Ray for the session, four logical CPUs: more than two cores, so that no pool starves another."""
    from aenet_ray.ray_session import ensure_ray

    with ensure_ray(num_cpus=4) as session:
        yield session


@pytest.fixture(autouse=True)
def processors_given_back(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test leaves running on the Ray of the session, the next may wait for.

    Of trials only a warning: Tune's actors end by themselves, and now and then one takes its time.
    """
    if "ray_local" not in request.fixturenames:
        yield
        return
    import ray

    def free() -> float:
        return float(ray.available_resources().get("CPU", 0.0))

    request.getfixturevalue("ray_local")
    before = free()
    yield
    deadline = time.monotonic() + 30
    while free() < before and time.monotonic() < deadline:
        time.sleep(0.05)
    left = f"{free():g} CPUs are free after this test, {before:g} were before"
    if {"tuning", "committee"} & set(request.path.parts):
        if free() < before:
            warnings.warn(left, ResourceWarning, stacklevel=1)
        return
    assert free() >= before, left
