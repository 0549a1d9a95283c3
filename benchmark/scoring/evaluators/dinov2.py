"""Distances between the images as a set and real ones as a set in DINOv2's features (Stein et al. 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.records.record import Measurement
from benchmark.scoring.evaluators import SEEN, absent, measured
from benchmark.scoring.extractors import EXTRACTORS, reference, shown
from featvis import metrics

if TYPE_CHECKING:
    from benchmark.scoring.scorer import Scorer, Seen

KINDS = (
    (metrics.FrechetDistance, "fd_dinov2", "FD-DINOv2: Fréchet distance"),
    (metrics.KernelDistance, "kd_dinov2", "KD-DINOv2: squared maximum mean discrepancy"),
)


def evaluate(scorer: Scorer, seen: Seen) -> list[Measurement]:
    """Fréchet and kernel distance, or why not; nothing where nobody asks for them."""
    name = EXTRACTORS["dinov2"]
    if not shown(scorer.plan, name):
        return []
    compared, found = reference(scorer, seen, name), []
    for cls, column, word in KINDS:
        if isinstance(compared, str):
            found.append(absent(column, f"{word} over the CLS token of DINOv2.", compared))
            continue
        rows, what = compared
        extractor = f"{scorer.networks[name].name}, CLS token, {rows.shape[1]}"
        metric = cls(rows, facts={"extractor": extractor, "resize": SEEN, "reference": what})
        metric.update(seen.features[name]["pooled"])
        found.append(measured(column, metric.result()))
    return found
