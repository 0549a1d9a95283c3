"""Canvases of other channels than RGB as pictures: (C, H, W) in, one picture of C grey tiles out, and back.

One channel is a grey picture of its own size; two or more stand side by side in a grid, row by row.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from featvis.canvas.color import to_bytes


def grid(channels: int) -> tuple[int, int]:
    """Rows and columns of the tiles.

    Example:
        >>> from featvis.canvas.montage import grid
        >>> grid(1), grid(3), grid(5), grid(13)
        ((1, 1), (1, 1), (2, 3), (4, 4))
    """
    if channels == 3:
        return 1, 1
    columns = math.ceil(math.sqrt(channels))
    return math.ceil(channels / columns), columns


def to_picture(canvas: Float[Tensor, "c h w"]) -> np.ndarray:
    """A canvas in [0, 1] as (H', W', 3), uint8: RGB as it is, any other number of channels as grey tiles.

    Example:
        >>> import torch
        >>> from featvis.canvas.montage import from_picture, to_picture
        >>> canvas = torch.rand(5, 4, 6)
        >>> picture = to_picture(canvas)
        >>> picture.shape, bool((from_picture(picture, 5) == (canvas * 255).round() / 255).all())
        ((8, 18, 3), True)
    """
    if len(canvas) == 3:
        return to_bytes(canvas)
    return np.repeat(tiled(canvas)[..., None], 3, axis=2)


def tiled(canvas: Float[Tensor, "c h w"]) -> np.ndarray:
    """(C, H, W) in [0, 1] as one grey picture (rows * H, columns * W), uint8; tiles that are left over are black."""
    rows, columns = grid(len(canvas))
    c, h, w = canvas.shape
    whole = torch.zeros(rows * columns, h, w)
    whole[:c] = canvas
    levels = (whole.clamp(0, 1) * 255).round().byte().numpy()
    return levels.reshape(rows, columns, h, w).transpose(0, 2, 1, 3).reshape(rows * h, columns * w)


def repeated(alpha: np.ndarray, channels: int) -> np.ndarray:
    """A transparency (H, W), uint8, for each tile; tiles that are left over are transparent."""
    rows, columns = grid(channels)
    if rows * columns == 1:
        return alpha
    whole = np.tile(alpha, (rows, columns)).reshape(rows, alpha.shape[0], columns, alpha.shape[1])
    for left in range(channels, rows * columns):
        whole[left // columns, :, left % columns] = 0
    return whole.reshape(rows * alpha.shape[0], columns * alpha.shape[1])


def from_picture(picture: np.ndarray, channels: int) -> Float[Tensor, "c h w"]:
    """The canvas in [0, 1] that `to_picture` made a picture (H', W', 3 or 4), uint8, of."""
    if channels == 3:
        return torch.from_numpy(picture[..., :3].transpose(2, 0, 1) / 255).float()
    rows, columns = grid(channels)
    h, w = picture.shape[0] // rows, picture.shape[1] // columns
    tiles = picture[..., 0].reshape(rows, h, columns, w).transpose(0, 2, 1, 3).reshape(rows * columns, h, w)
    return torch.from_numpy(tiles[:channels] / 255).float()
