"""Second-order training on energies: a damped least-squares step on every batch.

With the batch's errors r and their Jacobian J, gradient methods go along Jᵀr, which on strongly correlated
features crawls. The natural gradient goes along Jᵀ(JJᵀ + λ)⁻¹r, the shortest step that removes the errors of this
batch; JJᵀ has only batch × batch entries. What earlier batches asked for is kept as far as it does not contradict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from aenet_ray.errors import TrainingError
from aenet_ray.losses import LossScale, loss_scale
from aenet_ray.models.ann import ANNModel
from aenet_ray.models.jacobian import structure_jacobian
from aenet_ray.structures.structure import IntArray
from aenet_ray.training.batch import Batch
from aenet_ray.training.comm import Comm
from aenet_ray.training.step import energy_errors


class NaturalGradientOptimizer(torch.optim.Optimizer):
    """Subsampled projected-increment natural gradient over one flat parameter.

    Args:
        lr: Part of a step that is taken, at most 1.
        damping: λ relative to the mean diagonal of JJᵀ.
        momentum: Part of the last direction kept, outside of what this batch determines.
        max_step: Longest change of the parameter vector in one step.

    Source:
        Goldshlager, Abrahamsen, Lin, J. Comput. Phys. 516, 113351 (2024).
    """

    def __init__(self, params: Iterable[Tensor], lr: float, damping: float, momentum: float, max_step: float) -> None:
        super().__init__(params, {"lr": lr, "damping": damping, "momentum": momentum, "max_step": max_step})

    @torch.no_grad()
    def step_from(self, jacobian: Tensor, residual: Tensor) -> None:
        """Change the parameters by one batch.

        Args:
            jacobian: ∂residual/∂parameter, (n, n_parameters).
            residual: Prediction − target, (n,).

        Raises:
            TrainingError: Errors are not finite any more.
        """
        (group,) = self.param_groups
        (parameter,) = group["params"]
        state = self.state[parameter]
        last = state["direction"].mul_(group["momentum"]) if state else torch.zeros_like(parameter)
        gram = (jacobian @ jacobian.t()).double()
        gram.diagonal().add_(group["damping"] * gram.diagonal().mean())
        factor, failed = torch.linalg.cholesky_ex(gram)
        if failed:
            raise TrainingError(
                "natural_gradient: the errors of a batch cannot be solved for: they are not finite, or damping "
                f"{group['damping']:g} is too small for this precision. Lower lr, raise damping, or use float64."
            )
        open_part = (residual - jacobian @ last).double().unsqueeze(1)
        weights = torch.cholesky_solve(open_part, factor).squeeze(1).to(jacobian.dtype)
        state["direction"] = last.addmv_(jacobian.t(), weights)
        length = group["lr"] * float(last.norm())
        parameter.sub_(last, alpha=group["lr"] * min(1.0, group["max_step"] / max(length, 1e-300)))

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        raise NotImplementedError("a natural gradient needs the Jacobian of a batch: call step_from")


def natural_gradient_step(
    model: ANNModel, optimizer: NaturalGradientOptimizer, batch: Batch, rows: IntArray, n_structures: int, comm: Comm
) -> tuple[LossScale, Tensor]:
    """Update the weights once; returns the global loss before it, and this worker's energy errors.

    Every worker brings the rows of its structures, and all solve the same equations.

    Args:
        rows: Position of each structure of ``batch`` in the global batch, (batch.n_structures,).
        n_structures: Of the global batch.
    """
    scaling = model.normalization.E_scaling
    n_parameters = sum(p.numel() for p in model.parameters())
    message = torch.zeros(n_structures, n_parameters + 1, dtype=model.dtype, device=model.device)
    errors = batch.target
    if batch.n_structures:
        energies, jacobian = structure_jacobian(model.net, batch.x, batch.counts, batch.structure, batch.n_structures)
        errors = energy_errors(model, batch, energies)
        mine = torch.from_numpy(rows).to(model.device)
        message[mine] = torch.cat([jacobian / batch.n_atoms[:, None], (errors * scaling)[:, None]], dim=1)
    comm.sum_(message)
    jacobian, residual = message[:, :-1], message[:, -1]
    optimizer.step_from(jacobian, residual)
    squares = float(residual.double().square().sum()) / scaling**2
    return loss_scale(squares, n_structures, 0.0, 0, 0.0), errors
