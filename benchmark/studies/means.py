"""Numbers of the studies as their records have them: one of a whole, or the mean of one an image with its interval."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from benchmark.records.columns import column_of
from benchmark.records.record import Measurement
from featvis.metrics import bootstrap
from featvis.metrics.resampling import mean_statistic


def number(
    name: str,
    value: float | None,
    n: int,
    definition: Mapping[str, Any],
    shown: str = "",
    interval: tuple[float, float] | None = None,
    absent: str | None = None,
) -> Measurement:
    """A number; its heading, group and direction are those of its column (`benchmark.records.columns`).

    Args:
        name: of the metric.
        value: or None, where `absent` says why.
        n: how many images it is over.
        definition: `text` and what else fixes the number.
        shown: what stands in the heading for the layer, network or concept.
        interval: of 95 %.
        absent: why there is no value.
    """
    column = column_of(name)
    assert column is not None, name
    label = re.sub(r"\{\w+\}", lambda _: shown, column.heading)
    return Measurement(name, label, column.group, value, interval, n, column.higher_is_better, dict(definition), absent)


def mean_of(
    name: str,
    values: Sequence[float],
    definition: Mapping[str, Any],
    shown: str = "",
    why_absent: str = "there is no picture",
) -> Measurement:
    """The mean, and its 95 % bootstrap interval where there are at least two numbers; see `number`.

    Args:
        name: of the metric.
        values: one number an image.
        definition: `text` and what else fixes the number.
        shown: what stands in the heading for the layer or network.
        why_absent: said where there is no number.

    Example:
        >>> from benchmark.studies.means import mean_of
        >>> mean_of("error", [1.0, 3.0], {"text": "Made up."}).value
        2.0
    """
    n = len(values)
    if not n:
        return number(name, None, 0, definition, shown, absent=why_absent)
    interval = bootstrap(mean_statistic(torch.tensor(values, dtype=torch.float64)), n) if n > 1 else None
    return number(name, math.fsum(values) / n, n, definition, shown, interval)
