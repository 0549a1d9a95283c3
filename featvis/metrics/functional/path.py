"""Whether a network takes a picture along the path of photographs: one layer's activations in, similarities out.

Geirhos et al. 2023 ask it of feature visualizations: layer by layer, are the activations that a picture of a class
causes like those that photographs of this class cause, more than like those that photographs of other classes do? The
unit is what photographs are among themselves: 0, no more like its own class than like others; 1, as much more as a
photograph is. A curve over the layers shows where a visualization joins the path, if it does.

Photographs are wanted as the sums of their classes, which add up batch by batch: nothing else is needed of them.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from featvis.errors import UserError
from featvis.metrics.functional.checks import require_width


def class_sums(
    x: Float[Tensor, "n d"], labels: Int[Tensor, " n"], classes: Int[Tensor, " k"]
) -> tuple[Float64[Tensor, "k d"], Float64[Tensor, " k"]]:
    """The sum of the directions of each class's activations, and how many there are; both add up over batches.

    Args:
        x: activations of one layer for each image, flattened.
        labels: their classes; an image of none of `classes` is left out.
        classes: which.

    Returns:
        The sums of the activations scaled to unit length, and their numbers. An image without any activation has no
        direction, and is not counted.

    Raises:
        UserError: for values that are not finite.

    Example:
        >>> import torch
        >>> from featvis.metrics.functional.path import class_sums
        >>> x = torch.tensor([[3.0, 4.0], [5.0, 0.0], [0.0, 1.0]])
        >>> sums, counts = class_sums(x, torch.tensor([7, 7, 8]), torch.tensor([7, 8]))
        >>> [[round(v, 4) for v in row] for row in sums.tolist()], counts.tolist()
        ([[1.6, 0.8], [0.0, 1.0]], [2.0, 1.0])
    """
    unit, there = _directions(x)
    member = (classes.to(x.device)[:, None] == labels.to(x.device)) & there
    return member.double() @ unit, member.sum(1).double()


def path_gaps(
    x: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    sums: Float64[Tensor, "k d"],
    counts: Float64[Tensor, " k"],
    classes: Int[Tensor, " k"],
) -> tuple[Float64[Tensor, " n"], Float64[Tensor, " n"]]:
    """How much more like its own class than like the others a picture is, and a photograph of that class is.

    Args:
        x: activations of one layer for each picture, flattened.
        labels: the classes they were made for.
        sums: of the photographs' directions, class by class (`class_sums`).
        counts: the photographs of each class.
        classes: which class each row of `sums` is.

    Returns:
        For each picture the mean cosine to the photographs of its class less the mean cosine to those of the others;
        and the same of the photographs of its class, each compared with the others of it. NaN for a picture without any
        activation, or whose class has fewer than two photographs, or where there are no others.

    Raises:
        UserError: for activations of another width than the photographs', or values that are not finite.

    Example:
        >>> import torch
        >>> from featvis.metrics.functional.path import class_sums, path_gaps
        >>> photographs = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> classes = torch.tensor([7, 8])
        >>> sums = class_sums(photographs, torch.tensor([7, 7, 8, 8]), classes)
        >>> pictures = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])  # its class; between the two; the other
        >>> own, natural = path_gaps(pictures, torch.tensor([7, 7, 7]), *sums, classes)
        >>> [round(v, 6) for v in own.tolist()], natural.tolist()
        ([1.0, 0.0, -1.0], [1.0, 1.0, 1.0])
    """
    require_width(x, sums)
    unit, there = _directions(x)
    sums, counts = sums.double().to(x.device), counts.double().to(x.device)
    member = labels.to(x.device)[:, None] == classes.to(x.device)
    others = counts.sum() - counts

    def gap(same: Tensor, other: Tensor, m: Tensor) -> Tensor:
        # 0 / 0 is NaN, which is what there is to say.
        return same / m - other / others

    like = unit @ sums.T
    own = torch.where(member, like, 0.0).sum(1)
    pairs = sums @ sums.T
    within, across = pairs.diagonal(), pairs.sum(1) - pairs.diagonal()
    # A direction's product with itself is 1, and no pair.
    natural = gap((within - counts) / counts, across / counts, counts - 1)
    known = member.any(1)
    place = member.double().argmax(1)
    m, rest = counts[place], others[place]
    picture = own / m - (like.sum(1) - own) / rest
    there = there & known & natural.isfinite()[place]
    nothing = torch.full_like(picture, torch.nan)
    return torch.where(there, picture, nothing), torch.where(there, natural[place], nothing)


def path_similarity(
    x: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    natural: Float[Tensor, "m d"],
    natural_labels: Int[Tensor, " m"],
) -> Float64[Tensor, ""]:
    """One layer's point of the path curve: (own class - other classes) / (natural same - natural other).

    After Geirhos et al. 2023, whose sanity check compares visualizations with photographs layer by layer. Both
    differences are means over the pictures, so that a class counts as often as it was visualized.

    Args:
        x: activations of one layer for each picture, flattened.
        labels: the classes they were made for.
        natural: activations of the same layer for photographs.
        natural_labels: their classes.

    Returns:
        0 where the pictures are no more like their classes than like others, 1 where as much more as photographs are;
        above 1 for a caricature. NaN where photographs of a class are no more alike than of several.

    Raises:
        UserError: for activations of other widths, or values that are not finite.

    Example:
        >>> import torch
        >>> from featvis.metrics.functional.path import path_similarity
        >>> photographs = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> pictures = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
        >>> round(float(path_similarity(pictures, torch.tensor([7, 7]), photographs, torch.tensor([7, 7, 8, 8]))), 6)
        0.5
    """
    require_width(x, natural)
    classes = natural_labels.unique()
    own, unit = path_gaps(x, labels, *class_sums(natural, natural_labels, classes), classes)
    return ratio(own.nansum(), unit.nansum())


def ratio(own: Float64[Tensor, "*n"], natural: Float64[Tensor, "*n"]) -> Float64[Tensor, "*n"]:
    """The one over the other; NaN where photographs of a class are no more alike than of several."""
    return torch.where(natural > 0, own / natural, torch.nan)


def _directions(x: Float[Tensor, "n d"]) -> tuple[Float64[Tensor, "n d"], Tensor]:
    if not x.isfinite().all():
        raise UserError("the activations hold values that are not finite")
    x = x.double()
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / norm.where(norm > 0, 1.0), norm[:, 0] > 0
