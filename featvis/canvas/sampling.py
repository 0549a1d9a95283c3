"""A canvas and a frame in, views as the network sees them out: sampled, blurred, with noise; differentiable."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from featvis import engine
from featvis.canvas.constants import constant
from featvis.canvas.transforms import Frame, _widest, _xy, area


def render(
    canvas: Float[Tensor, "b c h w"],
    frame: Frame,
    out: tuple[int, int],
    generators: Sequence[torch.Generator] | None = None,
) -> Float[Tensor, "n c ho wo"]:
    """Sample the views of `frame` from the canvas, resized to `out`; differentiable in the canvas.

    Args:
        canvas: (B, C, H, W).
        frame: of B x V views.
        out: (h, w) of a view, the network's input.
        generators: the unit's streams, for the noise; it is drawn view by view, so that the way in which views are cut
            into micro-batches does not change it.

    Returns:
        (B * V, C, h, w), unit by unit.

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
    if frame.roll is not None:
        canvas, v = _rolled(canvas, frame.roll), 1
    # The last step of every chain: resize the picture, whatever its size by now, to the network's input.
    target = constant(tuple(out), canvas.device)
    matrix = frame.move(torch.diag_embed(_xy(frame.size / target)), torch.zeros_like(frame.size)).matrix
    if _untouched(matrix, frame, out, canvas):
        # grid_sample interpolates even there, and is wrong by some 1e-5: the hundredth part of a level of 8 bits.
        return _add_noise(canvas.repeat_interleave(v, 0), frame, generators)
    margin = math.ceil(4 * (frame.reach or _widest(frame)) * math.sqrt(out[0] * out[1]))
    source = canvas - frame.fill if frame.fill else canvas
    each = rearrange(matrix, "b v i j -> (b v) 1 i j") if frame.roll is not None else matrix
    views = engine.sample(source, each, out, margin, border=frame.fill is None)
    if frame.blur is not None:
        views = _blur(views, rearrange(frame.blur / area(matrix).sqrt(), "b v -> (b v)"), margin)
    return _add_noise(views.add_(frame.fill) if frame.fill else views, frame, generators)


def cover(images: Float[Tensor, "n c h w"], size: tuple[int, int]) -> Float[Tensor, "n c ho wo"]:
    """Resize (bicubic, antialiased) to cover `size` (h, w), then crop the centre, by whole pixels; values in [0, 1].

    Example:
        >>> import torch
        >>> from featvis.canvas.sampling import cover
        >>> cover(torch.rand(1, 3, 64, 128), (16, 16)).shape
        torch.Size([1, 3, 16, 16])
    """
    height, width = images.shape[-2:]
    scale = max(size[0] / height, size[1] / width)
    wanted = (max(size[0], round(height * scale)), max(size[1], round(width * scale)))
    resized = F.interpolate(images, wanted, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    top, left = (wanted[0] - size[0]) // 2, (wanted[1] - size[1]) // 2
    return resized[..., top : top + size[0], left : left + size[1]]


def _untouched(
    matrix: Float[Tensor, "b v 2 3"], frame: Frame, out: tuple[int, int], canvas: Float[Tensor, "n c h w"]
) -> bool:
    """Whether every view is the canvas, pixel by pixel."""
    if frame.blur is not None or tuple(canvas.shape[-2:]) != tuple(out):
        return False
    if not frame.moved:
        return True
    # Moves may come to nothing; to see it on a GPU would be waiting for it.
    return engine.may_look(canvas) and bool((matrix == torch.eye(2, 3, device=matrix.device)).all())


def _rolled(canvas: Float[Tensor, "b c h w"], roll: Float[Tensor, "b v 2"]) -> Float[Tensor, "n c h w"]:
    """The canvas of each view, rolled round by whole rows and columns; the numbers need not leave a GPU."""
    _, c, h, w = canvas.shape
    found, by = canvas.repeat_interleave(roll.shape[1], 0), rearrange(roll, "b v k -> (b v) k").long()
    rows = (torch.arange(h, device=canvas.device) - by[:, :1]) % h
    columns = (torch.arange(w, device=canvas.device) - by[:, 1:]) % w
    found = found.gather(2, repeat(rows, "n h -> n c h w", c=c, w=w))
    return found.gather(3, repeat(columns, "n w -> n c h w", c=c, h=h))


def _add_noise(
    views: Float[Tensor, "n c ho wo"], frame: Frame, generators: Sequence[torch.Generator] | None
) -> Float[Tensor, "n c ho wo"]:
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


def _noise(views: Float[Tensor, "v c h w"], g: torch.Generator, noise: tuple[float, float]) -> None:
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
