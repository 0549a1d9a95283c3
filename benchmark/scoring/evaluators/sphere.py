"""Distances between directions: where the images point to in the features of each network, beside real ones.

A column for the target and each observer. How strongly a network responds does not count, so that, unlike in raw
features, noise is not near to everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.records.record import Measurement
from benchmark.scoring.evaluators import SEEN, absent, give_data, marked, measured
from benchmark.scoring.evaluators.frechet import unusable
from featvis import metrics
from featvis.networks.own.wrap import alias_of

if TYPE_CHECKING:
    from benchmark.scoring.scorer import Scorer, Seen

TEXT = "Squared maximum mean discrepancy between the directions of features, scaled to unit length."


def evaluate(scorer: Scorer, seen: Seen) -> list[Measurement]:
    """One measurement a network: the target, then the observers."""
    return [_one(scorer, seen, name) for name in dict.fromkeys((scorer.plan.model, *scorer.plan.observers))]


def _one(scorer: Scorer, seen: Seen, name: str) -> Measurement:
    network, bank = scorer.networks.get(name), scorer.set_banks.get(name)
    short = alias_of(name) if network is None else network.alias
    column, heading = f"sphere_{short}", marked(scorer, short, network)
    features = seen.features.get(name, {})
    if network is None or bank is None or "pooled" not in features:
        nothing = f"the reference holds no features of {short}; {give_data(scorer)}"
        return absent(column, TEXT, scorer.plan.unavailable.get(name, nothing), heading)
    if bool((scorer.banked_classes(name) < 0).any()):
        why = f"{short} and {scorer.target.alias} do not share their classes, of which the reference holds images"
        return absent(column, TEXT, why, heading)
    ids = features.get("ids", seen.ids)
    exclude = ids[ids != 0]
    reference, what = scorer.set_reference(name, exclude)
    pooled, directed = features["pooled"], reference.any(1)
    reference = reference[directed]
    undirected = int((~pooled.any(1)).sum())
    nothing = f"what {short} makes of {undirected} of {len(pooled)} images is zero throughout: it has no direction"
    if why := seen.no_sets or nothing * (undirected > 0) or unusable(seen, pooled, reference, short):
        return absent(column, TEXT, why, heading)
    facts = {"resize": SEEN, "extractor": network.name, "reference": f"{what}: {bank.source}"}
    facts |= {} if bool(directed.all()) else {"left_out_of_it": f"{int((~directed).sum())} without a direction"}
    key = (name, frozenset(exclude.tolist()))
    metric = metrics.SphereDistance(reference, within=scorer.within.get(key), facts=facts)
    metric.update(pooled)
    found = measured(column, metric.result(), heading)
    if found.value is not None:
        scorer.within[key] = metric.within
    return found
