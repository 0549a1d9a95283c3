"""The arithmetic of decoding canvases around their Fourier transform, and its derivative, for speed on a CPU.

Image by image, so that what is made of one stays in the cache, and in few passes over it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from featvis.canvas.color import RECORRELATE
from featvis.engine.fft import irfft2
from featvis.engine.loops import compiled, float_of, share

COLORS = np.array(RECORRELATE, dtype=np.float32)


def takes(x: Tensor) -> bool:
    """Whether a tensor is one that these functions take."""
    return x.is_cpu and x.dtype == torch.float32


class _Standard(NamedTuple):
    """How an image is standardised: (x - mean) * inverse."""

    mean: Any = np.float32(0)
    inverse: Any = np.float32(1)

    @classmethod
    def of(cls, lines: Any) -> _Standard:
        """For an image as lines, (L, n)."""
        sums = np.empty(len(lines))
        share(_sums, len(lines), lines.size, lines, np.float32(0), False, sums)
        mean = np.float32(sums.sum() / lines.size)
        share(_sums, len(lines), lines.size, lines, mean, True, sums)
        return cls(mean, np.float32(1 / max(math.sqrt(sums.sum() / lines.size), 1e-8)))

    def back(self, lines: Any, gradient: Any, sums: Any) -> None:
        """Make the gradient with respect to a standardised image one with respect to the image, in place.

        Args:
            lines: the image, (L, n).
            gradient: (L, n).
            sums: (*, 2), of the gradient and of its products with what was standardised.
        """
        means = (sums.sum(0) / lines.size).astype(np.float32)
        share(_unstandardise, len(lines), lines.size, lines, *self, *means, gradient)


@compiled
def _sums(start: int, stop: int, x: Any, mean: Any, squared: bool, sums: Any) -> None:
    """Of each line, less a mean, squared or not."""
    for i in range(start, stop):
        line, total = x[i], np.float32(0)
        if squared:
            for j in range(line.size):
                total += (line[j] - mean) * (line[j] - mean)
        else:
            for j in range(line.size):
                total += line[j]
        sums[i] = total


@compiled
def _unstandardise(
    start: int, stop: int, x: Any, mean: Any, inverse: Any, mean_of_gradient: Any, mean_of_product: Any, gradient: Any
) -> None:
    # What moves the mean or the deviation of an image is taken back by the standardisation.
    for i in range(start, stop):
        line, own = x[i], gradient[i]
        for j in range(own.size):
            own[j] = (own[j] - mean_of_gradient - (line[j] - mean) * inverse * mean_of_product) * inverse


class ToRGB(torch.autograd.Function):
    """Images (B, 3, H, W) in the decorrelated space to [0, 1]: colour, sigmoid."""

    @staticmethod
    def forward(ctx: Any, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:  # noqa: D102
        x = x.contiguous()
        canvas = torch.empty_like(x)
        for image, to in zip(x.numpy(), canvas.numpy(), strict=True):
            _shown(image, _Standard(), to)
        ctx.save_for_backward(x, canvas)
        return canvas

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: D102
        x, canvas = (t.numpy() for t in ctx.saved_tensors)
        found = torch.empty(x.shape)
        for parts in zip(gradient.contiguous().numpy(), canvas, x, found.numpy(), strict=True):
            _unshown(*parts, _Standard())
        return found


def _shown(image: Any, standard: _Standard, canvas: Any) -> None:
    share(_to_rgb, image.shape[1], image.size, image, *standard, COLORS, canvas)


def _unshown(gradient: Any, canvas: Any, image: Any, found: Any, standard: _Standard) -> Any:
    """The gradient with respect to a standardised image, and `_Standard.back`'s sums."""
    sums = np.empty((image.shape[1], 2))
    share(_from_rgb, len(sums), image.size, gradient, canvas, image, *standard, COLORS, found, sums)
    return sums


@compiled
def _to_rgb(start: int, stop: int, x: Any, mean: Any, inverse: Any, colors: Any, canvas: Any) -> None:
    for i in range(start, stop):
        one, two, three = x[0, i], x[1, i], x[2, i]
        for c in range(3):
            a, b, d, to = colors[0, c] * inverse, colors[1, c] * inverse, colors[2, c] * inverse, canvas[c, i]
            for j in range(to.size):
                to[j] = 1 / (1 + exp(-(a * (one[j] - mean) + b * (two[j] - mean) + d * (three[j] - mean))))


@compiled
def _from_rgb(
    start: int, stop: int, gradient: Any, canvas: Any, x: Any, mean: Any, inverse: Any, colors: Any, found: Any,
    sums: Any,
) -> None:  # fmt: skip
    width = x.shape[2]
    red, green, blue = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    for i in range(start, stop):
        total, product = np.float32(0), np.float32(0)
        for c, to in ((0, red), (1, green), (2, blue)):
            given, shown = gradient[c, i], canvas[c, i]
            for j in range(width):
                to[j] = given[j] * shown[j] * (1 - shown[j])
        for c in range(3):
            a, b, d, to, own = colors[c, 0], colors[c, 1], colors[c, 2], found[c, i], x[c, i]
            for j in range(width):
                to[j] = a * red[j] + b * green[j] + d * blue[j]
            for j in range(width):
                total += to[j]
            for j in range(width):
                product += to[j] * (own[j] - mean)
        sums[i, 0], sums[i, 1] = total, product * inverse


@compiled
def sin_cos(x: Any) -> Any:
    """Sine and cosine to float32's precision, by Cephes's polynomials (Moshier 1989, sinf.c)."""
    # In double precision what is left after whole quarters of a turn is right for large angles too.
    quarters = np.rint(np.float64(x) * (2 / math.pi))
    r = np.float32(np.float64(x) - quarters * (math.pi / 2))
    z = r * r
    s = ((np.float32(-1.9515295891e-4) * z + np.float32(8.3321608736e-3)) * z - np.float32(1.6666654611e-1)) * z * r + r
    c = (np.float32(2.443315711809948e-5) * z - np.float32(1.388731625493765e-3)) * z + np.float32(4.166664568298827e-2)
    c = c * z * z - np.float32(0.5) * z + np.float32(1)
    quarter = np.int64(quarters)
    if quarter & 1:
        s, c = c, s
    return -s if quarter & 2 else s, -c if (quarter + 1) & 2 else c


@compiled
def exp(x: Any) -> Any:
    """e to the power of x, to float32's precision, by Cephes's polynomial (Moshier 1989, expf.c); x is cut at +-87."""
    # Not min and max, which would make a number of a NaN.
    x = np.float32(-87) if x < -87 else x
    x = np.float32(87) if x > 87 else x
    n = np.rint(x * np.float32(1.44269504088896341))
    x = x - n * np.float32(0.693359375)
    x = x + n * np.float32(2.12194440e-4)
    y = np.float32(1.9875691500e-4) * x + np.float32(1.3981999507e-3)
    y = y * x + np.float32(8.3334519073e-3)
    y = y * x + np.float32(4.1665795894e-2)
    y = y * x + np.float32(1.6666665459e-1)
    y = y * x + np.float32(5.0000001201e-1)
    y = y * x * x + x + np.float32(1)
    return y * float_of(np.uint32((np.int32(n) + np.int32(127)) << np.int32(23)))


class PhaseToCanvas(torch.autograd.Function):
    """sigmoid(colour(standardised irfft2(magnitude * exp(i (std * standardised phase + fixed))))).

    With `std` None the phase is taken as it is.
    """

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any, phase: Float[Tensor, "b 3 h f"], magnitude: Float[Tensor, "3 h f"],
        fixed: Float[Tensor, "b 3 h f"] | None, std: float | None, size: tuple[int, int],
    ) -> Float[Tensor, "b 3 h w"]:  # fmt: skip
        phase = phase.contiguous()
        spectrum, canvas = torch.empty(*phase.shape, 2), torch.empty(*phase.shape[:2], *size)
        images, ctx.standards, ctx.std, ctx.middle = [], [], std, (size[1] + 1) // 2
        length = _lines(magnitude.expand(phase.shape[1:]).contiguous().numpy())
        more = None if fixed is None else fixed.expand_as(phase).contiguous().numpy()
        for i, values in enumerate(phase.numpy()):
            angle = _lines(values)
            before, factor = (_Standard(), 1.0) if std is None else (_Standard.of(angle), std)
            share(
                _polar, len(angle), angle.size, angle, before.mean, before.inverse * np.float32(factor),
                angle if more is None else _lines(more[i]), more is not None, length,
                spectrum[i].numpy().reshape(*angle.shape, 2),
            )  # fmt: skip
            image = irfft2(torch.view_as_complex(spectrum[i : i + 1]), size)
            after = _Standard.of(_lines(image[0].numpy()))
            _shown(image[0].numpy(), after, canvas[i].numpy())
            images.append(image)
            ctx.standards.append((before, after))
        ctx.save_for_backward(phase, spectrum, canvas, *images)
        return canvas

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:  # noqa: D102
        phase, spectrum, canvas, *images = ctx.saved_tensors
        found, gradient = torch.empty_like(phase), gradient.contiguous()
        change = torch.empty(canvas.shape[1:])
        for i, (before, after) in enumerate(ctx.standards):
            image = images[i][0].numpy()
            sums = _unshown(gradient[i].numpy(), canvas[i].numpy(), image, change.numpy(), after)
            after.back(_lines(image), _lines(change.numpy()), sums)
            # The inverse transform's derivative, for as much as it leaves to `_turn`.
            bins = torch.view_as_real(torch.fft.rfft2(change, norm="forward")).numpy()
            angle, own = _lines(phase[i].numpy()), _lines(found[i].numpy())
            sums = np.empty((len(angle), 2))
            share(
                _turn, len(angle), angle.size, bins.reshape(*angle.shape, 2),
                spectrum[i].numpy().reshape(*angle.shape, 2), angle, *before, 1.0 if ctx.std is None else ctx.std,
                ctx.middle, own, sums,
            )  # fmt: skip
            if ctx.std is not None:
                before.back(angle, own, sums)
        return found, None, None, None, None


@compiled
def _polar(
    start: int, stop: int, phase: Any, mean: Any, factor: Any, fixed: Any, has_fixed: bool, magnitude: Any,
    spectrum: Any,
) -> None:  # fmt: skip
    width = phase.shape[1]
    angle, sine, cosine = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    for i in range(start, stop):
        line, length, to = phase[i], magnitude[i], spectrum[i]
        for j in range(width):
            angle[j] = (line[j] - mean) * factor
        if has_fixed:
            more = fixed[i]
            for j in range(width):
                angle[j] += more[j]
        for j in range(width):
            sine[j], cosine[j] = sin_cos(angle[j])
        # A loop of its own, or else the compiler makes no vectors of the one before.
        for j in range(width):
            to[j, 0] = length[j] * cosine[j]
            to[j, 1] = length[j] * sine[j]


@compiled
def _turn(
    start: int, stop: int, change: Any, spectrum: Any, phase: Any, mean: Any, inverse: Any, std: float, middle: int,
    found: Any, sums: Any,
) -> None:  # fmt: skip
    width = phase.shape[1]
    for i in range(start, stop):
        total, product = np.float32(0), np.float32(0)
        d, z, line, to = change[i], spectrum[i], phase[i], found[i]
        # Turning a phase by an angle adds i * spectrum * angle. A bin stands for itself and for its mirror image, but
        # for those of the columns 0 and W/2, which are their own.
        for j in range(width):
            to[j] = (d[j, 1] * z[j, 0] - d[j, 0] * z[j, 1]) * np.float32(2 * std)
        to[0] *= np.float32(0.5)
        for j in range(middle, width):
            to[j] *= np.float32(0.5)
        for j in range(width):
            total += to[j]
        for j in range(width):
            product += to[j] * (line[j] - mean)
        sums[i, 0], sums[i, 1] = total, product * inverse


def _lines(image: Any) -> Any:
    """(C, H, n) as (C * H, n)."""
    return image.reshape(-1, image.shape[-1])
