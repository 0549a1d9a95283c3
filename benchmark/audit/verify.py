"""Checking a run: every image against its facts, every record against its images, every number against what follows."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from benchmark.audit.compare import compare
from benchmark.audit.plans import gone, is_elsewhere, plan_of, reasons
from benchmark.records import record as records
from benchmark.records.record import Record
from benchmark.records.seen import RANDOM_NETWORK, is_control
from benchmark.scoring.evaluate import evaluate_row
from benchmark.scoring.pictures import flat_distances
from benchmark.scoring.scorer import Scorer
from benchmark.studies.attacks.run import SUITE as ATTACK
from benchmark.studies.attacks.run import remeasure
from featvis.canvas.montage import grid
from featvis.errors import UserError
from featvis.networks.classifier import Classifier
from featvis.networks.devices import default_device
from featvis.networks.loading import RANDOM, load
from featvis.storage import images
from featvis.storage.hashing import config_hash


@dataclass
class Report:
    """What was checked.

    Attributes:
        images: files looked at.
        numbers: numbers computed anew.
        problems: what is wrong, a sentence each.
        unchecked: what could not be checked here, and why.
        unscored: how many tables of numbers are among that, for want of a network or of the real images.
        follows: the numbers computed anew, by suite, alias, method and metric.
    """

    images: int = 0
    numbers: int = 0
    problems: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    unscored: int = 0
    follows: dict[tuple[str, str, str, str], float] = field(default_factory=dict)

    @property
    def idle(self) -> bool:
        """Whether there were numbers to check, and none of them was."""
        return self.unscored > 0 and not self.numbers


def verify(run: Path, data: dict[str, str | None], files_only: bool = False, model: str | None = None) -> Report:
    """Check the folder of a run.

    Args:
        run: with `records` and the images.
        data: where the real images lie here, by the names of the flags of `featvis run`.
        files_only: leave the numbers alone, which need the networks.
        model: where the `wrap:FILE` of the records lies here.

    Raises:
        UserError: when there is no record, or the real images given are other ones.
    """
    report = Report()
    found = []
    for path in sorted((run / "records").rglob("*.json")):
        try:
            found.append(Record.read(path))
        except UserError as error:
            report.problems.append(str(error))
    if not found and not report.problems:
        raise UserError(f"RUN {run} holds no record; name the folder of a run (`featvis run` prints it)")
    for record in found:
        report.problems += [f"{record.alias} / {record.method}: {text}" for text in _files(run, record, report)]
    if not files_only:
        for group in _groups([_here(r, model) for r in found]):
            if group[0].suite == ATTACK:
                _attacks(run, group, report)
            elif "evaluation" not in group[0].config:
                # It needs more than the images: layers of the network, or the photographs that canvases began as.
                report.unchecked.append(f"the numbers of {group[0].suite}; the command in its records makes them anew")
            else:
                _numbers(run, group, data, report)
    return report


# --- Files ---------------------------------------------------------------------------------------------------------


def _files(run: Path, record: Record, report: Report) -> Iterator[str]:
    """What is wrong with the images of a record, or between them and it."""
    if record.images is None:
        if is_elsewhere(record):
            text = "its pictures are a folder elsewhere; `featvis evaluate` scores it anew"
            report.unchecked.append(f"{record.alias} / {record.method}: {text}")
        elif record.method not in records.REFERENCES and record.status == "done":
            yield "it names no folder of images, so nothing can be checked"
        return
    folder = run / record.images
    failed = {f.unit for f in record.failed_units}
    whole = []
    for unit, label in zip(record.units, record.labels, strict=True):
        path = folder / f"{unit}.png"
        if unit in failed:
            continue
        try:
            pixels, facts = images.read(path)
        except images.BadImage as error:
            yield str(error) if path.exists() else f"{path} is missing"
            continue
        report.images += 1
        whole.append(path)
        yield from (f"{path}: {text}" for text in _facts(record, unit, label, pixels, facts))
    if len(whole) + len(failed) == len(record.units):
        if record.n != len(whole):
            yield f"it is said to be of {record.n} images, and there are {len(whole)}"
        if record.images_sha256 is None:
            yield "it has no digest of its images (images_sha256)"
        elif record.images_sha256 != images.pixels_hash(whole):
            yield f"the pixels in {folder} are not those that it was made from (images_sha256)"
    if record.method not in records.REFERENCES:
        yield from _configuration(folder, record)


def _facts(record: Record, unit: str, label: str, pixels: Any, facts: dict[str, Any]) -> Iterator[str]:
    expected: dict[str, Any] = {"unit": unit, "label": label}
    if record.method not in records.REFERENCES:
        expected["config_hash"] = record.config_hash
        expected["seed"] = (record.config.get("generator") or {}).get("init_args", {}).get("seed", 0)
    if record.budget is not None:
        expected |= {"steps": record.budget.steps, "views": record.budget.views}
        channels = facts.get("channels", 3)
        rows, columns = grid(channels) if isinstance(channels, int) and channels > 0 else (1, 1)
        height, width = record.budget.canvas
        if tuple(pixels.shape[:2]) != (height * rows, width * columns):
            tiles = f" in {rows} x {columns} tiles" * (rows * columns > 1)
            yield f"it is {pixels.shape[0]} x {pixels.shape[1]}, and the record's canvas {record.budget.canvas}{tiles}"
    for key, value in expected.items():
        if facts.get(key) != value:
            yield f"its {key} is {facts.get(key)!r}, and the record's {value!r}"


def _configuration(folder: Path, record: Record) -> Iterator[str]:
    generator = record.config.get("generator")
    if generator is None:
        return
    if config_hash(generator) != record.config_hash:
        yield "its config_hash is not that of its configuration"
    path = folder / "config.yaml"
    try:
        beside = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        yield f"{path} cannot be read ({error})"
        return
    if not isinstance(beside, dict) or beside.pop("config_hash", None) != record.config_hash or beside != generator:
        yield f"{path} is not the configuration of the record"


# --- Numbers -------------------------------------------------------------------------------------------------------


def _groups(found: Sequence[Record]) -> list[list[Record]]:
    """Records that were scored together: of one suite, network and definition."""
    groups: dict[str, list[Record]] = {}
    for record in found:
        shared = {k: v for k, v in (record.config.get("evaluation") or {}).items() if k != "transparency"}
        key = json.dumps([record.suite, record.alias, record.units, shared], sort_keys=True)
        groups.setdefault(key, []).append(record)
    return list(groups.values())


def _here(record: Record, model: str | None) -> Record:
    """A record whose network lies elsewhere here."""
    return record if model is None or record.given is None else dataclasses.replace(record, given=model)


def _numbers(run: Path, group: Sequence[Record], data: dict[str, str | None], report: Report) -> None:
    name = f"{group[0].alias}, suite {group[0].suite}"
    try:
        plan, sources, networks = plan_of(run, group, data)
        scorer = Scorer(plan, sources, networks)
        # A run that is at work there has files of its own, which are none of these rows in this order.
        scorer.flat = flat_distances(plan, scorer, {"devices": 1}, name="nearest-verified")
    except (UserError, OSError) as error:
        report.unchecked.append(f"the numbers of {name}: {error}")
        report.unscored += 1
        return
    by_method, away = {r.method: r for r in group}, reasons(plan, networks)
    for row in tqdm(plan.rows, desc=f"scores of {name}", unit="row"):
        record = by_method[row.method]
        try:
            again = evaluate_row(plan, row, scorer, lambda: None)
        except (UserError, OSError) as error:
            report.problems.append(f"{record.alias} / {record.method} cannot be scored: {error}")
            continue
        generator = record.config.get("generator") or {}
        if generator.get("weights") not in (None, weights := weights_of(record, scorer.target)):
            report.problems.append(
                f"{record.alias} / {record.method}: it is of weights {generator['weights']}, "
                f"and {record.alias} has {weights} here"
            )
        lacked = gone(plan, networks, record.config["evaluation"])
        compare(record, {m.name: m for m in again.metrics}, report, away, lacked)


def weights_of(record: Record, target: Classifier) -> str:
    """The hash of the weights that a row's images are of: the target's, or those of its architecture, untrained."""
    if is_control(record, RANDOM_NETWORK):
        return load(f"{RANDOM}{record.given or record.alias}").weights_hash
    return target.weights_hash


def _attacks(run: Path, group: Sequence[Record], report: Report) -> None:
    """The numbers of adversarial examples, all of which follow from the files."""
    try:
        device = default_device()
        said = group[0].config["evaluation"]
        given = said.get("given", {}) | ({group[0].alias: group[0].given} if group[0].given else {})
        judges = {name: load(given.get(name, name), "float32", device) for name in said["judges"]}
    except UserError as error:
        report.unchecked.append(f"the numbers of {group[0].alias}, suite {ATTACK}: {error}")
        report.unscored += 1
        return
    for record in group:
        try:
            again = {m.name: m for m in remeasure(run, record, judges)}
        except (UserError, OSError) as error:
            report.problems.append(f"{record.alias} / {record.method} cannot be scored: {error}")
            continue
        compare(record, again, report)
