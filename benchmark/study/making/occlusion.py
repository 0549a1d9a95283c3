"""Where a square that hides a part of an image leaves a unit most and least excited.

Zimmermann et al. 2021 (section 3): the two queries of a trial are one image under an occluder at two places. Images are
bytes (3, h, w), so that what is measured is, value by value, what people are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from featvis.errors import UserError

REFERENCE_SIDE = 224
"""Strides are given for images of this side."""


@dataclass(frozen=True)
class Occlusion:
    """What the occluder does to one image, for one unit.

    Attributes:
        most: (row, column) of the corner at which the unit is excited most; of several the first, row by row.
        least: the same where it is excited least.
        whole: the unit's activation for the whole image.
        highest: at `most`.
        lowest: at `least`.
    """

    most: tuple[int, int]
    least: tuple[int, int]
    whole: float
    highest: float
    lowest: float

    @property
    def gap(self) -> float:
        """How much depends on the place."""
        return self.highest - self.lowest

    def apart(self, side: int) -> bool:
        """Whether the two squares do not overlap."""
        return max(abs(a - b) for a, b in zip(self.most, self.least, strict=True)) >= side


def geometry(size: Sequence[int], share: float, stride: int) -> tuple[int, int]:
    """The occluder's side and its stride in pixels.

    Args:
        size: (h, w) of the image.
        share: of the shorter side.
        stride: for images of 224.

    Example:
        >>> from benchmark.study.making.occlusion import geometry
        >>> geometry((224, 224), 0.4, 2), geometry((112, 112), 0.5, 4)
        ((90, 2), (56, 2))
    """
    shorter = min(size)
    return max(1, round(share * shorter)), max(1, round(stride * shorter / REFERENCE_SIDE))


def positions(size: Sequence[int], side: int, stride: int) -> Int[Tensor, "n 2"]:
    """The corners (row, column) of every place of the occluder that lies within the image, row by row.

    Example:
        >>> from benchmark.study.making.occlusion import positions
        >>> len(positions((224, 224), 90, 2)) == 68 * 68
        True
        >>> positions((4, 5), 3, 1).tolist()
        [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    """
    if side > min(size):
        raise UserError(f"an occluder of {side} pixels does not fit into an image of {size[0]} x {size[1]}")
    rows, columns = (torch.arange(0, length - side + 1, stride) for length in size)
    return torch.cartesian_prod(rows, columns)


def occlude(image: UInt8[Tensor, "3 h w"], corner: Sequence[int], side: int) -> UInt8[Tensor, "3 h w"]:
    """The image with a square in the mean colour of what it hides, rounded to a whole level.

    Example:
        >>> import torch
        >>> from benchmark.study.making.occlusion import occlude
        >>> image = torch.arange(9, dtype=torch.uint8).reshape(1, 3, 3).repeat(3, 1, 1)
        >>> occlude(image, (0, 1), 2)[0].tolist()
        [[0, 3, 3], [3, 3, 3], [6, 7, 8]]
    """
    row, column = (int(c) for c in corner)
    made = image.clone()
    patch = image[:, row : row + side, column : column + side]
    mean = patch.double().mean((1, 2)).round().to(torch.uint8)
    made[:, row : row + side, column : column + side] = mean[:, None, None]
    return made


def occlusions(
    measure: Callable[[Tensor], Float[Tensor, "n u"]],
    image: UInt8[Tensor, "3 h w"],
    side: int,
    stride: int,
    batch_size: int = 64,
) -> list[Occlusion]:
    """What the occluder does to an image, for every unit that is measured.

    Args:
        measure: images (n, 3, h, w), RGB in [0, 1], to the activations (n, u) of u units.
        image: see the module.
        side: of the occluder, in pixels.
        stride: between two of its places.
        batch_size: images at once.

    Example:
        >>> import torch
        >>> from benchmark.study.making.occlusion import occlusions
        >>> image = torch.zeros(3, 6, 6, dtype=torch.uint8)
        >>> image[:, 4, 4] = 255
        >>> [found] = occlusions(lambda x: x.amax((1, 2, 3))[:, None], image, side=3, stride=3)
        >>> found.most, found.least, found.whole
        ((0, 0), (3, 3), 1.0)
    """
    corners = positions(image.shape[-2:], side, stride)
    parts = []
    for part in corners.split(batch_size):
        views = torch.stack([occlude(image, corner, side) for corner in part.tolist()])
        parts.append(measure(views.float() / 255).detach().double().cpu())
    found = torch.cat(parts)
    whole = measure(image[None].float() / 255).detach().double().cpu()[0]
    return [_of_unit(corners, found[:, u], float(whole[u])) for u in range(found.shape[1])]


def _of_unit(corners: Int[Tensor, "n 2"], values: Float[Tensor, " n"], whole: float) -> Occlusion:
    # torch.argmax may give any of several places; the first is the first in NumPy alone.
    array = values.numpy()
    high, low = int(array.argmax()), int(array.argmin())
    most, least = ((int(corners[i, 0]), int(corners[i, 1])) for i in (high, low))
    return Occlusion(most, least, whole, float(array[high]), float(array[low]))
