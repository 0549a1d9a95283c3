"""CMMD (Jayasumana et al. 2024), and whether CLIP names the class that an image was made for (Radford et al. 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmark.records.record import Measurement
from benchmark.scoring.evaluators import NO_CLASSES, SEEN, absent, give_data, measured
from benchmark.scoring.extractors import EXTRACTORS, classes_path, reference, shown, why_not
from featvis import metrics
from featvis.data.extractors.clip import ClassTexts, classes_file, embeddings_of, read_classes
from featvis.networks.classes import Classes

if TYPE_CHECKING:
    from benchmark.scoring.scorer import Scorer, Seen

NAME = EXTRACTORS["clip"]


def evaluate(scorer: Scorer, seen: Seen) -> list[Measurement]:
    """The distance and the two accuracies, or why not; nothing where nobody asks for them."""
    return [_distance(scorer, seen), *_zero_shot(scorer, seen)] if shown(scorer.plan, NAME) else []


def _distance(scorer: Scorer, seen: Seen) -> Measurement:
    compared = reference(scorer, seen, NAME)
    if isinstance(compared, str):
        return absent("cmmd", "CMMD: squared maximum mean discrepancy of CLIP's embeddings, times 1000.", compared)
    (rows, what), network = compared, scorer.networks[NAME]
    facts = {"extractor": f"{network.name}, embedding, {network.num_classes}", "resize": SEEN, "reference": what}
    metric = metrics.ClipDistance(embeddings_of(network, rows), facts=facts)
    metric.update(seen.features[NAME]["logits"])
    return measured("cmmd", metric.result())


def _zero_shot(scorer: Scorer, seen: Seen) -> list[Measurement]:
    texts, found = _texts(scorer, seen), []
    for k in (1, 5):
        name, text = f"clip_top{k}", f"Zero-shot top-{k} accuracy of CLIP, {NAME}."
        if isinstance(texts, str):
            found.append(absent(name, text, texts))
            continue
        classes, labels = texts
        if k >= len(classes.text):
            found.append(absent(name, text, f"{classes.path.name} has {len(classes.text)} classes, and k is {k}"))
            continue
        facts = {"resize": SEEN, "prompts": classes.prompts}
        metric = metrics.ZeroShot(scorer.networks[NAME].name, classes.text, k, facts=facts)
        metric.update(seen.features[NAME]["logits"], labels)
        found.append(measured(name, metric.result()))
    return found


def _texts(scorer: Scorer, seen: Seen) -> tuple[ClassTexts, Tensor] | str:
    """The classes in words and which of them each image is of; or why there are none."""
    if reason := why_not(scorer.plan, NAME):
        return reason
    if (path := classes_path(NAME)) is None:
        return (
            f"CLIP's words for the classes are not here: make {classes_file(NAME)} for the folder FEATVIS_WEIGHTS, as "
            "docs/metrics.md says"
        )
    if NAME not in seen.features or not seen.pictures:
        return f"the reference holds no embeddings of {NAME}; {give_data(scorer)}"
    if seen.labels is None:
        return NO_CLASSES
    classes, own = read_classes(path), Classes.of(scorer.target)
    numbers = {c: own.counterpart(c, classes.classes) for c in seen.labels.unique().tolist()}
    if unknown := [scorer.target.labels[c] for c, number in numbers.items() if number is None]:
        return f"{path.name} has no words for {', '.join(unknown[:3])}{', …' * (len(unknown) > 3)}"
    return classes, torch.tensor([numbers[c] for c in seen.labels.tolist()], dtype=torch.long)
