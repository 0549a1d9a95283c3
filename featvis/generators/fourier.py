"""Fourier: a complex spectrum, scaled by frequency, is optimised under random transforms (Olah et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from featvis.canvas.chains import Chain, named_chain
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
        kwargs: of `Generator`.
    """

    def __init__(
        self,
        steps: int = 256,
        canvas: int | tuple[int, int] = 512,
        decay: float = 0.85,
        chain: Chain = "xplique11",
        min_max: bool = True,
        init_std: float = 0.01,
        **kwargs: Any,
    ) -> None:
        super().__init__(steps=steps, canvas=canvas, **kwargs)
        self.chain = named_chain(chain, self.size)
        self.parametrization = ScaledSpectrum(self.size, decay, init_std, min_max)

    def transforms(self, step: int) -> Sequence[Transform]:
        """The same chain at every step."""
        return self.chain
