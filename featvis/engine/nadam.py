"""NAdam in one pass over a CPU's memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featvis.engine.loops import compiled, share

PLAIN = ("weight_decay", "capturable", "differentiable")
"""Options that are left to PyTorch."""


class NAdam(torch.optim.NAdam):
    """`torch.optim.NAdam` (Dozat 2016), with the same state: where it would pass over the memory ten times, once.

    For float32 parameters on a CPU without weight decay; any other takes PyTorch's own steps.
    """

    def __init__(self, params: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(params, *args, **kwargs)
        for group in self.param_groups:
            for p in group["params"]:
                if self._takes(p, group):
                    self._begin(p)

    @staticmethod
    def _takes(p: Tensor, group: dict[str, Any]) -> bool:
        known = p.is_cpu and p.dtype == torch.float32 and p.is_contiguous()
        return known and not any(group.get(option) for option in PLAIN)

    def _begin(self, p: Tensor) -> None:
        # Beforehand, not at the first step: that is made by other threads, whose memory what stays would scatter.
        self.state[p] = {
            "step": torch.tensor(0.0), "mu_product": torch.ones(()),
            "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p),
        }  # fmt: skip

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step, against the gradient, or along it with `maximize`."""
        plain = all(self._takes(p, group) for group in self.param_groups for p in group["params"])
        if not plain or closure is not None:
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
        first, second = group["betas"]
        state["step"] += 1
        step, decay = float(state["step"]), group["momentum_decay"]
        now, then = (first * (1 - 0.5 * 0.96 ** (s * decay)) for s in (step, step + 1))
        state["mu_product"] *= now
        product, lr = float(state["mu_product"]), float(group["lr"])
        share(
            _nadam, p.numel(), p.numel(), *(t.detach().view(-1).numpy() for t in (p, gradient, state["exp_avg"])),
            state["exp_avg_sq"].view(-1).numpy(), -1.0 if group["maximize"] else 1.0, first, second,
            lr * (1 - now) / (1 - product), lr * then / (1 - product * then), 1 / math.sqrt(1 - second**step),
            group["eps"],
        )  # fmt: skip
        torch.autograd.graph.increment_version(p)


@compiled
def _nadam(
    start: int, stop: int, parameters: Any, gradient: Any, mean: Any, square: Any, sign: float, first: float,
    second: float, rate: float, rate_of_mean: float, scale: float, eps: float,
) -> None:  # fmt: skip
    own, given, m, v = parameters[start:stop], gradient[start:stop], mean[start:stop], square[start:stop]
    # What is left of 1 is taken in double precision.
    kept, new, kept_square, new_square = (
        np.float32(first), np.float32((1 - first) * sign), np.float32(second), np.float32(1 - second)
    )  # fmt: skip
    a, b = np.float32(rate * sign), np.float32(rate_of_mean)
    root, least = np.float32(scale), np.float32(eps)
    for i in range(own.size):
        m[i] = kept * m[i] + new * given[i]
        v[i] = kept_square * v[i] + new_square * given[i] * given[i]
        own[i] -= (a * given[i] + b * m[i]) / (np.sqrt(v[i]) * root + least)
