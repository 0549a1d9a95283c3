"""The record of a class's concepts: facts of their file and of their pictures in, a `Record` out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.records.record import FailedUnit, Measurement, Record
from benchmark.running.produce import of_images
from benchmark.studies.means import number
from featvis.errors import UserError
from featvis.generators import Generator
from featvis.networks.units import Unit

PATCHES = ("error", "explained")
"""Measurements over all patches, those of sister classes included."""


def record_of_class(
    generator: Generator, preset: str | None, facts: dict[str, Any], units: Sequence[Unit],
    folder: Path, out: Path, failed: dict[str, FailedUnit], command: str,
) -> Record:  # fmt: skip
    """The record of a class: the importance of each concept, and how well the concepts stand for the activations."""
    own = facts["own"]
    text = {
        "importance": f"total Sobol index of the concept's coefficient for the logit of {facts['name']}, the mean over "
        "the class's own images (Jansen's estimator, Halton masks; Fel et al. 2023, CRAFT, section 3.3)",
        "effect": "by how much the logit falls when the concept alone is taken away",
        "error": "relative error of the factorisation in the Frobenius norm",
        "explained": "share of the variance of the patches' activations that the concepts explain",
        "logit_rebuilt": f"logit of {facts['name']} of the images rebuilt from the concepts; their own logit is "
        f"{facts['logit']:.3f}",
    }
    shared = {key: facts[key] for key in ("layer", "class", "patch", "designs", "seed")}

    def measured(kind: str, value: float, i: int | None = None) -> Measurement:
        name, concept = (kind, "") if i is None else (f"{kind}_{i + 1}", str(i + 1))
        n = len(facts["images"]) if kind in PATCHES else own
        return number(name, value, n, {"text": text[kind]} | shared, concept)

    metrics = [measured(k, v, i) for k in ("importance", "effect") for i, v in enumerate(facts[k])]
    metrics += [measured(k, facts[k]) for k in (*PATCHES, "logit_rebuilt")]
    own_failures = {u.id: failed[u.id] for u in units if u.id in failed}
    return of_images(
        generator, units, own_failures, metrics, out, suite="concepts", folder=folder, preset=preset, command=command,
        method=f"concepts_{facts['layer']}_{facts['class']}", packages=("scikit-learn", "scipy"),
        about={"concepts": {k: facts[k] for k in (*shared, "own", "images", "sisters")}},
    )  # fmt: skip


def write_record(record: Record, out: Path) -> None:
    """Write a record, unless one that says the same is there."""
    path = record.record_path(out)
    if path.is_file():
        try:
            there = Record.read(path)
            same = dataclasses.replace(record, created=there.created, git_commit=there.git_commit)
            if same.to_json() == there.to_json():
                return
        except UserError:
            pass  # of another version, or cut off: written anew
    record.write(path)
