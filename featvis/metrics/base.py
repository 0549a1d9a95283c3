"""What every metric shares: a mean or a distance, its interval, and the entry of a record that says what it is.

`update` takes features, logits or spectra; `compute` gives a float64 scalar, NaN where there is nothing to say;
`result` gives the record's entry. States are synchronised across processes, in `compute` as in `interval` and `result`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Float64, Shaped
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from featvis.intervals import expanded, share_interval
from featvis.metrics.resampling import bootstrap, group_sums, ratio_statistic

NO_IMAGE = "no image was scored"


class Score(Metric):
    """A metric of a set of images.

    A subclass sets `higher_is_better` and gives `update`, `count`, `_value` and `_interval`.

    Example:
        >>> import torch
        >>> from featvis.metrics import Score
        >>> class Brightest(Score):
        ...     higher_is_better = True
        ...
        ...     def __init__(self, **kwargs):
        ...         super().__init__("The largest value that any image has.", **kwargs)
        ...         self.add_state("peaks", default=[], dist_reduce_fx="cat")
        ...
        ...     def update(self, canvas):
        ...         self.peaks.append(canvas.flatten(1).amax(1).double())
        ...
        ...     def count(self):
        ...         return len(self._gathered(self.peaks))
        ...
        ...     def _value(self):
        ...         return self._gathered(self.peaks).max()
        ...
        ...     def _interval(self):
        ...         return float(self._gathered(self.peaks).min()), float(self._value())
        >>> metric = Brightest()
        >>> metric.update(torch.tensor([0.25, 0.5]).reshape(2, 1, 1, 1))
        >>> result = metric.result()
        >>> result["value"], result["interval"], result["n"]
        (0.5, [0.25, 0.5], 2)
    """

    is_differentiable = False
    full_state_update = False

    def __init__(
        self, text: str, *, facts: Mapping[str, Any] | None = None, resamples: int = 1000, seed: int = 0, **kwargs: Any
    ) -> None:
        """Start empty.

        Args:
            text: the definition, in one or two sentences.
            facts: what else defines the number (layer, pooling, bank, extractor, resize).
            resamples: bootstrap draws behind the interval.
            seed: of the draws.
            **kwargs: of `torchmetrics.Metric`.
        """
        super().__init__(**kwargs)
        self.text, self.facts, self.resamples, self.seed = text, dict(facts or {}), resamples, seed
        # A process without images must send the others an empty tensor of their dtype.
        self.set_dtype(torch.float64)

    @abstractmethod
    def count(self) -> int:
        """Images this process has seen that count."""

    @abstractmethod
    def _value(self) -> Tensor: ...

    @abstractmethod
    def _interval(self) -> tuple[float, float]: ...

    def _why_absent(self) -> str:
        return NO_IMAGE

    def _left_out(self) -> str | None:
        return None

    def compute(self) -> Tensor:
        """The value, a float64 scalar; NaN where absent."""
        return self._value()

    def interval(self) -> tuple[float, float] | None:
        """The 95 % bootstrap interval, the reference held fixed; None for fewer than two images or an absent value."""
        with self._together():
            if self.count() < 2 or math.isnan(self._value()):
                return None
            return self._interval()

    def result(self) -> dict[str, Any]:
        """The metric's entry in a record, but for its name, label and group.

        Returns:
            `value` (None where absent), `interval` (two numbers or None), `n`, `higher_is_better`, `definition` (text
            and facts; `left_out` where some images do not count) and `absent` (why there is no value, or None).
        """
        with self._together():
            n, value, left_out = self.count(), float(self._value()), self._left_out()
            known = not math.isnan(value)
            interval = list(self._interval()) if known and n >= 2 else None
            absent = None if known else self._why_absent()
        definition = {"text": self.text, **self.facts} | ({"left_out": left_out} if left_out else {})
        return {
            "value": value if known else None,
            "interval": interval,
            "n": n,
            "higher_is_better": self.higher_is_better,
            "definition": definition,
            "absent": absent,
        }

    def _together(self) -> AbstractContextManager[None]:
        """The states of all processes, for what torchmetrics does not wrap (it wraps `compute` alone)."""
        return self.sync_context(
            dist_sync_fn=self.dist_sync_fn, should_sync=self._to_sync, should_unsync=self._should_unsync
        )

    def _gathered(self, state: list[Tensor] | Tensor) -> Tensor:
        """All of a list state, also where it is empty."""
        return dim_zero_cat(state) if len(state) else torch.zeros(0, dtype=torch.float64, device=self.device)


class PerImage(Score):
    """The mean of one score an image; NaN scores are left out. A subclass gives `update`, which appends to `values`.

    Where it appends to `groups` too, the class of each image, say, the interval is over the groups: several pictures of
    a class say less than as many classes do (Davison and Hinkley 1997, section 3.8). With a single group, or none, it
    is over the images.

    Example:
        >>> import torch
        >>> from featvis.metrics import PerImage
        >>> class Brightness(PerImage):
        ...     higher_is_better = True
        ...
        ...     def __init__(self, **kwargs):
        ...         super().__init__("Mean of all values of a canvas.", **kwargs)
        ...
        ...     def update(self, canvas):
        ...         self.values.append(canvas.flatten(1).mean(1).double())
        >>> metric = Brightness()
        >>> metric.update(torch.tensor([0.25, 0.75]).reshape(2, 1, 1, 1))
        >>> float(metric.compute()), metric.result()["n"]
        (0.5, 2)
    """

    values: list[Tensor]
    groups: list[Tensor]
    share = False
    """Whether scores are 0 or 1: the interval is then that of a share."""

    def __init__(self, text: str, **kwargs: Any) -> None:
        """Start empty.

        Args:
            text: the definition.
            **kwargs: of `Score`.
        """
        super().__init__(text, **kwargs)
        self.add_state("values", default=[], dist_reduce_fx="cat")
        self.add_state("groups", default=[], dist_reduce_fx="cat")

    def add(self, values: Float64[Tensor, " n"], groups: Shaped[Tensor, " n"] | None) -> None:
        """Take scores that are there already.

        Args:
            values: NaN for an image without one.
            groups: of the images, their classes, say; None: each is its own.
        """
        self.values.append(values)
        if groups is not None:
            self.groups.append(groups.double().to(values.device))

    def count(self) -> int:
        """Images whose score is not NaN."""
        return len(self._kept())

    def _kept(self) -> Tensor:
        values = self._gathered(self.values)
        return values[~values.isnan()]

    def _value(self) -> Tensor:
        return self._kept().mean()

    def result(self) -> dict[str, Any]:
        """As of any `Score`, and `values`: the score of each image in the order they came, NaN for none."""
        # One after the other: states that are put together are not put together again.
        with self._together():
            values = self._gathered(self.values).tolist()
        return super().result() | {"values": values}

    def _interval(self) -> tuple[float, float]:
        values, groups = self._gathered(self.values), self._gathered(self.groups)
        kept = values[~values.isnan()]
        grouped = len(groups) == len(values)
        sums, sizes = group_sums(kept, groups[~values.isnan()] if grouped else torch.arange(len(kept)))
        if self.share:
            return share_interval(sums, sizes)
        n = len(sums)
        return bootstrap(ratio_statistic(sums, sizes), n, resamples=self.resamples, seed=self.seed, level=expanded(n))
