"""One exact training step of several members at once, each on its own batch or all on one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aenet_ray.losses import LossScale, loss_scale
from aenet_ray.models.stacked import StackedNetworks
from aenet_ray.training.clock import StageClock
from aenet_ray.training.members_batch import MembersBatch
from aenet_ray.training.state import TrainState
from aenet_ray.training.step import GlobalBatch


@dataclass(frozen=True, slots=True)
class Members:
    """Runs that differ in weights and draws, with their parameters as rows of one table.

    Each stays a run of its own: its model, gradient and optimiser are views of its row.

    Args:
        gradients: (n_members, n_parameters).
        nets: Views of all rows.
    """

    states: list[TrainState]
    gradients: Tensor
    nets: StackedNetworks

    @classmethod
    def of(cls, states: list[TrainState]) -> Members:
        messages = torch.stack([s.flat.message for s in states])
        values = torch.stack([s.flat.vector.detach() for s in states])
        for state, row, message in zip(states, values, messages, strict=True):
            state.flat.live_in(row, message)
        gradients = messages[:, : values.shape[1]]
        return cls(states, gradients, StackedNetworks.in_tables(states[0].model.net, values, gradients))

    def joint_optimizer(self) -> torch.optim.Optimizer:
        """One optimiser for all members, which keeps what it learns in their own: for one epoch, whose settings it has.

        Elementwise ones only: of Adam, AdamW and SGD each number changes by itself.
        """
        groups: dict[str, dict[str, Any]] = {}
        for state in self.states:
            settings = {k: v for k, v in state.optimizer.param_groups[0].items() if k != "params"}
            group = groups.setdefault(repr(sorted(settings.items())), {**settings, "params": []})
            group["params"].append(state.flat.vector)
        kind: Any = type(self.states[0].optimizer)
        joint: torch.optim.Optimizer = kind(list(groups.values()))
        for state in self.states:
            joint.state[state.flat.vector] = state.optimizer.state[state.flat.vector]
        return joint


def members_energy_errors(members: Members, batch: MembersBatch, atom_energies: Tensor) -> Tensor:
    """(E_pred − E_ref)/N, (n_members, n_structures), eV/atom."""
    k, n = batch.target.shape
    total = atom_energies.new_zeros(k * n + 1).index_add(0, batch.structure, atom_energies.reshape(-1))[:-1]
    return (total.view(k, n) / batch.n_atoms - batch.target) / members.states[0].model.normalization.E_scaling


def members_force_errors(members: Members, batch: MembersBatch, *, training: bool) -> tuple[Tensor, Tensor]:
    """Energy errors, and F_pred − F_ref of the supervised atoms, (n_members, n_supervised, 3), eV/Å."""
    assert batch.forces is not None
    x = batch.x.detach().requires_grad_(True)
    atom_energies = members.nets.energies(x, batch.counts)
    (gradient,) = torch.autograd.grad(atom_energies.sum(), x, create_graph=training)
    model, own = members.states[0].model, batch.forces
    forces = model.forces(gradient[:, own.rows], own.edges, own.species)
    return members_energy_errors(members, batch, atom_energies), forces - own.reference


def members_step(
    members: Members, optimizer: torch.optim.Optimizer, batch: MembersBatch, counts: GlobalBatch, clock: StageClock
) -> tuple[list[LossScale], Tensor]:
    """Update the weights of every member once.

    Args:
        optimizer: Of ``Members.joint_optimizer``.
        counts: Of each member's batch; they are the same for all.

    Returns:
        Each member's loss before it, and its energy errors then, (n_members, n_structures), eV/atom.
    """
    config = members.states[0].spec.config
    members.gradients.zero_()
    if counts.n_force and config.force_weight > 0:
        scales, errors = _energy_and_forces(members, batch, counts, config.force_weight, clock)
    else:
        scales, errors = _energy_only(members, batch, counts, config.force_weight, clock)
    if config.max_grad_norm is not None:
        for state in members.states:
            state.flat.clip(config.max_grad_norm)
    optimizer.step()
    clock.lap("optimizer")
    return scales, errors


def _energy_only(
    members: Members, batch: MembersBatch, counts: GlobalBatch, alpha: float, clock: StageClock
) -> tuple[list[LossScale], Tensor]:
    atom_energies, pullback = members.nets.with_pullback(batch.x, batch.counts)
    errors = members_energy_errors(members, batch, atom_energies)
    clock.lap("forward")
    per_structure = errors / batch.n_atoms * (2.0 / members.states[0].model.normalization.E_scaling)
    nothing = per_structure.new_zeros(1)  # what rows of no atom point to
    pullback(torch.cat([per_structure.reshape(-1), nothing])[batch.structure].view(atom_energies.shape))
    clock.lap("backward")
    sums = errors.square().sum(1).tolist()
    scales = [loss_scale(s, counts.n_structures, 0.0, 0, alpha) for s in sums]
    members.gradients.mul_(errors.new_tensor([s.c_energy for s in scales])[:, None])
    clock.lap("loss")
    return scales, errors


def _energy_and_forces(
    members: Members, batch: MembersBatch, counts: GlobalBatch, alpha: float, clock: StageClock
) -> tuple[list[LossScale], Tensor]:
    """Members share the batch. Each one's sums weigh its own two terms; one backward pass serves all."""
    errors, force_errors = members_force_errors(members, batch, training=True)
    s_energy, s_force = errors.square().sum(1), force_errors.square().sum((1, 2))
    clock.lap("forward")
    scales = [
        loss_scale(e, counts.n_structures, f, counts.n_force, alpha, counts.supervised_fraction)
        for e, f in zip(s_energy.tolist(), s_force.tolist(), strict=True)
    ]
    c_energy, c_force = ([getattr(s, name) for s in scales] for name in ("c_energy", "c_force"))
    clock.lap("loss")
    loss = s_energy.dot(s_energy.new_tensor(c_energy)) + s_force.dot(s_force.new_tensor(c_force))
    leaves = members.nets.leaves()
    for leaf, gradient in zip(leaves, torch.autograd.grad(loss, leaves), strict=True):
        assert leaf.grad is not None, "in_tables makes the gradients"
        leaf.grad.copy_(gradient)
    clock.lap("backward")
    return scales, errors.detach()
