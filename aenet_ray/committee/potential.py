"""The committee as its users meet it: train, predict with uncertainty, read back, export."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from aenet_ray.committee.calibration import Calibration, CalibrationMethod, fingerprint
from aenet_ray.committee.config import MemberPlan, TorchCommitteeConfig, check_scaling, plan_members
from aenet_ray.committee.ensemble import Aggregation, check_aggregation
from aenet_ray.committee.layout import CommitteeMetadata, member_name
from aenet_ray.committee.predict_result import TorchCommitteePredictResult
from aenet_ray.committee.prepare import begun, committee_folder, make_folder, prepare_members
from aenet_ray.committee.train import train_members
from aenet_ray.committee.train_result import TorchCommitteeTrainResult
from aenet_ray.committee.trained_on import warn_of_training_structures
from aenet_ray.config import checked_record
from aenet_ray.datasets.inputs import check_inputs, collect_inputs, dataset_features, iterate
from aenet_ray.datasets.resolve import root_of
from aenet_ray.descriptors.chebyshev import ChebyshevDescriptor
from aenet_ray.errors import CommitteeError, ConfigError
from aenet_ray.features.featurize import KnownFeatures
from aenet_ray.inference.predict import PredictionConfig, predict_members
from aenet_ray.models.ann import ANNModel
from aenet_ray.models.network import Architecture
from aenet_ray.potential import TorchANNPotential
from aenet_ray.structures.structure import Structure
from aenet_ray.training.choose import Split
from aenet_ray.training.config import RunConfig, ScalingConfig, TorchTrainingConfig, check_together
from aenet_ray.training.run_features import input_features
from aenet_ray.training.run_folder import ray_for_trials
from aenet_ray.training.spec import torch_dtype


class TorchCommitteePotential:
    """Potentials of one architecture that differ in their seeds: their mean predicts, their spread warns.

    Args:
        arch: Hidden layers per species, as of :class:`TorchANNPotential`.
        descriptor: Features, species and their order.

    Attributes:
        members: The trained potentials; empty before training.
        directory: The committee's folder, where it has one.

    Raises:
        ConfigError: The architecture does not fit the descriptor.
    """

    def __init__(self, arch: Architecture, descriptor: ChebyshevDescriptor) -> None:
        self.arch = ANNModel(arch, descriptor).net.arch
        self.descriptor = descriptor
        self.members: list[TorchANNPotential] = []
        self.directory: Path | None = None
        self._calibrated: Calibration | None = None

    @property
    def num_members(self) -> int:
        return len(self.members)

    @property
    def atomic_energies(self) -> dict[str, float]:
        """Reference energy of each species, eV, the same for all members; empty before training."""
        return self.members[0].atomic_energies if self.members else {}

    def train(
        self,
        structures: Any = None,
        dataset: Any = None,
        train_dataset: Any = None,
        test_dataset: Any = None,
        config: TorchTrainingConfig | None = None,
        committee_config: TorchCommitteeConfig | None = None,
        *,
        scaling: ScalingConfig | None = None,
        run: RunConfig | None = None,
    ) -> TorchCommitteeTrainResult:
        """Train all members on one split and one store of features, and keep them.

        A member that fails does not stop the others.

        Args:
            structures, dataset, train_dataset, test_dataset: As of :meth:`TorchANNPotential.train`.
            config: Settings of every member; its seeds count from ``committee_config``'s.
            committee_config: Number of members, seeds, devices, folder.
            scaling: Members are trials on Ray Tune, each with these workers; ``run.max_failures`` is how often one is
                started again. None: no Ray.
            run: ``resume='auto'`` goes on with the committee in the folder: completed members stay, others continue
                from their checkpoints, members more than before are added. ``name`` and ``storage_path`` give the
                folder where ``output_dir`` is None; ``loggers`` are those of every member.

        Raises:
            ConfigError, StructureError, TrainingError: Input does not fit; before any member starts.
            TrainingError: Members failed; the metadata and all other members are written by then.
        """
        config, committee = checked_record(config, TorchTrainingConfig, "config"), _given(committee_config)
        if scaling is not None:
            check_scaling(committee, checked_record(scaling, ScalingConfig, "scaling"))
            check_together(config, scaling)
            config = config.model_copy(update={"device": "cuda" if scaling.use_gpu else "cpu"})
        given = (structures, dataset, train_dataset, test_dataset)
        check_inputs(*given, descriptor=self.descriptor, force_weight=config.force_weight)
        directory = committee_folder(committee, run)
        before = begun(directory, "never" if run is None else run.resume)
        known = before.members if before else []
        plans = plan_members(committee, config, [_plan_of(m) for m in known], on_ray=scaling is not None)
        make_folder(directory)
        data = collect_inputs(directory, *given, keep=before is not None)
        config = config.model_copy(update={"atomic_energies": data.references(config.atomic_energies)})
        split = None if data.train_ids is None or data.test_ids is None else Split(data.train_ids, data.test_ids)
        shared = directory if run is None else Path(run.storage_path)
        folder = Path(config.cache_persist_dir or shared / "features").absolute()
        model = ANNModel(self.arch, self.descriptor, torch_dtype(config.precision, self.descriptor.dtype))
        mode = "parallel" if committee.max_parallel > 1 or scaling is not None else "sequential"
        run = run or RunConfig()
        with _ray_for(committee, scaling):
            features = input_features(data, self.descriptor, config, folder, scaling)
            members = prepare_members(directory, plans, known, features, model, config, run, split, data.ids)
            metadata = CommitteeMetadata(directory, members, mode, self._asked(committee, config, given))
            metadata.save()
            train_members(metadata, config.iterations, committee, scaling, run, show_progress=config.show_progress)
        self.members, self.directory = self.from_directory(directory).members, directory
        return TorchCommitteeTrainResult(directory, metadata.members, mode)

    def _asked(
        self, committee: TorchCommitteeConfig, config: TorchTrainingConfig, data: tuple[Any, Any, Any, Any]
    ) -> dict[str, Any]:
        """What the metadata tell of how the committee was made."""
        *either, test = data
        return {
            "committee_config": committee.model_dump(),
            "training_config": config.to_dict(),
            "architecture": self.arch,
            "descriptor_config": self.descriptor.config(),
            "resolved_train_dataset": described(next(x for x in either if x is not None)),
            "resolved_test_dataset": None if test is None else described(test),
        }

    def predict(
        self,
        structures: Any,
        eval_forces: bool = False,
        config: PredictionConfig | None = None,
        aggregation: Aggregation = "mean",
        reference_member: int = 0,
        *,
        calibrated: bool = False,
    ) -> TorchCommitteePredictResult:
        """Predict with every member; neighbours and features are computed once for all.

        Args:
            structures: Paths, Structure records, ASE Atoms, or a structure store.
            aggregation: What ``energy`` and ``forces`` are: the mean's, or with 'reference' those of
                ``reference_member``. Mean and spread are there in both cases.
            calibrated: Scale spreads as :meth:`calibrate` found; NaN for what it was given no references of.

        Raises:
            CommitteeError: There are no members yet, or no calibration of these members.
            ConfigError: Another aggregation, or no such member.
            StructureError, DescriptorError: As of :meth:`TorchANNPotential.predict`.
        """
        return self._predict(iterate(structures), eval_forces, config, aggregation, reference_member, calibrated)

    def predict_dataset(
        self,
        dataset: Any,
        eval_forces: bool = False,
        config: PredictionConfig | None = None,
        aggregation: Aggregation = "mean",
        reference_member: int = 0,
        *,
        calibrated: bool = False,
    ) -> TorchCommitteePredictResult:
        """Predict for a dataset of aenet_ray's or a torch Subset of one; as :meth:`predict`.

        Features that it keeps are used. ``source_indices`` of the result are places in the dataset under all Subsets,
        ``identifiers`` its names.
        """
        root, places = root_of(dataset)
        known, structures = dataset_features(dataset, self.descriptor), iterate(dataset)
        found = self._predict(structures, eval_forces, config, aggregation, reference_member, calibrated, known)
        indices = [int(i) for i in places]
        return replace(
            found, source_indices=[*indices], identifiers=[root.get_structure_identifier(i) for i in indices]
        )

    def calibrate(
        self, structures: Any, *, forces: bool | None = None, method: CalibrationMethod = "coverage"
    ) -> Calibration:
        """Learn from reference labels what the spreads must be multiplied by to be error bars, and keep it.

        Written into the committee's folder where it has one, and used by ``predict(..., calibrated=True)``. Warns of
        structures that the members were trained on, as long as features and runs in the folder tell which these were.

        Args:
            structures: With labels, not among those trained on; as of :meth:`predict`.
            forces: Calibrate forces as well; None: where any structure has some.
            method: 'coverage': 68.3 % of the errors lie within one, whatever the largest ones are; 'likelihood': the
                root mean square of error over spread, under which normal errors are most likely.

        Raises:
            CommitteeError: There are no members yet, or fewer than five labels to learn from.
            ConfigError: Another method.
        """
        known = list(iterate(structures))
        if self.directory is not None:
            warn_of_training_structures(self.directory, known)
        forces = any(s.forces is not None for s in known) if forces is None else forces
        result = self.predict(known, eval_forces=forces)
        self._calibrated = Calibration.of(result, known, fingerprint(self.members), forces=forces, method=method)
        if self.directory is not None:
            self._calibrated.save(self.directory)
        return self._calibrated

    def calibration(self) -> Calibration:
        """The calibration of these members: the one made last, else that in the folder.

        Raises:
            CommitteeError: There is none, or it is of other members.
        """
        members = fingerprint(self.members)
        if self._calibrated is None or self._calibrated.members != members:
            if self.directory is None:
                raise CommitteeError("the committee is not calibrated: calibrate it on structures with labels.")
            self._calibrated = Calibration.load(self.directory, members)
        return self._calibrated

    def _predict(
        self,
        structures: Iterator[Structure],
        forces: bool,
        config: PredictionConfig | None,
        aggregation: Aggregation,
        reference_member: int,
        calibrated: bool,
        known: KnownFeatures | None = None,
    ) -> TorchCommitteePredictResult:
        scales = self.calibration() if calibrated else None
        if not self.members:
            raise CommitteeError("the committee has no members yet: train it, or read one with from_directory.")
        check_aggregation(aggregation, reference_member, self.num_members)
        models = [m.model for m in self.members]
        checked = checked_record(config, PredictionConfig, "config")
        outs = predict_members(models, structures, checked, forces=forces, known=known)
        names = outs[0].identifiers
        none: list[int | None] = [None] * len(names)
        return TorchCommitteePredictResult(
            outs, np.arange(len(names)), none, names, aggregation, int(reference_member), scales
        )

    @classmethod
    def from_directory(cls, path: str | Path, device: str | None = None) -> TorchCommitteePotential:
        """Read the completed members of a committee, ours or aenet-python's, wherever its folder is now.

        Args:
            path: The folder, or its metadata file.
            device: Where the members compute; None: as in their files.

        Raises:
            FileNotFoundError: There is no committee.
            CommitteeError: It has no completed member, one is missing, or they do not belong together.
            CheckpointError: A member's model file is damaged.
        """
        metadata = CommitteeMetadata.load(path)
        committee = cls.from_files([m.model_path for m in metadata.completed()], device)
        committee.directory = metadata.directory
        return committee

    @classmethod
    def from_files(cls, paths: Sequence[str | Path], device: str | None = None) -> TorchCommitteePotential:
        """Make a committee of model files; as of :meth:`from_directory`."""
        if isinstance(paths, (str, Path)):
            raise CommitteeError(f"from_files: one path given ({paths}), expected a list of model files.")
        return cls.from_members([TorchANNPotential.from_file(p, device) for p in paths], [str(p) for p in paths])

    @classmethod
    def from_members(
        cls, members: Sequence[TorchANNPotential], names: Sequence[str] | None = None
    ) -> TorchCommitteePotential:
        """Make a committee of potentials that share architecture, descriptor and atomic energies.

        Args:
            names: For messages.

        Raises:
            CommitteeError: There are none, or they do not belong together; names the first that differs.
        """
        if not members:
            raise CommitteeError("a committee needs at least one member; none was given.")
        names = names or [f"member {i}" for i in range(len(members))]
        for member, name in zip(members[1:], names[1:], strict=True):
            _check_alike(members[0], member, names[0], name)
        committee = cls(members[0].arch, members[0].descriptor)
        committee.members = list(members)
        return committee

    def to_aenet_ascii(
        self,
        output_dir: str | Path,
        prefix: str = "potential",
        descriptor_stats: Any = None,
        structures: Any = None,
        compute_stats: bool = True,
    ) -> list[dict[str, Path]]:
        """Write ``member_000/{prefix}.{species}.nn.ascii`` ... for ænet; species to absolute path, of each member.

        Args:
            descriptor_stats, structures, compute_stats: As of :meth:`TorchANNPotential.to_aenet_ascii`.

        Raises:
            CommitteeError: There are no members yet.
            ExportError: ænet would evaluate the potentials differently.
        """
        if not self.members:
            raise CommitteeError("the committee has no members to export: train it, or read one with from_directory.")
        folders = [Path(output_dir) / member_name(i, self.num_members) for i in range(self.num_members)]
        data = structures if structures is None else list(iterate(structures))  # an iterator serves one member only
        return [
            m.to_aenet_ascii(folder, prefix, descriptor_stats, data, compute_stats)
            for m, folder in zip(self.members, folders, strict=True)
        ]


def _given(committee: TorchCommitteeConfig | None) -> TorchCommitteeConfig:
    if committee is None:
        raise ConfigError("train: committee_config is missing; give TorchCommitteeConfig(num_members=...).")
    if not isinstance(committee, TorchCommitteeConfig):
        raise ConfigError(f"train: committee_config is {type(committee).__name__}, expected TorchCommitteeConfig.")
    return committee


@contextmanager
def _ray_for(committee: TorchCommitteeConfig, scaling: ScalingConfig | None) -> Iterator[None]:
    """One Ray for featurizing and training, looked at before anything is made; nothing where there is no scaling."""
    if scaling is None:
        yield
        return
    with ray_for_trials(scaling):
        from aenet_ray.training.trials import check_trials_fit

        check_trials_fit(scaling, committee.gpus_per_trial, "committee.gpus_per_trial")
        yield


def _plan_of(member: Any) -> MemberPlan:
    return MemberPlan(member.member_index, member.seed, member.split_seed, member.device)


def _check_alike(first: TorchANNPotential, other: TorchANNPotential, name: str, other_name: str) -> None:
    pairs = (
        ("architecture", first.arch, other.arch),
        ("descriptor", _parameters(first.descriptor), _parameters(other.descriptor)),
        ("atomic energies", first.atomic_energies, other.atomic_energies),
    )
    for what, expected, found in pairs:
        if found != expected:
            raise CommitteeError(
                f"{other_name}: its {what} is {found}, that of {name} is {expected}; members of a committee share it."
            )


def _parameters(descriptor: ChebyshevDescriptor) -> dict[str, Any]:
    """What its numbers depend on."""
    return {k: v for k, v in descriptor.config().items() if k not in ("device", "dtype", "backend")}


def described(dataset: Any) -> str:
    """Class of a data set, ``Subset[...]`` around it."""
    inner = getattr(dataset, "dataset", None)
    name = type(dataset).__name__
    return name if inner is None else f"{name}[{described(inner)}]"
