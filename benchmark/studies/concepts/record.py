"""The record of a class's concepts: facts of their file and of their pictures in, a `Record` out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmark.records import record as records
from benchmark.records.record import Budget, FailedUnit, Measurement, Record
from benchmark.scoring.recording import device_text, git_commit, seconds_per_image
from featvis.errors import UserError
from featvis.generators import Generator
from featvis.networks.classifier import Classifier
from featvis.networks.devices import default_device
from featvis.networks.units import Unit
from featvis.storage import images
from featvis.storage.versions import VERSIONED, versions

PATCHES = ("error", "explained")
"""Measurements over all patches, those of sister classes included."""


def record_of(
    classifier: Classifier, generator: Generator, preset: str | None, facts: dict[str, Any], units: Sequence[Unit],
    folder: Path, out: Path, failed: dict[str, str], command: str,
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
        place = "" if i is None else f"_{i + 1}"
        label = kind.replace("_", ", ") + ("" if i is None else f", concept {i + 1}")
        return Measurement(
            f"{kind}{place}", label, "concepts", value, None, len(facts["images"]) if kind in PATCHES else own,
            kind != "error", {"text": text[kind]} | shared,
        )  # fmt: skip

    metrics = [measured(k, v, i) for k in ("importance", "effect") for i, v in enumerate(facts[k])]
    metrics += [measured(k, facts[k]) for k in (*PATCHES, "logit_rebuilt")]
    device = default_device()
    config = generator.config(device)
    done = [u for u in units if u.id not in failed]
    reasons = tuple(FailedUnit(u.id, None, failed[u.id]) for u in units if u.id in failed)
    return Record(
        suite="concepts", model=classifier.name, alias=classifier.alias,
        method=f"concepts_{facts['layer']}_{facts['class']}", preset=preset,
        config={"generator": config, "concepts": {k: facts[k] for k in (*shared, "own", "images", "sisters")}},
        config_hash=generator.config_hash(device), units=tuple(u.id for u in units),
        labels=tuple(u.label for u in units), units_hash=records.units_hash([u.id for u in units]), n=len(done),
        budget=Budget(generator.steps, generator.views, generator.steps * generator.views, generator.size),
        failed_units=reasons,
        images=folder.relative_to(out).as_posix(), metrics=tuple(metrics), seconds_per_image=seconds_per_image(folder),
        git_commit=git_commit(), versions=versions((*VERSIONED, "scikit-learn", "scipy")),
        device=device_text(classifier, config), status="done", error=None,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        images_sha256=images.pixels_hash([folder / f"{u.id}.png" for u in done]), command=command,
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
