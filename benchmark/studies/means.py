"""The mean of one number an image, with its interval, as the studies' records have it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from benchmark.records.record import Measurement
from featvis.metrics import bootstrap
from featvis.metrics.resampling import mean_statistic


def mean_of(
    name: str,
    label: str,
    group: str,
    values: Sequence[float],
    definition: Mapping[str, Any],
    higher_is_better: bool,
    why_absent: str = "there is no picture",
) -> Measurement:
    """The mean, and its 95 % bootstrap interval where there are at least two numbers.

    Args:
        name: of the metric.
        label: its heading.
        group: where it stands.
        values: one number an image.
        definition: `text` and what else fixes the number.
        higher_is_better: the direction.
        why_absent: said where there is no number.

    Example:
        >>> from benchmark.studies.means import mean_of
        >>> mean_of("error", "error", "concepts", [1.0, 3.0], {"text": "Made up."}, False).value
        2.0
    """
    n, facts = len(values), dict(definition)
    if not n:
        return Measurement(name, label, group, None, None, 0, higher_is_better, facts, why_absent)
    interval = bootstrap(mean_statistic(torch.tensor(values, dtype=torch.float64)), n) if n > 1 else None
    return Measurement(name, label, group, math.fsum(values) / n, interval, n, higher_is_better, facts)
