"""Ray as training needs it: the session, and the trainer with no more helpers than its cluster calls for.

Measured on two cores, from the start of Python to the first line of the train function on two workers, nothing else
running: 15.6 s with ``ray.init`` and ``TorchTrainer`` as they come, 7.6 s with these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aenet_ray.ray_session import ensure_ray, free_resources, owns_cluster, process_age, quiet_ray_logs

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

__all__ = ["ensure_ray", "free_resources", "process_age", "quiet_ray_logs", "torch_trainer"]


def torch_trainer(*args: Any, **kwargs: Any) -> TorchTrainer:
    """Ray's TorchTrainer; on a cluster of our own without the helpers that only a shared cluster needs.

    Args and kwargs are TorchTrainer's. Ray versions whose internals were not checked get the trainer as it comes.
    """
    import ray
    from ray.train.torch import TorchTrainer

    if owns_cluster() and ray.__version__.startswith("2.60.") and not kwargs.get("datasets"):
        from aenet_ray.training.ray_local import LocalTorchTrainer

        return LocalTorchTrainer(*args, **kwargs)
    return TorchTrainer(*args, **kwargs)
