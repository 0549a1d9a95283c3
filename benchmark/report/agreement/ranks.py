"""Rank correlations: scores in, NaN where there is none; correlations in -1..1 out, NaN where they are not defined.

Spearman's correlation is Pearson's of the ranks; equal scores share the mean of their ranks (Kendall 1970, chapter 3).
Ranks are doubled and taken about their mean, so that they are whole numbers, which no processor rounds otherwise.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
FEWEST = 3
"""Two scores are always in the same or the opposite order."""
AT_ONCE = 2**22  # numbers held by the largest array below


def spearman(x: Array, y: Array) -> float:
    """Spearman's rank correlation of two lists of scores, over the places where both have one.

    Args:
        x: (n,), NaN where there is none.
        y: the same of another column.

    Returns:
        From -1 to 1; NaN for fewer than three places, or where one of the two is the same everywhere.

    Example:
        >>> import numpy as np
        >>> from benchmark.report.agreement.ranks import spearman
        >>> spearman(np.array([1.0, 2.0, 3.0, np.nan]), np.array([10.0, 30.0, 20.0, 0.0]))
        0.5
    """
    return float(correlations(np.stack([x, y]), np.ones((1, len(x))))[0, 0, 1])


def correlations(scores: Array, counts: Array) -> Array:
    """Spearman's correlation between all columns, in each of several resamples.

    Args:
        scores: (columns, n), NaN where there is none.
        counts: (resamples, n), how often each place was drawn.

    Returns:
        (resamples, columns, columns), each over the places where both columns have a score; NaN as in `spearman`.
    """
    there = ~np.isnan(scores)
    found = np.full((len(counts), len(scores), len(scores)), np.nan)
    # Most columns lack the same places, and are then ranked once.
    pairs: dict[bytes, list[tuple[int, int]]] = {}
    for a, b in itertools.combinations_with_replacement(range(len(scores)), 2):
        pairs.setdefault((there[a] & there[b]).tobytes(), []).append((a, b))
    for mask, group in pairs.items():
        at = np.frombuffer(mask, bool)
        if at.sum() < FEWEST:
            continue
        first, second = np.array(group).T
        used = np.unique([first, second])
        rows = max(1, AT_ONCE // (len(used) * int(at.sum())))
        for start in range(0, len(counts), rows):
            part = slice(start, start + rows)
            rho = _correlations(scores[used][:, at], counts[part, at])
            rho = rho[:, np.searchsorted(used, first), np.searchsorted(used, second)]
            found[part, first, second] = found[part, second, first] = rho
    return found


def _correlations(scores: Array, counts: Array) -> Array:
    ranks = centred_ranks(scores, counts)
    products = (ranks * counts[:, None]) @ ranks.swapaxes(1, 2)
    spread = np.diagonal(products, axis1=1, axis2=2)
    scale = np.sqrt(spread[:, :, None] * spread[:, None, :])
    return np.divide(products, scale, out=np.full_like(products, np.nan), where=scale > 0)


def centred_ranks(scores: Array, counts: Array) -> Array:
    """Twice the rank of each score among those that were drawn, less twice the mean of all ranks.

    How many are below, less how many are above: for n scores without ties 1 - n, 3 - n, ..., n - 1.

    Args:
        scores: (columns, n), none of them NaN.
        counts: (resamples, n), how often each was drawn; one that was not has the rank of where it would stand.

    Returns:
        (resamples, columns, n), whole numbers.
    """
    # Whole numbers this small are exact in float32. One product for all columns: many small ones cost threads more
    # than they compute.
    above = np.sign(scores[:, :, None] - scores[:, None, :]).astype(np.float32)
    ranks = counts.astype(np.float32) @ above.reshape(-1, scores.shape[1]).T
    return ranks.astype(np.float64).reshape(len(counts), *scores.shape)


def resamples(n: int, draws: int, seed: int = 0) -> Array:
    """How often each of n things is drawn in a bootstrap (Efron and Tibshirani 1993, chapter 6): (draws, n)."""
    picked = np.random.default_rng(seed).integers(n, size=(draws, n)) + n * np.arange(draws)[:, None]
    return np.bincount(picked.ravel(), minlength=draws * n).reshape(draws, n).astype(np.float64)


def intervals(draws: Array) -> tuple[Array, Array]:
    """The middle 95 % of the draws of several statistics, those without a value left out; NaN where none has one.

    Args:
        draws: (draws, statistics).

    Returns:
        (statistics,) each: the lower and the upper end.
    """
    ends = np.full((2, draws.shape[1]), np.nan)
    there = ~np.isnan(draws)
    whole = there.all(axis=0)
    if whole.any():
        ends[:, whole] = np.quantile(draws[:, whole], [0.025, 0.975], axis=0)
    for i in np.flatnonzero(~whole & there.any(axis=0)):
        ends[:, i] = np.quantile(draws[there[:, i], i], [0.025, 0.975])
    return ends[0], ends[1]


def mean(parts: Array) -> Array:
    """The mean over the first dimension, NaN left out; NaN where there is nothing else."""
    there = ~np.isnan(parts)
    counted = there.sum(axis=0)
    total = np.where(there, parts, 0.0).sum(axis=0)
    return np.divide(total, counted, out=np.full(total.shape, np.nan), where=counted > 0)


def places(scores: Array) -> Array:
    """The place of each competitor, 1 the best; equal scores share the mean of their places.

    Args:
        scores: (..., competitors), higher is better, none NaN.
    """
    better = (scores[..., None, :] > scores[..., :, None]).sum(axis=-1)
    equal = (scores[..., None, :] == scores[..., :, None]).sum(axis=-1)
    return better + (equal + 1) / 2
