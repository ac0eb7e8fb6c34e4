"""An epoch of several members together: one step of all of them at a time, their errors apart."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from aenet_ray.errors import AenetRayError
from aenet_ray.structures.block import chunks_by_atoms
from aenet_ray.structures.structure import FloatArray, IntArray
from aenet_ray.training.clock import StageClock
from aenet_ray.training.comm import Solo
from aenet_ray.training.engine import (
    Running,
    conclude,
    diverged,
    epoch_times,
    run_epoch,
    training_times,
    validation_times,
)
from aenet_ray.training.epoch_plan import EpochPlan
from aenet_ray.training.evaluation import ErrorSums, add_errors, error_columns
from aenet_ray.training.history import Row
from aenet_ray.training.members_batch import MembersBatch, own_batches, shared_batch
from aenet_ray.training.members_step import Members, members_energy_errors, members_force_errors, members_step
from aenet_ray.training.plan import batches
from aenet_ray.training.state import TrainState
from aenet_ray.training.step import GlobalBatch

Outcome = Row | AenetRayError
"""What an epoch gave for a member: its row, or why the member cannot go on."""


@dataclass(frozen=True, slots=True)
class MembersPlan:
    """The draws of an epoch of every member.

    Args:
        plans: Of each; one for all where they draw the same.
        ids: Structures of the store in order of use, (n_plans, n_draws).
    """

    plans: list[EpochPlan]
    ids: IntArray

    @classmethod
    def of(cls, states: list[TrainState]) -> MembersPlan:
        plans = [EpochPlan.of(s) for s in states]
        first = plans[0]
        if all(_same(first, p) for p in plans[1:]):
            plans = plans[:1]
        return cls(plans, np.stack([states[0].spec.train_ids[p.drawn] for p in plans]))

    @property
    def shared(self) -> bool:
        return len(self.plans) == 1


def _same(a: EpochPlan, b: EpochPlan) -> bool:
    return np.array_equal(a.drawn, b.drawn) and np.array_equal(a.supervised, b.supervised)


def run_members_epoch(members: Members) -> list[Outcome]:
    """As ``run_epoch`` for each of the members, whose next epoch has the same number.

    Forces are trained on together where members share their batches; else their neighbours are not the same, and
    members take turns. Times in the rows are those of all members.
    """
    states = members.states
    plan = MembersPlan.of(states)
    if states[0].spec.config.force_weight > 0 and not plan.shared:
        return [_alone(s) for s in states]
    clock = StageClock(states[0].model.device)
    for state in states:
        state.schedule.begin(state.epoch)
    rows = train_members_epoch(members, plan)
    clock.lap("train")
    timed = StageClock(states[0].model.device, exact=states[0].spec.config.timing)
    errors = evaluate_members(members, states[0].spec.test_ids, timed)
    clock.lap("validation")
    times = validation_times(timed) | epoch_times(clock)
    found: list[Outcome] = []
    for state, row, sums in zip(states, rows, errors, strict=True):
        if isinstance(row, dict):
            row = row | error_columns("test", sums, state.spec.config.force_weight) | times
            row = row | conclude(state, row["test_loss"])
        found.append(row)
    return found


def _alone(state: TrainState) -> Outcome:
    try:
        return run_epoch(state, Solo())
    except AenetRayError as error:
        return error


def train_members_epoch(members: Members, plan: MembersPlan) -> list[Outcome]:
    """All steps of one epoch, and each member's exact means over its draws."""
    states, k = members.states, len(members.states)
    first = states[0]
    clock = StageClock(first.model.device, exact=first.spec.config.timing)
    n_draws = plan.ids.shape[1]
    parts = list(batches(np.arange(n_draws), first.spec.reported_batch(np.arange(n_draws))))
    runnings = [Running(np.zeros(n_draws if s.policy.state() is not None else 0), np.zeros(len(parts))) for s in states]
    failures: dict[int, AenetRayError] = {}
    optimizer = members.joint_optimizer()

    def prepared(part: slice) -> tuple[IntArray, GlobalBatch, MembersBatch]:
        places = np.argsort(plan.ids[:, part], axis=1, kind="stable")
        if not plan.shared:
            ids = np.take_along_axis(plan.ids[:, part], places, axis=1)
            return places, GlobalBatch(ids.shape[1], 0), own_batches(first.maker, ids)
        planned = plan.plans[0].batch(part, first)
        mine = places[0]
        batch = first.maker.make(planned.ids[mine], planned.supervised[mine])
        return np.broadcast_to(mine, (k, len(mine))), planned.counts, shared_batch(batch, k)

    for number, (places, counts, batch) in enumerate(first.maker.background.map(prepared, parts)):
        clock.lap("data")
        scales, errors = members_step(members, optimizer, batch, counts, clock)
        magnitude = errors.abs().double().cpu().numpy()
        for m, (running, scale) in enumerate(zip(runnings, scales, strict=True)):
            if not math.isfinite(scale.loss):
                failures.setdefault(m, diverged(states[m], scale))
            running.add(number, parts[number].start, counts, places[m], scale, magnitude[m])
        clock.start()
    times = training_times(clock)
    return [failures.get(m) or _learned(states[m], plan, m, runnings[m]) | times for m in range(k)]


def _learned(state: TrainState, plan: MembersPlan, m: int, running: Running) -> Row:
    if len(running.errors):
        state.policy.observe(plan.plans[0 if plan.shared else m].drawn, running.errors)
    return running.row()


def evaluate_members(members: Members, ids: IntArray, clock: StageClock | None = None) -> list[ErrorSums]:
    """As ``evaluate`` for each of the members, over structures ``ids``, ascending, each of which is looked up once."""
    spec, k = members.states[0].spec, len(members.states)
    batch_size = spec.reported_batch(ids)
    sums = np.zeros((k, -(-len(ids) // batch_size), 6))
    store, clock = members.states[0].maker.store, clock or StageClock(members.states[0].model.device)
    for places, energy, force in _predict_errors(members, ids, clock):
        for m in range(k):
            add_errors(sums[m], store, ids, places, energy[m], force[m], batch_size)
    return [ErrorSums.of(each) for each in sums]


def _predict_errors(
    members: Members, ids: IntArray, clock: StageClock
) -> Iterator[tuple[IntArray, FloatArray, FloatArray]]:
    """(places in ids, energy errors (k, n), force errors (k, n_labelled_atoms, 3)) in bounded memory."""
    first, k = members.states[0], len(members.states)
    maker, forces = first.maker, first.spec.config.force_weight > 0

    def made(part: slice) -> tuple[slice, MembersBatch]:
        supervised = maker.store.has_forces[ids[part]] if forces else None
        return part, shared_batch(maker.make(ids[part], supervised), k)

    limit = max((4096 if forces else 16384) // k, 1)
    for part, batch in maker.background.map(made, chunks_by_atoms(maker.store.n_atoms[ids], limit)):
        clock.lap("data")
        places = np.arange(part.start, part.stop)
        if batch.forces is None:
            with torch.no_grad():
                errors = members_energy_errors(members, batch, members.nets.energies(batch.x, batch.counts))
            force = np.empty((k, 0, 3))
        else:
            errors, force_errors = members_force_errors(members, batch, training=False)
            force = force_errors.detach().cpu().numpy()
        clock.lap("forward")
        yield places, errors.detach().double().cpu().numpy(), force
        clock.start()
