"""Scores of units: whether a picture says which class, channel or direction it is of. Intervals are over units."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from featvis.intervals import expanded, share_interval
from featvis.metrics.base import Score
from featvis.metrics.functional import units as functional
from featvis.metrics.resampling import bootstrap, mean_statistic


class PerUnit(Score):
    """The mean over units of one score a unit; a unit's pictures (seeds) are one draw, so intervals resample units.

    A subclass gives `update`, which hands `_take` one row a picture, and `_scores`.

    Example:
        >>> import torch
        >>> from featvis.metrics import PerUnit
        >>> class Spread(PerUnit):
        ...     higher_is_better = True
        ...
        ...     def __init__(self, **kwargs):
        ...         super().__init__("Standard deviation of a unit's brightness over its pictures.", 1, **kwargs)
        ...
        ...     def update(self, canvas, units):
        ...         self._take(canvas.flatten(1).mean(1, keepdim=True), units)
        ...
        ...     def _scores(self, rows, units, count):
        ...         return torch.stack([rows[units == unit].std(unbiased=False) for unit in range(count)])
        >>> metric = Spread()
        >>> metric.update(torch.tensor([0.0, 0.5, 0.25, 0.25]).reshape(4, 1, 1, 1), torch.tensor([0, 0, 1, 1]))
        >>> result = metric.result()
        >>> result["value"], result["n"], result["values"]
        (0.125, 2, [0.25, 0.25, 0.0, 0.0])
    """

    rows: list[Tensor]
    units: list[Tensor]
    why_absent = "no unit has a score"
    bounded = False
    """Whether scores are from 0 to 1: where each is 0 or 1, the interval is that of a share."""

    def __init__(self, text: str, width: int, **kwargs: Any) -> None:
        """Start empty.

        Args:
            text: the definition.
            width: numbers in a row.
            **kwargs: of `Score`.
        """
        super().__init__(text, **kwargs)
        self.width = width
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self.add_state("units", default=[], dist_reduce_fx="cat")

    def _take(self, rows: Float[Tensor, "n w"], units: Int[Tensor, " n"]) -> None:
        # Flat, so that a process without images can send the others an empty tensor of as many dimensions.
        self.rows.append(rows.detach().double().cpu().reshape(-1))
        self.units.append(units.double().cpu())

    @abstractmethod
    def _scores(self, rows: Float[Tensor, "n w"], units: Int[Tensor, " n"], count: int) -> Float[Tensor, " u"]:
        """One score a unit, NaN for none."""

    def _by_unit(self) -> tuple[Tensor, Tensor]:
        """The scores of all units, and which of them each picture is of."""
        units = self._gathered(self.units).long()
        rows = self._gathered(self.rows).reshape(-1, self.width)
        count = int(units.max()) + 1 if len(units) else 0
        return (self._scores(rows, units, count) if count else torch.zeros(0).double()), units

    def count(self) -> int:
        """Units with a score."""
        return len(self._kept())

    def _kept(self) -> Tensor:
        scores = self._by_unit()[0]
        return scores[scores.isfinite()]

    def _value(self) -> Tensor:
        return self._kept().mean()

    def _interval(self) -> tuple[float, float]:
        kept = self._kept()
        n = len(kept)
        if self.bounded and bool(((kept == 0) | (kept == 1)).all()):
            return share_interval(kept, torch.ones_like(kept))
        return bootstrap(mean_statistic(kept), n, resamples=self.resamples, seed=self.seed, level=expanded(n))

    def _why_absent(self) -> str:
        return self.why_absent if len(self._gathered(self.units)) else super()._why_absent()

    def result(self) -> dict[str, Any]:
        """As of any `Score`, and `values`: the score of each picture's unit, in the order they came, NaN for none."""
        # One after the other, as in `PerImage`.
        with self._together():
            scores, units = self._by_unit()
            values = scores[units].tolist()
        return super().result() | {"values": values}


class Identification(PerUnit):
    """Whether a unit's pictures resemble its natural images more than other units': see `functional.identification`.

    Example:
        >>> import torch
        >>> from featvis.metrics import Identification
        >>> metric = Identification(2)
        >>> metric.update(torch.tensor([[0.9, 0.1], [0.2, 0.7]]), torch.tensor([0, 1]))
        >>> float(metric.compute()), metric.count()
        (1.0, 2)
    """

    higher_is_better = True
    bounded = True
    why_absent = "fewer than two units of a group have pictures and natural images that excite them"

    def __init__(self, count: int, **kwargs: Any) -> None:
        """Name the number of units.

        Args:
            count: units in all.
            **kwargs: of `Score`.
        """
        text = (
            "Share of the other units of its layer to whose natural images a unit's pictures are less similar than to "
            "its own (cosine, less the mean over the pool and over all pictures): an AUC, chance is .5."
        )
        super().__init__(text, count, **kwargs)

    def update(self, similarity: Float[Tensor, "n v"], units: Int[Tensor, " n"]) -> None:
        """Add pictures.

        Args:
            similarity: of each to the natural images of all units, NaN for units of another group.
            units: whose pictures they are.
        """
        self._take(similarity, units)

    def _scores(self, rows: Tensor, units: Tensor, count: int) -> Tensor:
        return functional.identification(functional.by_unit(rows, units, self.width))


class TwoAlternatives(PerUnit):
    """A machine's two-alternative forced choice: see `functional.two_alternatives` and `graded_alternatives`.

    Example:
        >>> import torch
        >>> from featvis.metrics import TwoAlternatives
        >>> metric = TwoAlternatives(2)
        >>> metric.update(torch.tensor([[0.9, 0.2]]), torch.tensor([[0.1, 0.5]]), torch.tensor([0]))
        >>> float(metric.compute())
        0.75
    """

    higher_is_better = True
    bounded = True

    def __init__(self, queries: int, slope: float | None = None, **kwargs: Any) -> None:
        """Say how many queries there are.

        Args:
            queries: of each side.
            slope: of an observer who is not always sure; None: of one who takes whatever is more similar.
            **kwargs: of `Score`.
        """
        sure = (
            "the more similar one is chosen: an AUC over all pairs"
            if slope is None
            else "chosen with the probability sigmoid(slope x difference), with which nine natural images get .9"
        )
        text = (
            "Of two natural images, one of which excites the unit more, an observer chooses by their similarity to the "
            f"unit's pictures, less the mean similarity to the other units' pictures; {sure}. Chance is .5."
        )
        super().__init__(text, 2 * queries, **kwargs)
        self.queries, self.slope = queries, slope

    def update(self, positive: Float[Tensor, "n q"], negative: Float[Tensor, "n q"], units: Int[Tensor, " n"]) -> None:
        """Add units, all pictures of each together.

        Args:
            positive: similarities, contrasted (`functional.contrast`), of queries that excite the unit more.
            negative: of those that excite it less.
            units: their numbers.
        """
        self._take(torch.cat([positive, negative], 1), units)

    def _scores(self, rows: Tensor, units: Tensor, count: int) -> Tensor:
        rows = functional.by_unit(rows, units, count)
        positive, negative = rows[:, : self.queries], rows[:, self.queries :]
        if self.slope is None:
            return functional.two_alternatives(positive, negative)
        return functional.graded_alternatives(positive, negative, self.slope)


class ExcessActivation(PerUnit):
    """How strongly pictures excite their units beside natural images: see `functional.excess_activation`.

    Example:
        >>> import torch
        >>> from featvis.metrics import ExcessActivation
        >>> metric = ExcessActivation()
        >>> metric.update(torch.tensor([5.0]), torch.tensor([1.0]), torch.tensor([3.0]), torch.tensor([0]))
        >>> float(metric.compute())
        2.0
    """

    higher_is_better = True
    why_absent = "no natural image excites any of the units"

    def __init__(self, **kwargs: Any) -> None:
        """Start empty; arguments as of `Score`."""
        text = (
            "(activation of the unit - median of natural images) / (their maximum - median), the whole picture seen at "
            "once: 1 is as strong as the strongest photograph."
        )
        super().__init__(text, 1, **kwargs)

    def update(
        self,
        activation: Float[Tensor, " n"],
        median: Float[Tensor, " n"],
        maximum: Float[Tensor, " n"],
        units: Int[Tensor, " n"],
    ) -> None:
        """Add pictures.

        Args:
            activation: of each picture's unit in the target network.
            median: of that unit over natural images.
            maximum: the same.
            units: whose pictures they are.
        """
        self._take(functional.excess_activation(activation, median, maximum)[:, None], units)

    def _scores(self, rows: Tensor, units: Tensor, count: int) -> Tensor:
        return functional.by_unit(rows, units, count)[:, 0]


class DeadShare(ExcessActivation):
    """Share of the units that their pictures excite no more than the median natural image does.

    Example:
        >>> import torch
        >>> from featvis.metrics import DeadShare
        >>> metric, one = DeadShare(), torch.tensor([1.0, 1.0])
        >>> metric.update(torch.tensor([0.5, 2.0]), one, 2 * one, torch.tensor([0, 1]))
        >>> float(metric.compute())
        0.5
    """

    higher_is_better = False
    bounded = True

    def __init__(self, **kwargs: Any) -> None:
        """Start empty; arguments as of `Score`."""
        super().__init__(**kwargs)
        self.text = "Share of the units that their pictures excite no more than the median natural image does."

    def _scores(self, rows: Tensor, units: Tensor, count: int) -> Tensor:
        excess = functional.by_unit(rows, units, count)[:, 0]
        return (excess <= 0).double().masked_fill(excess.isnan(), torch.nan)


class TransferPercentile(PerUnit):
    """Where pictures lie among real images of their class, by how surely another classifier sees it.

    Example:
        >>> import torch
        >>> from featvis.metrics import TransferPercentile
        >>> metric = TransferPercentile("vgg16.tv_in1k")
        >>> metric.update(torch.tensor([-1.0]), torch.tensor([[-2.0, -0.5]]), torch.tensor([0]))
        >>> float(metric.compute())
        0.5
    """

    higher_is_better = True
    bounded = True
    why_absent = "there is no other real image of any of the classes"

    def __init__(self, classifier: str, **kwargs: Any) -> None:
        """Name the classifier.

        Args:
            classifier: its full tag.
            **kwargs: of `Score`.
        """
        text = (
            f"Share of the real images of the class to which {classifier} gives a lower log-probability of the class "
            "than to the picture: a top-1 with grades, .5 for the real images themselves."
        )
        super().__init__(text, 1, **kwargs)
        self.facts.setdefault("classifier", classifier)

    def update(self, score: Float[Tensor, " n"], real: Float[Tensor, "n m"], units: Int[Tensor, " n"]) -> None:
        """Add pictures.

        Args:
            score: log-probability of each picture's class.
            real: the same of the real images of that class; NaN fills up.
            units: whose pictures they are.
        """
        self._take(functional.percentile(score, real)[:, None], units)

    def _scores(self, rows: Tensor, units: Tensor, count: int) -> Tensor:
        return functional.by_unit(rows, units, count)[:, 0]

    def _left_out(self) -> str | None:
        scores, units = self._by_unit()
        seen = scores[units.unique()]
        missing = int(seen.isnan().sum())
        why = "there is no other real image of their class, or their log-probability is not finite"
        return f"{missing} of {len(seen)} units: {why}" if missing else None


class SeedDiversity(PerUnit):
    """How different the pictures of one unit are: see `functional.seed_diversity`.

    Example:
        >>> import torch
        >>> from featvis.metrics import SeedDiversity
        >>> metric = SeedDiversity(2)
        >>> metric.update(torch.eye(2), torch.tensor([0, 0]))
        >>> float(metric.compute())
        1.0
    """

    higher_is_better = True
    why_absent = "no unit has more than one picture"

    def __init__(self, width: int, **kwargs: Any) -> None:
        """Say how wide the features are.

        Args:
            width: of a direction.
            **kwargs: of `Score`.
        """
        text = "Mean cosine distance between the pictures of a unit, over pairs of seeds. Noise is diverse too."
        super().__init__(text, width, **kwargs)

    def update(self, x: Float[Tensor, "n d"], units: Int[Tensor, " n"]) -> None:
        """Add pictures.

        Args:
            x: their directions (`functional.directions`).
            units: whose they are.
        """
        self._take(x, units)

    def _scores(self, rows: Tensor, units: Tensor, count: int) -> Tensor:
        return functional.seed_diversity(rows, units, count)
