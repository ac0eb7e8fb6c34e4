"""Least-squares steps: the Jacobian is autograd's, a step is the textbook's, and a resumed run is the same run."""

from __future__ import annotations

import csv

import pytest
import torch
from runs import config, difference, final_weights, prepare, small_features

from aenet_ray.errors import ConfigError, TrainingError
from aenet_ray.models.jacobian import structure_jacobian
from aenet_ray.models.network import SpeciesNetworks
from aenet_ray.training import engine
from aenet_ray.training.comm import Solo
from aenet_ray.training.engine import run_training
from aenet_ray.training.natural_gradient import NaturalGradientOptimizer

ENERGIES = {"method": {"name": "natural_gradient", "batchsize": 16}, "force_weight": 0.0}


@pytest.mark.parametrize("activation", ["linear", "tanh", "sigmoid", "mtanh", "twist"])
def test_jacobian_is_autograds(activation):
    torch.manual_seed(0)
    net = SpeciesNetworks({"Ti": [(4, activation), (3, activation)], "O": [(5, activation)]}, ["Ti", "O"], 6)
    counts, structure = [3, 4], torch.tensor([0, 0, 3, 0, 1, 1, 3])  # structure 2 has no atoms
    x = torch.randn(7, 6, dtype=torch.float64)
    energies, jacobian = structure_jacobian(net, x, counts, structure, 4)
    expected = net(x, counts)
    torch.testing.assert_close(energies, expected.detach())
    for s in range(4):
        total = expected[structure == s].sum()
        grads = torch.autograd.grad(total, list(net.parameters()), retain_graph=True, materialize_grads=True)
        torch.testing.assert_close(jacobian[s], torch.cat([g.flatten() for g in grads]))


def test_first_step_is_the_damped_least_squares_solution():
    jacobian, residual = torch.randn(5, 9, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    start = torch.randn(9, dtype=torch.float64)
    parameter = torch.nn.Parameter(start.clone())
    NaturalGradientOptimizer([parameter], 0.5, 1e-3, 0.9, 1e9).step_from(jacobian, residual)
    damping = 1e-3 * jacobian.square().sum() / 5
    normal = jacobian.t() @ jacobian + damping * torch.eye(9, dtype=torch.float64)
    torch.testing.assert_close(start - parameter.detach(), 0.5 * torch.linalg.solve(normal, jacobian.t() @ residual))


def test_a_step_is_no_longer_than_allowed():
    parameter = torch.nn.Parameter(torch.zeros(9, dtype=torch.float64))
    optimizer = NaturalGradientOptimizer([parameter], 1.0, 1e-3, 0.9, 0.01)
    optimizer.step_from(torch.randn(5, 9, dtype=torch.float64), 1e3 * torch.ones(5, dtype=torch.float64))
    assert float(parameter.detach().norm()) == pytest.approx(0.01)


def test_errors_that_are_not_finite_are_refused():
    optimizer = NaturalGradientOptimizer([torch.nn.Parameter(torch.zeros(3))], 1.0, 1e-3, 0.9, 1.0)
    with pytest.raises(TrainingError, match="not finite"):
        optimizer.step_from(torch.full((2, 3), torch.nan), torch.ones(2))


def test_forces_are_refused():
    with pytest.raises(ConfigError, match="energies only"):
        config(**ENERGIES | {"force_weight": 0.1})


def test_learns_and_goes_on_after_an_interruption(tmp_path, monkeypatch):
    features = small_features(tmp_path)
    settings = config(**ENERGIES, checkpoint_seconds=0.0)
    whole, halted = prepare(features, tmp_path / "whole", settings), prepare(features, tmp_path / "halted", settings)
    run_training(whole, Solo(), torch.device("cpu"))
    errors = [float(row["train_energy_rmse"]) for row in csv.DictReader((whole / "history.csv").open())]
    assert errors[-1] < 0.2 * errors[0]

    monkeypatch.setattr(engine, "run_epoch", fails_at(4, engine.run_epoch))
    with pytest.raises(KeyboardInterrupt):
        run_training(halted, Solo(), torch.device("cpu"))
    monkeypatch.undo()
    run_training(halted, Solo(), torch.device("cpu"))
    assert difference(final_weights(whole), final_weights(halted)) == 0.0


def fails_at(epoch, run_epoch):
    def run(state, comm):
        if state.epoch == epoch:
            raise KeyboardInterrupt
        return run_epoch(state, comm)

    return run
