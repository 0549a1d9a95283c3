"""Transferability: whether other classifiers, and the target itself, see the class that an image was made for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.records.columns import CLASSES
from benchmark.records.record import Measurement
from benchmark.scoring.evaluators import NO_CLASSES, SEEN, give_data, marked, measured, not_finite, without
from featvis import metrics
from featvis.networks.own.wrap import alias_of

if TYPE_CHECKING:
    from benchmark.scoring.scorer import Scorer, Seen


def evaluate(scorer: Scorer, seen: Seen) -> list[Measurement]:
    """One measurement a network: the target, then the judges."""
    names = dict.fromkeys((scorer.plan.model, *scorer.plan.classifiers))
    return [_one(scorer, seen, name) for name in names]


def _one(scorer: Scorer, seen: Seen, name: str) -> Measurement:
    network, features = scorer.networks.get(name), seen.features.get(name, {})
    why = scorer.plan.why_no_judge(name)
    if network is None or why is not None:
        alias = alias_of(name)
        metric = metrics.Transferability(alias)
        return without(measured(f"top1_{alias}", metric.result(), alias), why or f"{alias} is not here")
    # ImageNet's thousand go without saying; what chance is follows from any other number.
    count = {} if network.num_classes == CLASSES else {"classes": network.num_classes}
    metric = metrics.Transferability(network.name, facts={"resize": SEEN} | count)
    broken = not_finite(features["logits"], network.alias) if "logits" in features else ""
    if "correct" in features:
        metric.add(features["correct"].double(), seen.labels)
    elif broken:
        pass
    elif "logits" in features and seen.labels is not None:
        metric.update(features["logits"], scorer.numbers(seen.labels, name))
    target = network is scorer.target
    # Two networks of one's own may be of one class.
    column = network.name if target or network.given == network.alias else network.alias
    found = measured(f"top1_{column}", metric.result(), marked(scorer, network.alias, network))
    if broken:
        return without(found, broken)
    if not seen.banked:
        return found if seen.labels is not None else without(found, NO_CLASSES)
    return (
        found
        if features
        else without(found, f"the reference holds no predictions of {network.alias}; {give_data(scorer)}")
    )
