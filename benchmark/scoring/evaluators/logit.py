"""The logit of the class that an image was made for, in the target network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.records.record import Measurement
from benchmark.scoring.evaluators import NO_CLASSES, SEEN, give_data, measured, without
from featvis import metrics

if TYPE_CHECKING:
    from benchmark.scoring.scorer import Scorer, Seen


def evaluate(scorer: Scorer, seen: Seen) -> list[Measurement]:
    """One measurement."""
    features = seen.features.get(scorer.plan.model, {})
    metric = metrics.LogitMagnitude(facts={"network": scorer.target.name, "resize": SEEN})
    if "own_logit" in features:
        metric.add(features["own_logit"].double(), seen.labels)
    elif "logits" in features and seen.labels is not None:
        metric.update(features["logits"], seen.labels)
    found = measured("logit", metric.result())
    if not features:
        return [without(found, f"the reference holds no features of {scorer.plan.model}; {give_data(scorer)}")]
    if seen.banked and "own_logit" not in features:
        return [without(found, f"the reference keeps the logit of each image's own class alone; {give_data(scorer)}")]
    return [found if seen.labels is not None else without(found, NO_CLASSES)]
