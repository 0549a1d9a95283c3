"""Plausibility: how near an image lies to natural images of its class, in the target network's features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from jaxtyping import Float, Int, Int64
from torch import Tensor

from featvis.errors import UserError
from featvis.metrics.base import NO_IMAGE, PerImage
from featvis.metrics.functional.checks import require_width
from featvis.metrics.functional.nearest import deep_knn, plausibility

Definition = Literal["cosine", "flat", "pooled", "deep_knn"]

TEXTS: dict[str, str] = {
    "cosine": "1 - cosine of the angle between the flattened features of the last block and those of the nearest "
    "reference image of the same class: 0 is the same direction, 1 a right angle; mean over the images.",
    "flat": "Euclidean distance to the nearest reference image of the same class, between the flattened features of "
    "the last block; mean over the images.",
    "pooled": "Squared Euclidean distance to the nearest reference image of the same class, between pooled penultimate "
    "features; mean over the images.",
    "deep_knn": "Euclidean distance to the k-th nearest reference image of any class, between penultimate features "
    "scaled to unit length (Sun et al. 2022); mean over the images. Blind to the class: a picture of a wrong one is as "
    "near.",
}


class Plausibility(PerImage):
    """Mean distance to the nearest natural images: see `functional.plausibility` and `functional.deep_knn`.

    Example:
        >>> import torch
        >>> from featvis.metrics import Plausibility
        >>> metric = Plausibility("flat", torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.tensor([7, 8]))
        >>> metric.update(torch.zeros(1, 2), torch.tensor([7]))
        >>> float(metric.compute())
        5.0
        >>> metric.update(torch.zeros(1, 2), torch.tensor([9]))  # a class of which the reference has no image
        >>> metric.result()["definition"]["left_out"]
        '1 of 2 images: the reference holds no other image of their class'
    """

    higher_is_better = False

    def __init__(
        self,
        definition: Definition,
        bank: Float[Tensor, "m d"] | Sequence[Float[Tensor, "_ d"]],
        bank_labels: Int[Tensor, " m"] | None = None,
        bank_ids: Int64[Tensor, " m"] | None = None,
        k: int = 1,
        **kwargs: Any,
    ) -> None:
        """Take the reference.

        Args:
            definition: `cosine`, `flat`, `pooled` or `deep_knn`.
            bank: features of the reference images, of the layer the definition means; for `deep_knn` also in blocks.
            bank_labels: their classes; only `deep_knn` does without.
            bank_ids: their content digests, 0 where unknown.
            k: which neighbour counts (`deep_knn` alone).
            **kwargs: of `Score`.

        Raises:
            UserError: for an unknown definition, missing labels, or a k that the definition cannot take.
        """
        if definition not in TEXTS:
            raise UserError(f"the definition of plausibility is one of {', '.join(TEXTS)}, not {definition!r}")
        if definition == "deep_knn" and k < 1:
            raise UserError(f"deep_knn needs k of at least 1, not k={k}")
        if definition != "deep_knn" and k != 1:
            raise UserError(f"only deep_knn takes a k; {definition} means the nearest image, not k={k}")
        if definition != "deep_knn" and bank_labels is None:
            raise UserError(f"plausibility {definition} compares within a class: the reference needs labels")
        super().__init__(TEXTS[definition], **kwargs)
        self.kind = definition
        self.bank, self.bank_labels, self.bank_ids, self.k = bank, bank_labels, bank_ids, k
        self.facts.setdefault("k", k)

    def update(
        self,
        features: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],
        ids: Int64[Tensor, " n"] | None = None,
    ) -> None:
        """Score a batch.

        Args:
            features: of the images, of the bank's layer.
            labels: the class each was made for (`deep_knn` reads it for the interval alone).
            ids: content digest of each image, 0 where unknown: an image that the bank holds is not its own neighbour.

        Raises:
            UserError: for features of another width than the bank's, or values that are not finite.
        """
        require_width(features, self.bank if isinstance(self.bank, Tensor) else self.bank[0])
        if self.kind == "deep_knn":
            scores = deep_knn(features, self.bank, self.k, ids, self.bank_ids)
        else:
            assert self.bank_labels is not None
            assert isinstance(self.bank, Tensor)
            scores = plausibility(features, labels, self.bank, self.bank_labels, self.kind, ids, self.bank_ids)
        self.add(scores, labels)

    @property
    def _or_nothing(self) -> str:
        return ", or their features have length zero" if self.kind == "cosine" else ""

    def _why_absent(self) -> str:
        if not len(self._gathered(self.values)):
            return NO_IMAGE
        if self.kind == "deep_knn":
            return f"the reference holds fewer than k={self.k} other images"
        return "the reference holds no other image of any of these classes" + self._or_nothing

    def _left_out(self) -> str | None:
        seen = len(self._gathered(self.values))
        missing = seen - self.count()
        if not missing:
            return None
        reason = (
            f"the reference holds fewer than k={self.k} others"
            if self.kind == "deep_knn"
            else "the reference holds no other image of their class" + self._or_nothing
        )
        return f"{missing} of {seen} images: {reason}"
