"""What a committee is told, and what follows from it for each member."""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field, field_validator, model_validator

from aenet_ray.config import Config
from aenet_ray.errors import ConfigError, TrainingError
from aenet_ray.training.config import ScalingConfig, TorchTrainingConfig
from aenet_ray.training.driver import choose_device


class TorchCommitteeConfig(Config):
    """How many members, what tells them apart, and how many train at a time."""

    num_members: int = Field(strict=True, ge=1)
    """Networks of the committee."""
    base_seed: int | None = Field(None, strict=True, ge=0)
    """Member i has seed base_seed + i; None: the training's seed + i, or seeds that are drawn and recorded."""
    member_seeds: list[int] | None = None
    """One a member; goes before ``base_seed``."""
    max_parallel: int = Field(1, strict=True, ge=1)
    """Members training at a time, a process each; 1: one after the other, in this process. On Ray (with ``scaling``)
    trials at a time; not given: as many as the cluster holds."""
    devices: list[str] | None = Field(None, min_length=1)
    """Dealt to the members in turn, such as ['cuda:0', 'cuda:1']; None: the training's device."""
    output_dir: str | None = None
    """Folder of the committee; None: committee_run."""
    members_per_trial: int = Field(1, strict=True, ge=1)
    """Members trained together, in one process and on one device, all a step at a time: faster than each by itself
    where networks are small."""
    share_batches: bool = False
    """Members draw the same batches in the same order and differ in their first weights only; trained together, they
    then share neighbours and moments when they train on forces."""
    gpus_per_trial: float = Field(1.0, gt=0)
    """With ``scaling.use_gpu``, GPUs that each trial holds; small networks leave room on one: 0.25 puts four there."""

    @field_validator("member_seeds", mode="before")
    @classmethod
    def _whole_seeds(cls, value: object) -> object:
        if value is None:
            return None
        if not isinstance(value, (list, tuple)) or any(type(s) is not int or s < 0 for s in value):
            raise ValueError("expected a list of integers, none below 0")
        return list(value)

    @field_validator("devices", mode="before")
    @classmethod
    def _list_of_devices(cls, value: object) -> object:
        if isinstance(value, str):
            raise ValueError(f"expected a list of devices, such as [{value!r}]")
        return list(value) if isinstance(value, tuple) else value

    @model_validator(mode="after")
    def _a_seed_each(self) -> TorchCommitteeConfig:
        seeds = self.member_seeds
        if seeds is None:
            return self
        if len(seeds) != self.num_members:
            raise ValueError(
                f"member_seeds has {len(seeds)} seeds for num_members={self.num_members}, expected one each"
            )
        if len(set(seeds)) < len(seeds):
            warnings.warn(
                f"member_seeds {seeds}: members with the same seed are the same potential, and add no spread.",
                stacklevel=2,
            )
        return self


@dataclass(frozen=True, slots=True)
class MemberPlan:
    """What sets a member apart.

    Args:
        split_seed: The same for all: the split is made once.
        device: None: what there is.
        draws: Seed of the batches; None: ``seed``.
    """

    member_index: int
    seed: int
    split_seed: int
    device: str | None
    draws: int | None = None

    @property
    def drawing(self) -> int:
        """Seed of batches and force subsets."""
        return self.seed if self.draws is None else self.draws

    def config(self, training: TorchTrainingConfig) -> TorchTrainingConfig:
        """The member's training settings. Its checkpoints lie in its own folder, whatever they are called elsewhere."""
        own = {"seed": self.seed, "split_seed": self.split_seed, "device": self.device}
        folder = None if training.checkpoint_dir is None else "checkpoints"
        return training.model_copy(update={**own, "checkpoint_dir": folder})


def plan_members(
    committee: TorchCommitteeConfig,
    training: TorchTrainingConfig,
    known: Sequence[MemberPlan] = (),
    *,
    on_ray: bool = False,
) -> list[MemberPlan]:
    """Seeds and devices of all members.

    Args:
        known: Members that have begun: they keep the seeds they began with.
        on_ray: Ray gives each trial its device.

    Raises:
        ConfigError: A device is missing, several processes would share one by accident, or members cannot share
            batches.
        TrainingError: The seeds asked for are not those that the known members began with.
    """
    if not on_ray:
        _check_devices(committee, training)
    if committee.share_batches and training.sampling_policy == "error_weighted":
        raise ConfigError(
            "share_batches: with sampling_policy 'error_weighted' each member draws by its own errors, so that batches "
            "cannot be the same. Leave it out, or choose 'uniform' or 'energy_weighted'."
        )
    n, first = committee.num_members, committee.base_seed
    if first is None:
        first = training.seed if training.seed is not None else _first_seed(known)
    seeds = committee.member_seeds or [first + i for i in range(n)]
    if len(known) > n:
        raise TrainingError(f"num_members is {n}, but {len(known)} members have begun; give at least as many.")
    for member, seed in zip(known, seeds, strict=False):
        if member.seed != seed:
            raise TrainingError(
                f"member {member.member_index} began with seed {member.seed}, now {seed} is asked for. Give the same "
                "seeds, or choose another output_dir."
            )
    split_seed = next((s for s in (training.split_seed, training.seed) if s is not None), seeds[0])
    if known and training.split_seed is None:
        split_seed = known[0].split_seed
    devices, draws = _devices(committee, training), seeds[0] if committee.share_batches else None
    groups = [i // committee.members_per_trial for i in range(n)]
    return [MemberPlan(i, seeds[i], split_seed, devices[groups[i] % len(devices)], draws) for i in range(n)]


def check_scaling(committee: TorchCommitteeConfig, scaling: ScalingConfig) -> None:
    """Raises:
    ConfigError: What the committee asks for cannot be had on Ray.
    """
    if committee.devices is not None:
        raise ConfigError(
            f"devices={committee.devices} and scaling are both given: Ray gives each trial its device. Leave devices "
            "out, and say by scaling.use_gpu and gpus_per_trial what a trial has."
        )
    if scaling.num_workers > 1 and committee.members_per_trial > 1:
        raise ConfigError(
            f"members_per_trial={committee.members_per_trial} trains members in one process, "
            f"scaling.num_workers={scaling.num_workers} each member in several; set one of them to 1."
        )
    if scaling.num_workers > 1 and committee.gpus_per_trial != 1:
        raise ConfigError(
            f"gpus_per_trial={committee.gpus_per_trial:g} is for trials of one worker; each of "
            f"scaling.num_workers={scaling.num_workers} has a GPU of its own. Leave it out."
        )
    if "gpus_per_trial" in committee.model_fields_set and not scaling.use_gpu:
        raise ConfigError(
            f"gpus_per_trial={committee.gpus_per_trial:g}, but scaling.use_gpu is false; set it, or leave this out."
        )


def _first_seed(known: Sequence[MemberPlan]) -> int:
    return known[0].seed if known else secrets.randbits(31)


def _devices(committee: TorchCommitteeConfig, training: TorchTrainingConfig) -> Sequence[str | None]:
    return [training.device] if committee.devices is None else committee.devices


def _check_devices(committee: TorchCommitteeConfig, training: TorchTrainingConfig) -> None:
    kinds = {choose_device(d).type for d in _devices(committee, training)}
    if committee.max_parallel > 1 and committee.devices is None and kinds != {"cpu"}:
        raise ConfigError(
            f"max_parallel={committee.max_parallel} on {', '.join(kinds)} without devices: say which members may "
            "share a device, such as devices=['cuda:0', 'cuda:1'], or train on device='cpu'."
        )
