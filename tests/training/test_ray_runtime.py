"""A Ray of our own starts quietly, trains on two workers, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

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
    print(session.directory, flush=True)
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


def clean_environment(home: Path) -> dict[str, str]:
    """The environment of somebody who never heard of Ray."""
    return {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {"HOME": str(home)}


def running(session: str) -> list[str]:
    """Command lines of processes of a Ray session, and of those whose parent is one."""
    name, found = os.path.basename(session).encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue
        if name in text:
            found.append((folder / "cmdline").read_bytes().decode(errors="replace"))
    return found


def test_two_workers_quietly_and_nothing_left(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(TRAIN)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "ray")],
        capture_output=True,
        text=True,
        env=clean_environment(tmp_path),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    session, *lines = done.stdout.splitlines()
    assert len(lines) == 1, "Ray or a worker wrote to the terminal"
    assert done.stderr == ""
    result = json.loads(lines[0])
    assert result["total"] == 2.0
    assert result["cwd"] == str(tmp_path)
    assert result["report"] < 1.5  # 2 s as Ray comes
    assert 1.0 < result["age"] < 180.0
    assert running(session) == []
    assert not (tmp_path / ".ray").exists(), "a token was left in the home directory"


@pytest.mark.fault
@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL])
def test_a_driver_that_is_ended_takes_its_ray_along(tmp_path: Path, blow: signal.Signals) -> None:
    script, sign = tmp_path / "train.py", tmp_path / "sign"
    script.write_text(TRAIN)
    driver = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "ray"), str(sign)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=clean_environment(tmp_path),
    )
    assert driver.stdout is not None
    session = driver.stdout.readline().strip()
    while not sign.exists():
        assert driver.poll() is None
        time.sleep(0.05)
    assert len(running(session)) >= 5
    driver.send_signal(blow)
    assert driver.wait(timeout=60) != 0
    deadline = time.monotonic() + 60
    while left := running(session):
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


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
