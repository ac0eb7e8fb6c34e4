"""Start a prepared run, here or on Ray, and show how it goes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch

from aenet_ray.errors import ConfigError
from aenet_ray.progress import progress_bar
from aenet_ray.training.comm import Solo
from aenet_ray.training.config import RunConfig, ScalingConfig
from aenet_ray.training.engine import OnEpoch, open_run, train_to_end
from aenet_ray.training.history import Row, line
from aenet_ray.training.spec import RunSpec
from aenet_ray.training.state import Start
from aenet_ray.training.termination import between_epochs

OnStart = Callable[[RunSpec, int], None]
"""Told of a run before it trains, and of the epoch that comes first, counted from 0."""


def choose_device(name: str | None, *, index: int | None = None) -> torch.device:
    """The device asked for, or cuda if there is one.

    Raises:
        ConfigError: No such device here.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device: {name!r} is none; expected 'cpu' or 'cuda'.") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device: {name!r} asked for, but torch sees no CUDA device here.")
    return device if index is None or device.type == "cpu" else torch.device(device.type, index)


@contextmanager
def epoch_printer(epochs: int, *, show: bool, first: int = 0, lines: int = 100) -> Iterator[OnEpoch]:
    """Prints a readable line an epoch, at most about ``lines`` of a long run, and moves a progress bar.

    Args:
        first: Epoch that this call begins with: the bar counts those it adds.
    """
    every = max(1, epochs // lines)
    started = time.monotonic()

    with progress_bar("training", epochs - first, "epochs", show=show) as advance:

        def on_epoch(row: Row, last: bool) -> None:
            epoch = int(row["epoch"])
            if show and (epoch % every == 0 or last):
                print(line(row, epochs), file=sys.stderr, flush=True)
            if show and last:
                print(f"trained in {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
            advance(1)

        yield on_epoch


def train_run(
    run_dir: Path,
    scaling: ScalingConfig | None,
    run: RunConfig,
    *,
    show_progress: bool,
    on_start: OnStart | None = None,
) -> None:
    """Train the prepared run in ``run_dir`` to its end.

    Args:
        scaling: Workers; None trains in this process, without Ray.

    Raises:
        SystemExit: It was terminated, and can go on.
    """
    if scaling is not None:
        from aenet_ray.training.launch import train_on_ray

        train_on_ray(run_dir, scaling, run, show_progress=show_progress, on_start=on_start)
        return
    spec = RunSpec.load(run_dir)
    start = Start.of(run_dir, spec)
    if on_start is not None:
        on_start(spec, start.epoch)
    state = open_run(spec, start, choose_device(spec.config.device))
    can_go_on = spec.checkpoint_folder(run_dir) is not None
    with (
        epoch_printer(spec.epochs, show=show_progress, first=start.epoch) as on_epoch,
        between_epochs() if can_go_on else nullcontext(lambda: False) as ending,
    ):
        train_to_end(state, run_dir, Solo(), on_epoch, ending)
