"""Who takes a study without being a person: rules that see the occluder alone, and other networks' features.

An observer's answer to a trial is 1 where it chooses the right query, 0 where the other, .5 where it cannot tell. The
rules need no visualization: what they reach is what the occluder gives away by itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from tabulate import tabulate
from torch import Tensor
from tqdm import tqdm

from benchmark.study.config import Study
from benchmark.study.taking.publish import FOLDER
from benchmark.study.trials import Trial, Trials
from featvis.data.files import fit, open_rgb, to_tensor
from featvis.errors import UserError
from featvis.metrics.functional.units import directions
from featvis.networks.classifier import Classifier
from featvis.networks.devices import default_device
from featvis.networks.loading import load
from featvis.storage.images import write_atomic

FILE = "observers.json"
RULES = ("centre", "variance", "edges")
BATCH = 32

Scores = dict[str, dict[str, float]]
"""Observers by name, and their answers by the trial's id."""


def far_from_centre(size: tuple[int, int], side: int, corner: tuple[int, int]) -> float:
    """How far the occluder's middle is from the image's, in pixels.

    Example:
        >>> from benchmark.study.making.observers import far_from_centre
        >>> far_from_centre((10, 10), 4, (3, 3)), far_from_centre((10, 10), 4, (0, 3))
        (0.0, 3.0)
    """
    return math.hypot(*(c + side / 2 - n / 2 for c, n in zip(corner, size, strict=True)))


def variance(image: Float[Tensor, "3 h w"], side: int, corner: tuple[int, int]) -> float:
    """The variance of the pixels that the occluder hides, mean of the channels."""
    row, column = corner
    return float(image[:, row : row + side, column : column + side].double().flatten(1).var(1).mean())


def edges(image: Float[Tensor, "3 h w"], side: int, corner: tuple[int, int]) -> float:
    """The mean squared difference of neighbours in what the occluder hides."""
    row, column = corner
    patch = image[:, row : row + side, column : column + side].double()
    return float(patch.diff(dim=1).square().mean() + patch.diff(dim=2).square().mean())


def chosen(most: float, least: float) -> float:
    """The answer of whoever chooses the query with the larger number.

    Example:
        >>> from benchmark.study.making.observers import chosen
        >>> chosen(2.0, 1.0), chosen(1.0, 1.0), chosen(0.0, 1.0)
        (1.0, 0.5, 0.0)
    """
    return 0.5 if most == least else float(most > least)


def by_rule(trial: Trial, image: Float[Tensor, "3 h w"]) -> dict[str, float]:
    """The rules' answers: a part far from the centre, or that is flat, is taken not to matter."""
    size = (image.shape[1], image.shape[2])
    away = (far_from_centre(size, trial.side, c) for c in (trial.most, trial.least))
    flat = (-variance(image, trial.side, c) for c in (trial.most, trial.least))
    smooth = (-edges(image, trial.side, c) for c in (trial.most, trial.least))
    return dict(zip(RULES, (chosen(*away), chosen(*flat), chosen(*smooth)), strict=True))


class Machine:
    """A network that compares queries with references, in its features less their mean over the trials' images.

    Args:
        network: another one than those of the study.
        folder: of the pictures.
    """

    def __init__(self, network: Classifier, folder: Path) -> None:
        self.network, self.folder = network.to(default_device()), folder
        self.kept: dict[str, Tensor] = {}

    def see(self, names: Iterable[str]) -> None:
        """Read pictures, each once."""
        missing = [name for name in dict.fromkeys(names) if name not in self.kept]
        for i in range(0, len(missing), BATCH):
            part = missing[i : i + BATCH]
            views = [to_tensor(fit(open_rgb(self.folder / name), self.network.input_size)) for name in part]
            found = self.network.features(torch.stack(views).to(default_device()), flat=False)["pooled"].cpu()
            self.kept |= dict(zip(part, found, strict=True))

    def answer(self, trial: Trial, references: Iterable[str], mean: Float[Tensor, " d"]) -> float:
        """The query that is more alike the references is chosen: the larger mean cosine."""
        shown = directions(torch.stack([self.kept[name] for name in references]), mean).nanmean(0)
        pair = directions(torch.stack([self.kept[trial.pictures[q]] for q in ("most", "least")]), mean)
        return chosen(*(pair @ shown).tolist())


def observe(study: Study, trials: Trials, out: Path) -> Scores:
    """What every observer answers to every trial.

    Args:
        study: what its YAML says: `observers` are the machines.
        trials: as they were made.
        out: the study's folder, whose pictures are looked at, as people are shown them.
    """
    folder, shown = out / FOLDER / "pictures", trials.shown()
    scores: Scores = {rule: {} for rule in RULES}
    for trial in shown:
        for rule, value in by_rule(trial, to_tensor(open_rgb(folder / trial.pictures["image"]))).items():
            scores[rule][trial.id] = value
    for name in study.observers:
        machine = Machine(load(name, "float32", flag="observers:"), folder)
        alias = machine.network.alias
        for trial in tqdm(shown, desc=f"observer {alias}", unit="trial", disable=None):
            machine.see([*trial.pictures.values(), *(r for files in trial.references.values() for r in files)])
        mean = torch.stack([machine.kept[t.pictures["image"]] for t in shown]).double().mean(0)
        for condition in dict.fromkeys(c for t in shown for c in t.references):
            scores[f"{alias}, {condition}"] = {
                t.id: machine.answer(t, t.references[condition], mean) for t in shown if condition in t.references
            }
    return scores


def write(scores: Scores, out: Path) -> None:
    """Keep the answers beside the trials, for the analysis."""
    write_atomic(out / FILE, f"{json.dumps(scores, indent=1, sort_keys=True)}\n".encode())


def read(out: Path) -> Scores:
    """The answers that were kept; none where there are none.

    Raises:
        UserError: for a file that is not what `write` has written.
    """
    path = out / FILE
    if not path.is_file():
        return {}
    try:
        return {
            str(name): {str(k): float(v) for k, v in given.items()}
            for name, given in json.loads(path.read_text(encoding="utf-8")).items()
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read ({error}); `featvis study make` makes it again") from error


def means(scores: Scores, trials: Trials) -> dict[str, dict[str, float]]:
    """The share of right answers to the trials that count, by observer and network."""
    counted = [t for t in trials.trials if t.kind == "trial"]
    found: dict[str, dict[str, float]] = {}
    for name, answers in scores.items():
        for model in trials.models:
            values = [answers[t.id] for t in counted if t.model == model and t.id in answers]
            if values:
                found.setdefault(name, {})[model] = float(np.mean(values))
    return found


def text(scores: Scores, trials: Trials) -> str:
    """The observers' table for people."""
    table: list[list[object]] = [
        [name, *(_percent(row, model) for model in trials.models)] for name, row in means(scores, trials).items()
    ]
    return tabulate(table, ["observer", *trials.models], tablefmt="simple")


def _percent(row: Mapping[str, float], model: str) -> str:
    return f"{row[model]:.0%}" if model in row else ""
