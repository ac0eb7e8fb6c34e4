"""What ``train`` returns: errors, times and plots of a finished run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aenet_ray.errors import PlotError
from aenet_ray.training.config import TorchTrainingConfig

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

ERROR_COLUMNS = {
    "MAE_train": "train_energy_mae",
    "RMSE_train": "train_energy_rmse",
    "MAE_test": "test_energy_mae",
    "RMSE_test": "test_energy_rmse",
    "RMSE_force_train": "train_force_rmse",
    "RMSE_force_test": "test_force_rmse",
}


class TrainOut:
    """A finished run.

    Args:
        history: Column name to one value an epoch; see ``aenet_ray.training.history.COLUMNS``.
        config: Settings of the run.
        run_dir: Its folder.
    """

    def __init__(self, history: dict[str, list[float]], config: TorchTrainingConfig, run_dir: Path) -> None:
        self.history, self.config, self.run_dir = history, config, run_dir

    @property
    def errors(self) -> pd.DataFrame:
        """MAE and RMSE of train and test by epoch: energies eV/atom, forces eV/Å."""
        import pandas as pd

        return pd.DataFrame({new: self.history[old] for new, old in ERROR_COLUMNS.items()})

    @property
    def timing(self) -> pd.DataFrame:
        """Seconds by epoch."""
        import pandas as pd

        return pd.DataFrame({k: v for k, v in self.history.items() if "_time" in k})

    @property
    def learning_rate(self) -> list[float]:
        return self.history["learning_rate"]

    @property
    def has_force_data(self) -> bool:
        """Whether any force error was measured."""
        return any(math.isfinite(v) for k in ("train", "test") for v in self.history[f"{k}_force_rmse"])

    @property
    def stats(self) -> dict[str, float]:
        """Final and lowest errors; epochs are counted from 1. NaN after zero epochs."""
        errors = {new: np.array(self.history[old]) for new, old in ERROR_COLUMNS.items()}
        stats: dict[str, Any] = {f"final_{k}": float(v[-1]) if len(v) else math.nan for k, v in errors.items()}
        for name in ("RMSE_test", "RMSE_force_test"):
            values = errors[name]
            some = len(values) > 0 and bool(np.isfinite(values).any())
            best = int(np.nanargmin(values)) if some else -1
            stats[f"min_{name}"] = float(values[best]) if some else math.nan
            stats[f"epoch_min_{name}"] = best + 1 if some else math.nan
        return stats

    def plot_training_summary(self, outfile: str | Path | None = None) -> Figure:
        """Energy errors, and force errors where there are any, over epochs; with the learning rate below.

        Args:
            outfile: Where to write the figure; the ending decides on the format.

        Raises:
            PlotError: No error was measured (a ValueError, as below).
        """
        return self._plot(("energy", "force"), outfile)

    def plot_training_errors(self, outfile: str | Path | None = None) -> Figure:
        """Energy RMSE of train and test over epochs; see :meth:`plot_training_summary`."""
        return self._plot(("energy",), outfile)

    def plot_force_errors(self, outfile: str | Path | None = None) -> Figure:
        """Force RMSE of train and test over epochs; see :meth:`plot_training_summary`.

        Raises:
            PlotError: Forces were not trained on.
        """
        if not self.has_force_data:
            raise PlotError(
                f"{self.run_dir}: no force errors to plot: force_weight was {self.config.force_weight}; train with "
                "force_weight above 0 and structures with forces."
            )
        return self._plot(("force",), outfile)

    def _plot(self, kinds: tuple[str, ...], outfile: str | Path | None) -> Figure:
        from aenet_ray.plots import learning_curve

        names = ["learning_rate", *(f"{split}_{kind}_rmse" for kind in kinds for split in ("train", "test"))]
        columns = {name: self.history.get(name, []) for name in names}
        # Epochs are counted from 0 in files and from 1 for people.
        return learning_curve(columns | {"epoch": [e + 1 for e in self.history.get("epoch", [])]}, outfile)
