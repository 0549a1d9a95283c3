"""AM: activation maximisation in the frequency domain, and its pixel twin (Zhu and Cangelosi 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from featvis.canvas.chains import Chain, named_chain
from featvis.canvas.parametrizations import Parametrization, Pixel, ScaledSpectrum
from featvis.canvas.transforms import Transform
from featvis.generators.base import Generator
from featvis.networks.units import Unit


class NormalisedSGD(torch.optim.SGD):
    """Gradient steps of one length: each unit's gradient is divided by its root mean square."""

    def step(self, closure: Any = None) -> Any:
        """One step. A unit whose gradient is zero stays where it is."""
        for group in self.param_groups:
            for parameter in group["params"]:
                rms = parameter.grad.flatten(1).square().mean(1).sqrt().clamp_min(1e-20)
                parameter.grad /= rms.view(-1, *[1] * (parameter.ndim - 1))
        return super().step(closure)


class AM(Generator):
    """Activation maximisation on a complex spectrum, or on pixels for comparison (Zhu and Cangelosi 2025, section 3).

    Args:
        steps: optimisation steps.
        canvas: side of the canvas in pixels, or (height, width).
        domain: `spectrum`, or `pixel` for the twin of the paper's comparison (section 3.2).
        decay: exponent of the spectrum's frequency scaling; 0: none, as the paper says.
        init_std: deviation of the initial spectrum's real and imaginary parts. The twin starts with the pixels of the
            same spectrum, unscaled, so that what differs between the two is the ascent alone.
        ascent: `gradient`, plain gradient ascent; `normalised`, the same with each unit's gradient divided by its root
            mean square, so that one learning rate suits layers whose activations differ by orders of magnitude; or
            `adam`.
        chain: transforms; `am3` are the paper's: jitter, scale, rotate.
        kwargs: of `Generator`.
    """

    def __init__(
        self,
        steps: int = 1000,
        canvas: int | tuple[int, int] = 224,
        domain: Literal["spectrum", "pixel"] = "spectrum",
        decay: float = 0.0,
        init_std: float = 0.01,
        ascent: Literal["gradient", "normalised", "adam"] = "gradient",
        chain: Chain = "am3",
        **kwargs: Any,
    ) -> None:
        super().__init__(steps=steps, canvas=canvas, **kwargs)
        self.ascent = ascent
        self.chain = named_chain(chain, self.size)
        self.domain = domain
        self.begin = ScaledSpectrum(self.size, decay if domain == "spectrum" else 0.0, init_std)
        self.parametrization = self.begin if domain == "spectrum" else Pixel(self.size, min_max=False)

    def in_channels(self, channels: int) -> Parametrization:
        """As many channels, also to begin with."""
        self.begin = replace(self.begin, channels=channels)
        return super().in_channels(channels)

    def start(self, units: list[Unit], streams: Sequence[torch.Generator]) -> tuple[Tensor, None]:
        """A random spectrum, or its pixels."""
        parameters, _ = self.begin.init(streams)
        return (parameters if self.domain == "spectrum" else self.begin.pixels(parameters)), None

    def transforms(self, step: int) -> Sequence[Transform]:
        """The same chain at every step."""
        return self.chain

    def optimizer(self, parameters: list[Tensor]) -> torch.optim.Optimizer:
        """Gradient ascent, or Adam."""
        if self.ascent == "adam":
            return super().optimizer(parameters)
        return {"gradient": torch.optim.SGD, "normalised": NormalisedSGD}[self.ascent](parameters, lr=self.lr)
