"""The ænet potential as its users meet it: train, predict, save, export."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from aenet_ray.config import checked_record, warn_user
from aenet_ray.datasets.inputs import check_inputs, collect_inputs, dataset_features, iterate
from aenet_ray.datasets.resolve import root_of
from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.errors import ConfigError, StructureError
from aenet_ray.inference.predict import PredictionConfig, PredictOut, predict_structures
from aenet_ray.models.ann import ANNModel
from aenet_ray.models.model_file import read_model_file, write_model_file
from aenet_ray.models.network import Architecture
from aenet_ray.models.normalization import Normalization
from aenet_ray.structures.structure import Structure
from aenet_ray.train_out import TrainOut
from aenet_ray.training import checkpoint
from aenet_ray.training.choose import Split
from aenet_ray.training.config import RunConfig, ScalingConfig, TorchTrainingConfig, check_together
from aenet_ray.training.continuing import check_descriptor, continues
from aenet_ray.training.driver import choose_device, train_run
from aenet_ray.training.prediction_files import write_prediction_files
from aenet_ray.training.prepare import prepare_run
from aenet_ray.training.resume import settings_on_resume
from aenet_ray.training.run_features import input_features
from aenet_ray.training.run_folder import new_run_dir, ray_for
from aenet_ray.training.spec import RunSpec, torch_dtype


class TorchANNPotential:
    """A neural network per species on Chebyshev features (Behler-Parrinello with the ænet descriptor).

    Args:
        arch: Hidden layers per species, ``{'Ti': [(15, 'tanh'), (15, 'tanh')], ...}``; activations are linear,
            tanh, sigmoid, mtanh and twist. A linear output node is added.
        descriptor: Features, species and their order.

    Raises:
        ConfigError: A species has no layers, a layer is malformed, an activation is unknown.

    Source:
        Behler, Parrinello, Phys. Rev. Lett. 98, 146401 (2007); Artrith, Urban, Ceder, Phys. Rev. B 96, 014112
        (2017).
    """

    def __init__(self, arch: Architecture, descriptor: ChebyshevDescriptor) -> None:
        self.model = ANNModel(arch, descriptor)
        self._payload: dict[str, Any] = {}
        self._random = True  # weights that nobody has trained; said once

    def __repr__(self) -> str:
        layers = "; ".join(f"{s}: {'-'.join(str(n) for n, _ in nodes)}" for s, nodes in self.arch.items())
        state = "" if self._payload else ", not trained"
        return f"TorchANNPotential({layers}; {self.descriptor}{state})"

    @property
    def arch(self) -> dict[str, list[tuple[int, str]]]:
        return self.model.net.arch

    @property
    def descriptor(self) -> ChebyshevDescriptor:
        return self.model.descriptor

    @property
    def atomic_energies(self) -> dict[str, float]:
        """Reference energy of each species, eV; empty before training."""
        return self.model.atomic_energies

    @property
    def history(self) -> dict[str, list[float]]:
        """One value an epoch; empty before training."""
        return {k: v.tolist() for k, v in self._payload.get("training_history", {}).items()}

    @property
    def metadata(self) -> dict[str, Any]:
        """All that a model file holds besides the weights."""
        hidden = ("model_state_dict", "optimizer_state_dict", "policy_state")
        return {"extra_metadata": {}} | {k: v for k, v in self._payload.items() if k not in hidden}

    def train(
        self,
        structures: Any = None,
        dataset: Any = None,
        train_dataset: Any = None,
        test_dataset: Any = None,
        config: TorchTrainingConfig | None = None,
        resume_from: str | Path | None = None,
        *,
        scaling: ScalingConfig | None = None,
        run: RunConfig | None = None,
    ) -> TrainOut:
        """Train, in this process or on Ray, and keep the final weights.

        Args:
            structures: Paths, Structure records, ASE Atoms, or a structure store; split by ``testpercent``.
            dataset: A StructureDataset, CachedStructureDataset, HDF5StructureDataset or torch Subset of one (or what
                ``structures`` may be); split by ``testpercent``. The filters of ``config`` apply to what it holds.
            train_dataset, test_dataset: The same, already split; no ``testpercent`` then.
            config: Settings; None takes the defaults. A dataset's own atomic energies come before those given here,
                which must not differ.
            resume_from: Checkpoint to go on from for ``iterations`` more epochs; ``checkpoints/best_model.pt`` that is
                not here is that of the newest run under ``run.storage_path``.
            scaling: Workers and devices; None trains in this process, without Ray.
            run: Name and place of what the run leaves behind.

        Raises:
            ConfigError, StructureError, TrainingError: Input does not fit; before any worker starts.
            CheckpointError: Training cannot go on from ``resume_from``.
            SystemExit: SIGTERM came; how to go on is said. Without Ray it ends after its epoch, with a checkpoint.
        """
        config, run = checked_record(config, TorchTrainingConfig, "config"), checked_record(run, RunConfig, "run")
        check_together(config, None if scaling is None else checked_record(scaling, ScalingConfig, "scaling"))
        given = (structures, dataset, train_dataset, test_dataset)
        check_inputs(*given, descriptor=self.descriptor, force_weight=config.force_weight)
        run_dir = new_run_dir(run)
        if resume_from is not None:
            resume_from = checkpoint.find_checkpoint(resume_from, run.storage_path)
        start = None if resume_from is None else checkpoint.read_training_state(resume_from)
        if start is not None:
            config = settings_on_resume(config, start, str(resume_from))
        self._set_precision(config)
        if start is not None:
            checkpoint.load_weights(self.model, start, str(resume_from))
        data = collect_inputs(run_dir, *given, keep=(run_dir / "history.csv").exists())
        config = config.model_copy(update={"atomic_energies": data.references(config.atomic_energies)})
        split = None if data.train_ids is None or data.test_ids is None else Split(data.train_ids, data.test_ids)
        check_descriptor(run_dir, run.resume, self.descriptor)
        with ray_for(scaling):
            folder = Path(config.cache_persist_dir or Path(run.storage_path) / "features")
            features = input_features(data, self.descriptor, config, folder, scaling)
            if not continues(run_dir, run.resume, features, self.model, config):
                prepare_run(
                    run_dir,
                    features,
                    self.model,
                    config,
                    split=split,
                    ids=data.ids,
                    start=start,
                    loggers=run.loggers,
                )
            n = len(data.store) if data.ids is None and split is None else None
            opening = partial(_say_opening, run_dir, len(data.ids) if data.ids is not None else n)
            shown = config.show_progress
            try:
                train_run(run_dir, scaling, run, show_progress=shown, on_start=opening if shown else None)
            except SystemExit:  # of SIGTERM
                if config.checkpoint_dir is not None:
                    name = run.name or run_dir.name
                    again = f"RunConfig(name={name!r}, storage_path={run.storage_path!r}, resume='auto')"
                    print(f"terminated; the same call with run={again} goes on", file=sys.stderr, flush=True)
                raise
        self._load(read_model_file(run_dir / "model.pt"))
        write_prediction_files(run_dir, data.store, self.model)
        return TrainOut(self.history, config, run_dir)

    def _set_precision(self, config: TorchTrainingConfig) -> None:
        self.model.to(torch_dtype(config.precision, self.descriptor.dtype))

    def predict(
        self,
        structures: Any,
        eval_forces: bool = False,
        config: PredictionConfig | None = None,
        *,
        eval_stress: bool = False,
    ) -> PredictOut:
        """Predict energies and, if asked, forces and stress.

        Args:
            structures: Paths, Structure records, ASE Atoms, or a structure store.

        Raises:
            StructureError: A file cannot be read.
            DescriptorError: A species is unknown to the descriptor.
        """
        self._warn_of_random_weights()
        return predict_structures(
            self.model,
            iterate(structures),
            checked_record(config, PredictionConfig, "config"),
            forces=eval_forces,
            stress=eval_stress,
        )

    def predict_dataset(
        self, dataset: Any, eval_forces: bool = False, config: PredictionConfig | None = None
    ) -> PredictOut:
        """Predict for a StructureDataset, CachedStructureDataset, HDF5StructureDataset or torch Subset of one.

        In the dataset's order, with its identifiers. Features that it keeps are used, if they are of this potential's
        descriptor; forces need the neighbours as well.

        Raises:
            ConfigError: Another kind of dataset.
            DescriptorError: A species is unknown to the descriptor.
        """
        self._warn_of_random_weights()
        known = dataset_features(dataset, self.descriptor)
        out = predict_structures(
            self.model,
            iterate(dataset),
            checked_record(config, PredictionConfig, "config"),
            forces=eval_forces,
            known=known,
        )
        root, positions = root_of(dataset)
        out.identifiers = [root.get_structure_identifier(int(i)) for i in positions]
        return out

    def cohesive_energy(self, structure: Structure, atomic_energies: Mapping[str, float] | None = None) -> float:
        """Stored total energy less the atomic energies, eV.

        Raises:
            StructureError: The structure has no energy.
            ConfigError: No atomic energies are known.
        """
        energies = atomic_energies or self.atomic_energies
        if not energies:
            raise ConfigError("cohesive_energy: no atomic energies known; train with them, or pass them.")
        if structure.energy is None:
            raise StructureError(f"{structure.source}: has no energy to subtract atomic energies from.")
        return structure.energy - sum(energies.get(s, 0.0) for s in structure.species)

    def save(self, path: str | Path, extra_metadata: dict[str, Any] | None = None) -> None:
        """Write the potential: tensors and plain values, read back without executing anything."""
        payload = {**self._payload, **checkpoint.model_payload(self.model)}
        if extra_metadata:
            payload["extra_metadata"] = extra_metadata
        write_model_file(path, payload)

    @classmethod
    def from_file(cls, path: str | Path, device: str | None = None) -> TorchANNPotential:
        """Read a potential or a checkpoint.

        Args:
            path: The file, or a run's folder, which stands for its ``model.pt``; ``checkpoints/best_model.pt`` that is
                not here is that of the newest run under ``runs``.
            device: Where it computes; None: as in the file, or the CPU where that has no such device.

        Raises:
            FileNotFoundError, CheckpointError: Missing, damaged, or of another kind.
            ConfigError: The device asked for is not here.
        """
        if Path(path).is_dir():
            path = checkpoint.model_of_run(path)
        elif checkpoint.is_name(path):
            path = checkpoint.find_checkpoint(path)
        payload = read_model_file(path)
        config = payload["descriptor_config"]
        if device is not None:
            config = config | {"device": str(choose_device(device))}
        elif not torch.cuda.is_available():
            config = config | {"device": "cpu"}
        arch = {s: [(n, a) for n, a in layers] for s, layers in payload["architecture"].items()}
        potential = cls(arch, ChebyshevDescriptor.from_config(config))
        potential._load(payload)
        return potential

    def _load(self, payload: dict[str, Any]) -> None:
        self.model.to(self.descriptor.device, torch_dtype(payload["precision"], self.descriptor.dtype))
        checkpoint.load_weights(self.model, payload, "model file")
        self.model.normalization = Normalization.from_dict(payload["normalization"])
        self.model.atomic_energies = dict(payload["atomic_energies"])
        self._payload, self._random = payload, False

    def _warn_of_random_weights(self) -> None:
        if self._random:
            self._random = False
            warn_user("this potential has not been trained: what it predicts comes of random weights.", UserWarning)

    @classmethod
    def from_aenet(
        cls, paths: Any, device: str = "cpu", *, allow_longer_angular_cutoff: bool = False
    ) -> TorchANNPotential:
        """Read a potential of ænet: Chebyshev descriptor, ASCII or binary files, any of its five activations.

        Energies and forces are ænet's. Normalisers that differ between species go into the weights, so that weights may
        be other numbers than in the files.

        Args:
            paths: Mapping of species to file; or a directory; or the files.
            device: Where it computes.
            allow_longer_angular_cutoff: Read files that ænet itself evaluates wrongly.

        Raises:
            ExportError: Truncated, garbled, of another basis, or files that do not belong together; names file and
                line or record.
            FileNotFoundError: No such file.
        """
        from aenet_ray.export.read_files import read_potential_files
        from aenet_ray.export.to_model import model_of

        model = model_of(
            read_potential_files(paths),
            str(choose_device(device)),
            allow_longer_angular_cutoff=allow_longer_angular_cutoff,
        )
        potential = cls(model.net.arch, model.descriptor)
        potential.model, potential._random = model, False
        return potential

    def to_aenet_ascii(
        self,
        output_dir: str | Path,
        prefix: str = "potential",
        descriptor_stats: Mapping[str, Any] | None = None,
        structures: Any = None,
        compute_stats: bool = True,
    ) -> dict[str, Path]:
        """Write ``{prefix}.{species}.nn.ascii`` for ænet; species to absolute path.

        Average and second moment of the features are always those the networks were trained with (0 and 1 for networks
        of raw features): ænet computes with them.

        Args:
            descriptor_stats: ``min``, ``max``, ``avg``, ``cov`` of the features, (n_features,) each. Minima and maxima
                are written; averages must be the trained ones.
            structures: Those trained on: their number, atoms and energies are noted in the files.
            compute_stats: With ``structures``, note the range of their features as well, and warn if their averages
                are not the trained ones.

        Raises:
            ExportError: Statistics other than the trained ones; or the angular cutoff is longer than the radial one,
                which ænet evaluates differently.
        """
        from aenet_ray.export.aenet_ascii import write_ascii_files
        from aenet_ray.export.from_model import species_potentials

        found = None if structures is None else iterate(structures)
        shares = species_potentials(self.model, prefix, descriptor_stats, found, compute_stats=compute_stats)
        return write_ascii_files(shares, output_dir, prefix)

    def to_aenet_binary(
        self,
        output_dir: str | Path,
        prefix: str = "potential",
        descriptor_stats: Mapping[str, Any] | None = None,
        structures: Any = None,
        compute_stats: bool = True,
    ) -> dict[str, Path]:
        """Write ``{prefix}.{species}.nn``, which ænet's programs and LAMMPS load; as ``to_aenet_ascii``."""
        from aenet_ray.export.aenet_binary import write_binary_files
        from aenet_ray.export.from_model import species_potentials

        found = None if structures is None else iterate(structures)
        shares = species_potentials(self.model, prefix, descriptor_stats, found, compute_stats=compute_stats)
        return write_binary_files(shares, output_dir, prefix)


def _say_opening(run_dir: Path, n_given: int | None, spec: RunSpec, first: int) -> None:
    """What a run says before it trains.

    Args:
        n_given: Structures that were split; None: they came split.
    """
    n_train, n_test = len(spec.train_ids), len(spec.test_ids)
    left = f", {n_given - n_train - n_test} left out by filters" if n_given is not None else ""
    on = f"; going on after epoch {first} of {spec.epochs}" if first else ""
    text = f"training on {n_train} structures, validating on {n_test}{left}; run folder {run_dir}{on}"
    print(text, file=sys.stderr, flush=True)
