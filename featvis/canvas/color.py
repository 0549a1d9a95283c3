"""Colour spaces: RGB canvases (B, 3, H, W) in [0, 1] to and from the decorrelated space of the optimisation.

The matrix, `featvis.canvas.matrix.RECORRELATE`, is used as `x @ M` on the channel axis.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from featvis.canvas.constants import constant
from featvis.canvas.matrix import RECORRELATE as RECORRELATE


def recorrelate(x: Float[Tensor, "*b 3 h w"]) -> Float[Tensor, "*b 3 h w"]:
    """From the decorrelated space to (linear, unbounded) RGB: `x @ M` on the channel axis.

    Example:
        >>> import torch
        >>> from featvis.canvas.color import decorrelate, recorrelate
        >>> rgb = torch.rand(2, 3, 4, 5)
        >>> bool(torch.allclose(recorrelate(decorrelate(rgb)), rgb, atol=1e-5))
        True
    """
    return _mix(x, constant(RECORRELATE, x.device, x.dtype))


def decorrelate(x: Float[Tensor, "*b 3 h w"]) -> Float[Tensor, "*b 3 h w"]:
    """From RGB to the decorrelated space, the inverse of `recorrelate`.

    Example:
        >>> import torch
        >>> from featvis.canvas.color import decorrelate
        >>> grey = torch.full((3, 1, 1), 0.5)
        >>> first, second, third = decorrelate(grey).flatten().tolist()
        >>> first > 0.8, abs(second) < 0.1  # grey lies along the first axis, nearly
        (True, True)
    """
    inverse = torch.linalg.inv(torch.tensor(RECORRELATE, dtype=torch.float64))
    return _mix(x, inverse.to(x.dtype).to(x.device))


def _mix(x: Float[Tensor, "*b 3 h w"], matrix: Float[Tensor, "3 3"]) -> Float[Tensor, "*b 3 h w"]:
    # Matrix on the left: the channels stay where they are, and nothing is permuted.
    return (matrix.T @ x.flatten(-2)).view(x.shape)


def to_bytes(canvas: Float[Tensor, "3 h w"]) -> np.ndarray:
    """A canvas in [0, 1] as (H, W, 3), uint8, rounded to the nearest.

    Example:
        >>> import torch
        >>> from featvis.canvas.color import to_bytes
        >>> to_bytes(torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1)).tolist()
        [[[0, 128, 255]]]
    """
    return (canvas.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def transparency(alpha: Float[Tensor, "h w"]) -> tuple[np.ndarray, float]:
    """The transparency map as (H, W), uint8, and the raw value that 255 stands for.

    The map is scaled by its 95th percentile: a few pixels have many times the median, and scaled by the largest the
    picture would vanish. Values above it are opaque. Where fewer than five in a hundred pixels have any, as with a
    neuron of an early layer, it is the 95th percentile of those; where none has, all is opaque and the raw value 0.

    Example:
        >>> import torch
        >>> from featvis.canvas.color import transparency
        >>> alpha, scale = transparency(torch.tensor([[0.0, 2.0], [4.0, 4.0]]))
        >>> alpha.tolist(), scale
        ([[0, 128], [255, 255]], 4.0)
    """
    values = alpha.flatten().float()
    scale = _high(values)
    if not scale > 0 and len(values := values[values > 0]):
        scale = _high(values)
    if not scale > 0:
        return np.full(alpha.shape, 255, np.uint8), 0.0
    return ((alpha / scale).clamp(0, 1) * 255).round().byte().numpy(), scale


def _high(values: Tensor) -> float:
    """The 95th percentile."""
    # Older versions of PyTorch take no more values; NumPy's quantile differs in the last bit, and so would images.
    return float(torch.quantile(values, 0.95) if len(values) <= 2**24 else np.quantile(values.numpy(), 0.95))
