"""Affine views of a canvas, bilinearly sampled: a matrix a view in, the views out, differentiable in the canvas.

This is one `grid_sample`. On a CPU, though, its derivative takes longer than all else that a view costs but the
network, because each pixel of a view looks up its four neighbours on the canvas anew. Where views are not rotated, rows
and columns come apart, and compiled loops over whole rows take less time, forth and back.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from featvis.choice import chosen
from featvis.engine.kernels import share
from featvis.engine.switch import on


def sample(
    canvas: Float[Tensor, "b c h w"], matrix: Float[Tensor, "b v 2 3"], out: tuple[int, int], margin: int, border: bool
) -> Float[Tensor, "n c ho wo"]:
    """The views of each canvas, unit by unit.

    Args:
        canvas: (B, C, H, W).
        matrix: from a view's coordinates (x, y) to the canvas's, both in pixels from the corner.
        out: (h, w) of a view.
        margin: pixels more on every side of it.
        border: continue the canvas's edge beyond it; else there is 0.
    """
    known = may_look(canvas) and canvas.dtype == torch.float32 and on("views")
    if known and not matrix[..., 0, 1].any() and not matrix[..., 1, 0].any():
        return cast(Tensor, _Upright.apply(canvas, matrix, out, margin, border))
    return _sampled(canvas, matrix, out, margin, border)


def may_look(x: Tensor) -> bool:
    """Whether reading a number of a tensor costs next to nothing: not where a device would be waited for.

    Nor with PyTorch's own operations on a CPU, so that what a GPU would do can be tested there.
    """
    return x.is_cpu and chosen() == "compiled"


def _sampled(canvas: Tensor, matrix: Tensor, out: tuple[int, int], margin: int, border: bool) -> Tensor:
    v = matrix.shape[1]
    grid = _grid(matrix, out, (canvas.shape[-2], canvas.shape[-1]), margin)
    # All views of a unit in one tall grid: the gradient of the canvas is then never held once a view. A CPU's threads
    # go canvas by canvas, so a canvas alone has two. Not as many as there are threads: rounding would depend on them.
    each = v // math.gcd(v, 2) if canvas.is_cpu and len(canvas) == 1 else v
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
        share("upright", len(views) * canvas.shape[1], views.numel(), canvas.detach().numpy(), *ctx.rest, views.numpy())
        return views

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        found = gradient.new_empty(ctx.shape)
        units = ctx.shape[0] * ctx.shape[1]
        share("upright_gradient", units, gradient.numel(), gradient.contiguous().numpy(), *ctx.rest, found.numpy())
        return found, None, None, None, None


def _grid(
    matrix: Float[Tensor, "b v 2 3"], out: tuple[int, int], size: tuple[int, int], margin: int = 0
) -> Float[Tensor, "b v h w 2"]:
    """Where each pixel of each view, and of a margin around it, lies in the canvas, in grid_sample's (-1, 1)."""
    h, w = out
    y = torch.arange(-margin, h + margin, device=matrix.device) + 0.5
    x = torch.arange(-margin, w + margin, device=matrix.device) + 0.5
    m = torch.stack([matrix[..., 0, :] * (2 / size[1]), matrix[..., 1, :] * (2 / size[0])], -2)
    along_x = m[:, :, None, None, :, 0] * x[None, None, None, :, None]
    along_y = m[:, :, None, None, :, 1] * y[None, None, :, None, None]
    return along_x + (along_y + (m[:, :, None, None, :, 2] - 1))
