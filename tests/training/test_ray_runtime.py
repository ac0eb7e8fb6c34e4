"""A Ray of our own starts quietly, trains on two workers, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aenet_ray import ray_session
from aenet_ray.ray_session import ensure_ray

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

TRAIN = """
import json, os, sys, time, warnings
warnings.simplefilter("error")
from aenet_ray.training.ray_runtime import ensure_ray, process_age, quiet_ray_logs, torch_trainer

def work(settings):
    import torch, torch.distributed, ray.train
    quiet_ray_logs()
    total = torch.ones(1)
    torch.distributed.all_reduce(total)
    print("a worker prints")
    if settings["wait"]:
        open(settings["wait"], "w").write("here")
        time.sleep(100)
    seconds = []
    for i in range(3):
        started = time.monotonic()
        ray.train.report({"loss": float(i)})
        seconds.append(time.monotonic() - started)
    return {"total": total.item(), "cwd": os.getcwd(), "report": max(seconds)}

with ensure_ray(num_cpus=2) as session:
    import ray.train
    with ensure_ray() as inner:
        assert inner.local and inner.directory == session.directory
    trainer = torch_trainer(
        work,
        train_loop_config={"wait": sys.argv[2] if len(sys.argv) > 2 else None},
        scaling_config=ray.train.ScalingConfig(num_workers=2),
        run_config=ray.train.RunConfig(name="run", storage_path=sys.argv[1]),
    )
    result = trainer.fit().return_value
assert not ray.is_initialized()
print(json.dumps(result | {"trainer": type(trainer).__name__, "age": process_age(), "cpus": session.cpus}))
"""


def descendants(pid: int) -> set[int]:
    """Processes started by a process, by those, and so on."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
    found, new = set[int](), {pid}
    while new := {child for child, parent in parents.items() if parent in new}:
        found |= new
    return found


def alive(pids: set[int]) -> dict[int, str]:
    """Those that still run, and what they are."""
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return found


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """The script above, as somebody runs it who never heard of Ray; what it writes goes to files."""
    (folder / "train.py").write_text(TRAIN)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {"HOME": str(folder)}
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        return subprocess.Popen(
            [sys.executable, "train.py", str(folder / "ray"), *arguments],
            stdout=out,
            stderr=err,
            env=environment,
            cwd=folder,
        )


def test_two_workers_quietly_and_nothing_left(tmp_path: Path) -> None:
    driver, started = start(tmp_path), set[int]()
    while driver.poll() is None:
        started |= descendants(driver.pid)
        time.sleep(0.1)
    left = alive(started)
    assert (tmp_path / "err").read_text() == "" or os.cpu_count() == 1, "on one core, sharing it is warned of"
    assert driver.returncode == 0
    lines = (tmp_path / "out").read_text().splitlines()
    assert len(lines) == 1, "Ray or a worker wrote to the terminal"
    result = json.loads(lines[0])
    assert result["total"] == 2.0
    assert result["cwd"] == str(tmp_path)
    assert result["report"] < 1.5  # 2 s as Ray comes
    assert 1.0 < result["age"] < 180.0
    assert len(started) >= 8
    assert left == {}
    assert not (tmp_path / ".ray").exists(), "a token was left in the home directory"


@pytest.mark.fault
@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL])
def test_a_driver_that_is_ended_takes_its_ray_along(tmp_path: Path, blow: signal.Signals) -> None:
    sign = tmp_path / "sign"
    driver = start(tmp_path, str(sign))
    while not sign.exists():
        assert driver.poll() is None
        time.sleep(0.05)
    started = descendants(driver.pid)
    assert len(started) >= 8
    driver.send_signal(blow)
    assert driver.wait(timeout=60) != 0
    # After SIGKILL nothing of ours can run any more: Ray's agents report to the dead for a minute, then end too.
    agents = ("ray::DashboardAgent", "ray::RuntimeEnvAgent") if blow == signal.SIGKILL else ()
    deadline = time.monotonic() + 60
    while left := [name for name in alive(started).values() if not name.startswith(agents)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


class Started(Exception):
    pass


@pytest.mark.parametrize(
    ("asked", "there", "address", "warned"),
    [
        (64, 2, None, True),
        (3, 2, "local", True),
        (2, 2, None, False),
        (None, 2, None, False),
        (64, 2, "far:6379", False),
    ],
)
def test_more_workers_than_processors_are_warned_of_before_anything_starts(
    monkeypatch, caplog, asked, there, address, warned
):
    def connect(local, num_cpus, *_):
        assert num_cpus == asked, "what was asked for is started"
        raise Started

    monkeypatch.setattr(ray_session, "_connect", connect)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr(os, "cpu_count", lambda: there)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    with caplog.at_level(logging.WARNING, "aenet_ray"), pytest.raises(Started), ensure_ray(asked):
        pass
    said = [r.getMessage() for r in caplog.records if r.name == "aenet_ray.ray_session"]
    assert len(said) == warned
    if warned:
        assert said[0].startswith(f"{asked} CPUs are asked for, this machine has 2: workers will share them")


def test_a_ray_that_runs_is_not_warned_of(ray_local, caplog):
    with caplog.at_level(logging.WARNING, "aenet_ray"), ensure_ray(640):
        pass
    assert not caplog.records


def test_an_address_nobody_answers_at_is_said() -> None:
    code = (
        "from aenet_ray.ray_session import ensure_ray\n"
        "from aenet_ray.errors import TrainingError\n"
        "try:\n"
        "    with ensure_ray():\n"
        "        pass\n"
        "except TrainingError as error:\n"
        "    print(error)\n"
    )
    environment = os.environ | {"RAY_ADDRESS": "127.0.0.1:26999"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.startswith("RAY_ADDRESS=127.0.0.1:26999: no cluster answers"), done.stderr
    assert "unset RAY_ADDRESS" in done.stdout
