"""Plausibility in all its readings: how near the images are to real ones, in the target's features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from benchmark.records.record import Measurement
from benchmark.scoring.evaluators import SEEN, absent, give_data, measured
from featvis import metrics
from featvis.data.reference import IMAGENET_IMAGES, Bank
from featvis.metrics.neighbours import TEXTS, Definition

if TYPE_CHECKING:
    from benchmark.scoring.scorer import Scorer, Seen

KINDS: tuple[Definition, ...] = ("cosine", "flat", "pooled", "deep_knn")
FLAT = ("cosine", "flat")
"""Of the flattened features of the last block."""


def evaluate(scorer: Scorer, seen: Seen) -> list[Measurement]:
    """One measurement a reading."""
    return [_one(scorer, seen, kind) for kind in KINDS]


def _one(scorer: Scorer, seen: Seen, kind: Definition) -> Measurement:
    name = "plausibility" if kind == "cosine" else f"plausibility_{kind}"
    bank, features = scorer.bank, seen.features.get(scorer.plan.model, {})
    if bank is None or "pooled" not in features:
        return absent(name, TEXTS[kind], f"the reference holds no features of {scorer.plan.model}; {give_data(scorer)}")
    if seen.labels is None and kind != "deep_knn":
        return absent(name, TEXTS[kind], "the units are not classes, so there are no images of the same class")
    # Sun et al. 2022 take k = 1000 for the 1.28 million images of ImageNet; the same share of this bank.
    k = max(1, round(len(bank.labels) * 1000 / IMAGENET_IMAGES)) if kind == "deep_knn" else 1
    flat = kind in FLAT
    layer = scorer.target.last_block() if flat else "penultimate, pooled"
    facts = {"network": scorer.target.name, "resize": SEEN, "layer": layer}
    if flat and not layer:
        return absent(name, TEXTS[kind], f"{scorer.target.alias} has no map before its pooling that could be flattened")
    if flat and seen.nearest is not None:
        facts["bank"] = f"{len(bank.labels)} images, each of its class looked at and none stored: {bank.source}"
        metric = metrics.Plausibility(kind, torch.zeros(0, 1), torch.zeros(0, dtype=torch.long), facts=facts)
        distances = seen.nearest["cosine"] if kind == "cosine" else seen.nearest["squared"].sqrt()
        metric.add(distances.masked_fill(distances.isinf(), torch.nan), seen.labels)
        return measured(name, metric.result())
    if flat and not set(scorer.classes.tolist()) <= set(bank.flat_classes):
        why = f"the reference keeps no flattened features of these classes; {give_data(scorer)}, or make it with --flat"
        return absent(name, TEXTS[kind], why)
    if flat and "flat" not in features:
        why = f"the reference keeps no flattened features of these images; {give_data(scorer)}, or make it with --flat"
        return absent(name, TEXTS[kind], why)
    rows = _neighbours(scorer, bank, kind)
    facts["bank"] = f"{len(rows)} images: {bank.source}"
    among: Any = bank.blocks if kind == "deep_knn" else bank.flat if flat else bank.rows(rows)
    metric = metrics.Plausibility(kind, among, bank.labels[rows], bank.digests[rows], k, facts=facts)
    labels = seen.labels if seen.labels is not None else torch.zeros(len(seen.ids), dtype=torch.long)
    metric.update(features["flat" if flat else "pooled"].float(), labels, seen.ids)
    return measured(name, metric.result())


def _neighbours(scorer: Scorer, bank: Bank, kind: Definition) -> Tensor:
    """Which rows of a bank a reading compares with."""
    if kind in FLAT:
        return bank.flat_rows
    if kind == "pooled":
        return torch.isin(bank.labels, scorer.classes).nonzero()[:, 0]
    return torch.arange(len(bank.labels))
