"""Where the time of an epoch goes."""

from __future__ import annotations

import time

import torch


class StageClock:
    """Seconds by stage: each lap is charged to the stage that just ended.

    Args:
        device: Where the work is done.
        exact: Wait for a GPU at every lap; else a stage there is charged with what it took to queue it.
    """

    def __init__(self, device: torch.device, *, exact: bool = False) -> None:
        self.seconds: dict[str, float] = {}
        self._wait = exact and device.type == "cuda"
        self._last = time.perf_counter()

    def start(self) -> None:
        """What passed since the last lap belongs to no stage."""
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        if self._wait:
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now

    def of(self, *stages: str) -> float:
        return sum(self.seconds.get(stage, 0.0) for stage in stages)
