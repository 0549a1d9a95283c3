"""NAdam in one pass over a CPU's memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featvis.kernels import compiled, share

PLAIN = ("weight_decay", "capturable", "differentiable")
"""Options that are left to PyTorch."""


class NAdam(torch.optim.NAdam):
    """`torch.optim.NAdam` (Dozat 2016), with the same state: where it would pass over the memory ten times, once.

    For float32 parameters on a CPU without weight decay; any other takes PyTorch's own steps.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step, against the gradient, or along it with `maximize`."""
        plain = all(
            p.is_cpu
            and p.dtype == torch.float32
            and p.is_contiguous()
            and not set(PLAIN) & {k for k, v in group.items() if v}
            for group in self.param_groups
            for p in group["params"]
        )
        if not plain or closure is not None:
            return super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, p.grad.contiguous(), group)
        return None

    def _move(self, p: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:
            state["step"], state["mu_product"] = torch.tensor(0.0), torch.ones(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
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
