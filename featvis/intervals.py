"""Intervals of means and shares in closed form; no torch."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit


def expanded(n: int, level: float = 0.95) -> float:
    """The share of resamples of a mean of n that must lie inside for the interval to be as wide as a t interval.

    Percentiles of few are too narrow: the spread is divided by n instead of n - 1, and normal where t is meant
    (Hesterberg 2015, "What Teachers Should Know About the Bootstrap", section 5.4.2).

    Args:
        n: of what is resampled, at least two.
        level: of the t interval.

    Example:
        >>> from featvis.intervals import expanded
        >>> [round(expanded(n), 3) for n in (10, 50, 500)]
        [0.983, 0.958, 0.951]
    """
    edge = math.sqrt(n / (n - 1)) * float(stdtrit(n - 1, (1 + level) / 2))
    return min(1 - 1e-9, 2 * NormalDist().cdf(edge) - 1)


def share_interval(sums: ArrayLike, sizes: ArrayLike) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson 1927), which resampling has too narrow where it is small, or large.

    Where groups have several images, of as many independent ones as the share's spread over the groups says, and with
    the quantile of t in the place of the normal one (Franco, Little, Louis and Slud 2019, the effective sample size).

    Args:
        sums: images of each group that have what is counted, (groups,).
        sizes: images in each group, (groups,); with more than one in any, at least two groups.

    Example:
        >>> import numpy as np
        >>> from featvis.intervals import share_interval
        >>> one, five = np.ones(10), np.full(10, 5)
        >>> [round(end, 3) for end in share_interval(one, one)]
        [0.722, 1.0]
        >>> for hits in (five * (np.arange(10) < 5), [2, 3, 2, 3, 2, 3, 2, 3, 2, 3]):
        ...     print([round(end, 2) for end in share_interval(hits, five)])
        [0.2, 0.8]
        [0.35, 0.65]
    """
    hits, images = np.asarray(sums, np.float64), np.asarray(sizes, np.float64)
    n, share = float(images.sum()), float(hits.sum() / images.sum())
    squared = NormalDist().inv_cdf(0.975) ** 2
    if images.max() > 1:
        groups = len(images)
        variance = groups / (groups - 1) * float(np.square(hits - share * images).sum()) / n**2
        if variance > 0:
            n = min(n, share * (1 - share) / variance)
        squared = float(stdtrit(groups - 1, 0.975)) ** 2
    centre, half = share + squared / (2 * n), math.sqrt(squared * (share * (1 - share) + squared / (4 * n)) / n)
    scale = 1 + squared / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
