"""How a canvas is written down: parameters (B, ...) in, canvas (B, C, H, W) in [0, 1] out.

Three channels are RGB and are optimised in a decorrelated space; any other number is a channel each.

Each parametrization has the same two functions. `init` draws what each unit needs from that unit's own random stream:
the parameters, and what stays fixed (or None). `decode` is differentiable and treats every canvas of the batch alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featvis import engine
from featvis.canvas.color import decorrelate
from featvis.canvas.constants import constant
from featvis.canvas.matrix import RECORRELATE


@runtime_checkable
class Parametrization(Protocol):
    """What the optimisation needs to know of a canvas."""

    def init(self, generators: Sequence[torch.Generator]) -> tuple[Tensor, Tensor | None]:
        """Parameters, and fixed values, of one canvas a generator, drawn from it alone, on its device."""
        ...

    def decode(self, parameters: Tensor, fixed: Tensor | None = None) -> Tensor:
        """Parameters (B, ...) to canvas (B, C, H, W) in [0, 1]."""
        ...


def _normal(shape: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
    return torch.stack([torch.randn(*shape, generator=g, device=g.device) for g in generators])


def _colors(x: Tensor) -> Float[Tensor, "3 3"] | None:
    """The way back from the decorrelated colours, which only RGB has."""
    return constant(RECORRELATE, x.device, x.dtype) if x.shape[1] == 3 else None


def _to_rgb(x: Float[Tensor, "b c h w"], min_max: bool) -> Float[Tensor, "b c h w"]:
    canvas = engine.to_rgb(x, _colors(x))
    return engine.stretch(canvas) if min_max else canvas


@dataclass(frozen=True)
class Pixel:
    """Pixels in the decorrelated space (CBR). Parameters: (B, C, H, W).

    Attributes:
        size: (H, W) in pixels.
        std: deviation of the initial values.
        min_max: stretch each canvas to [0, 1] after the sigmoid.
        channels: of the canvas.

    Example:
        >>> import torch
        >>> from featvis.canvas.parametrizations import Pixel
        >>> pixel = Pixel((8, 12))
        >>> parameters, _ = pixel.init([torch.Generator().manual_seed(0)])
        >>> canvas = pixel.decode(parameters)
        >>> canvas.shape, float(canvas.min()), float(canvas.max())
        (torch.Size([1, 3, 8, 12]), 0.0, 1.0)
    """

    size: tuple[int, int]
    std: float = 0.01
    min_max: bool = True
    channels: int = 3

    def init(self, generators: Sequence[torch.Generator]) -> tuple[Float[Tensor, "b c h w"], None]:
        """N(0, std) pixels."""
        return self.std * _normal((self.channels, *self.size), generators), None

    def decode(self, parameters: Float[Tensor, "b c h w"], fixed: Tensor | None = None) -> Float[Tensor, "b c h w"]:
        """Colour, sigmoid and, where asked for, min-max."""
        return _to_rgb(parameters, self.min_max)


@dataclass(frozen=True)
class ScaledSpectrum:
    """A complex spectrum scaled by frequency (Olah et al. 2017, "Preconditioning"). Parameters: (B, C, H, W//2+1, 2).

    Canvas = irfft2(z * scale) / 4, scale = sqrt(HW) / max(f, 1/max(H, W))^decay with f in cycles per pixel.

    Attributes:
        size: (H, W) in pixels.
        decay: exponent of the frequency scaling; 0 leaves the spectrum as it is.
        std: deviation of the initial real and imaginary parts.
        min_max: stretch each canvas to [0, 1] after the sigmoid.
        channels: of the canvas.

    Example:
        >>> import torch
        >>> from featvis.canvas.parametrizations import ScaledSpectrum
        >>> spectrum = ScaledSpectrum((8, 12), decay=1.2)
        >>> parameters, _ = spectrum.init([torch.Generator().manual_seed(0)])
        >>> parameters.shape, spectrum.decode(parameters).shape
        (torch.Size([1, 3, 8, 7, 2]), torch.Size([1, 3, 8, 12]))
    """

    size: tuple[int, int]
    decay: float = 1.0
    std: float = 0.01
    min_max: bool = False
    channels: int = 3

    def scale(self) -> Float[Tensor, "h f"]:
        """The factor of each bin."""
        h, w = self.size
        f = torch.hypot(torch.fft.fftfreq(h)[:, None], torch.fft.rfftfreq(w)[None, :])
        return math.sqrt(h * w) / f.clamp_min(1 / max(h, w)) ** self.decay

    def init(self, generators: Sequence[torch.Generator]) -> tuple[Float[Tensor, "b c h f 2"], None]:
        """N(0, std) real and imaginary parts."""
        return self.std * _normal((self.channels, self.size[0], self.size[1] // 2 + 1, 2), generators), None

    def decode(self, parameters: Float[Tensor, "b c h f 2"], fixed: Tensor | None = None) -> Float[Tensor, "b c h w"]:
        """Scaled inverse FFT, colour, sigmoid."""
        return _to_rgb(self.pixels(parameters), self.min_max)

    def pixels(self, parameters: Float[Tensor, "b c h f 2"]) -> Float[Tensor, "b c h w"]:
        """The picture in the decorrelated space, before colour and sigmoid."""
        return engine.spectrum_to_image(parameters, _there(self._scales, parameters), self.size)

    @cached_property
    def _scales(self) -> list[Float[Tensor, "h f 2"]]:
        # Once for the real part and once for the imaginary one: real products take less time than complex ones.
        return [torch.stack([self.scale() / 4] * 2, -1)]


@dataclass(frozen=True)
class Pyramid:
    """A sum of grids of pixels of 1, 2, 4 ... pixels a side (Fort 2025, section 3). Parameters: (B, C, all pixels).

    Canvas = sigmoid(gain * sum_r w_r * enlarged(grid_r)), w_r = (r / max(H, W))^-exponent, each grid enlarged
    bicubically to the canvas. Enlarging is linear in rows and in columns, so it is a product with a matrix on either
    side: a few milliseconds an image, and its gradient is exact.

    Attributes:
        size: (H, W) in pixels.
        exponent: of the weights; 0: all grids weigh the same.
        gain: before the sigmoid.
        std: deviation of the initial values.
        decorrelated: optimise Lucid's colours instead of RGB.
        channels: of the canvas.

    Example:
        >>> import torch
        >>> from featvis.canvas.parametrizations import Pyramid
        >>> pyramid = Pyramid((8, 12))
        >>> pyramid.grids
        [(1, 1), (2, 2), (3, 4), (6, 8), (8, 12)]
        >>> parameters, _ = pyramid.init([torch.Generator().manual_seed(0)])
        >>> parameters.shape, pyramid.decode(parameters).shape
        (torch.Size([1, 3, 161]), torch.Size([1, 3, 8, 12]))
    """

    size: tuple[int, int]
    exponent: float = 0.0
    gain: float = 1.0
    std: float = 0.01
    decorrelated: bool = True
    channels: int = 3

    @cached_property
    def grids(self) -> list[tuple[int, int]]:
        """(rows, columns) of each grid, the smallest first; the last is the canvas's own."""
        longest = max(self.size)
        sides = [2**i for i in range((longest - 1).bit_length())] + [longest]
        return [(math.ceil(self.size[0] * r / longest), math.ceil(self.size[1] * r / longest)) for r in sides]

    def init(self, generators: Sequence[torch.Generator]) -> tuple[Float[Tensor, "b c p"], None]:
        """N(0, std) pixels on all grids."""
        return self.std * _normal((self.channels, sum(map(math.prod, self.grids))), generators), None

    def decode(self, parameters: Float[Tensor, "b c p"], fixed: Tensor | None = None) -> Float[Tensor, "b c h w"]:
        """The sum of the enlarged grids, colour, sigmoid."""
        canvas = self.gain * self.pixels(parameters)
        return engine.to_rgb(canvas, _colors(canvas) if self.decorrelated else None)

    def pixels(self, parameters: Float[Tensor, "b c p"]) -> Float[Tensor, "b c h w"]:
        """The sum of the enlarged grids, before colour and sigmoid."""
        total = parameters.new_zeros(*parameters.shape[:2], *self.size)
        flat = parameters.split([math.prod(grid) for grid in self.grids], dim=-1)
        for grid, values, enlarge in zip(self.grids, flat, self._enlargements, strict=True):
            weight = (max(grid) / max(self.size)) ** -self.exponent
            rows, columns = (_there(copies, parameters) for copies in enlarge)
            total = total + weight * (rows @ values.unflatten(-1, grid) @ columns.T)
        return total

    @cached_property
    def _enlargements(self) -> list[tuple[list[Tensor], list[Tensor]]]:
        return [([_enlarging(h, self.size[0])], [_enlarging(w, self.size[1])]) for h, w in self.grids]


def _enlarging(count: int, to: int) -> Float[Tensor, "t n"]:
    """The matrix that enlarges `count` values to `to`, bicubically: what that makes of each unit vector."""
    unit = torch.eye(count).view(count, 1, count, 1)
    large = F.interpolate(unit, (to, 1), mode="bicubic", align_corners=False)
    return large.view(count, to).T.contiguous()


@dataclass(frozen=True, eq=False)
class Phase:
    """A phase spectrum under a fixed magnitude (MACO: Fel et al. 2023, section 3). Parameters: (B, C, H, W//2+1).

    Canvas = sigmoid(colour(standardise(irfft2(r * exp(i * phase))))). irfft2 keeps only the Hermitian part of the
    columns 0 and W/2, so the canvas has the magnitude r in the interior columns alone.

    Attributes:
        size: (H, W) in pixels.
        magnitude: r, (C, H, W//2+1).
        distribution: of the initial phases: `uniform` on (-pi, pi), or `normal` of deviation 1.
        phase_std: deviation to which each image's phases are standardised before use; None leaves them alone.
            Standardising is what makes the optimisation converge: as the raw phases spread, the same step turns them
            less and less, an annealed step size. But phases of a small deviation s add up coherently at pixel (0, 0),
            with a weight of E[cos] = exp(-s^2/2) for normal phases (0.61 at s = 1, 0.19 at pi/sqrt(3), 0.01 at 3): the
            four bright corners of the public implementations.
        offset: add a fixed U(-pi, pi) phase to every bin, drawn once a unit, after standardising. The weight above is
            then zero at every deviation, and the corners are like the rest of the canvas.

    Example:
        >>> import torch
        >>> from featvis.canvas.parametrizations import Phase
        >>> phase = Phase((8, 12), magnitude=torch.rand(3, 8, 7) + 1)
        >>> parameters, _ = phase.init([torch.Generator().manual_seed(0)])
        >>> parameters.shape, phase.decode(parameters).shape
        (torch.Size([1, 3, 8, 7]), torch.Size([1, 3, 8, 12]))
    """

    size: tuple[int, int]
    magnitude: Float[Tensor, "c h f"]
    distribution: Literal["uniform", "normal"] = "uniform"
    phase_std: float | None = 1.0
    offset: bool = False

    def init(
        self, generators: Sequence[torch.Generator]
    ) -> tuple[Float[Tensor, "b c h f"], Float[Tensor, "b c h f"] | None]:
        """Initial phases in radians and, with `offset`, the phases that are added to them throughout."""
        phase = torch.stack([self._draw(self.distribution, g) for g in generators])
        fixed = torch.stack([self._draw("uniform", g) for g in generators]) if self.offset else None
        return phase, fixed

    def _draw(self, distribution: str, generator: torch.Generator) -> Float[Tensor, "c h f"]:
        shape, device = self.magnitude.shape, generator.device
        if distribution == "normal":
            return torch.randn(*shape, generator=generator, device=device)
        return (2 * torch.rand(*shape, generator=generator, device=device) - 1) * math.pi

    def decode(
        self, parameters: Float[Tensor, "b c h f"], fixed: Float[Tensor, "b c h f"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Phases to canvas; fixed: phases to add."""
        magnitude = _there(self._magnitudes, parameters)
        return engine.phase_to_canvas(parameters, magnitude, fixed, self.phase_std, self.size, _colors(parameters))

    @cached_property
    def _magnitudes(self) -> list[Float[Tensor, "c h f"]]:
        return [self.magnitude]


@dataclass(frozen=True)
class OwnPhase:
    """The phases of an image under its own magnitude (Hamblin et al. 2024, section 3). Parameters: (B, C, H, W//2+1).

    What is written down is the image before colours and sigmoid: canvas = sigmoid(colour(irfft2(r e^(i phase)))),
    so the phases that `of` gives are the image. Fixed: the magnitudes r, of the parameters' shape.

    Attributes:
        size: (H, W) in pixels.

    Example:
        >>> import torch
        >>> from featvis.canvas.parametrizations import OwnPhase
        >>> image = torch.rand(1, 3, 8, 12)
        >>> own = OwnPhase((8, 12))
        >>> bool(torch.allclose(own.decode(*own.of(image)), image, atol=1e-2))
        True
    """

    size: tuple[int, int]

    def init(self, generators: Sequence[torch.Generator]) -> tuple[Tensor, Tensor | None]:
        """Raises a TypeError: there is nothing to begin with but an image, see `of`."""
        raise TypeError("phases of an image begin with the image; call `of`")

    def of(self, images: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c h f"], Float[Tensor, "b c h f"]]:
        """Phases in radians and magnitudes of images in [0, 1], moved by a level of 8 bits off the ends."""
        x = images.clamp(1 / 255, 1 - 1 / 255).logit()
        spectrum = torch.fft.rfft2(decorrelate(x) if x.shape[1] == 3 else x)
        return spectrum.angle(), spectrum.abs()

    def decode(self, parameters: Float[Tensor, "b c h f"], fixed: Tensor | None = None) -> Float[Tensor, "b c h w"]:
        """Phases to canvas; fixed: the magnitudes."""
        assert fixed is not None
        # Optimised phases are those of no real image any more.
        canvas = engine.irfft2(torch.polar(fixed, parameters), self.size)
        return engine.to_rgb(canvas, _colors(canvas))


def _there(copies: list[Tensor], like: Tensor) -> Tensor:
    """The first of `copies` on the device and in the type of `like`; a copy is kept for the next time."""
    for copied in copies:
        if copied.device == like.device and copied.dtype == like.dtype:
            return copied
    # A copy made in inference mode could never be part of a gradient.
    with torch.inference_mode(False):
        copies.append(copies[0].to(like))
    return copies[-1]
