"""Ray Train on a cluster of our own: the same trainer with fewer helper processes.

A shared cluster needs an actor that frees the resources of a dead run, one that splits datasets, and one that
shares out machines between runs; each costs a Python process with all its imports. A private cluster holds one run,
ends with it, and gives its workers file paths instead of datasets. These classes lean on Ray 2.60's internals: see
``ray_runtime.torch_trainer``, which takes the plain trainer for any other version.
"""

from __future__ import annotations

import threading
from typing import Any

import ray
from ray.train import Result
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution.callback import RayTrainCallback
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2._internal.execution.worker_group import WorkerGroup

NOT_NEEDED = {"PlacementGroupCleanerCallback", "DatasetsCallback"}


class LocalScaling(FixedScalingPolicy):
    """A fixed number of workers, without asking the coordinator that divides machines between runs."""

    def after_controller_start(self, train_run_context: Any) -> None:
        """Nobody to tell."""

    def _maybe_send_resource_request(self) -> None:
        """Nobody to tell."""

    def _cancel_resource_request(self) -> None:
        """Nobody to tell."""


class LocalWorkerGroup(WorkerGroup):
    """Workers inherit the environment: with no runtime environment they start directly, and waiting ones are used."""

    @staticmethod
    def _get_worker_runtime_env(custom_runtime_env: Any) -> dict[str, Any]:
        return dict(custom_runtime_env or {})


class LocalController(TrainController):
    worker_group_cls = LocalWorkerGroup


class LocalTorchTrainer(TorchTrainer):
    """TorchTrainer for a fixed number of workers and no datasets."""

    def _create_default_callbacks(self) -> list[RayTrainCallback]:
        callbacks = super()._create_default_callbacks()  # type: ignore[misc]
        return [c for c in callbacks if type(c).__name__ not in NOT_NEEDED]

    def _initialize_and_run_controller(self, **settings: Any) -> Result:
        if type(settings["scaling_policy"]) is FixedScalingPolicy:
            settings["scaling_policy"] = LocalScaling(settings["scaling_policy"].scaling_config)
        controller: Any = ray.remote(num_cpus=0)(LocalController).remote(**settings)
        if threading.current_thread() is threading.main_thread():
            self._register_sigint_handler(controller)  # type: ignore[attr-defined]
        ray.get(controller.run.remote())
        result: Any = ray.get(controller.get_result.remote())
        return result
