"""Direct ascent synthesis: a pyramid of pixel grids is optimised under jitter and noise (Fort 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from featvis.canvas.parametrizations import Pyramid
from featvis.canvas.transforms import Jitter, Noise, Transform
from featvis.generators.base import Generator


class DAS(Generator):
    """Direct ascent synthesis (Fort 2025, section 3): an image is the sum of grids of all resolutions.

    The paper ascends the agreement with a text in CLIP; here it is the unit's activation, as for every method.

    Args:
        steps: optimisation steps.
        canvas: side of the canvas in pixels, or (height, width).
        exponent: of the grids' weights: coarse grids move the canvas by more.
        jitter: pixels by which a view is shifted and smaller than the canvas.
        noise: half-width of the uniform noise on each view, in the (-1, 1) range.
        lr: learning rate of Adam.
        kwargs: of `Generator`.

    Example:
        >>> from featvis.generators import DAS
        >>> DAS(steps=1, canvas=64, jitter=8).visualize("ladybug").canvas.shape
        torch.Size([1, 3, 64, 64])
    """

    def __init__(
        self,
        steps: int = 256,
        canvas: int | tuple[int, int] = 256,
        exponent: float = 0.4,
        jitter: int = 32,
        noise: float = 0.4,
        lr: float = 0.015,
        **kwargs: Any,
    ) -> None:
        super().__init__(steps=steps, canvas=canvas, lr=lr, **kwargs)
        self.parametrization = Pyramid(self.size, exponent)
        self.chain: list[Transform] = [Jitter(jitter), Noise(uniform=noise)]

    def transforms(self, step: int) -> Sequence[Transform]:
        """A shift by whole pixels, and noise."""
        return self.chain
