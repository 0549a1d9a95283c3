"""oneDNN's convolutions with an activation in them: all that is used of PyTorch's private operations.

Another release of PyTorch may have them no more, or otherwise. So they are tried once, against PyTorch's public
operations, which take their place where the two differ; a warning says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from featvis.engine.switch import say_once

Convolution = Callable[[Tensor], Tensor]


@cache
def works(dtype: torch.dtype) -> bool:
    """Whether `convolution` can be had on this CPU for a type."""
    if not torch.backends.mkldnn.is_available() or dtype not in (torch.float32, torch.bfloat16):
        return False
    try:
        if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        reason = "" if _agrees(dtype) else "its results differ from those of torch.nn.functional.conv2d"
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
    if reason:
        say_once(f"PyTorch {torch.__version__} does not do oneDNN's convolutions in {dtype} as those before it "
                 f"({reason:.200}); its own operations are used, which are slower")  # fmt: skip
    return not reason


def convolution(
    weight: Tensor, bias: Tensor | None, padding: Sequence[int], stride: Sequence[int], groups: int,
    bound: float | None, shape: Sequence[int],
) -> Convolution:  # fmt: skip
    """A convolution of inputs of a shape, channels last, and after it a ReLU with an upper bound (None: no ReLU)."""
    place = list(padding), list(stride), [1, 1], groups
    # As oneDNN wants them for such inputs, or it would rearrange them at each call.
    weight = torch.ops.mkldnn._reorder_convolution_weight(weight.contiguous(), *place, list(shape))
    name, scalars = {None: ("none", []), math.inf: ("relu", [])}.get(bound, ("hardtanh", [0.0, bound]))
    convolve = torch.ops.mkldnn._convolution_pointwise.default
    return lambda x: convolve(x, weight, bias, *place, name, scalars, "")


def twin(
    weight: Tensor, bias: Tensor | None, padding: Sequence[int], stride: Sequence[int], groups: int,
    bound: float | None, shape: Sequence[int],
) -> Convolution:  # fmt: skip
    """The same by PyTorch's public operations."""

    def convolve(x: Tensor) -> Tensor:
        y = F.conv2d(x, weight, bias, tuple(stride), tuple(padding), 1, groups)
        return y if bound is None else y.clamp(0, bound)

    return convolve


def _agrees(dtype: torch.dtype) -> bool:
    g = torch.Generator().manual_seed(0)
    # Whole numbers, whose sums are exact in either type.
    x, weight, bias = (torch.randint(-2, 3, s, generator=g).to(dtype) for s in ((1, 4, 6, 5), (4, 1, 3, 3), (4,)))
    x = x.contiguous(memory_format=torch.channels_last)
    for bound in (None, 6.0, math.inf):
        case = weight, bias, (1, 1), (2, 1), 4, bound, x.shape
        if not torch.equal(convolution(*case)(x), twin(*case)(x)):
            return False
    return True
