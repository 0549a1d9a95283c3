"""Convolutions with constant weights, whose one derivative, the input's, is found in the fastest way known of it.

PyTorch's own serves training: it hands each convolution's input gradient to a kernel for that purpose. On a CPU some
are slow: in bfloat16 four strided depthwise convolutions of an EfficientNet-Lite0 take two thirds of the time of all
its 49. A forward convolution can give the same numbers (`python -m benchmark.perf.passes convolutions`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeGuard, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from timm.layers import Conv2dSame, StdConv2d, StdConv2dSame
from timm.layers.padding import pad_same_arg
from torch import Tensor, nn

from featvis.engine import onednn
from featvis.engine.kernels import clip_gradient, interleave
from featvis.engine.switch import on

Pair = tuple[int, int]
ACTIVATIONS: dict[type[nn.Module], float] = {nn.ReLU: math.inf, nn.ReLU6: 6.0}
"""The activations that a convolution can take in, and their upper bounds."""
HOOKS = (
    "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks",
)  # fmt: skip
"""Where PyTorch's modules keep what is called beside their own work."""


def copied(net: nn.Module, share: bool = True) -> nn.Module:
    """A copy of a network without anybody's hooks, which would work for them on the copy too.

    Args:
        net: the network.
        share: its weights are the copy's too.
    """
    shared: dict[int, Any] = {id(t): t for t in chain(net.parameters(), net.buffers())} if share else {}
    found = copy.deepcopy(net, shared)
    for module in found.modules():
        for hooks in HOOKS:
            getattr(module, hooks).clear()
    return found


def freeze_convolutions(net: nn.Module, keep: frozenset[str] = frozenset()) -> nn.Module:
    """A copy of a network, sharing its weights, whose convolutions are `FrozenConv2d` where they can be.

    Layers keep their names and what they put out. Gradients reach the input, and none of those convolutions' weights.
    Activations no longer work in place where autograd would have to copy what they overwrite.

    Args:
        net: left as it is; its hooks are not copied, but a convolution that has one is not replaced.
        keep: names of convolutions that are not replaced either.
    """
    names = {name for name, module in net.named_modules() if FrozenConv2d.can_be(module)} - keep
    frozen = copied(net)
    for prefix, parent in list(frozen.named_modules()):
        for name, module in parent.named_children():
            full = f"{prefix}.{name}" if prefix else name
            if full in names:
                setattr(parent, name, FrozenConv2d(cast(nn.Conv2d, module)))
            elif getattr(module, "inplace", False) is True and type(module) is not nn.ReLU:
                module.inplace = False
    return frozen


class FrozenConv2d(nn.Conv2d):
    """A convolution of constant weights, its padding and the ReLU or ReLU6 after it: on a CPU one operation.

    On other devices, and in double precision, PyTorch's own one after the other.

    Args:
        conv: whose weights are taken, standardised if it standardises them at each call; see `can_be`.
        act: the activation after it, of one of the types `ACTIVATIONS`, or None.
    """

    def __init__(self, conv: nn.Conv2d, act: nn.Module | None = None) -> None:
        super().__init__(
            conv.in_channels, conv.out_channels, cast(Pair, conv.kernel_size), cast(Pair, conv.stride),
            cast(Pair, conv.padding), groups=conv.groups, bias=conv.bias is not None, device="meta",
        )  # fmt: skip
        self.weight, self.bias = conv.weight, conv.bias
        if isinstance(conv, StdConv2d | StdConv2dSame):
            var, mean = torch.var_mean(conv.weight.detach(), (1, 2, 3), correction=0, keepdim=True)
            self.weight = nn.Parameter((conv.weight.detach() - mean) * (var + conv.eps).rsqrt(), requires_grad=False)
        self.same = isinstance(conv, Conv2dSame) or (isinstance(conv, StdConv2dSame) and conv.same_pad)
        self.bound = None if act is None else ACTIVATIONS[type(act)]
        self.depthwise = conv.groups == conv.in_channels == conv.out_channels
        self._plans: dict[tuple[torch.Size, torch.dtype], Plan] = {}

    @staticmethod
    def can_be(module: nn.Module) -> TypeGuard[nn.Conv2d]:
        """Whether a module is a convolution that this can take the place of."""
        return (
            isinstance(module, nn.Conv2d)
            and type(module) in (nn.Conv2d, Conv2dSame, StdConv2d, StdConv2dSame)
            and module.padding_mode == "zeros"
            and isinstance(module.padding, tuple)
            and module.dilation == (1, 1)
            and "weight" in module._parameters  # weights that are computed from others are not
            and not (module._forward_hooks or module._forward_pre_hooks)
            and not (module._backward_hooks or module._backward_pre_hooks)
        )

    def __getstate__(self) -> dict[str, Any]:
        # A copy may be given other weights, and these plans are made of ours; nor can they be pickled.
        return self.__dict__ | {"_plans": {}}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FrozenConv2d:
        # Another type or device makes these plans useless.
        self._plans.clear()
        return super()._apply(fn, recurse)

    def forward(self, input: Float[Tensor, "*n c h w"]) -> Float[Tensor, "*n d ho wo"]:
        """The convolution and its activation, in the type of autocast where that is on."""
        return _through([self], input)

    def plain(self, x: Float[Tensor, "*n c h w"]) -> Float[Tensor, "*n d ho wo"]:
        """The same by PyTorch's operations, one after the other."""
        (top, bottom), (left, right) = self.pads(x.shape)
        own = (top, left)
        if top != bottom or left != right:
            x, own = F.pad(x, (left, right, top, bottom)), (0, 0)
        x = F.conv2d(x, self.weight, self.bias, self.stride, own, 1, self.groups)
        return x if self.bound is None else F.relu(x, inplace=True) if self.bound == math.inf else F.relu6(x)

    def pads(self, shape: torch.Size) -> tuple[Pair, Pair]:
        """Zeros around an input of a shape (..., C, h, w): (top, bottom), (left, right)."""
        if self.same:
            left, right, top, bottom = pad_same_arg(list(shape[-2:]), list(self.kernel_size), list(self.stride))
            return (top, bottom), (left, right)
        rows, columns = cast(Pair, self.padding)
        return (rows, rows), (columns, columns)

    def plan(self, shape: torch.Size, dtype: torch.dtype) -> Plan:
        """How it is done for inputs of a shape (N, C, h, w)."""
        # Found once, because finding it takes longer than some of the convolutions do.
        key = shape[1:], dtype
        if key not in self._plans:
            # Two threads may come here at once; they make the same. Each holds weights: so many sizes are enough.
            made = self._planned(shape, dtype)
            self._plans = dict(list(self._plans.items())[-3:]) | {key: made}
            return made
        return self._plans[key]

    def _planned(self, shape: torch.Size, dtype: torch.dtype) -> Plan:
        (top, bottom), (left, right) = pads = self.pads(shape)
        # More zeros after than before: a kernel that begins with zeros instead, so that the input need not be copied.
        shifted = _shifted(self.weight.detach(), bottom - top, right - left)
        forward = self._convolution(
            shape, dtype, shifted, (bottom, right), cast(Pair, self.stride), self.bias, self.bound
        )
        size = [
            (n + sum(pad) - k) // s + 1
            for n, pad, k, s in zip(shape[2:], pads, self.kernel_size, self.stride, strict=True)
        ]
        out = torch.Size((shape[0], self.out_channels, *size))
        return Plan(forward, *self._back(out, dtype, pads))

    def _back(self, out: torch.Size, dtype: torch.dtype, pads: tuple[Pair, Pair]) -> tuple[Callable[..., Tensor], bool]:
        """`Plan.back` and `Plan.through`: by forward convolutions where they do, else by PyTorch's own operation."""
        weight = self.weight.detach()
        within = all(max(p) < k for p, k in zip(pads, self.kernel_size, strict=True))
        even = all(before == after for before, after in pads)
        if within and self.depthwise and self.stride == (1, 1) and even:
            reach = [k - 1 - before for k, (before, _) in zip(self.kernel_size, pads, strict=True)]
            flipped = self._convolution(out, dtype, weight.flip(2, 3), reach)
            return lambda gradient, shape: flipped(gradient), False
        if within and self.groups == 1 and self.stride == self.kernel_size == (1, 1):
            transposed = self._convolution(out, dtype, weight.transpose(0, 1))
            return lambda gradient, shape: transposed(gradient), False
        (top, bottom), (left, right) = pads
        few = self.in_channels <= 4 and self.groups == 1
        if self.stride != (1, 1) and (few or (self.depthwise and math.prod(self.stride) <= 16)):
            return self._subpixels(out, dtype, (top, left), few), True
        place = list(self.stride), [bottom, right], [1, 1], False, [0, 0], self.groups
        shifted = _shifted(weight.to(dtype), bottom - top, right - left).contiguous(memory_format=torch.channels_last)

        def back(gradient: Tensor, shape: torch.Size) -> Tensor:
            # Of the input no more than its shape and its layout count.
            like = torch.empty(shape, dtype=dtype, memory_format=torch.channels_last)
            found = torch.ops.aten.convolution_backward(gradient, like, shifted, None, *place, [True, False, False])
            return cast(Tensor, found[0]).contiguous(memory_format=torch.channels_last)

        return back, False

    def _subpixels(self, out: torch.Size, dtype: torch.dtype, before: Pair, few: bool) -> Callable[..., Tensor]:
        """A convolution for each pixel of a stride, which sees as many of the kernel's taps as meet there.

        Pixel s * j + a of the padded input was seen by tap s * m + a of output j - m, for each m. Those of `few`
        channels are one convolution: one of them would leave most of a vector unit idle.
        """
        (kh, kw), (sh, sw) = cast(Pair, self.kernel_size), cast(Pair, self.stride)
        rows, columns = math.ceil(kh / sh), math.ceil(kw / sw)
        taps = F.pad(self.weight.detach(), (0, columns * sw - kw, 0, rows * sh - kh))
        taps = rearrange(taps, "d c (m a) (n b) -> (a b) d c m n", a=sh, b=sw).flip(3, 4)
        if few:
            taps = rearrange(taps, "s d c m n -> 1 (s c) d m n")
        convolutions = [self._convolution(out, dtype, kernel, (rows - 1, columns - 1)) for kernel in taps]

        def back(gradient: Tensor, shape: torch.Size, *activation: Any) -> Tensor:
            planes = [convolution(gradient) for convolution in convolutions]
            return interleave(planes, (sh, sw), before, shape, *activation)

        return back

    def _convolution(
        self, shape: torch.Size, dtype: torch.dtype, weight: Tensor, padding: Sequence[int] = (0, 0),
        stride: Pair = (1, 1), bias: Tensor | None = None, bound: float | None = None,
    ) -> Callable[[Tensor], Tensor]:  # fmt: skip
        """A forward convolution by oneDNN of inputs of a shape, and a ReLU with a bound after it."""
        bias = None if bias is None else bias.detach().to(dtype)
        return onednn.convolution(weight.to(dtype), bias, padding, stride, self.groups, bound, shape)


@dataclass(frozen=True)
class Plan:
    """How a frozen convolution is done for inputs of a certain size.

    Attributes:
        forward: input to output, through the activation.
        back: gradient with respect to the convolution's output, and the input's shape, to that of the input; where
            `through`, also an activation's output that the input is, and its bound: to that of what went into this.
        through: see `back`.
    """

    forward: Callable[[Tensor], Tensor]
    back: Callable[..., Tensor]
    through: bool


def _shifted(weight: Tensor, rows: int, columns: int) -> Tensor:
    return F.pad(weight, (columns, 0, rows, 0)) if rows or columns else weight


def _through(convs: Sequence[FrozenConv2d], x: Tensor) -> Tensor:
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    ours = x.device.type == "cpu" and x.ndim == 4 and on("convolutions")
    if not (ours and onednn.works(x.dtype) and onednn.works(dtype)):
        for conv in convs:
            x = conv.plain(x)
        return x
    with torch.autocast("cpu", enabled=False):
        return cast(Tensor, _Convolutions.apply(x.to(dtype, memory_format=torch.channels_last), convs))


class FrozenChain(nn.Module):
    """Convolutions one after the other, where nobody else reads what is between: gradients are then worked on in place.

    Args:
        convs: in order.
    """

    def __init__(self, convs: Sequence[FrozenConv2d]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(convs)

    def forward(self, input: Float[Tensor, "*n c h w"]) -> Float[Tensor, "*n d ho wo"]:
        """All of them, in the type of autocast where that is on."""
        convs = cast(Sequence[FrozenConv2d], list(self.convs))
        if on("chains"):
            return _through(convs, input)
        for conv in convs:
            input = conv(input)
        return input


class _Convolutions(torch.autograd.Function):
    """Frozen convolutions in a row, and the derivative of their input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, convs: Sequence[FrozenConv2d]) -> Tensor:
        ctx.convs, ctx.done, kept = convs, [], list[Tensor]()
        for conv in convs:
            plan = conv.plan(x.shape, x.dtype)
            ctx.done.append((plan, x.shape, conv.bound))
            x = plan.forward(x)
            if conv.bound is not None and ctx.needs_input_grad[0]:
                kept.append(x)
        ctx.save_for_backward(*kept)
        return x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        kept, done = list(ctx.saved_tensors), list(ctx.done)
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        plan, shape, bound = done.pop()
        if bound is not None:
            # Others may read the gradient that was handed in.
            gradient = clip_gradient(gradient, kept.pop(), bound)
        while done:
            before, shape_before, bound = done.pop()
            if bound is None:
                gradient = plan.back(gradient, shape)
            elif plan.through:
                gradient = plan.back(gradient, shape, kept.pop(), bound)
            else:
                gradient = clip_gradient(plan.back(gradient, shape), kept.pop(), bound, in_place=True)
            plan, shape = before, shape_before
        return plan.back(gradient, shape), None


CONVOLUTION = _Convolutions._backward_cls
"""What stands for frozen convolutions in autograd's graph; its `convs` are the modules."""
