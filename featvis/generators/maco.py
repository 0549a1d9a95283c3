"""MACO: the phase of the spectrum is optimised, its magnitude stays that of natural images (Fel et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from featvis.canvas.chains import Chain, Crops, named_chain
from featvis.canvas.parametrizations import Phase
from featvis.canvas.transforms import Noise, Transform
from featvis.data.reference import EMBEDDED, natural_spectrum, spectrum_hash
from featvis.engine import NAdam
from featvis.generators.base import Generator


class MACO(Generator):
    """Magnitude-constrained optimisation (Fel et al. 2023, section 3 and algorithm 1).

    Args:
        steps: optimisation steps.
        canvas: side of the canvas in pixels, or (height, width).
        views: crops a step. The paper does not say how many; its public code has 32.
        crop_side: mean side of the crops as a fraction of the canvas's short side, from the first step to the last
            (it changes linearly).
        crop_spread: deviation of that side (`normal`), or half its range (`uniform`).
        crop_distribution: of the side, clipped to [.05, 1].
        crop_centre: `inside`: uniform among the places inside the canvas; `normal`: N(.5, .15).
        noise_uniform: half-width of the uniform noise on each view, in the (-1, 1) range.
        noise_normal: deviation of the normal noise on each view, in the (-1, 1) range.
        phase_distribution: of the initial phases.
        phase_std: deviation to which an image's phases are standardised each step; null leaves them alone.
        phase_offset: add a fixed uniform phase to every bin; see `featvis.canvas.parametrizations.Phase`.
        spectrum: folder of a reference (`featvis reference --spectrum`) whose magnitude is kept, or of your own images,
            of as many channels as the network takes (`featvis.data.channels`); null: the embedded.
        lr: learning rate of NAdam.
        chain: views of another method, `lucid5`, `xplique11`, `am3` or `none`, in place of crops and noise (for the
            suite `crossed_views`, which asks what a method owes to them); null: crops and noise.
        kwargs: of `Generator`.
    """

    sees = "natural spectrum"
    unset = ("chain",)

    def __init__(
        self,
        steps: int = 256,
        canvas: int | tuple[int, int] = 512,
        views: int = 32,
        crop_side: tuple[float, float] = (0.25, 0.25),
        crop_spread: float = 0.1,
        crop_distribution: Literal["normal", "uniform"] = "normal",
        crop_centre: Literal["inside", "normal"] = "inside",
        noise_uniform: float = 0.1,
        noise_normal: float = 0.0,
        phase_distribution: Literal["uniform", "normal"] = "uniform",
        phase_std: float | None = 1.0,
        phase_offset: bool = False,
        spectrum: str | None = None,
        lr: float = 1.0,
        chain: Chain | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(steps=steps, canvas=canvas, views=views, lr=lr, **kwargs)
        noise = Noise(normal=noise_normal, uniform=noise_uniform)
        self.crops = Crops(crop_side, crop_spread, crop_distribution, crop_centre, noise)
        self.chain = None if chain is None else named_chain(chain, self.size)
        self.reference = EMBEDDED if spectrum is None else Path(spectrum)
        self.phase = partial(Phase, distribution=phase_distribution, phase_std=phase_std, offset=phase_offset)
        if (self.reference / "spectrum.safetensors").is_file() or not self.reference.is_dir():
            self.parametrization = self.in_channels(3)
        else:
            # Images: how many channels they should have is known with the network.
            self._channels = 0

    def in_channels(self, channels: int) -> Phase:
        """Under a spectrum of as many channels: RGB's, luminance for any other number, or that of `spectrum`."""
        return self.phase(self.size, natural_spectrum(self.size, self.reference, channels))

    def facts(self) -> dict[str, Any]:
        """The natural spectrum by its content: where it lies changes no image."""
        return {"spectrum": spectrum_hash(self.reference, self._channels)}

    def transforms(self, step: int) -> Sequence[Transform]:
        """A square crop, resized to the network's input, and noise; or the chain."""
        return self.crops.at(step, self.steps) if self.chain is None else self.chain

    def optimizer(self, parameters: list[Tensor]) -> torch.optim.Optimizer:
        """NAdam, as in the public implementations."""
        return NAdam(parameters, lr=self.lr, maximize=True)
