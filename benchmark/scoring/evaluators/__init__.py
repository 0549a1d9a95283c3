"""What computes the columns: a module a group, found by its name, with one function `evaluate(scorer, seen)`."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from benchmark.records.columns import SAME_FAMILY, THE_TARGET, column_of
from benchmark.records.record import Measurement
from featvis.networks.names import family

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.scoring.scorer import Scorer
    from featvis.networks.classifier import Classifier

SEEN = "short side resized (bicubic, antialiased) to the input, centre crop; a square canvas whole"
"""How every network but Inception sees an image."""
NO_CLASSES = "the units are not classes"


def give_data(scorer: Scorer) -> str:
    """The end of a reason: what would fill a column that is absent for want of real images."""
    target = scorer.target
    if target.channels not in (1, 3):
        return f"image files do not have the {target.channels} channels that it takes"
    if not target.synsets:
        return "give --data, a folder of images for each of its classes"
    return "give --data (imagenette, which is fetched, has ten of ImageNet's classes)"


def marked(scorer: Scorer, short: str, network: Classifier | None) -> str:
    """A network's name in a heading, with the word that it is the target, or of the target's family: no neutral judge.

    Args:
        scorer: with the target.
        short: the name as people read it.
        network: which that is; None where it is not at hand, so that the name has to do.
    """
    if network is scorer.target:
        return short + THE_TARGET
    same = family(short if network is None else network.name) == family(scorer.target.name)
    return short + SAME_FAMILY if same else short


def not_finite(features: Tensor, network: str) -> str:
    """Why what a network puts out cannot be scored; empty: it can."""
    broken = int((~features.isfinite()).flatten(1).any(1).sum())
    return f"{network} puts out values that are not finite for {broken} of {len(features)} images" if broken else ""


def measured(name: str, result: dict[str, Any], network: str = "") -> Measurement:
    """The entry of a record from a metric's `result()`; heading, group and direction are the column's.

    Args:
        name: of the column's measurement.
        result: see `featvis.metrics.Score.result`; `value`, `interval`, `n`, `definition`, `absent` and, where there
            are some, `values` are read.
        network: the short name for `{network}` in the heading.
    """
    column = column_of(name)
    assert column is not None, f"{name} is no column"
    interval, values = result["interval"], result.get("values")
    return Measurement(
        name=name,
        label=column.heading.replace("{network}", network),
        group=column.group,
        value=result["value"],
        interval=None if interval is None else (float(interval[0]), float(interval[1])),
        n=result["n"],
        higher_is_better=column.higher_is_better,
        definition=result["definition"],
        absent=result["absent"],
        values=None if values is None else tuple(_short(v) for v in values),
    )


def _short(value: float) -> float | None:
    """Five digits, which is more than an interval leaves and keeps records reviewable; None for what is no number."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def absent(name: str, text: str, reason: str, network: str = "") -> Measurement:
    """The entry of a column without a value: its definition, and why there is none."""
    nothing = {"value": None, "interval": None, "n": 0, "definition": {"text": text}, "absent": reason}
    return measured(name, nothing, network)


def without(measurement: Measurement, reason: str) -> Measurement:
    """The same entry with its value taken away."""
    return dataclasses.replace(measurement, value=None, interval=None, n=0, absent=reason, values=None)
