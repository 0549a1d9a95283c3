"""Affine views of a canvas, bilinearly sampled: a matrix a view in, the views out, differentiable in the canvas.

This is one `grid_sample`. On a CPU, though, its derivative takes longer than all else that a view costs but the
network, because each pixel of a view looks up its four neighbours on the canvas anew. Where views are not rotated, rows
and columns come apart, and the derivative adds up whole columns and then whole rows, in half the time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor

from featvis.constants import constant


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
    if canvas.is_cpu and not matrix[..., 0, 1].any() and not matrix[..., 1, 0].any():
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
        ctx.shape, ctx.border = canvas.shape, border
        # Where the centre of a view's first pixel lies, and how far it is to the next: (B, V) each.
        ctx.lines = [
            (
                matrix[..., axis, axis] * (0.5 - margin) + matrix[..., axis, 2] - 0.5,
                matrix[..., axis, axis],
                n + 2 * margin,
            )
            for axis, n in ((1, out[0]), (0, out[1]))
        ]
        views = _sampled(canvas, matrix, out, margin, border)
        # Noise is added in place, which autograd does not allow for a view.
        return views.clone() if views._is_view() else views

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        b, _, h, w = ctx.shape
        (y, y_step, rows), (x, x_step, columns) = ctx.lines
        down, across = _Taps.of(y, y_step, rows, h, ctx.border), _Taps.of(x, x_step, columns, w, ctx.border)
        found = gradients[0].new_zeros(ctx.shape)
        views = gradients[0].unflatten(0, y.shape)
        for unit in range(b):
            for view in range(y.shape[1]):
                _spread(views[unit, view], found[unit], down.at(unit, view), across.at(unit, view))
        return found, None, None, None, None


@dataclass
class _Taps:
    """The two lines of a canvas between which each line of a view lies, and the weights of both.

    Attributes:
        place: (2, ...) numbers of the lines.
        weight: (2, ...) their weights; 0 outside of the canvas.
    """

    place: Int[Tensor, "2 *b n"]
    weight: Float[Tensor, "2 *b n"]

    @classmethod
    def of(cls, first: Tensor, step: Tensor, count: int, size: int, border: bool) -> _Taps:
        at = first[..., None] + step[..., None] * torch.arange(count)
        if border:
            at = at.clamp(0, size - 1)
        before = at.floor()
        place = torch.stack([before, before + 1])
        weight = torch.stack([before + 1 - at, at - before])
        weight *= (place >= 0) & (place < size)
        return cls(place.long().clamp_(0, size - 1), weight)

    def at(self, unit: int, view: int) -> _Taps:
        """Those of one view."""
        return _Taps(self.place[:, unit, view], self.weight[:, unit, view])


def _spread(view: Float[Tensor, "3 h w"], canvas: Float[Tensor, "3 H W"], down: _Taps, across: _Taps) -> None:
    """Add a view's gradient to that of its canvas."""
    low, high = int(across.place.min()), int(across.place.max()) + 1
    columns = view.new_zeros(3, high - low, view.shape[1])
    turned = _transposed(view)
    columns.index_add_(1, across.place[0] - low, turned * across.weight[0, :, None])
    columns.index_add_(1, across.place[1] - low, turned.mul_(across.weight[1, :, None]))
    rows, own = _transposed(columns), canvas[:, :, low:high]
    own.index_add_(1, down.place[0], rows * down.weight[0, :, None])
    own.index_add_(1, down.place[1], rows.mul_(down.weight[1, :, None]))


def _transposed(x: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 w h"]:
    """The same lines as columns, in memory too."""
    turned = x.new_empty(len(x), x.shape[2], x.shape[1])
    for one, other in zip(turned, x, strict=True):
        one.copy_(other.t())  # a matrix by itself is transposed faster than in a batch
    return turned


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
