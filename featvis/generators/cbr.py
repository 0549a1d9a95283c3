"""CBR: the pixels themselves are optimised under random transforms (the pixel-space baseline of Fel et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from featvis.canvas.chains import Chain, Crops, named_chain
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
        init_std: float = 1.0,
        chain: Chain = "xplique11",
        min_max: bool = True,
        crop_side: tuple[float, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(steps=steps, canvas=canvas, **kwargs)
        self.chain = named_chain(chain, self.size)
        self.crops = None if crop_side is None else Crops(crop_side)
        self.parametrization = Pixel(self.size, init_std, min_max)

    def transforms(self, step: int) -> Sequence[Transform]:
        """The same chain at every step; or crops."""
        return self.chain if self.crops is None else self.crops.at(step, self.steps)
