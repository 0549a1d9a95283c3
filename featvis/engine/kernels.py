"""Small things that every step does to tensors, each in one pass over a CPU's memory, and how loops get at that.

PyTorch would go through it several times. The loops are in `featvis.engine.loops`; a call takes as many threads as
PyTorch would, each a range of what there is to do.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

LEAST = 2**20
"""Values that are worth a thread: waking one up takes time too."""


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


def share(loop: str, count: int, size: int, *args: Any) -> None:
    """Call `loop(start, stop, *args)` for all of `range(count)`, in as many parts as PyTorch has threads.

    Args:
        loop: the name of one in `featvis.engine.loops`.
        size: how many values there are in all, to see whether more than one thread pays.
    """
    # Not before it is needed: Numba takes its time to import.
    from featvis.engine import loops

    kernel = getattr(loops, loop)
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
        share("clip", given.size, given.size, given, values, below)
        return gradient
    found = torch.empty_like(gradient)
    share("clipped", given.size, given.size, given, values, below, _flat(found))
    return found


def _ordered(values: Any) -> Any:
    """Values that can be compared: bfloat16s' bits, as signed integers, are in the order of the numbers from 0 on."""
    return values.view(np.int16) if values.dtype == np.uint16 else values


@cache
def _limit(bound: float, dtype: torch.dtype) -> Any:
    limit = torch.tensor(bound, dtype=dtype)
    return np.int16(limit.view(torch.int16).item()) if dtype == torch.bfloat16 else np.float32(limit.item())


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
    share("interleave", lines, found.numel(), given, *stride, *before, seen, output is not None, limit, to)
    return found


def normalise(
    x: Float[Tensor, "*n c h w"],
    mean: Float[Tensor, "1 c 1 1"],
    std: Float[Tensor, "1 c 1 1"],
    dtype: torch.dtype | None = None,
    channels_last: bool = False,
) -> Float[Tensor, "*n c h w"]:
    """(x - mean) / std, differentiable in x.

    Args:
        x: images.
        mean: of each channel.
        std: of each channel.
        dtype: of the result; None: whatever it comes to.
        channels_last: how the result lies in memory.
    """
    x = (x - mean) / std
    x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    return x if dtype is None else x.to(dtype)


def add_magnitude(
    gradient: Float[Tensor, "b c h w"], canvas: Float[Tensor, "b c h w"], total: Float[Tensor, "b h w"]
) -> Float[Tensor, b]:
    """Add the mean of |gradient| over the channels to `total`.

    Returns:
        A number a unit that is finite only if all values of its gradient and of its canvas are.

    Raises:
        ValueError: if they are of different sizes.
    """
    if gradient.shape != canvas.shape or gradient[:, 0].shape != total.shape:
        raise ValueError(
            f"a canvas of {tuple(canvas.shape)} has a gradient of {tuple(gradient.shape)}, not {tuple(total.shape)}"
        )
    mean = gradient.abs().mean(1)
    total += mean
    return mean.sum((1, 2)) + canvas.sum((1, 2, 3))
