"""Affine views of a canvas, bilinearly sampled: a matrix a view in, the views out, differentiable in the canvas.

This is one `grid_sample`. On a CPU, though, its derivative takes longer than all else that a view costs but the
network, because each pixel of a view looks up its four neighbours on the canvas anew. Where views are not rotated, rows
and columns come apart, and compiled loops over whole rows take less time, forth and back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from featvis.canvas.constants import constant
from featvis.canvas.transforms import Frame, _widest, _xy
from featvis.engine.loops import compiled, share


def sample(
    canvas: Float[Tensor, "b 3 h w"], matrix: Float[Tensor, "b v 2 3"], out: tuple[int, int], margin: int, border: bool
) -> Float[Tensor, "n 3 ho wo"]:
    """The views of each canvas, unit by unit.

    Args:
        canvas: (B, 3, H, W).
        matrix: from a view's coordinates (x, y) to the canvas's, both in pixels from the corner.
        out: (h, w) of a view.
        margin: pixels more on every side of it.
        border: continue the canvas's edge beyond it; else there is 0.
    """
    if canvas.is_cpu and canvas.dtype == torch.float32 and not matrix[..., 0, 1].any() and not matrix[..., 1, 0].any():
        views: Tensor = _Upright.apply(canvas, matrix, out, margin, border)
        return views
    return _sampled(canvas, matrix, out, margin, border)


def _sampled(canvas: Tensor, matrix: Tensor, out: tuple[int, int], margin: int, border: bool) -> Tensor:
    v = matrix.shape[1]
    grid = _grid(matrix, out, (canvas.shape[-2], canvas.shape[-1]), margin)
    # All views of a unit in one tall grid: the gradient of the canvas is then never held once a view. A CPU's threads
    # go canvas by canvas, so there are as many grids as it needs.
    each = _shared(v, len(canvas)) if canvas.is_cpu else v
    grid = rearrange(grid, "b (k v) h w xy -> (b k) (v h) w xy", v=each)
    source = canvas if each == v else repeat(canvas, "b c h w -> (b k) c h w", k=v // each)
    padding = "border" if border else "zeros"
    sampled = F.grid_sample(source, grid, mode="bilinear", padding_mode=padding, align_corners=False)
    return rearrange(sampled, "b c (v h) w -> (b v) c h w", v=each)


class _Upright(torch.autograd.Function):
    """`_sampled` of views that are not rotated."""

    @staticmethod
    def forward(
        ctx: Any, canvas: Tensor, matrix: Tensor, out: tuple[int, int], margin: int, border: bool
    ) -> Tensor:  # fmt: skip
        # Where the centre of a view's first pixel lies, (y, x), and how far it is to the next.
        step = torch.stack([matrix[..., 1, 1], matrix[..., 0, 0]], -1).flatten(0, 1)
        first = step * (0.5 - margin) + matrix[..., 2].flip(-1).flatten(0, 1) - 0.5
        views = canvas.new_empty(len(step), canvas.shape[1], out[0] + 2 * margin, out[1] + 2 * margin)
        ctx.shape, ctx.rest = canvas.shape, (first.numpy(), step.numpy(), border)
        share(_upright, len(views) * canvas.shape[1], views.numel(), canvas.detach().numpy(), *ctx.rest, views.numpy())
        return views

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        found = gradient.new_empty(ctx.shape)
        units = ctx.shape[0] * ctx.shape[1]
        share(_upright_gradient, units, gradient.numel(), gradient.contiguous().numpy(), *ctx.rest, found.numpy())
        return found, None, None, None, None


@compiled
def _taps(first: float, step: float, count: int, size: int, border: bool) -> Any:
    """The two lines of a canvas of `size` between which each line of a view lies, and the weights of both: (N, 2) each.

    The two follow one another, or are the same, at the edge.
    """
    place, weight = np.empty((count, 2), np.int64), np.empty((count, 2), np.float32)
    for i in range(count):
        at = first + step * i
        if border:
            at = min(max(at, 0.0), size - 1.0)
        before = math.floor(at)
        for k in range(2):
            line = before + k
            place[i, k] = min(max(line, 0), size - 1)
            weight[i, k] = 1 - abs(at - line) if 0 <= line < size else 0
    return place, weight


@compiled
def _upright(start: int, stop: int, canvas: Any, first: Any, step: Any, border: bool, views: Any) -> None:
    _, channels, height, width = canvas.shape
    rows, columns = views.shape[2], views.shape[3]
    each = len(views) // len(canvas)
    # An even and an odd row of the canvas, at the view's columns, and which they are.
    kept, which = np.empty((2, columns), np.float32), np.empty(2, np.int64)
    for number in range(start, stop):
        view, c = number // channels, number % channels
        down, down_weight = _taps(first[view, 0], step[view, 0], rows, height, border)
        across, across_weight = _taps(first[view, 1], step[view, 1], columns, width, border)
        which[:] = -1
        for i in range(rows):
            for k in range(2):
                line = down[i, k]
                if which[line % 2] != line:
                    which[line % 2] = line
                    source, to = canvas[view // each, c, line], kept[line % 2]
                    for j in range(columns):
                        to[j] = across_weight[j, 0] * source[across[j, 0]] + across_weight[j, 1] * source[across[j, 1]]
            one, other, to = kept[down[i, 0] % 2], kept[down[i, 1] % 2], views[view, c, i]
            a, b = down_weight[i, 0], down_weight[i, 1]
            for j in range(columns):
                to[j] = a * one[j] + b * other[j]


@compiled
def _upright_gradient(start: int, stop: int, gradient: Any, first: Any, step: Any, border: bool, found: Any) -> None:
    _, channels, height, width = found.shape
    rows, columns = gradient.shape[2], gradient.shape[3]
    each = len(gradient) // len(found)
    # The gradient at the canvas's rows and the view's columns; which columns of the view read a column of the canvas.
    sums = np.empty((height, columns), np.float32)
    counts = np.empty(width, np.int64)
    for number in range(start, stop):
        unit, c = number // channels, number % channels
        found[unit, c] = 0
        for view in range(unit * each, unit * each + each):
            down, down_weight = _taps(first[view, 0], step[view, 0], rows, height, border)
            across, across_weight = _taps(first[view, 1], step[view, 1], columns, width, border)
            top, bottom, left, right = down.min(), down.max() + 1, across.min(), across.max() + 1
            sums[top:bottom] = 0
            for i in range(rows):
                given = gradient[view, c, i]
                for k in range(2):
                    factor, to = down_weight[i, k], sums[down[i, k]]
                    if factor != 0:
                        for j in range(columns):
                            to[j] += factor * given[j]
            # Each column of the canvas adds up what read it, as many as the one that most did; the rest count nothing.
            counts[:] = 0
            for j in range(columns):
                for k in range(2):
                    counts[across[j, k]] += across_weight[j, k] != 0
            most = counts[left:right].max()
            source, share_of = np.zeros((most, right - left), np.int64), np.zeros((most, right - left), np.float32)
            for j in range(columns):
                for k in range(2):
                    x, factor = across[j, k], across_weight[j, k]
                    if factor != 0:
                        counts[x] -= 1
                        source[counts[x], x - left], share_of[counts[x], x - left] = j, factor
            for i in range(top, bottom):
                line, to = sums[i], found[unit, c, i, left:right]
                for k in range(most):
                    at, factors = source[k], share_of[k]
                    for x in range(to.size):
                        to[x] += factors[x] * line[at[x]]


def _shared(views: int, batch: int) -> int:
    """How many views share a grid so that each thread has one to sample; a divisor of `views`."""
    wanted = math.gcd(views, torch.get_num_threads())
    return views // wanted if batch % torch.get_num_threads() else views


def _grid(
    matrix: Float[Tensor, "b v 2 3"], out: tuple[int, int], size: tuple[int, int], margin: int = 0
) -> Float[Tensor, "b v h w 2"]:
    """Where each pixel of each view, and of a margin around it, lies in the canvas, in grid_sample's (-1, 1)."""
    h, w = out
    y = torch.arange(-margin, h + margin, device=matrix.device) + 0.5
    x = torch.arange(-margin, w + margin, device=matrix.device) + 0.5
    scale = constant((2 / size[1], 2 / size[0]), matrix.device)
    m = matrix * scale[:, None]
    along_x = m[:, :, None, None, :, 0] * x[None, None, None, :, None]
    along_y = m[:, :, None, None, :, 1] * y[None, None, :, None, None]
    return along_x + (along_y + (m[:, :, None, None, :, 2] - 1))


def render(
    canvas: Float[Tensor, "b 3 h w"],
    frame: Frame,
    out: tuple[int, int],
    generators: Sequence[torch.Generator] | None = None,
) -> Float[Tensor, "n 3 ho wo"]:
    """Sample the views of `frame` from the canvas, resized to `out`; differentiable in the canvas.

    Args:
        canvas: (B, 3, H, W).
        frame: of B x V views.
        out: (h, w) of a view, the network's input.
        generators: the unit's streams, for the noise; it is drawn view by view, so that the way in which views are cut
            into micro-batches does not change it.

    Returns:
        (B * V, 3, h, w), unit by unit.

    Example:
        >>> import torch
        >>> from featvis.canvas.sampling import render
        >>> from featvis.canvas.transforms import Crop, draw
        >>> canvas = torch.full((1, 3, 64, 64), 0.25)
        >>> views = render(canvas, draw([Crop(0.5, 0.1)], (64, 64), 2, [torch.Generator().manual_seed(0)]), (16, 16))
        >>> views.shape, round(float(views.mean()), 4)
        (torch.Size([2, 3, 16, 16]), 0.25)
    """
    v = frame.matrix.shape[1]
    # The last step of every chain: resize the picture, whatever its size by now, to the network's input.
    target = constant(tuple(out), canvas.device)
    matrix = frame.move(torch.diag_embed(_xy(frame.size / target)), torch.zeros_like(frame.size)).matrix
    if _untouched(matrix, frame, out, canvas):
        # grid_sample interpolates even there, and is wrong by some 1e-5: the hundredth part of a level of 8 bits.
        return _add_noise(canvas.repeat_interleave(v, 0), frame, generators)
    margin = math.ceil(4 * (frame.reach or _widest(frame)) * math.sqrt(out[0] * out[1]))
    source = canvas - frame.fill if frame.fill else canvas
    views = sample(source, matrix, out, margin, border=frame.fill is None)
    if frame.blur is not None:
        scale = torch.linalg.det(matrix[..., :2]).abs().sqrt()
        views = _blur(views, rearrange(frame.blur / scale, "b v -> (b v)"), margin)
    return _add_noise(views.add_(frame.fill) if frame.fill else views, frame, generators)


def _untouched(
    matrix: Float[Tensor, "b v 2 3"], frame: Frame, out: tuple[int, int], canvas: Float[Tensor, "b 3 h w"]
) -> bool:
    """Whether every view is the canvas, pixel by pixel."""
    if frame.blur is not None or tuple(canvas.shape[-2:]) != tuple(out):
        return False
    return bool((matrix == torch.eye(2, 3, device=matrix.device)).all())


def _add_noise(
    views: Float[Tensor, "n 3 ho wo"], frame: Frame, generators: Sequence[torch.Generator] | None
) -> Float[Tensor, "n 3 ho wo"]:
    """The noise of a frame, added in place, each unit's from its own stream."""
    if generators is not None and any(frame.noise):
        for g, own in zip(generators, views.detach().split(frame.matrix.shape[1]), strict=True):
            _noise(own, g, frame.noise)
    return views


def _blur(images: Float[Tensor, "n c h w"], sigma: Float[Tensor, n], radius: int) -> Float[Tensor, "n c ho wo"]:
    """Separable Gaussian blur, each image by its own deviation; `radius` pixels less on every side."""
    n, c = images.shape[:2]
    at = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (at / sigma[:, None]) ** 2)
    kernel = repeat(kernel / kernel.sum(1, keepdim=True), "n k -> (n c) 1 k", c=c)
    # One picture of n c channels, channels last: so CPUs go through all channels at once, in a third of the time.
    x = rearrange(images, "n c h w -> 1 (n c) h w").contiguous(memory_format=torch.channels_last)
    x = F.conv2d(x, kernel[:, :, :, None], groups=n * c)
    x = F.conv2d(x, kernel[:, :, None, :], groups=n * c)
    return rearrange(x, "1 (n c) h w -> n c h w", n=n)


def _noise(views: Float[Tensor, "v 3 h w"], g: torch.Generator, noise: tuple[float, float]) -> None:
    normal, uniform = noise
    for one in views:
        if uniform and one.is_cpu:
            # Four 16-bit values from each 64-bit draw: the serial generator is what noise costs on a CPU.
            bits = torch.empty(-(-one.numel() // 4), dtype=torch.int64).random_(-(2**63), None, generator=g)
            levels = bits.view(torch.int16)[: one.numel()].view(one.shape)
            one.add_(levels, alpha=uniform / 2**15)
        elif uniform:
            one.add_(torch.empty_like(one).uniform_(-uniform, uniform, generator=g))
        if normal:
            one.add_(torch.randn(*one.shape, generator=g, device=one.device), alpha=normal)
