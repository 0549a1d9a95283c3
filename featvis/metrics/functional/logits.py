"""What a classifier says of each image."""

from __future__ import annotations

from jaxtyping import Float, Float64, Int
from torch import Tensor

from featvis.errors import UserError


def top1(logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"]) -> Float64[Tensor, " n"]:
    """Whether the largest logit is the wanted class.

    Args:
        logits: of a classifier.
        labels: the class each image was made for.

    Returns:
        1 where it is, 0 where not.

    Raises:
        UserError: for a label beyond the logits, or values that are not finite.

    Example:
        >>> import torch
        >>> from featvis.metrics import top1
        >>> top1(torch.tensor([[0.0, 3.0], [2.0, 1.0]]), torch.tensor([1, 1])).tolist()
        [1.0, 0.0]
    """
    _require_labels(logits, labels)
    return (logits.argmax(1) == labels.to(logits.device)).double()


def own_logit(logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"]) -> Float64[Tensor, " n"]:
    """The logit of the wanted class, before any softmax.

    Args:
        logits: of a classifier.
        labels: the class each image was made for.

    Returns:
        One logit an image.

    Raises:
        UserError: for a label beyond the logits, or values that are not finite.

    Example:
        >>> import torch
        >>> from featvis.metrics import own_logit
        >>> own_logit(torch.tensor([[0.0, 3.0], [2.0, 1.0]]), torch.tensor([1, 1])).tolist()
        [3.0, 1.0]
    """
    _require_labels(logits, labels)
    return logits.gather(1, labels.long().to(logits.device)[:, None])[:, 0].double()


def _require_labels(logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"]) -> None:
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < logits.shape[1]:
        raise UserError(f"the labels must lie in 0..{logits.shape[1] - 1}, the classes of the classifier")
    if not logits.isfinite().all():
        raise UserError("the logits hold values that are not finite")
