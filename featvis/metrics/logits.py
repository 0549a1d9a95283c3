"""What classifiers make of the images: whether others recognise the class, and how strongly the target fires."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from featvis.metrics.base import PerImage
from featvis.metrics.functional.logits import own_logit, top1


class Transferability(PerImage):
    """Share of the images that another classifier assigns to their class (Fel et al. 2023, transferability).

    Example:
        >>> import torch
        >>> from featvis.metrics import Transferability
        >>> metric = Transferability("vgg16.tv_in1k")
        >>> metric.update(torch.tensor([[0.0, 3.0], [2.0, 1.0]]), torch.tensor([1, 1]))
        >>> float(metric.compute())
        0.5
        >>> metric.result()["definition"]["classifier"]
        'vgg16.tv_in1k'
    """

    higher_is_better = True
    share = True

    def __init__(self, classifier: str, **kwargs: Any) -> None:
        """Name the classifier.

        Args:
            classifier: its full tag; timm's untagged names are other weights.
            **kwargs: of `Score`.
        """
        super().__init__(
            f"Top-1 accuracy of {classifier} on the whole canvas, without transparency; a fraction.", **kwargs
        )
        self.facts.setdefault("classifier", classifier)

    def update(self, logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"]) -> None:
        """Score a batch.

        Args:
            logits: of that classifier.
            labels: the class each image was made for.
        """
        self.add(top1(logits, labels), labels)


class LogitMagnitude(PerImage):
    """Mean logit of the class an image was made for, in the target network (Fel et al. 2023, Table 3).

    Example:
        >>> import torch
        >>> from featvis.metrics import LogitMagnitude
        >>> metric = LogitMagnitude()
        >>> metric.update(torch.tensor([[0.0, 3.0], [2.0, 1.0]]), torch.tensor([1, 1]))
        >>> float(metric.compute())
        2.0
    """

    higher_is_better = True

    def __init__(self, **kwargs: Any) -> None:
        """Start empty.

        Args:
            **kwargs: of `Score`.
        """
        super().__init__(
            "Logit of the class the image was made for, in the target network; mean over the images.", **kwargs
        )

    def update(self, logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"]) -> None:
        """Score a batch.

        Args:
            logits: of the target network.
            labels: the class each image was made for.
        """
        self.add(own_logit(logits, labels), labels)
