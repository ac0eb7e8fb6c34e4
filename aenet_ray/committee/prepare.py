"""Decide a committee before any member starts: its folder, and the run of every member in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from aenet_ray.committee.config import MemberPlan, TorchCommitteeConfig
from aenet_ray.committee.layout import METADATA, CommitteeMetadata, TorchCommitteeMember, member_name
from aenet_ray.errors import TrainingError
from aenet_ray.features.store import FeatureStore
from aenet_ray.models.ann import ANNModel
from aenet_ray.structures.structure import IntArray
from aenet_ray.training.choose import Split
from aenet_ray.training.config import RunConfig, TorchTrainingConfig
from aenet_ray.training.continuing import continues
from aenet_ray.training.prepare import initial_weights, prepare_run
from aenet_ray.training.run_folder import check_kind, lasting_path, run_path
from aenet_ray.training.spec import RunSpec

DEFAULT_FOLDER = "committee_run"


def committee_folder(committee: TorchCommitteeConfig, run: RunConfig | None) -> Path:
    """The committee's folder, absolute: members may run in other processes.

    Raises:
        TrainingError: It would lie in a copy of the working directory that Ray deletes.
    """
    if committee.output_dir is not None:
        return lasting_path(committee.output_dir, "output_dir")
    if run is not None and run.name is not None:
        return run_path(run)
    return lasting_path(DEFAULT_FOLDER, "output_dir")


def make_folder(directory: Path) -> None:
    """Raises:
    TrainingError: It cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{directory}: the committee's folder cannot be made: {error}") from None


def begun(directory: Path, mode: str) -> CommitteeMetadata | None:
    """The committee that the folder holds and that is to go on; None where it is to begin.

    Args:
        mode: ``RunConfig.resume``.

    Raises:
        TrainingError: It holds a committee that may not be resumed, none where one must be, or other members.
    """
    check_kind(directory, METADATA)
    there = (directory / METADATA).exists()
    if mode == "must" and not there:
        raise TrainingError(f"{directory}: no committee to resume (run.resume is 'must').")
    if there and mode == "never":
        raise TrainingError(
            f"{directory}: holds a committee already. Go on with it by run.resume=auto (in Python: "
            "run=RunConfig(resume='auto')), or choose another run.name or output_dir."
        )
    strays = [] if there or not directory.is_dir() else sorted(p.name for p in directory.glob("member_*"))
    if strays:
        raise TrainingError(
            f"{directory}: holds {', '.join(strays[:3])} but no {METADATA}: left by something else, or by a committee "
            "stopped before it began. Delete them, or choose another output_dir."
        )
    return CommitteeMetadata.load(directory) if there else None


def prepare_members(
    directory: Path,
    plans: Sequence[MemberPlan],
    known: Sequence[TorchCommitteeMember],
    features: FeatureStore,
    model: ANNModel,
    config: TorchTrainingConfig,
    run: RunConfig,
    split: Split | None,
    ids: IntArray | None,
) -> list[TorchCommitteeMember]:
    """Write the run of every member into its folder; filters, split and normalisation are decided once.

    Args:
        split, ids: As of ``prepare_run``.
        known: Members of before; those completed, with as many epochs as are asked for, stay so.

    Raises:
        TrainingError: A known member began with other settings or data.
    """
    members: list[TorchCommitteeMember] = []
    base = None
    for plan in plans:
        folder = directory / member_name(plan.member_index, len(plans))
        own = plan.config(config)
        done = plan.member_index < len(known) and known[plan.member_index].completed
        before = RunSpec.load(folder).epochs if done else None
        if continues(folder, "auto", features, model, own):
            _check_draws(folder, plan)
        else:
            if base is None:
                # By the first member's settings whichever it is that begins: these are the committee's.
                first = plans[0].config(config)
                base = prepare_run(folder, features, model, first, split=split, ids=ids, loggers=run.loggers)
            exact = own.model_copy(update={"precision": base.config.precision})
            initial = initial_weights(model, plan.seed)
            replace(base, config=exact, seed=plan.drawing, initial=initial).save(folder)
        _check_split(folder, members[0].member_dir if members else folder)
        checkpoints = None if own.checkpoint_dir is None else folder / own.checkpoint_dir
        member = TorchCommitteeMember(
            plan.member_index, plan.seed, plan.split_seed, plan.device, folder, checkpoint_dir=checkpoints
        )
        kept = done and RunSpec.load(folder).epochs == before and member.model_path.exists()
        members.append(known[plan.member_index] if kept else member)
    return members


def _check_draws(folder: Path, plan: MemberPlan) -> None:
    """Raises:
    TrainingError: The member began with batches of its own, or with shared ones, and now it is the other way round.
    """
    began = RunSpec.load(folder).seed
    if began != plan.drawing:
        raise TrainingError(
            f"{folder}: began with share_batches={began != plan.seed}, now it is {plan.draws is not None}. Leave it as "
            "it was, or choose another output_dir."
        )


def _check_split(folder: Path, first: Path) -> None:
    """Raises:
    TrainingError: A member trains on other structures than the first: it is of another committee.
    """
    if folder != first and RunSpec.load(folder).split_hash != RunSpec.load(first).split_hash:
        raise TrainingError(
            f"{folder}: its training structures are not those of {first.name}: is it a member of another committee? "
            "Put its own folder back, or choose another output_dir."
        )
