"""Optimisers, each a record of its settings under aenet-python's names where it has them."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, PositiveFloat, PositiveInt

from aenet_ray.config import Config


class Adam(Config):
    """Adam with aenet-python's names; weight decay is added to the gradient (not AdamW)."""

    method_name: ClassVar[str] = "adam"
    known_elsewhere = dict.fromkeys(("lr", "learning_rate"), "the learning rate is 'mu' here.")

    mu: PositiveFloat = 0.001
    """Learning rate."""
    batchsize: PositiveInt = 32
    """Structures of a global batch, over all workers."""
    weight_decay: float = Field(0.0, ge=0)
    """Times the weights, added to the gradient (AdamW: taken off the weights, times the learning rate)."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """Part of the mean gradient kept at each step."""
    beta2: float = Field(0.999, ge=0, lt=1)
    """Part of the mean squared gradient kept at each step."""
    epsilon: PositiveFloat = 1e-8
    """Added to the root of the mean squared gradient."""

    @property
    def learning_rate(self) -> float:
        return self.mu

    def to_params_dict(self) -> dict[str, Any]:
        return self.model_dump()


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    method_name: ClassVar[str] = "adamw"

    weight_decay: float = Field(0.01, ge=0)
    """Part of the weights taken off at each step, times the learning rate."""


class SGD(Config):
    """Stochastic gradient descent, without dampening or Nesterov."""

    method_name: ClassVar[str] = "sgd"
    known_elsewhere = dict.fromkeys(("mu", "learning_rate"), "the learning rate is 'lr' here.")

    lr: PositiveFloat = 0.01
    """Learning rate."""
    batchsize: PositiveInt = 32
    """Structures of a global batch, over all workers."""
    weight_decay: float = Field(0.0, ge=0)
    """Times the weights, added to the gradient."""
    momentum: float = Field(0.0, ge=0, lt=1)
    """Part of the last step kept in the next."""

    @property
    def learning_rate(self) -> float:
        return self.lr

    def to_params_dict(self) -> dict[str, Any]:
        return self.model_dump()


class NaturalGradient(Config):
    """Damped least-squares steps, for energies only: many fewer epochs than Adam, each a few times as long.

    See ``aenet_ray.training.natural_gradient``. Memory: batchsize × weights.
    """

    method_name: ClassVar[str] = "natural_gradient"
    known_elsewhere = dict.fromkeys(("mu", "learning_rate"), "the learning rate is 'lr' here.")

    lr: float = Field(0.3, gt=0, le=1)
    """Part of each step that is taken."""
    batchsize: PositiveInt = 256
    """Structures of a global batch, over all workers."""
    damping: PositiveFloat = 1e-4
    """Relative to the mean squared gradient of a structure's energy."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Part of the last direction kept, outside of what a batch determines."""
    max_step: PositiveFloat = 0.2
    """Longest change of the vector of all weights in one step."""

    @property
    def learning_rate(self) -> float:
        return self.lr

    def to_params_dict(self) -> dict[str, Any]:
        return self.model_dump()


class LBFGS(Config):
    """Limited-memory BFGS with a strong Wolfe line search, over all training structures at once.

    Loss and gradient of every trial step are sums over all workers, so that the steps do not depend on their number.
    Needs an objective that stays the same: no weighted sampling, no resampled force subsets.

    Source:
        Nocedal, Wright, Numerical Optimization, 2nd ed. (2006), algorithms 3.5 and 7.5.
    """

    method_name: ClassVar[str] = "lbfgs"
    known_elsewhere = dict.fromkeys(("mu", "learning_rate"), "the learning rate is 'lr' here.")

    lr: PositiveFloat = 1.0
    """First trial step of the line search, in units of the quasi-Newton step."""
    batchsize: PositiveInt = 1024
    """Structures held in memory at a time; changes no result. One epoch is ``max_iter`` steps over all of them."""
    history_size: PositiveInt = 20
    """Pairs of steps and gradient changes that stand for the Hessian."""
    max_iter: PositiveInt = 4
    """Steps in an epoch."""
    max_eval: PositiveInt | None = None
    """Passes over the data in an epoch at most; None: 26 times ``max_iter``, as many as its line searches may take."""
    tolerance_grad: float = Field(1e-10, ge=0)
    """No step where no component of the gradient is larger."""
    tolerance_change: float = Field(1e-12, ge=0)
    """An epoch ends where a step changes neither loss nor any weight by more."""

    @property
    def learning_rate(self) -> float:
        return self.lr

    def to_params_dict(self) -> dict[str, Any]:
        return self.model_dump()


METHODS: dict[str, type[Adam] | type[SGD] | type[NaturalGradient] | type[LBFGS]] = {
    cls.method_name: cls for cls in (Adam, AdamW, SGD, LBFGS, NaturalGradient)
}
