"""Attention whose gradient costs what its products cost: for frozen transformers, on a CPU, in bfloat16.

PyTorch's `scaled_dot_product_attention` has a gradient there that does without oneDNN: it takes about as long as all
the rest of a DeiT-Tiny. Batched matrix products and a softmax give the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast, no_type_check

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

from featvis.engine.switch import on

KEPT = 1 << 23
"""Weights of one attention that are kept for its gradient; where there are more, all are computed again: memory."""


@contextmanager
def attention(device: torch.device | str, dtype: torch.dtype) -> Iterator[None]:
    """Networks that run in the with block, in this thread, have this attention wherever it is the faster one.

    Args:
        device: on which they run.
        dtype: in which they compute. Where it could not be the faster one, no operation of theirs is looked at.
    """
    possible = torch.device(device).type == "cpu" and dtype == torch.bfloat16 and torch.is_grad_enabled()
    if not (possible and on("attention")):
        yield
        return
    with _Ours():
        yield


class _Ours(TorchFunctionMode):
    """Sees every call of `scaled_dot_product_attention`, whoever's network makes it."""

    @no_type_check  # each of a network's operations comes by here: checks of types would take longer than it does
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and (found := _attend(*args, **kwargs)) is not None:
            return found
        return func(*args, **kwargs)


def _attend(
    query: Float[Tensor, "*b n d"],
    key: Float[Tensor, "*b m d"],
    value: Float[Tensor, "*b m e"],
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Float[Tensor, "*b n e"] | None:
    """softmax(scale q k^T) v; None where that is not what is asked for, or would be no faster."""
    tensors = (query, key, value)
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    if not wanted or attn_mask is not None or dropout_p or is_causal or enable_gqa:
        return None
    if not all(t.is_cpu and t.ndim >= 3 for t in tensors) or not query.shape[:-2] == key.shape[:-2] == value.shape[:-2]:
        return None
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
    # In float32 PyTorch's own gradient is as fast.
    if dtype != torch.bfloat16:
        return None
    with torch.autocast("cpu", enabled=False):
        q, k, v = (t.to(dtype).flatten(0, -3) for t in tensors)
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        found = cast(Tensor, _Attention.apply(q, k, v, scale))
        return found.unflatten(0, query.shape[:-2])


class _Attention(torch.autograd.Function):
    """softmax(scale q k^T) v of a batch of matrices, and its derivatives."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        q = q * scale
        weights = _weights(q, k)
        ctx.scale = scale
        ctx.save_for_backward(q, k, v, *([weights] * (weights.numel() <= KEPT)))
        return torch.bmm(weights, v)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, *kept = ctx.saved_tensors
        weights = kept[0] if kept else _weights(q, k)
        of_values = torch.bmm(weights.transpose(1, 2), gradient)
        of_weights = torch.bmm(gradient, v.transpose(1, 2))
        of_scores = torch.ops.aten._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        of_keys = torch.bmm(of_scores.transpose(1, 2), q)
        return torch.bmm(of_scores, k).mul_(ctx.scale), of_keys, of_values, None


def _weights(q: Float[Tensor, "b n d"], k: Float[Tensor, "b m d"]) -> Float[Tensor, "b n m"]:
    return torch.bmm(q, k.transpose(1, 2)).softmax(-1)
