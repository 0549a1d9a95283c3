"""The only maker of records: what was measured, and the facts of how, in; a `Record` out."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.records import record as records
from benchmark.records.columns import wanted
from benchmark.records.record import Budget, FailedUnit, Measurement, Record
from benchmark.scoring.extractors import EXTRACTORS, classes_path
from benchmark.scoring.plan import Plan, Row
from featvis.data.extractors.inception import find_inception
from featvis.networks.classifier import Classifier
from featvis.networks.devices import device_text
from featvis.networks.names import weights_directory
from featvis.storage import images
from featvis.storage.hashing import file_hash
from featvis.storage.versions import versions

SCORED_WITH = ("torchmetrics", "faiss-cpu", "torch-fidelity")
"""Packages that a score depends on, beside those that an image does."""


def record_of(
    network: Classifier,
    *,
    suite: str,
    method: str,
    units: Sequence[str],
    labels: Sequence[str],
    config: dict[str, Any],
    metrics: Sequence[Measurement] = (),
    n: int | None = None,
    preset: str | None = None,
    config_hash: str | None = None,
    budget: Budget | None = None,
    folder: Path | None = None,
    out: Path | None = None,
    failed: Sequence[FailedUnit] = (),
    command: str | None = None,
    error: str | None = None,
    packages: Sequence[str] = (),
    sees: str | None = None,
) -> Record:
    """A record, here and now.

    Args:
        network: the target.
        suite: its name, or that of the command.
        method: the row.
        units: ids of all units, with an image or without.
        labels: their names.
        config: `generator`, what the images depend on (None: nothing was optimised), and what the scores depend on.
        metrics: what was measured.
        n: images measured; None: those in the folder.
        preset: the file of configs/generator.
        config_hash: of the generator.
        budget: what an image cost.
        folder: of the images, below `out`.
        out: the run's folder.
        failed: units without an image, and why.
        command: what makes the record anew.
        error: why the row failed; None: it did not.
        packages: further ones whose versions count.
        sees: what the method may see besides the network; None: nothing was optimised.
    """
    timings = [] if folder is None else timings_of(folder)
    precision = (config.get("generator") or {}).get("precision", "float32")
    made = [p for u in units if folder is not None and (p := folder / f"{u}.png").is_file()]
    return Record(
        suite=suite,
        model=network.name,
        alias=network.alias,
        method=method,
        preset=preset,
        config=config,
        config_hash=config_hash,
        units=tuple(units),
        labels=tuple(labels),
        units_hash=records.units_hash(units),
        n=len(made) if n is None else n,
        budget=budget,
        failed_units=tuple(failed),
        images=None if folder is None or out is None else folder.relative_to(out).as_posix(),
        images_sha256=None if folder is None else images.pixels_hash(made),
        metrics=tuple(metrics),
        seconds_per_image=seconds_per_image(timings),
        git_commit=git_commit(),
        versions=versions() | versions(packages),
        device=made_on(timings) or device_text(network.device, precision),
        status="done" if error is None else "failed",
        error=error,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        silent_units=tuple(u for u in units if folder is not None and silent(folder / f"{u}.png")),
        given=None if network.given == network.alias else network.given,
        sees=sees,
    )


def silent(path: Path) -> bool:
    """Whether an image says that its unit had no gradient at any step."""
    return images.facts(path).get("silent") is True


def of_row(plan: Plan, row: Row, target: Classifier, **facts: Any) -> Record:
    """The record of a row of a plan; `facts` as `record_of` takes them."""
    if row.transparency:
        facts["metrics"] = [_blended(m) for m in facts.get("metrics", ())]
    return record_of(
        target,
        suite=plan.suite,
        method=row.method,
        units=plan.units,
        labels=plan.labels,
        config={"generator": row.config, "evaluation": definition(plan, row)},
        preset=row.preset,
        config_hash=row.config_hash,
        budget=None if row.config is None else budget_of(row.config, plan.canvas),
        command=plan.command,
        packages=SCORED_WITH,
        sees=row.sees,
        **facts,
    )


def _blended(m: Measurement) -> Measurement:
    text = m.definition["text"].replace(records.OPAQUE, records.BLENDED)
    return dataclasses.replace(m, definition=m.definition | {"text": text})


def budget_of(config: Mapping[str, Any], canvas: Sequence[int]) -> Budget:
    """What an image of a generator's configuration cost; `canvas` where that does not say its own."""
    arguments = config.get("init_args", {})
    steps, views = int(arguments.get("steps", 0)), int(arguments.get("views", 0))
    own = arguments.get("canvas", canvas)
    size = (own, own) if isinstance(own, int) else (own[0], own[1])
    return Budget(steps, views, steps * views, size)


def definition(plan: Plan, row: Row) -> dict[str, Any]:
    """What the scores of a row depend on besides the images."""
    return {
        "classifiers": plan.classifiers,
        "frechet": plan.frechet,
        "observers": plan.observers,
        "data": plan.sets or None,
        "metrics": plan.metrics,
        "seed": plan.seed,
        "canvas": list(plan.canvas),
        "transparency": row.transparency,
        "unavailable": sorted({*plan.unavailable, *plan.foreign}),
    } | {key: value for key, value in (("extractors", plan.extractors), ("weights", plan.weights)) if value}


def weights_of(
    plan: Plan, networks: Mapping[str, Classifier], extractors: Mapping[str, str]
) -> dict[str, str | None]:  # fmt: skip
    """What the scores of a plan are computed by, so that a record of other weights, or of none, is made anew.

    Args:
        plan: settled, with its extractors.
        networks: by the plan's names, loaded.
        extractors: the hash of the weights of each that can be had.

    Returns:
        A hash a network, by alias, with its setting where it has one; of the files of Inception and of CLIP's words,
        where they would be read, by what they are, None for one that is not here.
    """
    idle = plan.idle()
    scoring = [networks[n] for n in plan.networks() if n in networks and n not in idle]
    found: dict[str, str | None] = {n.alias: "-".join((n.weights_hash, *n.setting.values())) for n in scoring}
    found |= {name: extractors[name] for name in plan.extractors}
    asked, directory = {c.evaluator for c in wanted(plan.metrics)}, weights_directory()
    files: dict[str, Path | None] = {}
    if "frechet" in asked and plan.data is not None:
        files["inception"] = find_inception([directory] if directory else [])
    if "clip" in asked and (clip := EXTRACTORS["clip"]) in plan.extractors:
        files["words"] = classes_path(clip)
    return found | {what: None if path is None else file_hash(path) for what, path in files.items()}


def failures(folder: Path, units: Sequence[str]) -> dict[str, FailedUnit]:
    """The units whose optimisation stopped being finite, by id: what the image writer left in their place."""
    found = {}
    for unit in units:
        marker = folder / f"{unit}.failed.json"
        if marker.is_file():
            fact = json.loads(marker.read_text(encoding="utf-8"))
            found[unit] = FailedUnit(unit, fact["step"], fact["reason"])
    return found


def timings_of(folder: Path) -> list[dict[str, Any]]:
    """What the image writer said of each batch of a folder: `units`, `seconds`, `rank` and, since 0.2, `device`."""
    path = folder / "timings.jsonl"
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]


def seconds_per_image(timings: Sequence[Mapping[str, Any]]) -> float | None:
    """Median over batches of the seconds that an image took."""
    return float(np.median([t["seconds"] / len(t["units"]) for t in timings])) if timings else None


def made_on(timings: Sequence[Mapping[str, Any]]) -> str | None:
    """The devices that images were made on, which may be others than the one that scores them; None: not known."""
    return " and ".join(sorted({t["device"] for t in timings if "device" in t})) or None


def git_commit() -> str | None:
    """The commit of the checkout that this runs from, or None where it is no checkout or there is no git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
        )  # fmt: skip
    except OSError:
        return None
    return done.stdout.strip() or None
