"""What ``train`` returns: errors, times and plots of a finished run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aenet_ray.errors import PlotError, TrainingError
from aenet_ray.structures.structure import FloatArray
from aenet_ray.training.config import TorchTrainingConfig
from aenet_ray.training.keeper import EVALUATION
from aenet_ray.training.prediction_files import read_energy_file, read_force_file
from aenet_ray.training.run_folder import SPEC
from aenet_ray.training.spec import RunSpec

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
LOG_COLUMNS = ("epoch", "train_energy_mae", "train_energy_rmse", "test_energy_mae", "test_energy_rmse")


class TrainOut:
    """A finished run.

    Args:
        history: Column name to one value an epoch; see ``aenet_ray.training.history.COLUMNS``.
        config: Settings of the run; None where they are not known.
        run_dir: Its folder.
    """

    def __init__(
        self, history: Mapping[str, Sequence[float | None]], config: TorchTrainingConfig | None, run_dir: str | Path
    ) -> None:
        # JSON has null where nothing was measured.
        self.history = {k: [math.nan if x is None else x for x in v] for k, v in history.items()}
        self.config, self.run_dir = config, Path(run_dir)

    @classmethod
    def from_log(cls, path: str | Path) -> TrainOut:
        """The errors that ænet's ``train.x`` printed; energies in the unit of its log, no times and no forces.

        Raises:
            FileNotFoundError: There is no such file.
            TrainingError: No line in it is one of ``train.x``: epoch, MAE and RMSE of training and test, ``<``.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; expected the output of ænet's train.x.")
        rows = [row for line in path.read_text(errors="replace").splitlines() if (row := _log_row(line))]
        if not rows:
            raise TrainingError(
                f"{path}: no line with an epoch's errors; expected lines of ænet's train.x: epoch, MAE and RMSE of "
                "training, MAE and RMSE of test, '<'."
            )
        columns = zip(*rows, strict=True)
        return cls(dict(zip(LOG_COLUMNS, (list(c) for c in columns), strict=True)), None, path.parent)

    def __repr__(self) -> str:
        return f"TrainOut({str(self.run_dir)!r}: {self._length} epochs)"

    def __str__(self) -> str:
        stats = self.stats
        lines = [
            f"training in {self.run_dir}: {self._length} epochs" + ", stopped early" * bool(stats["stopped_early"])
        ]
        for name in ERROR_COLUMNS:
            value, unit = stats[f"final_{name}"], "eV/Å" if "force" in name else "eV/atom"
            if math.isfinite(value):
                lines.append(f"  final_{name:18} {value:.5f} {unit}")
        return "\n".join(lines)

    @property
    def _length(self) -> int:
        return max((len(v) for v in self.history.values()), default=0)

    def _column(self, name: str) -> list[float]:
        """A column of the history; NaN where the run did not keep it."""
        return self.history.get(name, [math.nan] * self._length)

    @property
    def errors(self) -> pd.DataFrame:
        """MAE and RMSE of train and test by epoch: energies eV/atom, forces eV/Å; NaN where not measured."""
        import pandas as pd

        return pd.DataFrame({new: self._column(old) for new, old in ERROR_COLUMNS.items()})

    @property
    def timing(self) -> pd.DataFrame:
        """Seconds by epoch and stage; see ``aenet_ray.training.history.COLUMNS``."""
        import pandas as pd

        return pd.DataFrame({k: v for k, v in self.history.items() if "_time" in k})

    @property
    def learning_rate(self) -> list[float]:
        return self._column("learning_rate")

    @property
    def has_force_data(self) -> bool:
        """Whether any force error was measured."""
        return any(math.isfinite(v) for k in ("train", "test") for v in self._column(f"{k}_force_rmse"))

    @cached_property
    def energies(self) -> dict[str, pd.DataFrame] | None:
        """The energy files of the run, ``train`` and ``test``; None unless ``save_energies`` had them written.

        Total energies have ænet's seven digits; ``Ref-ANN(eV/atom)`` seven of its own.

        Raises:
            StructureError: A file is damaged.
        """
        return self._tables("energies", read_energy_file)

    @cached_property
    def forces(self) -> dict[str, pd.DataFrame] | None:
        """The force files of the run, ``train`` and ``test``; None unless ``save_forces`` had them written."""
        return self._tables("forces", read_force_file)

    def _tables(self, kind: str, read: Any) -> dict[str, pd.DataFrame] | None:
        paths = {part: self.run_dir / f"{kind}.{part}.0" for part in ("train", "test")}
        return {part: read(path) for part, path in paths.items() if path.is_file()} or None

    @property
    def stats(self) -> dict[str, float]:
        """Final and lowest errors, and how the run ended; epochs are counted from 1, NaN is what was not measured.

        Final errors are exact, over all structures with the final weights; ``…_batch_mean`` are what aenet-python
        reports. A run of no epochs has the errors of its first weights. ``stopped_early`` is 1 where early stopping
        ended the run, else 0.
        """
        errors = {new: np.array(self._column(old)) for new, old in ERROR_COLUMNS.items()}
        final = self._final()
        stats = {f"final_{new}": final.get(old, math.nan) for new, old in ERROR_COLUMNS.items()}
        for name in ("RMSE_train", "RMSE_test", "RMSE_force_train", "RMSE_force_test"):
            stats[f"final_{name}_batch_mean"] = final.get(f"{ERROR_COLUMNS[name]}_batch_mean", math.nan)
        for name in ("RMSE_test", "RMSE_force_test"):
            values = errors[name]
            some = len(values) > 0 and bool(np.isfinite(values).any())
            best = int(np.nanargmin(values)) if some else -1
            stats[f"min_{name}"] = float(values[best]) if some else math.nan
            stats[f"epoch_min_{name}"] = best + 1 if some else math.nan
        patience = None if self.config is None else self.config.early_stopping_patience
        waited = self._column("epochs_without_improvement")[-1:]
        stats["stopped_early"] = float(patience is not None and bool(waited) and waited[0] >= patience)
        return stats

    def _final(self) -> dict[str, float]:
        """Columns after the last epoch; of a run of no epochs, what its first weights give."""
        if any(self.history.values()):
            return {k: v[-1] for k, v in self.history.items() if v}
        path = self.run_dir / EVALUATION
        values = json.loads(path.read_text()) if path.is_file() else {}
        return {k: math.nan if v is None else v for k, v in values.items()}

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
            weight = "is not known" if self.config is None else f"was {self.config.force_weight}"
            raise PlotError(
                f"{self.run_dir}: no force errors to plot: force_weight {weight}; train with force_weight above 0 and "
                "structures with forces."
            )
        return self._plot(("force",), outfile)

    def plot_energy_correlation(self, outfile: str | Path | None = None) -> Figure:
        """ANN against reference energies per atom, for training and validation structures, with residuals.

        Energies are less the run's atomic energies: total ones say of which elements a structure is, and little else.

        Args:
            outfile: Where to write the figure; the ending decides on the format.

        Raises:
            PlotError: The run kept no energies.
        """
        from aenet_ray.plots import parity_plot

        if self.energies is None:
            raise PlotError(f"{self.run_dir}: no energy files to plot; train with save_energies=True.")
        names = {"train": "train", "test": "validation"}
        reference = {names[k]: self._cohesive_per_atom(t) for k, t in self.energies.items()}
        # The difference has all digits of an error, which six digits of a total energy have not.
        errors = {names[k]: t["Ref-ANN(eV/atom)"].to_numpy() for k, t in self.energies.items()}
        predicted = {k: reference[k] - errors[k] for k in reference}
        relative = (self.run_dir / SPEC).is_file()
        return parity_plot(reference, predicted, kind="energy", outfile=outfile, relative=relative)

    def _cohesive_per_atom(self, table: pd.DataFrame) -> FloatArray:
        """Reference energies less the run's atomic energies, (n,), eV/atom; total ones where it has none."""
        per_atom = table["Ref(eV/atom)"].to_numpy()
        if not (self.run_dir / SPEC).is_file():
            return per_atom
        energies = np.array(list(RunSpec.load(self.run_dir).atomic_energies.values()))
        counts = table[[name for name in table if str(name).startswith("#Sp")]].to_numpy()
        return per_atom - counts @ energies / table["#atoms"].to_numpy()

    def plot_force_correlation(self, outfile: str | Path | None = None) -> Figure:
        """ANN against reference force components; see :meth:`plot_energy_correlation`.

        Raises:
            PlotError: The run kept no forces.
        """
        from aenet_ray.plots import parity_plot

        if not self.forces or not any(len(t) for t in self.forces.values()):
            raise PlotError(f"{self.run_dir}: no force files to plot; train with save_forces=True.")
        names = {"train": "train", "test": "validation"}
        tables = {names[k]: t for k, t in self.forces.items() if len(t)}
        reference, ann = (
            {k: t[[f"F{x}_{kind}" for x in "xyz"]].to_numpy() for k, t in tables.items()} for kind in ("ref", "ANN")
        )
        return parity_plot(reference, ann, kind="forces", outfile=outfile)

    def _plot(self, kinds: tuple[str, ...], outfile: str | Path | None) -> Figure:
        from aenet_ray.plots import learning_curve

        names = ["learning_rate", *(f"{split}_{kind}_rmse" for kind in kinds for split in ("train", "test"))]
        columns = {name: self.history.get(name, []) for name in names if name in self.history}
        # Epochs are counted from 0 in files and from 1 for people.
        return learning_curve(columns | {"epoch": [e + 1 for e in self.history.get("epoch", [])]}, outfile)


def _log_row(line: str) -> list[float] | None:
    """Epoch and errors of a line of train.x, which ends in ``<``; None for any other line."""
    words = line.split()
    if len(words) < 6 or words[-1] != "<":
        return None
    try:
        epoch, *values = (float(w.replace("D", "E")) for w in words[:5])
    except ValueError:
        return None
    return [epoch, *values]
