"""Percentile intervals by resampling the images, the reference held fixed.

A resample is a row of counts: how often each of the `n` images was drawn. A statistic maps counts `(r, n)` to values
`(r,)`, so a thousand resamples of a mean are one matrix product, and the distances between sets reuse matrices
computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor

from featvis.errors import UserError
from featvis.metrics.functional.checks import CHUNK
from featvis.metrics.functional.distance import covariance_roots, kernel_means, pairs_mean, polynomial_kernel

Statistic = Callable[[Tensor], Tensor]


def bootstrap(
    statistic: Statistic,
    n: int,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    centre: float | None = None,
) -> tuple[float, float]:
    """Bootstrap interval of a statistic of n images (Efron and Tibshirani 1993, chapter 13).

    The percentile interval suits means, of few at another level (`featvis.intervals.expanded`). A distance between sets
    is different: images drawn twice shrink the spread of a resample, and every resample adds noise of its own, so its
    values lie above the one of the data as a whole and the plain interval may not even hold it. `centre` shifts the
    draws so that their mean falls on the value: the interval then tells the noise of the value, not the bias of
    resampling.

    Args:
        statistic: counts `(r, n)`, float64, rows summing to n, to values `(r,)`; a NaN is a draw without a value.
        n: number of images.
        resamples: how many draws.
        seed: of the draws: the same interval every time.
        level: share of the draws inside.
        centre: the statistic's value on the data, for the centred interval; the plain one by default.

    Returns:
        The lower and the upper end.

    Raises:
        UserError: for fewer than one image or resample, or a level outside (0, 1).

    Example:
        >>> import torch
        >>> from featvis.metrics import bootstrap
        >>> from featvis.metrics.resampling import mean_statistic
        >>> values = torch.arange(100.0, dtype=torch.float64)
        >>> low, high = bootstrap(mean_statistic(values), len(values))
        >>> 40 < low < 49.5 < high < 60  # 49.5 -+ 1.96 * 28.9 / 10
        True
    """
    if n < 1 or resamples < 1 or not 0 < level < 1:
        raise UserError(
            f"a bootstrap needs at least 1 image and 1 resample and a level in (0, 1), not {n}, {resamples} and {level}"
        )
    generator = torch.Generator().manual_seed(seed)
    draws = []
    rows = max(1, min(resamples, CHUNK // n))
    for start in range(0, resamples, rows):
        picked = torch.randint(n, (min(rows, resamples - start), n), generator=generator)
        counts = torch.zeros(picked.shape, dtype=torch.float64)
        with _one_thread():
            draws.append(statistic(counts.scatter_add_(1, picked, torch.ones_like(counts))).cpu())
    values = torch.cat(draws)
    values = values[~values.isnan()]
    if not len(values):
        raise UserError("no resample of these images has a value, so that there is no interval")
    if centre is not None:
        values = values - values.mean() + centre
    tail = (1 - level) / 2
    low, high = torch.quantile(values, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high


_alone = False


def prepare() -> None:
    """Draw resamples on one thread from now on, PyTorch's others set aside meanwhile; for programs to call, once.

    Steps this small gain little from threads, and lose tenfold where other processes hold the cores. The numbers are
    the same. Without it the process is left as it is.
    """
    global _alone
    _alone = True


@contextmanager
def _one_thread() -> Iterator[None]:
    if not _alone:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def mean_statistic(values: Float64[Tensor, " n"]) -> Statistic:
    """The mean of one score an image.

    Args:
        values: the scores; none may be NaN.

    Returns:
        The statistic.

    Example:
        >>> import torch
        >>> from featvis.metrics.resampling import mean_statistic
        >>> statistic = mean_statistic(torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64))
        >>> statistic(torch.tensor([[1, 1, 1], [3, 0, 0]], dtype=torch.float64)).tolist()  # each once; the first thrice
        [3.0, 1.0]
    """
    values = values.cpu()
    return lambda counts: counts @ values / len(values)


def group_sums(
    values: Float64[Tensor, " n"], groups: Shaped[Tensor, " n"]
) -> tuple[Float64[Tensor, " g"], Float64[Tensor, " g"]]:
    """The sums of the scores of each group of images, and its sizes, in the order in which groups first appear.

    A single group, which could not be resampled, is taken apart into its images.

    Example:
        >>> import torch
        >>> from featvis.metrics.resampling import group_sums
        >>> sums, sizes = group_sums(torch.tensor([1.0, 2.0, 4.0]).double(), torch.tensor([9, 3, 9]))
        >>> sums.tolist(), sizes.tolist()
        ([5.0, 2.0], [2.0, 1.0])
    """
    values = values.cpu()
    place: dict[float, int] = {}
    at = torch.tensor([place.setdefault(group, len(place)) for group in groups.tolist()])
    if len(place) < 2:
        return values, torch.ones_like(values)
    empty = torch.zeros(len(place), dtype=values.dtype)
    return empty.index_add(0, at, values), empty.index_add(0, at, torch.ones_like(values))


def ratio_statistic(sums: Float64[Tensor, " g"], sizes: Float64[Tensor, " g"]) -> Statistic:
    """The mean of one score an image over resampled groups of images.

    Args:
        sums: of the scores of each group.
        sizes: images in each group.

    Returns:
        The statistic, of counts over the groups.
    """
    return lambda counts: (counts @ sums) / (counts @ sizes)


def frechet_statistic(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Statistic:
    """The Fréchet distance of a resampled x to y.

    All a resample needs of x is its inner products: x'x for the means and the trace, x'Sy x for the trace of the
    root. Both are computed once; a resample then costs the eigenvalues of one matrix over the images it drew (about
    0.63 n), or over the rows of Sy's root where those are fewer.

    Args:
        x: features of the images, at least two.
        y: of the reference, at least two.

    Returns:
        The statistic.
    """
    x, y = x.double().cpu(), y.double().cpu()
    n = len(x)
    z = x - y.mean(0)
    gram = z @ z.T
    root = covariance_roots(x, y)[1]
    cross = z @ root.T
    spread = root.square().sum()
    few = 2 * cross.shape[1] <= n
    across = None if few else cross @ cross.T

    def root_trace(w: Tensor) -> Tensor:
        if across is None:
            mean = w @ cross
            product = (cross * w[:, None]).T @ cross - mean[:, None] * mean
        else:
            drawn = w > 0
            w = w[drawn]
            inner = across[drawn][:, drawn]
            mean = inner @ w
            product = (inner - mean[:, None] - mean + w @ mean) * (w[:, None] * w).sqrt()
        eigenvalues: Tensor = torch.linalg.eigvalsh(product)
        return (eigenvalues * n / (n - 1)).clamp(min=0).sqrt().sum()

    def distance(w: Tensor) -> Tensor:
        gap = w @ gram @ w
        return gap + (w @ gram.diagonal() - gap) * n / (n - 1) + spread - 2 * root_trace(w)

    return lambda counts: torch.stack([distance(row / n) for row in counts])


def kernel_statistic(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], within: float | None = None) -> Statistic:
    """The kernel distance (whole sets) of a resampled x to y.

    Args:
        x: features of the images, at least two.
        y: of the reference, at least two.
        within: see `functional.kernel_distance`.

    Returns:
        The statistic.
    """
    x, y = x.double().cpu(), y.double().cpu()
    n = len(x)
    kernel, between = polynomial_kernel(x, x), kernel_means(x, y)
    own = kernel.diagonal()
    reference = pairs_mean(y) if within is None else within

    def distance(counts: Tensor) -> Tensor:
        drawn = ((counts @ kernel * counts).sum(1) - counts @ own) / (n * (n - 1))
        return drawn + reference - 2 * counts @ between / n

    return distance


def spectrum_statistic(
    sums: Float[Tensor, "g p"],
    sizes: Float64[Tensor, " g"],
    reference: Float64[Tensor, " p"],
    weights: Float64[Tensor, " p"],
) -> Statistic:
    """The spectrum deviation of resampled groups of images.

    Args:
        sums: of the flattened magnitude spectra in each group of images.
        sizes: images in each group.
        reference: flattened reference spectrum.
        weights: of each coefficient, from `spectrum_weights`.

    Returns:
        The statistic, of counts over the groups.
    """
    counted = weights.cpu() > 0
    sums, sizes, weights = sums.cpu().double()[:, counted], sizes.cpu(), weights.cpu()[counted]
    level = reference.cpu()[counted].log()
    # The contrast of all images, taken off first: what is left is small, so that one pass may subtract squares.
    level = level + ((sums.sum(0) / sizes.sum()).log() - level) @ weights

    def deviation(counts: Tensor) -> Tensor:
        shares = counts / (counts @ sizes)[:, None]
        first, second = torch.zeros(2, len(counts), dtype=torch.float64).unbind()
        # All resamples of a few frequencies at a time: the other way round would read every sum again and again.
        for part in torch.arange(len(weights)).split(max(1, CHUNK // 16 // len(counts))):
            columns = slice(int(part[0]), int(part[-1]) + 1)
            ratio = (shares @ sums[:, columns]).log() - level[columns]
            first += ratio @ weights[columns]
            second += ratio.square() @ weights[columns]
        return (second - first.square()).clamp(min=0).sqrt()

    return deviation
