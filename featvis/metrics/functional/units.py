"""How well pictures say which unit they are of: similarities to natural images in, one score a unit out.

Similarities are cosines of an observer's features, of which the mean over a pool of natural images has been taken off:
what all images share says nothing of a unit. "Natural images of a unit" are those of the pool that excite it most.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from featvis.errors import UserError


def directions(x: Float[Tensor, "*n d"], mean: Float[Tensor, " d"]) -> Float64[Tensor, "*n d"]:
    """Features less the pool's mean, scaled to unit length; NaN where nothing is left or something is not finite.

    Args:
        x: features of an observer.
        mean: of the pool.

    Example:
        >>> import torch
        >>> from featvis.metrics.functional.units import directions
        >>> directions(torch.tensor([[1.0, 4.0], [1.0, 1.0]]), torch.tensor([1.0, 1.0]))
        tensor([[0., 1.],
                [nan, nan]], dtype=torch.float64)
    """
    x = x.double() - mean.double()
    norm = x.norm(dim=-1, keepdim=True)
    scaled: Tensor = (x / norm).masked_fill(~(norm > 0) | ~norm.isfinite(), torch.nan)
    return scaled


def cosines(x: Float[Tensor, "n d"], mean: Float[Tensor, " d"], to: Float[Tensor, " d"]) -> Float64[Tensor, " n"]:
    """Products of the directions of some images with one vector, for less than their directions themselves.

    Args:
        x: features of an observer.
        mean: of the pool.
        to: the vector.

    Returns:
        NaN where an image has no direction.

    Example:
        >>> import torch
        >>> from featvis.metrics.functional.units import cosines
        >>> cosines(torch.tensor([[3.0, 1.0], [1.0, 1.0]]), torch.ones(2), torch.tensor([2.0, 5.0])).tolist()
        [2.0, nan]
    """
    # float32: a thousandth of what tells images apart.
    x = x - mean.to(x)
    norm = x.norm(dim=1).double()
    product: Tensor = (x @ to.to(x)).double() / norm
    return product.masked_fill(~(norm > 0) | ~norm.isfinite(), torch.nan)


def similarity(
    x: Float64[Tensor, "n d"], natural: Float64[Tensor, "v k d"], same: Bool[Tensor, "n v k"] | None = None
) -> Float64[Tensor, "n v"]:
    """Mean cosine of each picture to the natural images of each unit.

    Args:
        x: directions of the pictures.
        natural: of k natural images a unit; NaN for one that is not there.
        same: where a picture is that image itself, which does not count.

    Returns:
        NaN where no image is left.

    Example:
        >>> import torch
        >>> from featvis.metrics.functional.units import similarity
        >>> x = torch.tensor([[1.0, 0.0]]).double()
        >>> natural = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[-1.0, 0.0], [-1.0, 0.0]]]).double()
        >>> similarity(x, natural)
        tensor([[ 0.5000, -1.0000]], dtype=torch.float64)
    """
    cosines = torch.einsum("nd,vkd->nvk", x, natural)
    if same is not None:
        cosines = cosines.masked_fill(same, torch.nan)
    return cosines.nanmean(2)


def by_unit(x: Float[Tensor, n * d], units: Int[Tensor, " n"], count: int) -> Float64[Tensor, u * d]:
    """Means over the pictures of each unit (its seeds), number by number; what is not finite does not count.

    Args:
        x: something of each picture.
        units: which of `count` units it is of.
        count: how many units there are.

    Returns:
        NaN where a unit has no number.
    """
    x = x.double()
    good = x.isfinite()
    empty = torch.zeros(count, *x.shape[1:], dtype=torch.float64)
    number = empty.index_add(0, units, good.double())
    return empty.index_add(0, units, x.masked_fill(~good, 0)) / number.masked_fill(number == 0, torch.nan)


def identification(matrix: Float[Tensor, "u u"]) -> Float64[Tensor, " u"]:
    """How surely the pictures of a unit are taken for its own, and not for another of the group.

    Entry (u, v) is the mean similarity of u's pictures to natural images of v. The mean of each column is taken off:
    how near all pictures are to v. (Those of rows would change nothing within a row.) A unit's score is the share of
    other units v whose entry (u, v) is below (u, u), ties counting half: an area under the ROC curve, .5 for a picture
    that says nothing of its unit.

    Args:
        matrix: NaN for a unit without pictures (its row), without natural images (its column), or of another group.

    Returns:
        In 0..1, or NaN for a unit that cannot be compared with any other.

    Example:
        >>> import torch
        >>> from featvis.metrics.functional.units import identification
        >>> identification(torch.tensor([[0.9, 0.1, 0.2], [0.3, 0.8, 0.1], [0.6, 0.0, 0.5]])).tolist()
        [1.0, 1.0, 1.0]
    """
    m = matrix.double() - matrix.double().nanmean(0)
    # Of one unit alone there is no mean to be taken off.
    m = m.masked_fill(m.isfinite().sum(0) < 2, torch.nan)
    own = m.diagonal()[:, None]
    other = m.isfinite() & ~torch.eye(len(m), dtype=torch.bool, device=m.device)
    beaten = ((own > m).double() + (own == m).double() / 2).masked_fill(~other, 0).sum(1)
    number = other.sum(1)
    return (beaten / number).masked_fill((number == 0) | ~own[:, 0].isfinite(), torch.nan)


def contrast(x: Float[Tensor, "u d"], groups: Int[Tensor, " u"]) -> Float64[Tensor, "u d"]:
    """Each unit's direction less the mean of the other units' of its group: a cosine with it has the others' taken off.

    Without that, pictures that resemble nothing (noise) prefer whatever natural images excite few units, and fall below
    chance.

    Args:
        x: mean direction of each unit's pictures; NaN for none.
        groups: units of one number are compared with each other.

    Returns:
        NaN for a unit without pictures, or alone in its group.

    Example:
        >>> import torch
        >>> from featvis.metrics.functional.units import contrast
        >>> contrast(torch.tensor([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 0, 1])).tolist()
        [[1.0, 0.0], [-1.0, 0.0], [nan, nan]]
    """
    x = x.double()
    good = x.isfinite().all(1)
    number = int(groups.max()) + 1 if len(groups) else 0
    total = torch.zeros(number, x.shape[1], dtype=torch.float64).index_add(0, groups[good], x[good])
    count = torch.bincount(groups[good], minlength=number).double()[groups][:, None] - 1
    others = (total[groups] - x) / count.masked_fill(count < 1, torch.nan)
    return x - others


def two_alternatives(positive: Float[Tensor, "n p"], negative: Float[Tensor, "n q"]) -> Float64[Tensor, " n"]:
    """How often a query that excites the unit is more alike its pictures than one that does not, over all pairs.

    The observer of Borowski et al. 2021 and Zimmermann et al. 2024, who are shown two natural images, choose between
    them by the pictures; here the more similar one is chosen, ties half.

    Args:
        positive: similarities of queries that excite the unit more.
        negative: of those that excite it less.

    Returns:
        In 0..1; NaN where a similarity is.

    Example:
        >>> import torch
        >>> from featvis.metrics.functional.units import two_alternatives
        >>> two_alternatives(torch.tensor([[0.9, 0.2]]), torch.tensor([[0.1, 0.5]])).tolist()
        [0.75]
    """
    gap = positive.double()[:, :, None] - negative.double()[:, None, :]
    right = (gap > 0).double() + (gap == 0).double() / 2
    return right.masked_fill(gap.isnan(), torch.nan).mean((1, 2))


def graded_alternatives(
    positive: Float[Tensor, "n p"], negative: Float[Tensor, "n q"], slope: float
) -> Float64[Tensor, " n"]:
    """The same with an observer who is the less sure the smaller the difference: the mean of sigmoid(slope * gap).

    Args:
        positive: similarities of queries that excite the unit more.
        negative: of those that excite it less.
        slope: see `slope_for`.

    Returns:
        In 0..1; NaN where a similarity is.
    """
    gap = positive.double()[:, :, None] - negative.double()[:, None, :]
    return torch.sigmoid(slope * gap).mean((1, 2))


def slope_for(positive: Float[Tensor, "n p"], negative: Float[Tensor, "n q"], share: float = 0.9) -> float:
    """The slope at which an observer who is shown natural images gives the right answer in this share of the pairs.

    Args:
        positive: similarities to natural images, of queries that excite the unit more.
        negative: of those that excite it less.
        share: above one half.

    Returns:
        NaN where no slope reaches it: the observer does not see what excites these units.

    Raises:
        UserError: for a share outside of (.5, 1).
    """
    if not 0.5 < share < 1:
        raise UserError(f"the share of right answers must lie between .5 and 1, not {share}")
    good = positive.isfinite().all(1) & negative.isfinite().all(1)
    positive, negative = positive[good], negative[good]
    if not len(positive):
        return float("nan")

    def reached(slope: float) -> float:
        return float(graded_alternatives(positive, negative, slope).mean())

    low, high = 0.0, 1.0
    while reached(high) < share:
        low, high = high, 4 * high
        if high > 1e6:
            return float("nan")
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if reached(middle) < share else (low, middle)
    return high


def excess_activation(
    activation: Float[Tensor, " n"], median: Float[Tensor, " n"], maximum: Float[Tensor, " n"]
) -> Float64[Tensor, " n"]:
    """How strongly a picture excites its unit, where 0 is the median of natural images and 1 the strongest of them.

    Args:
        activation: of each picture's own unit.
        median: of that unit over natural images.
        maximum: the same.

    Returns:
        NaN where no natural image excites the unit more than the median one.

    Example:
        >>> import torch
        >>> from featvis.metrics.functional.units import excess_activation
        >>> excess_activation(torch.tensor([5.0]), torch.tensor([1.0]), torch.tensor([3.0])).tolist()
        [2.0]
    """
    a, m, top = activation.double(), median.double(), maximum.double()
    return ((a - m) / (top - m)).masked_fill(~(top > m), torch.nan)


def percentile(value: Float[Tensor, " n"], among: Float[Tensor, "n m"]) -> Float64[Tensor, " n"]:
    """The share of some numbers that lie below each value, ties counting half.

    Args:
        value: one number each.
        among: those that it is compared with; NaN does not count.

    Returns:
        In 0..1; NaN without anything to compare with.

    Example:
        >>> import torch
        >>> from featvis.metrics.functional.units import percentile
        >>> percentile(torch.tensor([2.0]), torch.tensor([[1.0, 2.0, 3.0, torch.nan]])).tolist()
        [0.5]
    """
    v, a = value.double()[:, None], among.double()
    known = a.isfinite() & v.isfinite()
    below = ((a < v).double() + (a == v).double() / 2).masked_fill(~known, 0).sum(1)
    number = known.sum(1)
    return (below / number).masked_fill(number == 0, torch.nan)


def seed_diversity(x: Float[Tensor, "n d"], units: Int[Tensor, " n"], count: int) -> Float64[Tensor, " u"]:
    """Mean cosine distance between the pictures of a unit, over all pairs of its seeds.

    Args:
        x: directions of the pictures, of unit length.
        units: which of `count` units each is of.
        count: how many units there are.

    Returns:
        In 0..2; NaN for a unit with fewer than two pictures.

    Example:
        >>> import torch
        >>> from featvis.metrics.functional.units import seed_diversity
        >>> seed_diversity(torch.eye(2).repeat(2, 1), torch.tensor([0, 0, 1, 1]), 2).tolist()
        [1.0, 1.0]
    """
    x = x.double()
    good = x.isfinite().all(1)
    number = torch.bincount(units[good], minlength=count).double()
    total = torch.zeros(count, x.shape[1], dtype=torch.float64).index_add(0, units[good], x[good])
    # The squared length of the sum has every pair twice, and each picture with itself, which is 1.
    pairs = number * (number - 1)
    return (1 - (total.square().sum(1) - number) / pairs).masked_fill(pairs == 0, torch.nan)
