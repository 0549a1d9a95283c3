"""The numbers of adversarial examples: predictions and image files in, measurements out."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from benchmark.records.record import Measurement
from benchmark.studies.attacks.plots import GRID
from benchmark.studies.means import mean_of, number
from featvis.data.files import open_rgb
from featvis.generators.attack import LEVELS, total_variation
from featvis.metrics import periodic_share
from featvis.networks.classifier import Classifier

READ = "read back from the image file"
TEXTS = {
    "success": f"Share of the examples, {READ}, that {{judge}} assigns to the target class.",
    "probability": f"Probability (softmax) of the target class in {{judge}} for the examples, {READ}; their mean.",
    "fooled": f"Share of the examples, {READ}, for which {{judge}} names another class than for the original, seen at "
    "the attacked network's input size.",
    "clean_top1": "Share of the originals whose class, by the name of the file or folder, {judge} names.",
    "linf": "Largest |example - original| over all values of all files; a value is in [0, 1].",
    "tv": "Anisotropic total variation of example - original, as files: the sum of |differences| between neighbours; "
    "values in [0, 1]; mean over the images.",
    "ssim": "Structural similarity of example and original, as files (Wang et al. 2004; torchmetrics: Gaussian window "
    "of deviation 1.5, 11 wide, edges reflected, values in [0, 1]); mean over the images.",
    "grid": "The grid of a transformer's patches: share of the variance of the perturbation's strength (|example - "
    "original|, as files, mean over the channels) that repeats itself every 16 pixels in both directions, harmonics of "
    "that period included. White noise has 0.5 % at 224 x 224. Mean over the images.",
}
SHARES = ("success", "fooled", "clean_top1")
NO_GRID = f"no image that was changed has sides that are multiples of {GRID} pixels"


def measure(
    seen: pd.DataFrame, judges: Mapping[str, Classifier], attacked: Classifier, files: Sequence[tuple[Path, Path]]
) -> list[Measurement]:
    """All numbers of a set of examples; none where there is no example.

    Args:
        seen: the table of predictions (`benchmark.studies.attacks.run.predict`).
        judges: networks that looked at the examples, by alias.
        attacked: the one that they were made with.
        files: (original, example) of each.
    """
    if not files:
        return []
    found: list[Measurement] = []
    for name, judge in judges.items():
        found += _judged(seen[seen["judge"] == name], judge, judge is attacked)
    return found + _perturbation(files)


def _judged(seen: pd.DataFrame, judge: Classifier, attacked: bool) -> list[Measurement]:
    """What a network makes of the examples; the attacked one's numbers have the short names."""
    values = {
        "success": seen["class"] == seen["target"],
        "fooled": seen["class"] != seen["clean_class"],
    }
    if attacked:
        values["probability"] = seen["target_probability"]
    # Two networks of one's own may be of one class.
    called = judge.name if judge.given == judge.alias else judge.alias
    tail = "" if attacked else f"_{called}"
    found = [measured(f"{kind}{tail}", column, seen["image"], judge) for kind, column in values.items()]
    if attacked:
        known = seen[seen["own"].notna()]
        found.append(measured("clean_top1", known["clean_class"] == known["own"], known["image"], judge))
    return found


def _perturbation(files: Sequence[tuple[Path, Path]]) -> list[Measurement]:
    """How far the examples lie from the originals, file by file; whole levels until the last division."""
    found: dict[str, list[float]] = {"linf": [], "tv": [], "ssim": [], "grid": []}
    changed = []
    for both in files:
        a, b = (torch.from_numpy(np.array(open_rgb(path), np.float64)).permute(2, 0, 1)[None] for path in both)
        found["linf"].append(float((b - a).abs().max()) / LEVELS)
        found["tv"].append(float(total_variation(b - a)) / LEVELS)
        similarity = structural_similarity_index_measure(b, a, data_range=float(LEVELS))
        assert isinstance(similarity, torch.Tensor)
        found["ssim"].append(float(similarity))
        # An example that is its original has no perturbation to speak of.
        if not (a.shape[-1] % GRID or a.shape[-2] % GRID or a.equal(b)):
            # Each patch has a pattern of its own; what repeats is where in a patch it is strong.
            found["grid"].append(float(periodic_share((b - a).abs().mean(1, keepdim=True), GRID)))
            changed.append(both[0])
    largest = number("linf", max(found.pop("linf")), len(files), {"text": TEXTS["linf"]})
    of = {"grid": changed}
    originals = [original for original, _ in files]
    return [largest, *(measured(name, values, of.get(name, originals)) for name, values in found.items())]


def measured(name: str, values: Any, photographs: Iterable[Hashable], judge: Classifier | None = None) -> Measurement:
    """The mean of one number an example, with its interval over the photographs that the examples are of."""
    text = next(t for key, t in TEXTS.items() if name.startswith(key))
    definition, shown = {"text": text}, ""
    if judge is not None:
        shown = judge.alias
        definition = {"text": text.format(judge=shown), "judge": shown, "network": judge.name}
    numbers = np.array(values, dtype=np.float64).tolist()
    why = NO_GRID if name == "grid" else "no image carries a class in its name"
    return mean_of(name, numbers, definition, shown, why, name.startswith(SHARES), list(photographs))
