"""Scores in CLIP's embeddings: how far a set lies from real images, and whether an image is what a word says."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from featvis.metrics.base import PerImage
from featvis.metrics.distance import SetDistance
from featvis.metrics.functional.clip import SCALE, SIGMA, gaussian_means, unit, zero_shot
from featvis.metrics.resampling import Statistic, bootstrap


class ClipDistance(SetDistance):
    """CMMD: see `functional.cmmd`.

    Example:
        >>> import torch
        >>> from featvis.metrics import ClipDistance
        >>> metric = ClipDistance(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
        >>> metric.update(torch.tensor([[0.0, 1.0], [0.0, 2.0]]))
        >>> round(float(metric.compute()), 4), metric.higher_is_better
        (19.9003, False)
    """

    def __init__(self, reference: Float[Tensor, "m d"], **kwargs: Any) -> None:
        """Take the reference.

        Args:
            reference: CLIP's embeddings of the reference images.
            **kwargs: of `Score`.

        Raises:
            UserError: for a reference of fewer than two images, or an embedding of length zero.
        """
        text = (
            "1000 x the squared maximum mean discrepancy of embeddings of unit length under the kernel "
            "exp(-|x - y|^2 / 200), over all pairs, as the code of Jayasumana et al. 2024 has it. Small sets have a "
            "floor above 0: compare with the real row."
        )
        super().__init__(text, unit(reference), **kwargs)
        self._within: Tensor | None = None

    def _value(self) -> Tensor:
        if self.count() < 2:
            return self._absent()
        x, y = self._directions()
        distance = gaussian_means(x, x).mean() + self._reference_mean() - 2 * gaussian_means(x, y).mean()
        return (SCALE * distance).clamp(min=0)

    def _interval(self) -> tuple[float, float]:
        x, y = self._directions()
        statistic = gaussian_statistic(x, y, self._reference_mean())
        low, high = bootstrap(
            statistic, self.count(), resamples=self.resamples, seed=self.seed, centre=float(self._value())
        )
        return max(low, 0.0), max(high, 0.0)

    def _directions(self) -> tuple[Tensor, Tensor]:
        x, y = self._sets()
        return unit(x), y.to(x.device)

    def _reference_mean(self) -> Tensor:
        # The reference is large and stays the same: its pairs are gone through once.
        if self._within is None:
            self._within = gaussian_means(self.reference, self.reference).mean().cpu()
        return self._within.to(self.device)


def gaussian_statistic(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], within_y: Tensor) -> Statistic:
    """CMMD of resampled images.

    Args:
        x: unit embeddings of the images.
        y: of the reference.
        within_y: the mean kernel between those of the reference.

    Returns:
        The statistic, of counts over the images.
    """
    x, y, reference = x.double().cpu(), y.double().cpu(), within_y.double().cpu()
    within, between = ((x @ x.T - 1) / SIGMA**2).exp(), gaussian_means(x, y)
    n = len(x)

    def distance(counts: Tensor) -> Tensor:
        drawn = (counts @ within * counts).sum(1) / n**2
        return SCALE * (drawn + reference - 2 * counts @ between / n)

    return distance


class ZeroShot(PerImage):
    """Share of the images whose class is among the k that CLIP names: see `functional.zero_shot`.

    Example:
        >>> import torch
        >>> from featvis.metrics import ZeroShot
        >>> metric = ZeroShot("clip", torch.eye(3), k=2)
        >>> metric.update(torch.tensor([[0.9, 0.1, 0.0], [0.9, 0.1, 0.0]]), torch.tensor([1, 2]))
        >>> float(metric.compute()), metric.result()["definition"]["classes"]
        (0.5, 3)
    """

    higher_is_better = True
    share = True

    def __init__(self, network: str, text: Float[Tensor, "c d"], k: int = 1, **kwargs: Any) -> None:
        """Take the classes.

        Args:
            network: CLIP's name.
            text: embeddings of the classes' words, from the same CLIP.
            k: how many classes may be named.
            **kwargs: of `Score`.
        """
        which = "the one" if k == 1 else f"among the {k}"
        super().__init__(
            f"Zero-shot top-{k} accuracy of {network}: the class is {which} whose words lie nearest to the image by "
            "cosine; a fraction.",
            **kwargs,
        )
        self.text_embeddings, self.k = text, k
        self.facts |= {"classifier": network, "classes": len(text)}

    def update(self, embeddings: Float[Tensor, "n d"], labels: Int[Tensor, " n"]) -> None:
        """Score a batch.

        Args:
            embeddings: of the images.
            labels: the class each image was made for, as the rows of the text have them.
        """
        self.add(zero_shot(embeddings, self.text_embeddings, labels, self.k), labels)
