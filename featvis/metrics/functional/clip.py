"""What CLIP's embeddings say: of a set of images beside another, and of each image beside classes in words."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from featvis.errors import UserError
from featvis.metrics.functional.checks import CHUNK, _require_alike

SIGMA = 10.0
"""Bandwidth of CMMD's kernel."""
SCALE = 1000.0
"""By which CMMD is multiplied, to be read more easily."""


def cmmd(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float64[Tensor, ""]:
    """Squared MMD of CLIP's embeddings under a Gaussian kernel, times 1000 (CMMD: Jayasumana et al. 2024, section 4).

    The kernel is exp(-|a - b|^2 / 200) of embeddings scaled to unit length. The estimator is that of the published
    code, the mean over *all* pairs (Gretton et al. 2012, equation 5), each image with itself among them; so small sets
    have a floor above 0, which the paper's unbiased one has not.

    Args:
        x: embeddings of one set, of any length, at least one image.
        y: of the other.

    Returns:
        A scalar of at least 0.

    Raises:
        UserError: for an empty set, other widths, an embedding of length zero, or values that are not finite.

    Example:
        >>> import torch
        >>> from featvis.metrics import cmmd
        >>> x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]])
        >>> round(float(cmmd(x, y)), 4)  # 1000 * (1 + 1 - 2 * exp(-2 / 200))
        19.9003
    """
    _require_alike(x, y, least=1)
    x, y = unit(x), unit(y).to(x.device)
    distance = gaussian_means(x, x).mean() + gaussian_means(y, y).mean() - 2 * gaussian_means(x, y).mean()
    return (SCALE * distance).clamp(min=0)


def unit(x: Float[Tensor, "n d"]) -> Float64[Tensor, "n d"]:
    """Rows scaled to unit length.

    Args:
        x: embeddings.

    Returns:
        The same directions.

    Raises:
        UserError: for a row of length zero.
    """
    lengths: Tensor = x.double().norm(dim=1, keepdim=True)
    if bool((lengths == 0).any()):
        raise UserError("an embedding has length zero, so it has no direction to compare")
    directions: Tensor = x.double() / lengths
    return directions


def gaussian_means(x: Float64[Tensor, "n d"], y: Float64[Tensor, "m d"]) -> Float64[Tensor, " n"]:
    """Mean Gaussian kernel of each row of x with all of y; a large y is never paired all at once.

    Args:
        x: embeddings of unit length.
        y: of the other set.

    Returns:
        One mean a row of x.
    """
    # Between unit vectors, |a - b|^2 = 2 - 2 cos.
    rows = x.split(max(1, CHUNK // len(y)))
    return torch.cat([((part @ y.T - 1) / SIGMA**2).exp().mean(1) for part in rows])


def zero_shot(
    embeddings: Float[Tensor, "n d"], text: Float[Tensor, "c d"], labels: Int[Tensor, " n"], k: int = 1
) -> Float64[Tensor, " n"]:
    """Whether the wanted class is among the k whose words lie nearest (Radford et al. 2021, section 3.1).

    Args:
        embeddings: of the images, of any length.
        text: of the classes, of any length, from the same network.
        labels: the class each image was made for.
        k: how many classes may be named.

    Returns:
        1 where fewer than k classes have a larger cosine than the wanted one, 0 where not.

    Raises:
        UserError: for other widths, a label or a k beyond the classes, an embedding of length zero, or values that are
            not finite.

    Example:
        >>> import torch
        >>> from featvis.metrics import zero_shot
        >>> text = torch.eye(3)
        >>> zero_shot(torch.tensor([[0.9, 0.1, 0.0], [0.1, 0.5, 0.4]]), text, torch.tensor([0, 2])).tolist()
        [1.0, 0.0]
        >>> zero_shot(torch.tensor([[0.9, 0.1, 0.0], [0.1, 0.5, 0.4]]), text, torch.tensor([0, 2]), k=2).tolist()
        [1.0, 1.0]
    """
    _require_alike(embeddings, text)
    if not 1 <= k <= len(text):
        raise UserError(f"k must lie between 1 and the number of classes ({len(text)}), not {k}")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(text):
        raise UserError(f"the labels must lie in 0..{len(text) - 1}, the classes of the text")
    cosines = unit(embeddings) @ unit(text).to(embeddings.device).T
    wanted = cosines.gather(1, labels.long().to(cosines.device)[:, None])
    return ((cosines > wanted).sum(1) < k).double()
