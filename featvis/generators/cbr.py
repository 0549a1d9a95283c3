"""CBR: the pixels themselves are optimised under random transforms (the pixel-space baseline of Fel et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from featvis.canvas.chains import Chain, named_chain
from featvis.canvas.parametrizations import Pixel
from featvis.canvas.transforms import Transform
from featvis.generators.base import Generator


class CBR(Generator):
    """Pixel-space optimisation; the paper never expands the letters (Fel et al. 2023, section 4).

    Args:
        steps: optimisation steps.
        canvas: side of the canvas in pixels, or (height, width).
        init_std: deviation of the initial pixels: 1 as the paper's code ran, .01 as it meant to.
        chain: transforms, `xplique11` (what the MACO paper ran), `lucid5` (Lucid's) or `none`.
        min_max: stretch each canvas to [0, 1] after the sigmoid.
        kwargs: of `Generator`.
    """

    def __init__(
        self,
        steps: int = 256,
        canvas: int | tuple[int, int] = 512,
        init_std: float = 1.0,
        chain: Chain = "xplique11",
        min_max: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(steps=steps, canvas=canvas, **kwargs)
        self.chain = named_chain(chain, self.size)
        self.parametrization = Pixel(self.size, init_std, min_max)

    def transforms(self, step: int) -> Sequence[Transform]:
        """The same chain at every step."""
        return self.chain
