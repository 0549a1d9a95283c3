"""Distances between two sets of features."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from featvis.errors import UserError
from featvis.metrics.functional.checks import CHUNK, _require_alike


def frechet_distance(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float64[Tensor, ""]:
    """Fréchet distance between the Gaussians that fit two sets of features (FID: Heusel et al. 2017, equation 6).

    |mean x - mean y|^2 + tr(Sx + Sy - 2 (Sx Sy)^(1/2)), unbiased covariances. With Sx = A'A and Sy = B'B, the
    eigenvalues of Sx Sy are the squared singular values of AB', so the last trace is the nuclear norm of a matrix no
    larger than either set or the features' width: exact, without a matrix square root, and real where the eigenvalues
    of Sx Sy only nearly are.

    Args:
        x: features of one set, at least two images.
        y: of the other.

    Returns:
        A scalar of at least 0, in squared units of the features.

    Raises:
        UserError: for a set of fewer than two images, other widths, or values that are not finite.

    Example:
        >>> import torch
        >>> from featvis.metrics import frechet_distance
        >>> x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
        >>> round(float(frechet_distance(x, x + 2)), 4)  # moved by 2 in each of 3 dimensions
        12.0
    """
    _require_alike(x, y, least=2)
    x, y = x.double(), y.double().to(x.device)
    a, b = covariance_roots(x, y)
    gap = (x - y.mean(0)).mean(0)
    cross: Tensor = torch.linalg.svdvals(a @ b.T).sum()
    return (gap.square().sum() + a.square().sum() + b.square().sum() - 2 * cross).clamp(min=0)


def covariance_roots(
    x: Float64[Tensor, "n d"], y: Float64[Tensor, "m d"]
) -> tuple[Float64[Tensor, "p d"], Float64[Tensor, "q d"]]:
    """Matrices A, B with A'A and B'B the unbiased covariances of two sets, small where both sets are large.

    Args:
        x: features of one set, at least two images.
        y: of the other.

    Returns:
        The centred rows over sqrt(n - 1), or their triangular QR factor where both sets outnumber the features.
    """
    a, b = ((z - z.mean(0)) / math.sqrt(len(z) - 1) for z in (x, y))
    if min(len(a), len(b)) > a.shape[1]:
        a, b = (torch.linalg.qr(z, mode="r").R for z in (a, b))
    return a, b


def kernel_distance(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    *,
    subset_size: int | None = None,
    subsets: int = 100,
    seed: int = 0,
    within: float | None = None,
) -> Float64[Tensor, ""]:
    """Unbiased squared MMD under the kernel (x'y / d + 1)^3 (KID: Bińkowski et al. 2018, section 4).

    The published figure averages this over random subsets, to bound the cost on large sets. The mean over *all*
    subsets of a size is the U-statistic of the whole sets, whatever the size, so the default computes that: the
    number the average estimates, with no seed and less noise. `subset_size` gives the published average; it may be at
    most half of the smaller set, or the subsets are hardly random.

    Args:
        x: features of one set, at least two images.
        y: of the other.
        subset_size: images drawn, without replacement, from each set; the whole sets by default.
        subsets: how many draws are averaged (only with `subset_size`).
        seed: of the draws (only with `subset_size`).
        within: `pairs_mean(y)` where it is known: of a large y it is what costs most.

    Returns:
        A scalar; slightly negative where the sets are alike, as an unbiased estimate of zero must be.

    Raises:
        UserError: for a set of fewer than two images, other widths, values that are not finite, or a subset size
            outside 2 to half of the smaller set.

    Example:
        >>> import torch
        >>> from featvis.metrics import kernel_distance
        >>> x, y = torch.tensor([[1.0], [1.0]]), torch.tensor([[0.0], [0.0]])
        >>> float(kernel_distance(x, y))  # (1 * 1 + 1)^3 + (0 + 1)^3 - 2 * (0 + 1)^3
        7.0
    """
    _require_alike(x, y, least=2)
    x, y = x.double(), y.double().to(x.device)
    if subset_size is None:
        return pairs_mean(x) + (pairs_mean(y) if within is None else within) - 2 * kernel_means(x, y).mean()
    most = min(len(x), len(y)) // 2
    if not 2 <= subset_size <= most:
        raise UserError(f"the subset size must lie between 2 and half of the smaller set ({most}), not {subset_size}")
    if subsets < 1:
        raise UserError(f"the kernel distance needs at least 1 subset, not {subsets}")
    generator = torch.Generator().manual_seed(seed)
    draws = []
    for _ in range(subsets):
        s, t = (z[torch.randperm(len(z), generator=generator)[:subset_size].to(z.device)] for z in (x, y))
        draws.append(kernel_distance(s, t))
    return torch.stack(draws).mean()


def polynomial_kernel(x: Float64[Tensor, "n d"], y: Float64[Tensor, "m d"]) -> Float64[Tensor, "n m"]:
    """The kernel of KID, (x'y / d + 1)^3, for every pair.

    Args:
        x: features of one set.
        y: of the other.

    Returns:
        The kernel matrix.
    """
    return (x @ y.T / x.shape[1] + 1) ** 3


def kernel_means(x: Float64[Tensor, "n d"], y: Float64[Tensor, "m d"]) -> Float64[Tensor, " n"]:
    """Mean kernel of each row of x with all of y; a large y is never paired all at once.

    Args:
        x: features of one set.
        y: of the other.

    Returns:
        One mean a row of x.
    """
    return torch.cat([polynomial_kernel(rows, y).mean(1) for rows in x.split(max(1, CHUNK // len(y)))])


def pairs_mean(x: Float64[Tensor, "n d"]) -> Float64[Tensor, ""]:
    """Mean kernel over the pairs of *different* rows: the unbiased half of the U-statistic.

    Args:
        x: features of one set, at least two images.

    Returns:
        A scalar.
    """
    n = len(x)
    own = (x.square().sum(1) / x.shape[1] + 1) ** 3
    return (kernel_means(x, x).sum() * n - own.sum()) / (n * (n - 1))
