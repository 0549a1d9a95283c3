"""What a frozen transformer is made of, at the cost of its matrix products: on a CPU, in bfloat16.

PyTorch's `scaled_dot_product_attention` has a gradient there that does without oneDNN: it takes about as long as all
the rest of a DeiT-Tiny. Batched matrix products and a softmax give the same numbers. And autocast converts constant
weights at every call, since it keeps those alone that get a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast, no_type_check

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from featvis.engine import onednn
from featvis.engine.convolutions import HOOKS
from featvis.engine.switch import on

KEPT = 1 << 23
"""Weights of one attention that are kept for its gradient; where there are more, all are computed again: memory."""

FEWEST = 64
"""Rows from which on it pays to hand them to a linear map whose weights are laid out for it."""


@contextmanager
def attention() -> Iterator[None]:
    """Networks that run in the with block, in this thread, have this attention wherever it is the faster one."""
    if not on("attention"):
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


class FrozenLinear(nn.Linear):
    """A linear map of constant weights, which on a CPU are converted to bfloat16 and laid out for oneDNN once.

    On other devices, in other types and of few rows, PyTorch's own.

    Args:
        linear: whose weights are taken; see `can_be`.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self._maps: tuple[onednn.Map, onednn.Map] | None = None

    @staticmethod
    def can_be(module: nn.Module) -> bool:
        """Whether a module is a linear map that this can take the place of."""
        # Subclasses, and weights that are computed from others, are not known.
        return (
            type(module) is nn.Linear and "weight" in module._parameters and not any(getattr(module, h) for h in HOOKS)
        )

    def __getstate__(self) -> dict[str, Any]:
        # A copy may be given other weights, and these maps are made of ours; nor can they be pickled.
        return self.__dict__ | {"_maps": None}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FrozenLinear:
        self._maps = None
        return super()._apply(fn, recurse)

    def forward(self, input: Float[Tensor, "*n d"]) -> Float[Tensor, "*n e"]:
        """The map of each row, in the type of autocast where that is on."""
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype
        ours = input.is_cpu and self.weight.is_cpu and dtype == torch.bfloat16 and input[..., 0].numel() >= FEWEST
        if not (ours and on("linears") and onednn.works(dtype)):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return cast(Tensor, _Linear.apply(input.to(dtype), *self._laid_out(dtype)))

    def _laid_out(self, dtype: torch.dtype) -> tuple[onednn.Map, onednn.Map]:
        # Two threads may come here at once; they make the same.
        if self._maps is None:
            weight = self.weight.detach().to(dtype)
            bias = None if self.bias is None else self.bias.detach().to(dtype)
            self._maps = onednn.linear(weight, bias), onednn.linear(weight.t().contiguous())
        return self._maps


def freeze_linears(net: nn.Module) -> nn.Module:
    """A network whose linear maps are `FrozenLinear` where they can be: itself, changed."""
    for parent in list(net.modules()):
        for name, module in parent.named_children():
            if FrozenLinear.can_be(module):
                setattr(parent, name, FrozenLinear(cast(nn.Linear, module)))
    return net


class _Linear(torch.autograd.Function):
    """A linear map, and the derivative of its input by the map of the transposed weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forth: onednn.Map, back: onednn.Map) -> Tensor:
        ctx.back = back
        return forth(x.contiguous())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.back(gradient.contiguous()), None, None
