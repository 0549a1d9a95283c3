"""Convolutions with constant weights, whose one derivative, the input's, is found in the fastest way known of it.

PyTorch's own serves training: it hands each convolution's input gradient to a kernel for that purpose. On a CPU some
are slow: in bfloat16 four strided depthwise convolutions of an EfficientNet-Lite0 take two thirds of the time of all
its 49. A forward convolution can give the same numbers (`python -m benchmark.speed convolutions`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import chain
from typing import Any, TypeGuard, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers import Conv2dSame, StdConv2d, StdConv2dSame
from timm.layers.padding import pad_same_arg
from torch import Tensor, nn

Pair = tuple[int, int]
ACTIVATIONS: dict[type[nn.Module], float] = {nn.ReLU: math.inf, nn.ReLU6: 6.0}
"""The activations that a convolution can take in, and their upper bounds."""


def _fast_types() -> tuple[torch.dtype, ...]:
    """The types for which this CPU has oneDNN's convolutions with an activation in them."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return ()
    known = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return (torch.float32, torch.bfloat16) if known is not None and known() else (torch.float32,)


FAST = _fast_types()


def freeze_convolutions(net: nn.Module) -> nn.Module:
    """A copy of a network, sharing its weights, whose convolutions are `FrozenConv2d` where they can be.

    Layers keep their names and what they put out. Gradients reach the input, and none of those convolutions' weights.
    Activations no longer work in place where autograd would have to copy what they overwrite.
    """
    shared: dict[int, Any] = {id(tensor): tensor for tensor in chain(net.parameters(), net.buffers())}
    frozen = copy.deepcopy(net, shared)
    for parent in list(frozen.modules()):
        for name, module in parent.named_children():
            if FrozenConv2d.can_be(module):
                setattr(parent, name, FrozenConv2d(module))
            elif getattr(module, "inplace", False) is True and type(module) is not nn.ReLU:
                module.inplace = False  # type: ignore[assignment]
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
        self._kernels: dict[tuple[Any, ...], Tensor] = {}

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

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenConv2d:
        # The copy may be given other weights, and these kernels are made of ours.
        new = self.__class__.__new__(self.__class__)
        memo[id(self)] = new
        new.__dict__.update(copy.deepcopy(self.__dict__ | {"_kernels": {}}, memo))
        return new

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FrozenConv2d:
        # Another type or device makes these kernels useless.
        self._kernels.clear()
        return super()._apply(fn, recurse)

    def forward(self, input: Float[Tensor, "*n c h w"]) -> Float[Tensor, "*n d ho wo"]:
        """The convolution and its activation, in the type of autocast where that is on."""
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype
        if input.device.type != "cpu" or input.ndim != 4 or input.dtype not in FAST or dtype not in FAST:
            return self.plain(input)
        with torch.autocast("cpu", enabled=False):
            return cast(Tensor, _Convolution.apply(input.to(dtype), self))

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

    def run(self, x: Tensor, pads: tuple[Pair, Pair]) -> Tensor:
        """The convolution and its activation, through oneDNN."""
        (top, bottom), (left, right) = pads
        # More zeros after than before: a kernel that begins with zeros instead, so that the input need not be copied.
        weight = self._kernel(_shifted, x.dtype, bottom - top, right - left)
        bias = None if self.bias is None else self.bias.detach().to(x.dtype)
        if self.bound is None:
            return F.conv2d(x, weight, bias, self.stride, (bottom, right), 1, self.groups)
        name, scalars = ("relu", []) if self.bound == math.inf else ("hardtanh", [0.0, self.bound])
        place = [bottom, right], list(self.stride), [1, 1], self.groups
        return cast(Tensor, torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *place, name, scalars, ""))

    def back(self, gradient: Tensor, shape: torch.Size, pads: tuple[Pair, Pair]) -> Tensor:
        """The gradient with respect to an input of a shape, given that with respect to the convolution's output."""
        within = all(max(p) < k for p, k in zip(pads, self.kernel_size, strict=True))
        even = all(before == after for before, after in pads)
        if within and self.depthwise and self.stride == (1, 1) and even:
            reach = [k - 1 - before for k, (before, _) in zip(self.kernel_size, pads, strict=True)]
            return F.conv2d(gradient, self._kernel(_flipped, gradient.dtype), None, 1, reach, 1, self.groups)
        if within and self.groups == 1 and self.stride == self.kernel_size == (1, 1):
            return F.conv2d(gradient, self._kernel(_transposed, gradient.dtype))
        if within and self.depthwise and gradient.dtype == torch.bfloat16:
            return self._spread(gradient, shape, pads)
        if self.in_channels <= 4 and self.groups == 1 and self.stride[0] == self.stride[1] > 1:
            return self._subpixel(gradient, shape, pads)
        (top, bottom), (left, right) = pads
        weight = self._kernel(_shifted, gradient.dtype, bottom - top, right - left)
        # Of the input no more than its shape and its layout count.
        stand_in = torch.empty(shape, dtype=gradient.dtype, memory_format=torch.channels_last)
        place = list(self.stride), [bottom, right], [1, 1], False, [0, 0], self.groups
        found = torch.ops.aten.convolution_backward(gradient, stand_in, weight, None, *place, [True, False, False])
        return cast(Tensor, found[0])

    def _spread(self, gradient: Tensor, shape: torch.Size, pads: tuple[Pair, Pair]) -> Tensor:
        """Zeros between the gradient's pixels, and the flipped kernel over them."""
        reach, size, start = [0, 0], [0, 0], [0, 0]
        for axis, (before, _) in enumerate(pads):
            k, s, n, m = self.kernel_size[axis], self.stride[axis], shape[2 + axis], gradient.shape[2 + axis]
            # As much of the margin as may be is left to the convolution's own padding, which costs no memory.
            reach[axis] = min(k - 1 - before, n + before - 1 - s * (m - 1))
            size[axis] = n + k - 1 - 2 * reach[axis]
            start[axis] = k - 1 - before - reach[axis]
        spread = torch.empty((*shape[:2], *size), dtype=gradient.dtype, memory_format=torch.channels_last).zero_()
        rows, columns = (slice(a, a + s * m, s) for a, s, m in zip(start, self.stride, gradient.shape[2:], strict=True))
        spread[:, :, rows, columns] = gradient
        return F.conv2d(spread, self._kernel(_flipped, gradient.dtype), None, 1, reach, 1, self.groups)

    def _subpixel(self, gradient: Tensor, shape: torch.Size, pads: tuple[Pair, Pair]) -> Tensor:
        """A channel for each pixel of a stride, and these put beside one another (Shi et al. 2016, section 2.2).

        A kernel of few output channels leaves most of a vector unit idle; of s * s times as many it does not.
        """
        weight, s = self._kernel(_subpixels, gradient.dtype, *self.stride), self.stride[0]
        found = F.pixel_shuffle(F.conv2d(gradient, weight, None, 1, [n - 1 for n in weight.shape[2:]]), s)
        (top, _), (left, _) = pads
        found = found[:, :, top : top + shape[2], left : left + shape[3]]
        # Pixels after the last that any kernel reached.
        return F.pad(found, (0, shape[3] - found.shape[3], 0, shape[2] - found.shape[2]))

    def _kernel(self, form: Callable[..., Tensor], dtype: torch.dtype, *args: int) -> Tensor:
        """The weights in a form that an algorithm wants, made once."""
        key = (form, dtype, *args)
        if key not in self._kernels:
            # Two threads may come here at once; they make the same.
            made = form(self.weight.detach().to(dtype), *args)
            self._kernels[key] = made.contiguous(memory_format=torch.channels_last)
        return self._kernels[key]


def _shifted(weight: Tensor, rows: int, columns: int) -> Tensor:
    return F.pad(weight, (columns, 0, rows, 0)) if rows or columns else weight


def _flipped(weight: Tensor) -> Tensor:
    return weight.flip(2, 3)


def _transposed(weight: Tensor) -> Tensor:
    return weight.transpose(0, 1)


def _subpixels(weight: Tensor, *stride: int) -> Tensor:
    """(D, C, kh, kw) to (C * sh * sw, D, ceil(kh / sh), ceil(kw / sw)).

    Pixel s * j + a of the padded input was seen by tap s * m + a of output j - m, for each m.
    """
    d, c = weight.shape[:2]
    (kh, kw), (sh, sw) = weight.shape[2:], stride
    rows, columns = math.ceil(kh / sh), math.ceil(kw / sw)
    taps = F.pad(weight, (0, columns * sw - kw, 0, rows * sh - kh)).view(d, c, rows, sh, columns, sw)
    return taps.flip(2, 4).permute(1, 3, 5, 0, 2, 4).reshape(c * sh * sw, d, rows, columns)


class _Convolution(torch.autograd.Function):
    """A `FrozenConv2d` and the derivative of its input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, conv: FrozenConv2d) -> Tensor:
        ctx.conv, ctx.shape, ctx.pads = conv, x.shape, conv.pads(x.shape)
        output = conv.run(x, ctx.pads)
        if conv.bound is not None:
            ctx.save_for_backward(output)
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        conv: FrozenConv2d = ctx.conv
        if conv.bound is not None:
            # Where the output lies inside its bounds, so did what went into the activation.
            upper = min(conv.bound, torch.finfo(gradient.dtype).max)
            gradient = torch.ops.aten.hardtanh_backward(gradient, *ctx.saved_tensors, 0.0, upper)
        return conv.back(gradient, ctx.shape, ctx.pads), None
