"""Trackers of a committee: each member is a run of theirs, also where members train together; without a network."""

from __future__ import annotations

import sqlite3

import pytest
from committees import committee_of, tio2, training, untrained

from aenet_ray import RunConfig

pytestmark = pytest.mark.timeout(240)


@pytest.mark.parametrize("together", [1, 2])
@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_each_member_is_a_run(data_dir, tmp_path, monkeypatch, name, together):
    pytest.importorskip(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = tmp_path / "run"
    untrained().train(
        tio2(data_dir),
        config=training(),
        committee_config=committee_of(2, folder, members_per_trial=together),
        run=RunConfig(loggers=(name,), storage_path=str(tmp_path)),
    )
    members = [folder / "member_000", folder / "member_001"]
    if name == "tensorboard":
        assert [len(list(m.glob("tensorboard/*tfevents*"))) for m in members] == [1, 1]
    elif name == "wandb":
        assert [len(list(m.glob("wandb/offline-run-*/*.wandb"))) for m in members] == [1, 1]
    else:
        with sqlite3.connect(tmp_path / "mlflow.db") as database:
            runs = database.execute("select run_uuid, name, status from runs order by name").fetchall()
            steps = [
                database.execute(
                    "select step, value from metrics where run_uuid=? and key='train_energy_rmse' order by step",
                    (uuid,),
                ).fetchall()
                for uuid, *_ in runs
            ]
        assert [run[1:] for run in runs] == [("member_000", "FINISHED"), ("member_001", "FINISHED")]
        assert [[step for step, _ in found] for found in steps] == [[0, 1], [0, 1]]
        assert steps[0] != steps[1]
