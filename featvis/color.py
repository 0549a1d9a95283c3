"""Colour spaces: RGB canvases (B, 3, H, W) in [0, 1] to and from the decorrelated space of the optimisation.

The matrix is Lucid's square root of the colour covariance of ImageNet over its largest column norm, transposed
(Olah et al. 2017, "Preconditioning and parameterization"), used as `x @ M` on the channel axis.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from featvis.constants import constant

RECORRELATE = (
    (0.56282854, 0.58447580, 0.58447580),
    (0.19482528, 0.0, -0.19482528),
    (0.04329450, -0.10823626, 0.06494176),
)


def recorrelate(x: Float[Tensor, "*b 3 h w"]) -> Float[Tensor, "*b 3 h w"]:
    """From the decorrelated space to (linear, unbounded) RGB: `x @ M` on the channel axis."""
    return _mix(x, constant(RECORRELATE, x.device, x.dtype))


def decorrelate(x: Float[Tensor, "*b 3 h w"]) -> Float[Tensor, "*b 3 h w"]:
    """From RGB to the decorrelated space, the inverse of `recorrelate`."""
    inverse = torch.linalg.inv(torch.tensor(RECORRELATE, dtype=torch.float64))
    return _mix(x, inverse.to(x.dtype).to(x.device))


def _mix(x: Float[Tensor, "*b 3 h w"], matrix: Float[Tensor, "3 3"]) -> Float[Tensor, "*b 3 h w"]:
    # Matrix on the left: the channels stay where they are, and nothing is permuted.
    return (matrix.T @ x.flatten(-2)).view(x.shape)
