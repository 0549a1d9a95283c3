"""Features on the unit sphere: their directions alone, so that weak activations are not near to everything."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from featvis.errors import UserError
from featvis.metrics.functional.checks import CHUNK, _require_alike
from featvis.metrics.functional.distance import kernel_distance


def unit_length(x: Float[Tensor, "n d"]) -> Float64[Tensor, "n d"]:
    """Features scaled to length 1.

    Args:
        x: features, one image a row.

    Returns:
        The same directions.

    Raises:
        UserError: for features of length zero, which have no direction.

    Example:
        >>> import torch
        >>> from featvis.metrics import unit_length
        >>> unit_length(torch.tensor([[3.0, 4.0]])).tolist()
        [[0.6, 0.8]]
    """
    x = x.double()
    length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    if missing := int((length == 0).sum()):
        raise UserError(f"the features of {missing} of {len(x)} images have length zero, and so no direction")
    return x / length


def sphere_distance(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], within: float | None = None
) -> Float64[Tensor, ""]:
    """Unbiased squared MMD under the kernel (cos + 1)^3 of the angle between features.

    On the sphere of radius sqrt(d) the kernel of KID (Bińkowski et al. 2018, section 4), (x'y / d + 1)^3, is this one.
    What it compares is where the sets point to: how strongly a network responds, in which photographs and optimised
    pictures differ most, does not count.

    Args:
        x: features of one set, at least two images.
        y: of the other.
        within: see `kernel_distance`, of `y` on that sphere.

    Returns:
        A scalar; slightly negative where the sets are alike, as an unbiased estimate of zero must be.

    Raises:
        UserError: for a set of fewer than two images, other widths, values that are not finite, or features of length
            zero.

    Example:
        >>> import torch
        >>> from featvis.metrics import sphere_distance
        >>> x, y = torch.tensor([[1.0, 0.0], [5.0, 0.0]]), torch.tensor([[0.0, 2.0], [0.0, 3.0]])
        >>> round(float(sphere_distance(x, y)), 6)  # (1 + 1)^3 + (1 + 1)^3 - 2 * (0 + 1)^3
        14.0
    """
    _require_alike(x, y, least=2)
    radius = math.sqrt(x.shape[1])
    return kernel_distance(radius * unit_length(x), radius * unit_length(y), within=within)


def sphere_precision(
    features: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], k: int = 3
) -> Float64[Tensor, " n"]:
    """Whether each image lies where real ones do (Kynkäänniemi et al. 2019, equations 1 and 2), on the unit sphere.

    Where real images are is the union of balls around each of them, as large as to reach its k-th nearest neighbour
    among the others. The mean over the images is the precision.

    Args:
        features: of the images.
        reference: of real images, more than k.
        k: which neighbour.

    Returns:
        1 where an image lies in a ball, 0 where not.

    Raises:
        UserError: for k below 1 or beyond the reference, other widths, values that are not finite, or features of
            length zero.

    Example:
        >>> import torch
        >>> from featvis.metrics import sphere_precision
        >>> reference = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2]])
        >>> sphere_precision(torch.tensor([[9.0, 1.5], [0.0, 1.0]]), reference, k=1).tolist()
        [1.0, 0.0]
    """
    if not 1 <= k < len(reference):
        raise UserError(f"precision needs k between 1 and one less than the {len(reference)} real images, not k={k}")
    _require_alike(features, reference)
    x, y = unit_length(features), unit_length(reference).to(features.device)
    inside = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for rows in torch.arange(len(y), device=y.device).split(max(1, CHUNK // (len(x) + len(y)))):
        among = y[rows] @ y.T
        among[torch.arange(len(rows)), rows] = -torch.inf
        # The larger the cosine, the nearer.
        reach = among.topk(k, dim=1).values[:, -1]
        inside |= (x @ y[rows].T >= reach).any(1)
    return inside.double()
