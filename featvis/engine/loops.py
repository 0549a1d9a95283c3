"""Loops for which PyTorch has no one operation, compiled by Numba, for tensors on a CPU.

Each does in one pass over the memory what would take several. Numba does not know bfloat16: such values come as their
16 bits. Kernels run without Python's lock; a call takes as
many threads as PyTorch would, each a range of what there is to do.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from torch import Tensor

LEAST = 2**20
"""Values that are worth a thread: waking one up takes time too."""

FAST_MATH = {"contract", "reassoc", "nsz", "arcp"}
"""What LLVM may do with sums and products; NaN and infinity stay what they are."""


def compiled(function: Callable[..., Any]) -> Any:
    """A function made of loops over arrays, compiled at its first call and kept on the disk for the next process.

    It is compiled anew when its own file changes, so it should call compiled functions of no other.
    """
    # A type checker at run time wraps functions, and Numba wants the function itself.
    function = inspect.unwrap(function)
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": FAST_MATH}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # there is no folder to keep it in
        return njit(**options)(function)


def _float_of_bits(typing: Any, bits: Any) -> Any:
    return types.float32(types.uint32), lambda context, b, signature, args: b.bitcast(args[0], ir.FloatType())


def _bits_of_float(typing: Any, value: Any) -> Any:
    return types.uint32(types.float32), lambda context, b, signature, args: b.bitcast(args[0], ir.IntType(32))


float_of: Any = intrinsic(inspect.unwrap(_float_of_bits))
_bits_of: Any = intrinsic(inspect.unwrap(_bits_of_float))


@compiled
def _wide(value: Any) -> Any:
    """The float32 of a bfloat16's bits."""
    return float_of(np.uint32(value) << np.uint32(16))


@compiled
def _narrow(value: Any) -> Any:
    """A finite float32 to a bfloat16's bits: to the nearest, ties to even, as PyTorch rounds."""
    bits = _bits_of(value)
    return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


def _array(x: Tensor) -> Any:
    """A tensor's memory as NumPy sees it; bfloat16 as 16 bits."""
    x = x.detach()
    return (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()


def _lines(x: Float[Tensor, "n c h w"]) -> Any:
    """The same of images in channels_last: (N, H, W, C)."""
    return _array(x.permute(0, 2, 3, 1))


def _flat(x: Float[Tensor, "n c h w"]) -> Any:
    """The same of images in channels_last, in the order of the memory."""
    # PyTorch's view, which is never a copy, where NumPy's reshape would silently be one.
    return _array(x.permute(0, 2, 3, 1).view(-1))


def share(kernel: Callable[..., None], count: int, size: int, *args: Any) -> None:
    """Call `kernel(start, stop, *args)` for all of `range(count)`, in as many parts as PyTorch has threads.

    Args:
        size: how many values there are in all, to see whether more than one thread pays.
    """
    parts = max(1, min(torch.get_num_threads(), count, size // LEAST))
    cuts = [count * i // parts for i in range(parts + 1)]
    others = [_pool().submit(kernel, cuts[i], cuts[i + 1], *args) for i in range(1, parts)]
    kernel(0, cuts[1], *args)
    for other in others:
        other.result()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="featvis-kernels")


# A forked process has none of its parent's threads.
os.register_at_fork(after_in_child=_pool.cache_clear)


def clip_gradient(
    gradient: Float[Tensor, "n c h w"], output: Float[Tensor, "n c h w"], bound: float, in_place: bool = False
) -> Float[Tensor, "n c h w"]:
    """The gradient with respect to what went into a ReLU, or one with an upper bound, from its output.

    Args:
        gradient: with respect to the output, and laid out in memory as it is.
        output: between 0 and `bound`.
        bound: may be infinite.
        in_place: write it over `gradient`.
    """
    given, values, below = _flat(gradient), _ordered(_flat(output)), _limit(bound, output.dtype)
    if in_place:
        share(_clip, given.size, given.size, given, values, below)
        return gradient
    found = torch.empty_like(gradient)
    share(_clipped, given.size, given.size, given, values, below, _flat(found))
    return found


def _ordered(values: Any) -> Any:
    """Values that can be compared: bfloat16s' bits, as signed integers, are in the order of the numbers from 0 on."""
    return values.view(np.int16) if values.dtype == np.uint16 else values


@cache
def _limit(bound: float, dtype: torch.dtype) -> Any:
    limit = torch.tensor(bound, dtype=dtype)
    return np.int16(limit.view(torch.int16).item()) if dtype == torch.bfloat16 else np.float32(limit.item())


@compiled
def _clip(start: int, stop: int, gradient: Any, output: Any, bound: Any) -> None:
    # Parts of arrays from 0 on: of other ranges the compiler does not see that they are never negative.
    own, seen = gradient[start:stop], output[start:stop]
    for i in range(own.size):
        own[i] = own[i] if (seen[i] > 0) & (seen[i] < bound) else 0


@compiled
def _clipped(start: int, stop: int, gradient: Any, output: Any, bound: Any, found: Any) -> None:
    # Not `_clip` with another array to write to: where the two are one the compiler's vectors are not used.
    own, seen, to = gradient[start:stop], output[start:stop], found[start:stop]
    for i in range(own.size):
        to[i] = own[i] if (seen[i] > 0) & (seen[i] < bound) else 0


def interleave(
    planes: Sequence[Float[Tensor, "n k m p"]],
    stride: tuple[int, int],
    before: tuple[int, int],
    shape: torch.Size,
    output: Float[Tensor, "n c h w"] | None = None,
    bound: float = 0.0,
) -> Float[Tensor, "n c h w"]:
    """Sub-pixels put beside one another (Shi et al. 2016, section 2.2), and the gradient through a ReLU.

    Args:
        planes: one for each pixel of a stride, row by row, channels last; or one with the channels of all of these.
        stride: rows, columns.
        before: the place, in what they make, of the first row and column of the result.
        shape: of the result; beyond the planes it is 0.
        output: of a ReLU, whose gradient the result is then taken through, channels last; None: there is none.
        bound: of the ReLU.
    """
    found = torch.empty(shape, dtype=planes[0].dtype, memory_format=torch.channels_last)
    to, seen = _ordered(_lines(found)), _ordered(_lines(found if output is None else output))
    given, limit = tuple(_ordered(_lines(p)) for p in planes), _limit(bound, found.dtype)
    lines = shape[0] * shape[2]
    share(_interleave, lines, found.numel(), given, *stride, *before, seen, output is not None, limit, to)
    return found


@compiled
def _interleave(
    start: int, stop: int, planes: Any, down: int, across: int, top: int, left: int, output: Any, has_output: bool,
    bound: Any, found: Any,
) -> None:  # fmt: skip
    _, height, width, channels = found.shape
    for number in range(start, stop):
        image, i = number // height, number % height
        row, to, seen = (i + top) // down, found[image, i], output[image, i]
        for b in range(across):
            number_of_plane = (i + top) % down * across + b
            plane = planes[number_of_plane if len(planes) > 1 else 0]
            skip = 0 if len(planes) > 1 else number_of_plane * channels
            # The first pixel of the row that is on this plane, and its place there.
            j = (b - left) % across
            column = (j + left) // across
            if row < plane.shape[1]:
                given = plane[image, row]
                for k in range(column, min(plane.shape[2], column + (width - 1 - j) // across + 1)):
                    if has_output:
                        for c in range(channels):
                            inside = (seen[j, c] > 0) & (seen[j, c] < bound)
                            to[j, c] = given[k, skip + c] if inside else 0
                    else:
                        for c in range(channels):
                            to[j, c] = given[k, skip + c]
                    j += across
            while j < width:
                to[j] = 0
                j += across


def normalise(
    x: Float[Tensor, "n c h w"], mean: Float[Tensor, "1 c 1 1"], std: Float[Tensor, "1 c 1 1"]
) -> Float[Tensor, "n c h w"]:
    """(x - mean) / std of float32, as bfloat16, channels last; differentiable in x."""
    return cast(Tensor, _Normalise.apply(x, mean, std))


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        ctx.std = std
        found = torch.empty(x.shape, dtype=torch.bfloat16, memory_format=torch.channels_last)
        given, m, s = (_array(t) for t in (x.contiguous(), mean.float().flatten(), std.float().flatten()))
        share(_normalise, len(x) * x.shape[2], x.numel(), given, m, s, _lines(found))
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        found, given = torch.empty(gradient.shape), _lines(gradient)
        share(
            _divide, len(found) * found.shape[2], found.numel(), given, _array(ctx.std.float().flatten()), _array(found)
        )
        return found, None, None


@compiled
def _normalise(start: int, stop: int, x: Any, mean: Any, std: Any, found: Any) -> None:
    for line in range(start, stop):
        image, i = line // x.shape[2], line % x.shape[2]
        for c in range(x.shape[1]):
            given, to, m, s = x[image, c, i], found[image, i, :, c], mean[c], std[c]
            for j in range(given.size):
                to[j] = _narrow((given[j] - m) / s)


@compiled
def _divide(start: int, stop: int, gradient: Any, std: Any, found: Any) -> None:
    for line in range(start, stop):
        image, i = line // found.shape[2], line % found.shape[2]
        for c in range(found.shape[1]):
            given, to, s = gradient[image, i, :, c], found[image, c, i], std[c]
            for j in range(to.size):
                to[j] = _wide(given[j]) / s


def add_magnitude(
    gradient: Float[Tensor, "b c h w"], canvas: Float[Tensor, "b c h w"], total: Float[Tensor, "b h w"]
) -> Float[Tensor, b]:
    """Add the mean of |gradient| over the channels to `total`; all of them float32, laid out in the order of the axes.

    Returns:
        A number a unit that is finite only if all values of its gradient and of its canvas are.

    Raises:
        ValueError: if they are of different sizes.
    """
    if gradient.shape != canvas.shape or gradient[:, 0].shape != total.shape:
        raise ValueError(
            f"a canvas of {tuple(canvas.shape)} has a gradient of {tuple(gradient.shape)}, not {tuple(total.shape)}"
        )
    sums = torch.empty(total.shape[:2])
    lines = sums.numel()
    share(_add_magnitude, lines, gradient.numel(), *(_array(t) for t in (gradient, canvas, total, sums)))
    return sums.sum(1)


@compiled
def _add_magnitude(start: int, stop: int, gradient: Any, canvas: Any, total: Any, sums: Any) -> None:
    channels = gradient.shape[1]
    for line in range(start, stop):
        image, i = line // total.shape[1], line % total.shape[1]
        to, found, part = total[image, i], np.float32(0), np.float32(1) / np.float32(channels)
        for c in range(channels):
            given, shown = gradient[image, c, i], canvas[image, c, i]
            for j in range(to.size):
                to[j] += abs(given[j]) * part
            for j in range(to.size):
                found += abs(given[j])
            for j in range(to.size):
                found += shown[j]
        sums[image, i] = found
