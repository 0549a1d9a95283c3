"""Distances between the images as a set and real ones as a set: Fréchet and kernel, over a network and over Inception.

Inception, for the sake of the paper's FID, takes a centre crop of 299 without resizing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmark.records.record import Measurement
from benchmark.scoring.evaluators import SEEN, absent, give_data, measured, not_finite
from featvis import metrics
from featvis.data.extractors.inception import FILE_NAMES, SIDE, inception_features
from featvis.data.files import fit, to_tensor
from featvis.networks.own.wrap import alias_of

if TYPE_CHECKING:
    from benchmark.scoring.scorer import Scorer, Seen

TOO_FEW = "the reference holds fewer than two images besides those of the row real"
FID_SEEN = "centre crop 299, no resize; photographs: short side to 299, centre crop"


def evaluate(scorer: Scorer, seen: Seen) -> list[Measurement]:
    """Over the network that stands in for Inception, and over Inception where there are real images."""
    return _over_network(scorer, seen) + ([] if scorer.sources.bank is None else _over_inception(scorer, seen))


def _over_network(scorer: Scorer, seen: Seen) -> list[Measurement]:
    network, bank = scorer.networks.get(scorer.plan.frechet), scorer.set_banks.get(scorer.plan.frechet)
    features = seen.features.get(scorer.plan.frechet, {})
    short = alias_of(scorer.plan.frechet) if network is None else network.alias
    kinds = ((metrics.FrechetDistance, "frechet", "Fréchet"), (metrics.KernelDistance, "kernel", "Kernel"))
    found = []
    for cls, kind, word in kinds:
        name, text = f"{kind}_{short}", f"{word} distance over the features of {short}."
        unable = scorer.plan.why_no_judge(scorer.plan.frechet)
        if unable or network is None or bank is None or "pooled" not in features:
            nothing = f"the reference holds no features of {short}; {give_data(scorer)}"
            found.append(absent(name, text, unable or nothing, short))
            continue
        ids = features.get("ids", seen.ids)
        reference, what = scorer.set_reference(scorer.plan.frechet, ids[ids != 0])
        if why := unusable(seen, features["pooled"], reference, short):
            found.append(absent(name, text, why, short))
            continue
        facts = {"resize": SEEN, "extractor": network.name, "reference": f"{what}: {bank.source}"}
        metric = cls(reference, facts=facts)
        metric.update(features["pooled"])
        found.append(measured(name, metric.result(), short))
    return found


def unusable(seen: Seen, features: Tensor, reference: Tensor, short: str) -> str:
    """Why there is no distance between the images and a reference in a network's features; empty: there is one."""
    if seen.no_sets:
        return seen.no_sets
    if len(reference) < 2:
        return TOO_FEW
    return not_finite(features, short) or not_finite(reference, short)


def _over_inception(scorer: Scorer, seen: Seen) -> list[Measurement]:
    """FID and KID, or why not."""
    found = []
    kinds = (
        (metrics.FrechetDistance, "fid", "FID: Fréchet distance"),
        (metrics.KernelDistance, "kid", "KID: squared maximum mean discrepancy"),
    )
    features, digests = scorer.inception_bank or (torch.zeros(0, 2048), torch.zeros(0, dtype=torch.long))
    keep = ~torch.isin(digests, torch.cat([scorer.held, seen.ids[seen.ids != 0]]))
    for cls, name, word in kinds:
        text = f"{word} over torch-fidelity's InceptionV3."
        if scorer.inception is None:
            why = f"Inception's weights are not here: put {FILE_NAMES[0]} into the folder FEATVIS_WEIGHTS"
            found.append(absent(name, text, why))
            continue
        if why := seen.no_sets or TOO_FEW * (int(keep.sum()) < 2):
            found.append(absent(name, text, why))
            continue
        what = f"{int(keep.sum())} images of the same classes, short side to 299: {scorer.plan.sets['frechet']['name']}"
        facts = {"extractor": "InceptionV3 (torch-fidelity), 2048", "resize": FID_SEEN, "reference": what}
        metric = cls(features[keep], facts=facts)
        for p in seen.pictures:
            view = fit(p.image, (SIDE, SIDE)) if p.photograph else p.image
            metric.update(inception_features(scorer.inception, to_tensor(view)[None]).cpu())
        found.append(measured(name, metric.result()))
    return found
