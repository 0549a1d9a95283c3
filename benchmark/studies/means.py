"""Numbers of the studies as their records have them: one of a whole, or the mean of one an image with its interval."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch

from benchmark.records.columns import column_of
from benchmark.records.record import Measurement
from featvis.intervals import expanded, share_interval
from featvis.metrics import bootstrap
from featvis.metrics.resampling import group_sums, ratio_statistic


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
    share: bool = False,
    groups: Sequence[Hashable] | None = None,
) -> Measurement:
    """The mean, and its 95 % interval where there are at least two numbers: Wilson's of a share, else by resampling.

    See `number`, and docs/metrics.md for the intervals.

    Args:
        name: of the metric.
        values: one number an image.
        definition: `text` and what else fixes the number.
        shown: what stands in the heading for the layer or network.
        why_absent: said where there is no number.
        share: whether each number is 0 or 1.
        groups: of each number, the photograph that it is of, say: the interval is over these, if there are several.

    Example:
        >>> from benchmark.studies.means import mean_of
        >>> mean_of("error", [1.0, 3.0], {"text": "Made up."}).value
        2.0
    """
    n = len(values)
    if not n:
        return number(name, None, 0, definition, shown, absent=why_absent)
    return number(name, math.fsum(values) / n, n, definition, shown, _interval(values, share, groups or range(n)))


def _interval(values: Sequence[float], share: bool, groups: Sequence[Hashable]) -> tuple[float, float] | None:
    if len(values) < 2:
        return None
    place = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    of = torch.tensor([place[group] for group in groups])
    sums, sizes = group_sums(torch.tensor(values, dtype=torch.float64), of)
    if share:
        return share_interval(sums, sizes)
    return bootstrap(ratio_statistic(sums, sizes), len(sums), level=expanded(len(sums)))
