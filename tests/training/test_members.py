"""Members trained together are the runs that they would be alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import config, difference, final_weights, prepare, small_features

from aenet_ray.errors import TrainingError
from aenet_ray.training.comm import Solo
from aenet_ray.training.config import LBFGS, SGD, Adam, AdamW, NaturalGradient
from aenet_ray.training.engine import run_training
from aenet_ray.training.history import HistoryTail
from aenet_ray.training.members import run_members
from aenet_ray.training.members_step import Members
from aenet_ray.training.spec import RunSpec
from aenet_ray.training.state import TrainState

CPU = torch.device("cpu")
TIMES = ("time", "learning_rate")

pytestmark = pytest.mark.filterwarnings("ignore:only . validation structures")


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return small_features(tmp_path_factory.mktemp("features"))


def members_of(features, folder: Path, n: int = 3, **settings: object) -> list[Path]:
    return [
        prepare(features, folder / f"member_{i}", config(**{"seed": i, "split_seed": 3} | settings)) for i in range(n)
    ]


def share_draws(runs: list[Path]) -> list[Path]:
    """All draw as the first does."""
    from dataclasses import replace

    specs = [RunSpec.load(r) for r in runs]
    for run, spec in zip(runs, specs, strict=True):
        replace(spec, seed=specs[0].seed).save(run)
    return runs


def together(runs: list[Path]) -> list[Exception | None]:
    ends: dict[int, Exception | None] = {}
    run_members(runs, CPU, None, ends.__setitem__)
    return [ends[i] for i in range(len(runs))]


def assert_same(alone: Path, other: Path, tolerance: float = 1e-9) -> None:
    assert difference(final_weights(alone), final_weights(other)) < tolerance
    a, b = (HistoryTail(run / "history.csv").read() for run in (alone, other))
    assert len(a) == len(b)
    for name in a[0]:
        if "time" not in name:
            np.testing.assert_allclose([r[name] for r in a], [r[name] for r in b], rtol=1e-6, atol=1e-9, err_msg=name)


ENERGY = {"force_weight": 0.0}
CASES = {
    "uniform": ENERGY,
    "energy_weighted": ENERGY | {"sampling_policy": "energy_weighted"},
    "error_weighted": ENERGY | {"sampling_policy": "error_weighted"},
    "adamw, clipped": ENERGY | {"method": AdamW(mu=0.01, batchsize=16), "max_grad_norm": 0.05},
    "sgd": ENERGY | {"method": SGD(lr=0.02, momentum=0.9, batchsize=10)},
    "plateau": ENERGY | {"use_scheduler": True, "scheduler_patience": 0},
    "cosine": ENERGY | {"use_scheduler": True, "scheduler": "cosine"},
    "kept features, threads": ENERGY | {"cache_features": True, "num_workers": 2},
    "some features kept": ENERGY | {"cache_features": True, "cache_feature_max_entries": 10},
    "forces, each its own batches": {"iterations": 4},
    "lbfgs, one by one": ENERGY | {"method": LBFGS(), "iterations": 3},
    "natural gradient, one by one": ENERGY | {"method": NaturalGradient(batchsize=16), "iterations": 3},
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_together_as_alone(features, tmp_path, name):
    alone, other = (members_of(features, tmp_path / way, 2, **CASES[name]) for way in ("alone", "together"))
    for run in alone:
        run_training(run, Solo(), CPU)
    assert together(other) == [None, None]
    for a, b in zip(alone, other, strict=True):
        assert_same(a, b)
    assert difference(final_weights(other[0]), final_weights(other[1])) > 1e-3, "and yet they are two"


@pytest.mark.parametrize("settings", [{}, {"force_scale_unbiased": True, "force_fraction": 0.3}, {"force_weight": 1.0}])
def test_forces_with_shared_batches(features, tmp_path, settings):
    settings = {"iterations": 5} | settings
    alone, other = (share_draws(members_of(features, tmp_path / w, 3, **settings)) for w in ("alone", "together"))
    for run in alone:
        run_training(run, Solo(), CPU)
    assert together(other) == [None] * 3
    for a, b in zip(alone, other, strict=True):
        assert_same(a, b)


def test_neighbours_are_found_once_for_members_that_share_batches(features, tmp_path, monkeypatch):
    from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor

    found, edges = [], ChebyshevDescriptor.edges
    monkeypatch.setattr(ChebyshevDescriptor, "edges", lambda self, block: found.append(1) or edges(self, block))
    counts = {}
    for n in (1, 3):
        found.clear()
        together(share_draws(members_of(features, tmp_path / str(n), n, iterations=2)))
        counts[n] = len(found)
    assert counts[1] == counts[3] > 0


def test_one_stops_early_and_the_others_go_on(features, tmp_path):
    """And one whose patience ends it at another epoch."""
    settings = ENERGY | {"iterations": 40, "early_stopping_patience": 3, "method": Adam(mu=0.05, batchsize=16)}
    alone, other = (members_of(features, tmp_path / w, 4, **settings) for w in ("alone", "together"))
    for run in alone:
        run_training(run, Solo(), CPU)
    assert together(other) == [None] * 4
    lengths = [len(HistoryTail(run / "history.csv").read()) for run in alone]
    assert len(set(lengths)) > 1, "the test needs members that stop at different epochs"
    for a, b in zip(alone, other, strict=True):
        assert_same(a, b)


def test_one_that_diverges_ends_alone(features, tmp_path, monkeypatch):
    alone, other = (members_of(features, tmp_path / w, 3, **ENERGY) for w in ("alone", "together"))
    spec = RunSpec.load(other[1])
    spec.initial["net.functions.0.Linear_Sp1_F1.bias"][0] = float("nan")
    spec.save(other[1])
    ends = together(other)
    assert ends[0] is ends[2] is None
    assert isinstance(ends[1], TrainingError)
    assert "training has diverged" in str(ends[1])
    for k in (0, 2):
        run_training(alone[k], Solo(), CPU)
        assert_same(alone[k], other[k])


def test_one_that_cannot_be_read_ends_alone(features, tmp_path):
    runs = members_of(features, tmp_path, 3, iterations=2, **ENERGY)
    (runs[0] / "initial.pt").unlink()
    (runs[2] / "initial.pt").write_bytes(b"nothing")
    ends = together(runs)
    assert isinstance(ends[0], FileNotFoundError)
    assert ends[1] is None
    assert ends[2] is not None
    assert (runs[1] / "model.pt").exists()


def test_runs_of_different_data_are_refused(features, tmp_path):
    one, two = members_of(features, tmp_path, 2, **ENERGY)
    other = prepare(features, tmp_path / "other", config(seed=1, split_seed=4, **ENERGY))
    with pytest.raises(TrainingError, match=r"other and .*member_0 differ in split"):
        run_members([one, two, other], CPU)


def test_a_member_goes_on_as_a_single_run_and_back(features, tmp_path):
    """Four epochs together, the next three alone, the rest together: as ten epochs alone."""
    settings = ENERGY | {"sampling_policy": "error_weighted", "use_scheduler": True, "scheduler_patience": 1}
    alone, other = (members_of(features, tmp_path / w, 2, **settings) for w in ("alone", "together"))
    for run in alone:
        run_training(run, Solo(), CPU)

    class Stopped(BaseException):
        pass

    def stop_at(epoch):
        def told(*row_and_last):
            if row_and_last[-2]["epoch"] == epoch:
                raise Stopped

        return told

    with pytest.raises(Stopped):
        run_members(other, CPU, lambda index, row, last: index == 1 and stop_at(3)(row, last))
    with pytest.raises(Stopped):
        run_training(other[0], Solo(), CPU, stop_at(6))
    assert together(other) == [None, None]
    for a, b in zip(alone, other, strict=True):
        assert_same(a, b)


def test_checkpoints_hold_one_member_each(features, tmp_path):
    """Not the table that its weights are a row of."""
    alone, other = (members_of(features, tmp_path / w, 8, iterations=1, **ENERGY) for w in ("alone", "together"))
    run_training(alone[0], Solo(), CPU)
    together(other)
    sizes = [(run / "checkpoints/checkpoint_epoch_0000.pt").stat().st_size for run in (alone[0], other[0])]
    assert abs(sizes[0] - sizes[1]) < 0.05 * sizes[0]


def test_float32(features, tmp_path):
    """Sums in another order: close, no more."""
    settings = ENERGY | {"precision": "float32", "iterations": 2}
    alone, other = (members_of(features, tmp_path / w, 2, **settings) for w in ("alone", "together"))
    for run in alone:
        run_training(run, Solo(), CPU)
    together(other)
    assert difference(final_weights(alone[1]), final_weights(other[1])) < 1e-4


def test_rows_of_the_table_are_the_members(features, tmp_path):
    states = [TrainState.create(RunSpec.load(r), CPU) for r in members_of(features, tmp_path, 2, **ENERGY)]
    before = [s.flat.vector.detach().clone() for s in states]
    members = Members.of(states)
    x = torch.randn(2, 5, features.n_features, dtype=torch.float64)
    energies = members.nets.energies(x, [3, 2])
    for k, state in enumerate(states):
        assert torch.equal(state.flat.vector, before[k])
        torch.testing.assert_close(energies[k], state.model.net(x[k], [3, 2]))


KILLED = """
import sys
from pathlib import Path
import torch
from aenet_ray.training.members import run_members
torch.set_num_threads(1)
run_members([Path(p) for p in sys.argv[1:]], torch.device("cpu"))
"""


def test_killed_and_started_again(features, tmp_path):
    """A real process, killed by the system in its midst; some members may have written one epoch more than others."""
    settings = ENERGY | {"iterations": 60, "sampling_policy": "error_weighted"}
    alone, other = (members_of(features, tmp_path / w, 3, **settings) for w in ("alone", "together"))
    for run in alone:
        run_training(run, Solo(), CPU)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", KILLED, *map(str, other)], env=environment)
    deadline = time.monotonic() + 120
    while len(list(other[2].glob("checkpoints/checkpoint_epoch_001?.pt"))) == 0:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (other[0] / "model.pt").exists()
    assert together(other) == [None] * 3
    for a, b in zip(alone, other, strict=True):
        assert_same(a, b)
