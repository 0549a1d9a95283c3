"""The named chains of transforms, as the papers and their codes have them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from featvis.canvas.transforms import Blur, Crop, Flip, Jitter, Noise, Pad, Rotate, Scale, Transform, draw


def lucid5() -> list[Transform]:
    """The five transforms of Lucid (Olah et al. 2017, "Transformation robustness").

    Example:
        >>> from featvis.canvas.chains import lucid5
        >>> [type(step).__name__ for step in lucid5()]
        ['Pad', 'Jitter', 'Scale', 'Rotate', 'Jitter']
    """
    return [
        Pad(12, 0.5),
        Jitter(8),
        Scale(tuple(round(0.90 + 0.02 * i, 2) for i in range(11))),
        Rotate((*(float(d) for d in range(-10, 11)), 0.0, 0.0, 0.0, 0.0, 0.0)),
        Jitter(4),
    ]


def xplique11(size: tuple[int, int]) -> list[Transform]:
    """The eleven transforms of Fourier and CBR in the MACO paper (Fel et al. 2023, appendix), in units of H/16.

    Example:
        >>> from featvis.canvas.chains import xplique11
        >>> xplique11((512, 512))[:2]
        [Pad(pixels=128, value=0.0, draws=0), Jitter(pixels=64, draws=2)]
    """
    u = max(1, min(size) // 16)
    return [
        Pad(4 * u, 0.0),
        Jitter(2 * u),
        Jitter(2 * u),
        Jitter(4 * u),
        Jitter(4 * u),
        Jitter(4 * u),
        Scale((0.92, 0.96), continuous=True),
        Blur(1.0, 1.1),
        Jitter(u),
        Jitter(u),
        Flip(),
    ]


def am3(size: tuple[int, int]) -> list[Transform]:
    """Jitter, scale, rotate (Zhu and Cangelosi 2025, section 3); the amounts, which it does not give, are Lucid's.

    Example:
        >>> from featvis.canvas.chains import am3
        >>> am3((256, 256))[0]
        Jitter(pixels=16, draws=2)
    """
    _, _, scale, rotate, _ = lucid5()
    return [Jitter(max(1, min(size) // 16)), scale, rotate]


@dataclass(frozen=True)
class Crops:
    """MACO's views (Fel et al. 2023, section 3): square crops, whose mean side changes over the steps, and noise.

    Attributes:
        side: mean side at the first step and at the last, as fractions of the canvas's short side.
        spread: deviation of that side (`normal`), or half its range (`uniform`).
        distribution: of the side, clipped to [.05, 1].
        centre: `inside`: uniform among the places inside the canvas; `normal`: N(.5, .15).
        noise: on each view.

    Example:
        >>> from featvis.canvas.chains import Crops
        >>> [round(Crops((1.0, 0.5)).at(step, 3)[0].side, 2) for step in range(3)]
        [1.0, 0.75, 0.5]
    """

    side: tuple[float, float]
    spread: float = 0.1
    distribution: Literal["normal", "uniform"] = "normal"
    centre: Literal["inside", "normal"] = "inside"
    noise: Noise = field(default=Noise(uniform=0.1))

    def at(self, step: int, steps: int) -> list[Transform]:
        """The transforms of a step, of the `steps` that there are."""
        start, end = self.side
        side = start + (end - start) * step / max(1, steps - 1)
        return [Crop(side, self.spread, self.distribution, self.centre), self.noise]


Chain = Literal["xplique11", "lucid5", "am3", "none"]
"""The named chains of transforms."""


def named_chain(name: Chain, size: tuple[int, int]) -> list[Transform]:
    """The transforms of a name, for a canvas of `size`; `none` shows the network the whole canvas as it is.

    Example:
        >>> from featvis.canvas.chains import named_chain
        >>> len(named_chain("xplique11", (512, 512))), named_chain("none", (512, 512))
        (11, [])
    """
    chains: dict[str, Callable[[], list[Transform]]] = {
        "xplique11": lambda: xplique11(size),
        "lucid5": lucid5,
        "am3": lambda: am3(size),
        "none": list,
    }
    return chains[name]()


def check(chain: Sequence[Transform], size: tuple[int, int]) -> None:
    """Raise a ValueError if the chain's jitters leave nothing of a canvas of `size`.

    Example:
        >>> from featvis.canvas.chains import check
        >>> from featvis.canvas.transforms import Jitter
        >>> check([Jitter(16)], (64, 64))
        >>> check([Jitter(64)], (64, 64))
        Traceback (most recent call last):
        ValueError: the transforms leave nothing of a canvas of 64 x 64 pixels
    """
    generator = torch.Generator().manual_seed(0)
    left = float(draw(chain, size, 1, [generator]).size.min())
    if left < 1:
        raise ValueError(f"the transforms leave nothing of a canvas of {size[0]} x {size[1]} pixels")
