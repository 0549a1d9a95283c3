"""Decoding of canvases around their Fourier transform: the arithmetic and its derivative, for speed on a CPU.

In compiled loops image by image, so that what is made of one stays in the cache, and in few passes over it; or by
PyTorch's operations on all of them, whose derivatives are written out too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from featvis.engine.fft import irfft2, irfft2_gradient
from featvis.engine.kernels import share
from featvis.engine.switch import on


def to_rgb(x: Float[Tensor, "b c h w"], colors: Float[Tensor, "3 3"] | None) -> Float[Tensor, "b c h w"]:
    """Images to [0, 1]: sigmoid(x @ colors) on the channel axis; without a matrix, sigmoid(x)."""
    if colors is None:
        return x.sigmoid()
    if _takes(x):
        return cast(Tensor, _ToRGB.apply(x, colors))
    # Matrix on the left: the channels stay where they are, and nothing is permuted.
    return (colors.T @ x.flatten(-2)).view(x.shape).sigmoid()


def stretch(canvas: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Each image to [0, 1], from its least value to its largest."""
    return cast(Tensor, _Stretch.apply(canvas))


def phase_to_canvas(
    phase: Float[Tensor, "b c h f"], magnitude: Float[Tensor, "c h f"], fixed: Float[Tensor, "b c h f"] | None,
    std: float | None, size: tuple[int, int], colors: Float[Tensor, "3 3"] | None,
) -> Float[Tensor, "b c h w"]:  # fmt: skip
    """to_rgb(standardised irfft2(magnitude * exp(i (std * standardised phase + fixed)))).

    Args:
        phase: in radians, F = W//2+1 columns.
        magnitude: of each bin.
        fixed: phases to add, or None.
        std: deviation of each image's phases before these are added; None: the phases are taken as they are.
        size: (H, W) of the image.
        colors: see `to_rgb`.
    """
    if colors is not None and _takes(phase):
        return cast(Tensor, _PhaseToCanvas.apply(phase, magnitude, fixed, std, size, colors))
    if std is not None:
        phase = cast(Tensor, _Standardise.apply(phase))
        phase = phase if std == 1 else phase * std
    if fixed is not None:
        phase = phase + fixed
    return to_rgb(cast(Tensor, _Standardise.apply(_PhaseToImage.apply(phase, magnitude, size))), colors)


def spectrum_to_image(
    parts: Float[Tensor, "b c h f 2"], scale: Float[Tensor, "h f 2"], size: tuple[int, int]
) -> Float[Tensor, "b c h w"]:
    """irfft2 of `scale` times a complex spectrum, both as real and imaginary parts; `size` is (H, W) of the image."""
    return cast(Tensor, _SpectrumToImage.apply(parts, scale, size))


def _takes(x: Tensor) -> bool:
    return x.is_cpu and x.dtype == torch.float32 and on("decoding")


class _Standard(NamedTuple):
    """How an image is standardised: (x - mean) * inverse."""

    mean: Any = np.float32(0)
    inverse: Any = np.float32(1)

    @classmethod
    def of(cls, lines: Any) -> _Standard:
        """For an image as lines, (L, n)."""
        sums = np.empty(len(lines))
        share("sums_of_lines", len(lines), lines.size, lines, np.float32(0), False, sums)
        mean = np.float32(sums.sum() / lines.size)
        share("sums_of_lines", len(lines), lines.size, lines, mean, True, sums)
        return cls(mean, np.float32(1 / max(math.sqrt(sums.sum() / lines.size), 1e-8)))

    def back(self, lines: Any, gradient: Any, sums: Any) -> None:
        """Make the gradient with respect to a standardised image one with respect to the image, in place.

        Args:
            lines: the image, (L, n).
            gradient: (L, n).
            sums: (*, 2), of the gradient and of its products with what was standardised.
        """
        means = (sums.sum(0) / lines.size).astype(np.float32)
        share("unstandardise", len(lines), lines.size, lines, *self, *means, gradient)


class _ToRGB(torch.autograd.Function):
    """Images (B, 3, H, W) in the decorrelated space to [0, 1]: colour, sigmoid."""

    @staticmethod
    def forward(ctx: Any, x: Float[Tensor, "b c h w"], colors: Tensor) -> Float[Tensor, "b c h w"]:
        x, ctx.colors = x.contiguous(), colors.numpy()
        canvas = torch.empty_like(x)
        for image, to in zip(x.numpy(), canvas.numpy(), strict=True):
            _shown(image, _Standard(), ctx.colors, to)
        ctx.save_for_backward(x, canvas)
        return canvas

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        x, canvas = (t.numpy() for t in ctx.saved_tensors)
        found = torch.empty(x.shape)
        for parts in zip(gradient.contiguous().numpy(), canvas, x, found.numpy(), strict=True):
            _unshown(*parts, _Standard(), ctx.colors)
        return found, None


def _shown(image: Any, standard: _Standard, colors: Any, canvas: Any) -> None:
    share("to_rgb", image.shape[1], image.size, image, *standard, colors, canvas)


def _unshown(gradient: Any, canvas: Any, image: Any, found: Any, standard: _Standard, colors: Any) -> Any:
    """The gradient with respect to a standardised image, and `_Standard.back`'s sums."""
    sums = np.empty((image.shape[1], 2))
    share("from_rgb", len(sums), image.size, gradient, canvas, image, *standard, colors, found, sums)
    return sums


class _PhaseToCanvas(torch.autograd.Function):
    """sigmoid(colour(standardised irfft2(magnitude * exp(i (std * standardised phase + fixed))))).

    With `std` None the phase is taken as it is.
    """

    @staticmethod
    def forward(
        ctx: Any, phase: Float[Tensor, "b c h f"], magnitude: Float[Tensor, "c h f"],
        fixed: Float[Tensor, "b c h f"] | None, std: float | None, size: tuple[int, int], colors: Tensor,
    ) -> Float[Tensor, "b c h w"]:  # fmt: skip
        phase, ctx.colors = phase.contiguous(), colors.numpy()
        spectrum, canvas = torch.empty(*phase.shape, 2), torch.empty(*phase.shape[:2], *size)
        images, ctx.standards, ctx.std, ctx.middle = [], [], std, (size[1] + 1) // 2
        length = _lines(magnitude.expand(phase.shape[1:]).contiguous().numpy())
        more = None if fixed is None else fixed.expand_as(phase).contiguous().numpy()
        for i, values in enumerate(phase.numpy()):
            angle = _lines(values)
            before, factor = (_Standard(), 1.0) if std is None else (_Standard.of(angle), std)
            share(
                "polar", len(angle), angle.size, angle, before.mean, before.inverse * np.float32(factor),
                angle if more is None else _lines(more[i]), more is not None, length,
                spectrum[i].numpy().reshape(*angle.shape, 2),
            )  # fmt: skip
            image = irfft2(torch.view_as_complex(spectrum[i : i + 1]), size)
            after = _Standard.of(_lines(image[0].numpy()))
            _shown(image[0].numpy(), after, ctx.colors, canvas[i].numpy())
            images.append(image)
            ctx.standards.append((before, after))
        ctx.save_for_backward(phase, spectrum, canvas, *images)
        return canvas

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        phase, spectrum, canvas, *images = ctx.saved_tensors
        found, gradient = torch.empty_like(phase), gradient.contiguous()
        change = torch.empty(canvas.shape[1:])
        for i, (before, after) in enumerate(ctx.standards):
            image = images[i][0].numpy()
            sums = _unshown(gradient[i].numpy(), canvas[i].numpy(), image, change.numpy(), after, ctx.colors)
            after.back(_lines(image), _lines(change.numpy()), sums)
            # The inverse transform's derivative, for as much as it leaves to the loop `turn`.
            bins = torch.view_as_real(torch.fft.rfft2(change, norm="forward")).numpy()
            angle, own = _lines(phase[i].numpy()), _lines(found[i].numpy())
            sums = np.empty((len(angle), 2))
            share(
                "turn", len(angle), angle.size, bins.reshape(*angle.shape, 2),
                spectrum[i].numpy().reshape(*angle.shape, 2), angle, *before, 1.0 if ctx.std is None else ctx.std,
                ctx.middle, own, sums,
            )  # fmt: skip
            if ctx.std is not None:
                before.back(angle, own, sums)
        return found, None, None, None, None, None


def _lines(image: Any) -> Any:
    """(C, H, n) as (C * H, n)."""
    return image.reshape(-1, image.shape[-1])


class _Stretch(torch.autograd.Function):
    """Each image to [0, 1], with the derivative written out: comparing every pixel with the extremes is slow."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        rows = x.flatten(1, -2)
        # The extremes row by row, because CPUs find a value in a long row slowly.
        high, low = rows.amax(-1).amax(1), rows.amin(-1).amin(1)
        span = (high - low).clamp_min(1e-6).view(-1, 1, 1, 1)
        y = (x - low.view(-1, 1, 1, 1)).div_(span)
        ctx.save_for_backward(y, span)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,), (y, span) = gradients, ctx.saved_tensors
        # Contiguous, or else what is flattened below would be a copy.
        found = (gradient / span).contiguous()
        stretched, whole = (found * y).flatten(1).sum(1), found.flatten(1).sum(1)
        image = torch.arange(len(y), device=y.device)
        # The brightest pixel moves the span, the darkest the span and the origin.
        for pick, change in ((torch.argmax, -stretched), (torch.argmin, stretched - whole)):
            row, column = _position(y.flatten(1, -2), pick)
            found.flatten(1, -2)[image, row, column] += change
        return found


def _position(x: Float[Tensor, "b r w"], pick: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
    """Row and column of the extreme of each image; `pick` is argmax or argmin."""
    extreme = x.amax(-1) if pick is torch.argmax else x.amin(-1)
    row = pick(extreme, dim=1)
    return row, pick(x[torch.arange(len(x), device=x.device), row], dim=1)


class _Standardise(torch.autograd.Function):
    """(x - mean) / std an image, with the derivative written out: autograd takes three times the passes for it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x - _mean(x)
        each = tuple(range(1, x.ndim))
        std = torch.linalg.vector_norm(y, dim=each, keepdim=True).div_(math.sqrt(x[0].numel())).clamp_min_(1e-8)
        y /= std
        ctx.save_for_backward(y, std)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,), (y, std) = gradients, ctx.saved_tensors
        # What moves the mean or the deviation of an image is taken back by the standardisation.
        product = gradient * y
        torch.mul(y, _mean(product), out=product)
        return (gradient - _mean(gradient)).sub_(product).div_(std)


class _PhaseToImage(torch.autograd.Function):
    """irfft2(magnitude * exp(i * phase)) and its derivative to the phase.

    Written out, because `torch.polar` is not vectorised on CPUs and autograd keeps and copies complex arrays.
    """

    @staticmethod
    def forward(ctx: Any, phase: Tensor, magnitude: Tensor, size: tuple[int, int]) -> Tensor:
        spectrum = torch.complex(phase.cos(), phase.sin()).mul_(magnitude)
        image = irfft2(spectrum, size)
        ctx.save_for_backward(spectrum.conj_physical_())
        return image

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,), (conjugate,) = gradients, ctx.saved_tensors
        # Turning a phase by d adds i * spectrum * d.
        return irfft2_gradient(gradient).mul_(conjugate).imag.contiguous(), None, None


class _SpectrumToImage(torch.autograd.Function):
    """irfft2 of scale times a complex spectrum, and its derivative to the spectrum."""

    @staticmethod
    def forward(ctx: Any, parameters: Tensor, scale: Tensor, size: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(scale)
        return irfft2(torch.view_as_complex(parameters * scale), size)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (scale,) = ctx.saved_tensors
        return torch.view_as_real(irfft2_gradient(gradients[0])).mul_(scale), None, None


def _mean(x: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
    return x.mean(tuple(range(1, x.ndim)), keepdim=True)
