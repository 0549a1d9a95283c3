"""Fourier: a complex spectrum, scaled by frequency, is optimised under random transforms (Olah et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from featvis.canvas.chains import Chain, Crops, named_chain
from featvis.canvas.parametrizations import ScaledSpectrum
from featvis.canvas.transforms import Transform
from featvis.generators.base import Generator


class Fourier(Generator):
    """Feature visualization in the Fourier basis (Olah et al. 2017; as compared with in Fel et al. 2023, section 4).

    Args:
        steps: optimisation steps.
        canvas: side of the canvas in pixels, or (height, width).
        decay: exponent of the frequency scaling.
        chain: transforms, `xplique11` (what the MACO paper ran), `lucid5` (Lucid's) or `none`.
        min_max: stretch each canvas to [0, 1] after the sigmoid.
        init_std: deviation of the initial spectrum.
        crop_side: MACO's views in place of the chain: crops of these mean sides, from the first step to the last, as
            fractions of the canvas's short side, with its spread and noise (`featvis.canvas.chains.Crops`); null: the
            chain.
        kwargs: of `Generator`.
    """

    unset = ("crop_side",)

    def __init__(
        self,
        steps: int = 256,
        canvas: int | tuple[int, int] = 512,
        decay: float = 0.85,
        chain: Chain = "xplique11",
        min_max: bool = True,
        init_std: float = 0.01,
        crop_side: tuple[float, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(steps=steps, canvas=canvas, **kwargs)
        self.chain = named_chain(chain, self.size)
        self.crops = None if crop_side is None else Crops(crop_side)
        self.parametrization = ScaledSpectrum(self.size, decay, init_std, min_max)

    def transforms(self, step: int) -> Sequence[Transform]:
        """The same chain at every step; or crops."""
        return self.chain if self.crops is None else self.crops.at(step, self.steps)
