"""A suite and the flags over it in; a checked `Job` of cells (a method on a model each) out. Writes nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmark.arguments import command_line, weights_line
from benchmark.records.columns import scores_units
from benchmark.scoring import extractors, references
from benchmark.scoring.classes import settle
from benchmark.scoring.others import table_rows
from benchmark.scoring.plan import Plan, Row, Sources
from benchmark.scoring.recording import weights_of
from benchmark.suites.controls import named
from benchmark.suites.methods import build
from benchmark.suites.overlap import check_overlap
from benchmark.suites.suite import Suite, check_file_name, read_with
from featvis.errors import Unreachable, UserError
from featvis.generators import Generator
from featvis.generators.batches import unfinished
from featvis.limits import check_limit
from featvis.networks.classifier import Classifier
from featvis.networks.devices import default_device
from featvis.networks.loading import load
from featvis.networks.names import resolve
from featvis.networks.units import Unit, parse_units
from featvis.networks.weights import locate


@dataclass
class Cell:
    """One method on one model.

    Attributes:
        method: the row's name.
        preset: the file of configs/generator that it starts from, or None.
        generator: the method itself, with the network shared.
        class_path: of the generator.
        init_args: of the generator, resolved.
        folder: of its images.
        units: all units of the suite.
        missing: ids of the units without a verified image.
        transparency: score the images over grey by their transparency.
    """

    method: str
    preset: str | None
    generator: Generator
    class_path: str
    init_args: dict[str, Any]
    folder: Path
    units: list[Unit]
    missing: list[str] = field(default_factory=list)
    transparency: bool = False


@dataclass
class Job:
    """A suite that has been checked: everything that can be known to be wrong has been found by now.

    Attributes:
        name: of the suite.
        suite: resolved.
        out: the run's folder.
        classifier: the target.
        units: of the target.
        cells: a method each.
        plan: what is to be scored.
        sources: the real images, listed.
        networks: every network that could be had, loaded, by alias or by the name that the suite has for it.
    """

    name: str
    suite: Suite
    out: Path
    classifier: Classifier
    units: list[Unit]
    cells: list[Cell]
    plan: Plan
    sources: Sources
    networks: dict[str, Classifier]


def from_flags(path: str, flags: Mapping[str, Any], out: str | None, evaluation: Mapping[str, Any]) -> Job:
    """The job of a suite with the flags of `featvis run` over it; None is a flag that was not given.

    Args:
        path: of the suite, or its name.
        flags: as the command has them.
        out: folder of the run; None: by the suite's name and the flags.
        evaluation: further fields of the `Plan`.

    Raises:
        UserError: for anything that is wrong with them.
    """
    name, suite, given = read_with(path, flags)
    options = {"steps": flags.get("steps"), "views": flags.get("crops"), "canvas": flags.get("canvas")}
    plain = not given and not any(v is not None for v in options.values())
    folder = Path(out) if out else default_out(name, suite, options, plain)
    command = command_line("run", {"suite": path} | dict(flags))
    return prepare(name, suite, folder, options, {"command": command, **evaluation})


def prepare(name: str, suite: Suite, out: Path, options: Mapping[str, Any], evaluation: Mapping[str, Any]) -> Job:
    """Check a suite whole, and expand it into cells; nothing is written.

    Args:
        name: the suite's.
        suite: resolved.
        out: the run's folder.
        options: arguments that every generator gets over its own: steps, views, canvas (None: as they are).
        evaluation: further fields of the `Plan`.

    Raises:
        UserError: for anything that is wrong with it.
    """
    check_limit("batch_size", suite.batch_size)
    device = default_device()
    cache = out.parent / "reference"
    classifier = load(suite.model)
    check_file_name(classifier.alias, "--model")
    # What is missing or broken is found now, not after an hour of work.
    sources = Sources.open(suite.data, suite.frechet_data, suite.spectrum_data, classifier)
    natural = _natural(suite, sources, classifier, cache)
    methods = {m: build(m, values or {}, suite, options, natural) for m, values in suite.methods.items()}
    units = parse_units(suite.units, classifier, tokens=suite.tokens)
    networks, unavailable = {classifier.alias: classifier, classifier.given: classifier}, dict[str, str]()
    observers = suite.classifiers if suite.observers is None else suite.observers
    for key, names in (("classifiers", suite.classifiers), ("frechet", (suite.frechet,)), ("observers", observers)):
        for other in (n for n in dict.fromkeys(names) if n not in networks and n not in unavailable):
            try:
                networks[other] = load(other, "float32", flag=f"{key} of --suite {name}:")
            except Unreachable as error:
                if suite.data is None:
                    raise
                unavailable[other] = error.reason
    found, missing = extractors.find(suite.metrics)
    unavailable |= missing
    cells: list[Cell] = []
    for method, (generator, preset, class_path) in methods.items():
        if generator.model == suite.model:
            generator.classifier = classifier
        generator.check_transforms()
        generator.check_units(units)
        check_overlap(method, generator, units, sources)
        config_hash = generator.config_hash(device)
        # Rows that differ in how they are scored alone have the same images, in the folder of the first of them.
        first = next((c.method for c in cells if c.generator.config_hash(device) == config_hash), method)
        folder = out / classifier.alias / first / config_hash
        transparency = bool((suite.methods[method] or {}).get("transparency"))
        arguments = dict(generator.hparams)
        cell = Cell(method, preset, generator, class_path, arguments, folder, units, transparency=transparency)
        cell.missing = [u.id for u in unfinished(units, folder, config_hash, generator.together)]
        cells.append(cell)
    rows = [
        Row(
            method=cell.method,
            folder=str(cell.folder.relative_to(out)),
            preset=cell.preset,
            config=cell.generator.config(device),
            config_hash=cell.generator.config_hash(device),
            sees=named(cell.generator.seen(units), (suite.methods[cell.method] or {}).get("control")),
            transparency=cell.transparency,
        )
        for cell in cells
    ]
    plan = Plan(
        out=str(out),
        suite=name,
        model=classifier.alias,
        given=classifier.given,
        channels=classifier.channels,
        classifiers=list(suite.classifiers),
        metrics=list(suite.metrics),
        frechet=suite.frechet,
        observers=list(observers),
        data=suite.data,
        frechet_data=suite.frechet_data,
        spectrum_data=suite.spectrum_data,
        sets=sources.facts(),
        cache=str(cache),
        unavailable=unavailable,
        extractors=list(found),
        seed=suite.seed,
        units=[u.id for u in units],
        labels=[u.label for u in units],
        canvas=list(cells[0].generator.size) if cells else [256, 256],
        texts=[u.text for u in units],
        rows=table_rows(rows, [u.id for u in units], sources.bank, scores_units(suite.metrics)),
        **evaluation,
    )
    settle(plan, networks)
    plan.weights = weights_of(plan, networks, found)
    return Job(name, suite, out, classifier, units, cells, plan, sources, networks)


def _natural(suite: Suite, sources: Sources, classifier: Classifier, cache: Path) -> Path | None:
    """The folder of the spectrum that MACO keeps, where `--spectrum-data` says that it is not the embedded one."""
    if suite.spectrum_data is None or sources.spectrum is None:
        return None
    natural = references.spectrum_folder(sources.spectrum, cache)
    if not (natural / "spectrum.safetensors").is_file():
        # The images of another network's classes are another set.
        whose = "" if classifier.synsets else f" --models {suite.model}"
        raise UserError(
            f"the spectrum of --spectrum-data {suite.spectrum_data} is not made yet; make it once: "
            f"featvis reference --data {suite.spectrum_data}{whose} --spectrum --out {cache}"
        )
    return natural


def findings(job: Job) -> list[str]:
    """What was found of the data and the networks, and which columns will be absent, a sentence each."""
    found = [f"data      {text}" for text in job.sources.describe()]
    found += [weights_line(network) for network in job.networks.values()]
    found += [f"weights   {name}: {locate(resolve(name)).note}" for name in job.plan.extractors]
    return found + [f"absent    {reason}" for reason in (job.plan.unavailable | job.plan.foreign).values()]


def check_devices(devices: int) -> None:
    """Raise a UserError for a number of devices that this machine does not have; processes on the CPU are free."""
    limit, what = (
        (torch.cuda.device_count(), "GPUs of this machine") if torch.cuda.is_available() else (1024, "processes")
    )
    if not 1 <= devices <= limit:
        raise UserError(f"--devices must be between 1 and {limit} ({what}), not {devices}")


def default_out(name: str, suite: Suite, options: Mapping[str, Any], plain: bool) -> Path:
    """`runs/<suite>`, or, with flags over the suite, a name that says so: no two configurations share a folder."""
    if plain:
        return Path("runs") / name
    text = json.dumps([dataclasses.asdict(suite), dict(options)], sort_keys=True)
    model = re.sub(r"[^A-Za-z0-9_.+-]+", "-", suite.model)
    return Path("runs") / f"{name}-{model}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
