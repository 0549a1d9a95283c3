"""How a canvas is written down: parameters (B, ...) in, canvas (B, 3, H, W) in [0, 1] out.

Each parametrization has the same two functions. `init` draws what each unit needs from that unit's own random stream:
the parameters, and what stays fixed (or None). `decode` is differentiable and treats every canvas of the batch alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor

from featvis.color import recorrelate


@runtime_checkable
class Parametrization(Protocol):
    """What the optimisation needs to know of a canvas."""

    def init(self, generators: Sequence[torch.Generator]) -> tuple[Tensor, Tensor | None]:
        """Parameters, and fixed values, of one canvas a generator, drawn from it alone, on its device."""
        ...

    def decode(self, parameters: Tensor, fixed: Tensor | None = None) -> Tensor:
        """Parameters (B, ...) to canvas (B, 3, H, W) in [0, 1]."""
        ...


def _normal(shape: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
    return torch.stack([torch.randn(*shape, generator=g, device=g.device) for g in generators])


def _to_rgb(x: Float[Tensor, "b 3 h w"], min_max: bool) -> Float[Tensor, "b 3 h w"]:
    canvas = recorrelate(x).sigmoid()
    if not min_max:
        return canvas
    low = reduce(canvas, "b c h w -> b 1 1 1", "min")
    high = reduce(canvas, "b c h w -> b 1 1 1", "max")
    return (canvas - low) / (high - low).clamp_min(1e-6)


@dataclass(frozen=True)
class Pixel:
    """Pixels in the decorrelated space (CBR). Parameters: (B, 3, H, W).

    Attributes:
        size: (H, W) in pixels.
        std: deviation of the initial values.
        min_max: stretch each canvas to [0, 1] after the sigmoid.
    """

    size: tuple[int, int]
    std: float = 0.01
    min_max: bool = True

    def init(self, generators: Sequence[torch.Generator]) -> tuple[Float[Tensor, "b 3 h w"], None]:
        """N(0, std) pixels."""
        return self.std * _normal((3, *self.size), generators), None

    def decode(self, parameters: Float[Tensor, "b 3 h w"], fixed: Tensor | None = None) -> Float[Tensor, "b 3 h w"]:
        """Colour, sigmoid and, where asked for, min-max."""
        return _to_rgb(parameters, self.min_max)


@dataclass(frozen=True)
class ScaledSpectrum:
    """A complex spectrum scaled by frequency (Olah et al. 2017, "Preconditioning"). Parameters: (B, 3, H, W//2+1, 2).

    Canvas = irfft2(z * scale) / 4, scale = sqrt(HW) / max(f, 1/max(H, W))^decay with f in cycles per pixel.

    Attributes:
        size: (H, W) in pixels.
        decay: exponent of the frequency scaling; 0 leaves the spectrum as it is.
        std: deviation of the initial real and imaginary parts.
        min_max: stretch each canvas to [0, 1] after the sigmoid.
    """

    size: tuple[int, int]
    decay: float = 1.0
    std: float = 0.01
    min_max: bool = False

    def scale(self) -> Float[Tensor, "h f"]:
        """The factor of each bin."""
        h, w = self.size
        f = torch.hypot(torch.fft.fftfreq(h)[:, None], torch.fft.rfftfreq(w)[None, :])
        return math.sqrt(h * w) / f.clamp_min(1 / max(h, w)) ** self.decay

    def init(self, generators: Sequence[torch.Generator]) -> tuple[Float[Tensor, "b 3 h f 2"], None]:
        """N(0, std) real and imaginary parts."""
        return self.std * _normal((3, self.size[0], self.size[1] // 2 + 1, 2), generators), None

    def decode(self, parameters: Float[Tensor, "b 3 h f 2"], fixed: Tensor | None = None) -> Float[Tensor, "b 3 h w"]:
        """Scaled inverse FFT, colour, sigmoid."""
        return _to_rgb(self.pixels(parameters), self.min_max)

    def pixels(self, parameters: Float[Tensor, "b 3 h f 2"]) -> Float[Tensor, "b 3 h w"]:
        """The picture in the decorrelated space, before colour and sigmoid."""
        z = torch.view_as_complex(parameters) * (self._scale.to(parameters.device) / 4)
        # s= keeps the last row or column of odd canvases.
        return torch.fft.irfft2(z, s=self.size)

    @cached_property
    def _scale(self) -> Float[Tensor, "h f"]:
        return self.scale()


@dataclass(frozen=True, eq=False)
class Phase:
    """A phase spectrum under a fixed magnitude (MACO: Fel et al. 2023, section 3). Parameters: (B, 3, H, W//2+1).

    Canvas = sigmoid(colour(standardise(irfft2(r * exp(i * phase))))). irfft2 keeps only the Hermitian part of the
    columns 0 and W/2, so the canvas has the magnitude r in the interior columns alone.

    Attributes:
        size: (H, W) in pixels.
        magnitude: r, (3, H, W//2+1).
        distribution: of the initial phases: `uniform` on (-pi, pi), or `normal` of deviation 1.
        phase_std: deviation to which each image's phases are standardised before use; None leaves them alone.
            Standardising is what makes the optimisation converge: as the raw phases spread, the same step turns them
            less and less, an annealed step size. But phases of a small deviation s add up coherently at pixel (0, 0),
            with a weight of E[cos] = exp(-s^2/2) for normal phases (0.61 at s = 1, 0.19 at pi/sqrt(3), 0.01 at 3): the
            four bright corners of the public implementations.
        offset: add a fixed U(-pi, pi) phase to every bin, drawn once a unit, after standardising. The weight above is
            then zero at every deviation, and the corners are like the rest of the canvas.
    """

    size: tuple[int, int]
    magnitude: Float[Tensor, "3 h f"]
    distribution: Literal["uniform", "normal"] = "uniform"
    phase_std: float | None = 1.0
    offset: bool = False

    def init(
        self, generators: Sequence[torch.Generator]
    ) -> tuple[Float[Tensor, "b 3 h f"], Float[Tensor, "b 3 h f"] | None]:
        """Initial phases in radians and, with `offset`, the phases that are added to them throughout."""
        phase = torch.stack([self._draw(self.distribution, g) for g in generators])
        fixed = torch.stack([self._draw("uniform", g) for g in generators]) if self.offset else None
        return phase, fixed

    def _draw(self, distribution: str, generator: torch.Generator) -> Float[Tensor, "3 h f"]:
        shape, device = self.magnitude.shape, generator.device
        if distribution == "normal":
            return torch.randn(*shape, generator=generator, device=device)
        return (2 * torch.rand(*shape, generator=generator, device=device) - 1) * math.pi

    def decode(
        self, parameters: Float[Tensor, "b 3 h f"], fixed: Float[Tensor, "b 3 h f"] | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """Phases to canvas; fixed: phases to add."""
        phase = parameters
        if self.phase_std is not None:
            phase = _standardise(phase)
            phase = phase if self.phase_std == 1 else phase * self.phase_std
        if fixed is not None:
            phase = phase + fixed
        return _to_rgb(_standardise(_PhaseToImage.apply(phase, self.magnitude.to(phase), self.size)), min_max=False)


def _standardise(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Zero mean and unit deviation over all values of each image."""
    return _Standardise.apply(x)


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
        image = torch.fft.irfft2(spectrum, s=size)
        ctx.save_for_backward(spectrum.conj_physical_())
        return image

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,), (conjugate,) = gradients, ctx.saved_tensors
        w = gradient.shape[-1]
        # Turning a phase by d adds i * spectrum * d.
        turned = torch.fft.rfft2(gradient, norm="forward").mul_(conjugate).imag.contiguous()
        # A bin stands for itself and for its mirror image, but for those of the columns that are their own.
        turned[..., 1 : (w + 1) // 2] *= 2
        return turned, None, None


def _mean(x: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
    return x.mean(tuple(range(1, x.ndim)), keepdim=True)
