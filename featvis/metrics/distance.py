"""Distances between the images as a set and natural images as a set, in an extractor's features."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from featvis.errors import UserError
from featvis.metrics.base import Score
from featvis.metrics.functional.checks import require_width
from featvis.metrics.functional.distance import frechet_distance, kernel_distance, pairs_mean
from featvis.metrics.functional.sphere import unit_length
from featvis.metrics.resampling import bootstrap, frechet_statistic, kernel_statistic


class SetDistance(Score):
    """A distance between two sets of features; a subclass gives `_value` and `_interval`."""

    higher_is_better = False
    features: list[Tensor]

    def __init__(self, text: str, reference: Float[Tensor, "m d"], **kwargs: Any) -> None:
        """Take the reference.

        Args:
            text: the definition.
            reference: features of the reference images.
            **kwargs: of `Score`.

        Raises:
            UserError: for a reference of fewer than two images.
        """
        if len(reference) < 2:
            raise UserError(f"a distance between sets needs a reference of at least 2 images, not {len(reference)}")
        super().__init__(text, **kwargs)
        self.reference = reference
        self.add_state("features", default=[], dist_reduce_fx="cat")

    def update(self, features: Float[Tensor, "n d"]) -> None:
        """Add a batch.

        Args:
            features: of the images, from the reference's extractor.

        Raises:
            UserError: for features of another width than the reference's.
        """
        require_width(features, self.reference)
        # Flat, so that a process without images can send the others an empty tensor of as many dimensions.
        self.features.append(features.detach().double().reshape(-1))

    def count(self) -> int:
        """Images seen."""
        return len(self._sets()[0])

    def _sets(self) -> tuple[Tensor, Tensor]:
        return self._gathered(self.features).reshape(-1, self.reference.shape[1]), self.reference

    def _why_absent(self) -> str:
        return f"a distance between sets needs at least 2 images, not {self.count()}"

    def _absent(self) -> Tensor:
        return torch.tensor(torch.nan, dtype=torch.float64)


class FrechetDistance(SetDistance):
    """Fréchet distance (FID on Inception's features): see `functional.frechet_distance`.

    Example:
        >>> import torch
        >>> from featvis.metrics import FrechetDistance
        >>> reference = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
        >>> metric = FrechetDistance(reference)
        >>> metric.update(reference + 2)
        >>> round(float(metric.compute()), 4), metric.higher_is_better
        (12.0, False)
    """

    def __init__(self, reference: Float[Tensor, "m d"], **kwargs: Any) -> None:
        """Take the reference.

        Args:
            reference: features of the reference images.
            **kwargs: of `Score`.
        """
        text = (
            "Fréchet distance between Gaussians fitted to the features of the images and of the reference. With fewer "
            "images than feature dimensions it has a floor above 0: compare with the real row."
        )
        super().__init__(text, reference, **kwargs)
        # Below as many images the value has a floor, which tables must know.
        self.facts.setdefault("dimension", reference.shape[1])

    def _value(self) -> Tensor:
        return frechet_distance(*self._sets()) if self.count() >= 2 else self._absent()

    def _interval(self) -> tuple[float, float]:
        statistic = frechet_statistic(*self._sets())
        low, high = bootstrap(
            statistic, self.count(), resamples=self.resamples, seed=self.seed, centre=float(self._value())
        )
        return max(low, 0.0), max(high, 0.0)


class KernelDistance(SetDistance):
    """Squared MMD under a cubic kernel (KID on Inception's features): see `functional.kernel_distance`.

    Example:
        >>> import torch
        >>> from featvis.metrics import KernelDistance
        >>> metric = KernelDistance(torch.zeros(2, 1))
        >>> metric.update(torch.ones(1, 1))
        >>> metric.update(torch.ones(1, 1))
        >>> float(metric.compute())
        7.0
    """

    kernel = "the kernel (x'y / d + 1)^3"

    def __init__(
        self,
        reference: Float[Tensor, "m d"],
        *,
        subset_size: int | None = None,
        subsets: int = 100,
        within: float | None = None,
        **kwargs: Any,
    ) -> None:
        """Take the reference.

        Args:
            reference: features of the reference images.
            subset_size: images in a random subset, at most half of the smaller set; the whole sets by default.
            subsets: how many subsets are averaged.
            within: `within` of another metric over the same reference, which need not be computed again.
            **kwargs: of `Score`.
        """
        sets = (
            "between the whole sets: what the average over random subsets estimates"
            if subset_size is None
            else f"mean over {subsets} random subsets of {subset_size} images"
        )
        text = f"Unbiased squared maximum mean discrepancy under {self.kernel}, {sets}. Slightly below 0 is possible."
        super().__init__(text, reference, **kwargs)
        self.subset_size, self.subsets, self._within = subset_size, subsets, within

    @property
    def within(self) -> float:
        """Mean kernel over the pairs of different reference images, computed once."""
        if self._within is None:
            self._within = float(pairs_mean(self.reference.double()))
        return self._within

    def _value(self) -> Tensor:
        if self.count() < 2:
            return self._absent()
        if self.subset_size is None:
            return kernel_distance(*self._sets(), within=self.within)
        return kernel_distance(*self._sets(), subset_size=self.subset_size, subsets=self.subsets, seed=self.seed)

    def _interval(self) -> tuple[float, float]:
        statistic = kernel_statistic(*self._sets(), self.within)
        return bootstrap(statistic, self.count(), resamples=self.resamples, seed=self.seed, centre=float(self._value()))


class SphereDistance(KernelDistance):
    """Squared MMD under the kernel (cos + 1)^3 of the angle between features: see `functional.sphere_distance`.

    Example:
        >>> import torch
        >>> from featvis.metrics import SphereDistance
        >>> metric = SphereDistance(torch.tensor([[0.0, 2.0], [0.0, 3.0]]))
        >>> metric.update(torch.tensor([[1.0, 0.0], [5.0, 0.0]]))
        >>> round(float(metric.compute()), 6)
        14.0
    """

    kernel = "the kernel (cos + 1)^3 of the angle between features"

    def __init__(self, reference: Float[Tensor, "m d"], **kwargs: Any) -> None:
        """Take the reference.

        Args:
            reference: features of the reference images.
            **kwargs: of `KernelDistance`.

        Raises:
            UserError: for a reference of fewer than two images, or with features of length zero.
        """
        super().__init__(_on_sphere(reference), **kwargs)

    def update(self, features: Float[Tensor, "n d"]) -> None:
        """Add a batch.

        Args:
            features: of the images, from the reference's extractor.

        Raises:
            UserError: for features of another width than the reference's, or of length zero.
        """
        super().update(_on_sphere(features))


def _on_sphere(features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Where KID's kernel is (cos + 1)^3."""
    return math.sqrt(features.shape[1]) * unit_length(features)
