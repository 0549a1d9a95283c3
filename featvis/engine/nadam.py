"""NAdam without looking at a tensor: on a GPU that would be waiting for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

PLAIN = ("weight_decay", "capturable", "differentiable")
"""Options that are left to PyTorch."""


class NAdam(torch.optim.NAdam):
    """`torch.optim.NAdam` (Dozat 2016), with the same state, and without waiting for its numbers.

    Without weight decay; with it, PyTorch's own steps are taken.
    """

    def __init__(self, params: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(params, *args, **kwargs)
        # What the tensors of a parameter's state hold, and which tensors these were: reading them would be waiting.
        self._known: dict[Tensor, tuple[Tensor, float, float]] = {}
        for group in self.param_groups:
            for p in group["params"]:
                if self._takes(p, group):
                    self._begin(p)

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A copy, or a state that is loaded, has other tensors.
        self._known = {}
        super().__setstate__(state)

    @staticmethod
    def _takes(p: Tensor, group: dict[str, Any]) -> bool:
        return p.is_contiguous() and not p.is_complex() and not any(group.get(option) for option in PLAIN)

    def _begin(self, p: Tensor) -> None:
        # Beforehand, not at the first step: that is made by other threads, whose memory what stays would scatter.
        self.state[p] = {
            "step": torch.zeros(()), "mu_product": torch.ones(()),
            "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p),
        }  # fmt: skip
        self._known[p] = self.state[p]["step"], 0.0, 1.0

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step, against the gradient, or along it with `maximize`."""
        plain = all(self._takes(p, group) for group in self.param_groups for p in group["params"])
        if not plain or closure is not None:
            self._known.clear()
            return super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, p.grad.contiguous(), group)
        return None

    def _move(self, p: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        if not self.state[p]:
            self._begin(p)
        state = self.state[p]
        tensor, step, product = self._known.get(p, (None, 0.0, 1.0))
        if tensor is not state["step"]:  # somebody has put another state there
            step, product = float(state["step"]), float(state["mu_product"])
        first, second = group["betas"]
        step, decay, lr = step + 1, group["momentum_decay"], float(group["lr"])
        now, then = (first * (1 - 0.5 * 0.96 ** (s * decay)) for s in (step, step + 1))
        product *= now
        state["step"].fill_(step)
        state["mu_product"].fill_(product)
        self._known[p] = state["step"], step, product
        rates = lr * (1 - now) / (1 - product), lr * then / (1 - product * then)
        _moved(
            p, gradient, state["exp_avg"], state["exp_avg_sq"], -1.0 if group["maximize"] else 1.0, (first, second),
            rates, 1 - second**step, group["eps"],
        )  # fmt: skip


def _moved(
    p: Tensor, gradient: Tensor, mean: Tensor, square: Tensor, sign: float, betas: tuple[float, float],
    rates: tuple[float, float], bias: float, eps: float,
) -> None:  # fmt: skip
    first, second = betas
    gradient = gradient if sign > 0 else -gradient
    mean.lerp_(gradient, 1 - first)
    square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
    root = square.div(bias).sqrt_().add_(eps)
    p.addcdiv_(gradient, root, value=-rates[0]).addcdiv_(mean, root, value=-rates[1])
