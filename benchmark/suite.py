"""Suites: a YAML and the flags over it in; a checked `Job` of cells (a method on a model each) out. Writes nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser

from benchmark import records
from benchmark import reference as references
from benchmark.arguments import command_line, sentence, split
from benchmark.schema import parse
from benchmark.scores import Plan, Row
from featvis import images
from featvis.errors import Unreachable, UserError, nearest
from featvis.generators import Generator
from featvis.imagesets import ImageSet, Role, check_decodable, open_images
from featvis.models import Classifier, default_device, load
from featvis.paths import CONFIGS
from featvis.units import Tokens, Unit, parse_units

METRIC_GROUPS = ("plausibility", "frechet", "transferability", "logit", "spectrum")
"""What a suite may ask to be computed; `frechet` includes FID and KID."""
PAPER_CLASSIFIERS = (
    "mobilenetv1_100.ra4_e3600_r224_in1k",
    "vgg16.tv_in1k",
    "legacy_xception.tf_in1k",
    "tf_efficientnet_b0.in1k",
    "convnext_tiny.fb_in1k",
    "densenet121.tv_in1k",
)
"""Fel et al. 2023, section 4: the six networks of the transferability score."""


FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
"""What a suite, a network and a row may be called: their names become parts of file names."""


@dataclass(frozen=True)
class Suite:
    """What a suite YAML may say.

    Attributes:
        model: the target network.
        units: which of its units, see `featvis.data`.
        methods: a row of the table each: `preset` (a file of configs/generator; default: the row's name) or
            `class_path`, arguments of the generator over it, and `transparency: true` where the images are to be scored
            over a middle grey by their transparency. Rows of one configuration share their images.
        classifiers: the networks of the transferability score.
        frechet: the network whose features stand in where Inception's weights are not to be had.
        metrics: groups to compute; empty: all.
        seed: of all random streams.
        batch_size: units optimised together.
        data: real images to compare with, see `featvis.imagesets`; null: the embedded reference.
        frechet_data: those that sets of images are compared with; null: `data`, its validation split where it has one.
        spectrum_data: those whose spectrum MACO keeps and the deviation is from; null: MACO keeps the embedded one, and
            the deviation is from that of `data`.
        tokens: over which tokens of a transformer those units are averaged that do not say it: `all`, or `patches`.
    """

    model: str
    units: str
    methods: dict[str, Any]
    classifiers: tuple[str, ...] = PAPER_CLASSIFIERS
    frechet: str = "efficientnet_lite1"
    metrics: tuple[str, ...] = ()
    seed: int = 0
    batch_size: int = 5
    data: str | None = None
    frechet_data: str | None = None
    spectrum_data: str | None = None
    tokens: Tokens = "all"


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
    """A suite that has been checked: everything that can be known to be wrong has been found by now."""

    name: str
    suite: Suite
    out: Path
    classifier: Classifier
    units: list[Unit]
    cells: list[Cell]
    plan: Plan
    described: dict[Role, str]


def read(path: Path) -> tuple[str, dict[str, Any]]:
    """A suite's name and its YAML as plain data.

    Raises:
        UserError: when the file is missing or is no YAML mapping.
    """
    if not path.is_file():
        known = [p.stem for p in (CONFIGS / "suite").glob("*.yaml")]
        named = CONFIGS / "suite" / f"{path}.yaml"
        if not named.is_file():
            raise UserError(
                f"--suite {path} is not a file, nor the name of a suite: {nearest(str(path), sorted(known))}"
            )
        path = named
    try:
        data = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"--suite {path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise UserError(f"--suite {path} must hold keys and values: model, units, methods, …")
    _file_name(path.stem, f"--suite {path}")
    return path.stem, data


def _file_name(name: str, what: str) -> None:
    if FILE_NAME.fullmatch(name) is None:
        raise UserError(
            f"{what} is named {name!r}, which cannot be part of a file name; use letters, digits and _ . + -"
        )


def resolve(data: Mapping[str, Any], source: str, overrides: Mapping[str, Any]) -> Suite:
    """The suite of a YAML's data with the flags that were given over it.

    Raises:
        UserError: for an unknown key or a wrong type.
    """
    merged = {**data, **{k: v for k, v in overrides.items() if v is not None}}
    if isinstance(merged.get("methods"), list) and all(isinstance(name, str) for name in merged["methods"]):
        merged["methods"] = {name: {} for name in merged["methods"]}
    if isinstance(merged.get("units"), int) and not isinstance(merged["units"], bool):
        merged["units"] = str(merged["units"])
    suite = parse(Suite, merged, source)
    if not suite.methods:
        raise UserError(f"{source}: methods (--methods) is empty; name one or more of {', '.join(presets())}")
    for group in suite.metrics:
        if group not in METRIC_GROUPS:
            raise UserError(f"{source}: metrics has {group!r}: {nearest(group, METRIC_GROUPS)}")
    for name, values in suite.methods.items():
        _file_name(name, f"{source}: a row of methods")
        if name in records.REFERENCES:
            raise UserError(f"{source}: methods.{name} is a row of every table already; call the method something else")
        if values is not None and not isinstance(values, dict):
            raise UserError(f"{source}: methods.{name} must hold keys and values, not {values!r:.60}")
        for key, value in (values or {}).items():
            if key in ("preset", "class_path") and not isinstance(value, str):
                raise UserError(f"{source}: methods.{name}.{key} is {value!r:.60}, but must be a text")
            if key == "transparency" and not isinstance(value, bool):
                raise UserError(f"{source}: methods.{name}.{key} is {value!r:.60}, but must be true or false")
    return suite


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
    name, values = read(Path(path))
    keys = ("model", "units", "batch_size", "seed", "data", "frechet_data", "spectrum_data", "tokens")
    given: dict[str, Any] = {key: flags.get(key) for key in keys}
    if (methods := flags.get("methods")) is not None:
        if not split(methods):
            raise UserError("--methods is empty; name some, for example --methods maco,fourier")
        known = values.get("methods") or {}
        given["methods"] = {m: (known.get(m) or {}) for m in split(methods)}
    if (classifiers := flags.get("classifiers")) is not None:
        given["classifiers"] = split(classifiers)
    suite = resolve(values, f"--suite {path}", given)
    options = {"steps": flags.get("steps"), "views": flags.get("crops"), "canvas": flags.get("canvas")}
    plain = not any(v is not None for v in (*given.values(), *options.values()))
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
    if not 1 <= suite.batch_size <= 4096:
        raise UserError(f"--batch-size must be between 1 and 4096, not {suite.batch_size}")
    device = default_device()
    cache = out.parent / "reference"
    natural = None
    if suite.spectrum_data is not None:
        source = open_images(suite.spectrum_data, references.imagenet_synsets(), "spectrum", "--spectrum-data")
        natural = references.spectrum_folder(source, cache)
        if not (natural / "spectrum.safetensors").is_file():
            raise UserError(
                f"the spectrum of --spectrum-data {suite.spectrum_data} is not made yet; make it once: "
                f"featvis reference --data {suite.spectrum_data} --spectrum --out {cache}"
            )
    methods = {m: build(m, values or {}, suite, options, natural) for m, values in suite.methods.items()}
    classifier = load(suite.model)
    _file_name(classifier.alias, "--model")
    units = parse_units(suite.units, classifier, tokens=suite.tokens)
    # What is missing or broken is found now, not after an hour of work.
    sets = find_sets(suite.data, suite.frechet_data, suite.spectrum_data, classifier.synsets)
    unavailable = {}
    for key, names in (("classifiers", suite.classifiers), ("frechet", (suite.frechet,))):
        for other in dict.fromkeys(names):
            try:
                load(other, flag=f"{key} of --suite {name}:")
            except Unreachable as error:
                if suite.data is None:
                    raise
                unavailable[other] = error.reason
    cells: list[Cell] = []
    for method, (generator, preset, class_path) in methods.items():
        generator.classifier = classifier
        generator.check_transforms()
        config_hash = generator.config_hash(device)
        # Rows that differ in how they are scored alone have the same images, in the folder of the first of them.
        first = next((c.method for c in cells if c.generator.config_hash(device) == config_hash), method)
        folder = out / classifier.alias / first / config_hash
        transparency = bool((suite.methods[method] or {}).get("transparency"))
        arguments = dict(generator.hparams)
        cell = Cell(method, preset, generator, class_path, arguments, folder, units, transparency=transparency)
        cell.missing = [u.id for u in units if images.verify(folder / f"{u.id}.png", config_hash) is not None]
        cells.append(cell)
    rows = [
        Row(
            method=cell.method,
            folder=str(cell.folder.relative_to(out)),
            preset=cell.preset,
            config=cell.generator.config(device),
            config_hash=cell.generator.config_hash(device),
            transparency=cell.transparency,
        )
        for cell in cells
    ]
    plan = Plan(
        out=str(out),
        suite=name,
        model=suite.model,
        classifiers=list(suite.classifiers),
        metrics=list(suite.metrics),
        frechet=suite.frechet,
        data=suite.data,
        frechet_data=suite.frechet_data,
        spectrum_data=suite.spectrum_data,
        sets=said_of(sets),
        cache=str(cache),
        unavailable=unavailable,
        seed=suite.seed,
        units=[u.id for u in units],
        labels=[u.label for u in units],
        canvas=list(cells[0].generator.size) if cells else [256, 256],
        rows=[Row("real"), *rows, Row("noise")],
        **evaluation,
    )
    return Job(name, suite, out, classifier, units, cells, plan, {role: s.describe() for role, s in sets.items()})


def findings(job: Job) -> list[str]:
    """What was found of the data and the networks, and which columns will be absent, a sentence each."""
    found = [f"data      {text}" for text in dict.fromkeys(job.described.values())]
    return found + [f"absent    {reason}" for reason in job.plan.unavailable.values()]


def find_sets(
    data: str | None, frechet_data: str | None, spectrum_data: str | None, synsets: Sequence[str]
) -> dict[Role, ImageSet]:
    """The image sets for each use, checked: there, with classes that the network has, and an image that can be decoded.

    Raises:
        UserError: when one is not.
    """
    named: dict[Role, tuple[str | None, str]] = {
        "bank": (data, "--data"),
        "frechet": (frechet_data, "--frechet-data"),
        "spectrum": (spectrum_data, "--spectrum-data"),
    }
    if data is None:
        if other := next((flag for spec, flag in named.values() if spec is not None), None):
            raise UserError(f"{other} needs --data too, the images among which the nearest is sought")
        return {}
    sets = {}
    for role, (spec, flag) in named.items():
        sets[role] = open_images(spec or data, synsets, role, flag if spec else "--data")
        check_decodable(sets[role], flag if spec else "--data")
    return sets


def said_of(sets: Mapping[Role, ImageSet]) -> dict[str, dict[str, Any]]:
    """What a record keeps of image sets: not where they lie."""
    return {role: {"name": s.name, "images": len(s), "fingerprint": s.fingerprint[:12]} for role, s in sets.items()}


def build(
    method: str, values: Mapping[str, Any], suite: Suite, options: Mapping[str, Any], natural: Path | None = None
) -> tuple[Generator, str | None, str]:
    """The generator of a row of a suite, its preset's name and its class path.

    `natural` is the folder of the spectrum that a method keeps, where it is not the embedded one.

    Raises:
        UserError: for an unknown preset, class or argument, with the nearest names.
    """
    given = dict(values)
    preset, class_path = given.pop("preset", None), given.pop("class_path", None)
    given.pop("transparency", None)
    if class_path is None and preset is None and "." in method:
        class_path = method
    arguments: dict[str, Any] = {}
    if class_path is None:
        preset = preset or method
        class_path, arguments = read_preset(preset)
    arguments |= given | {k: v for k, v in options.items() if v is not None}
    arguments |= {"model": suite.model, "seed": suite.seed}
    cls = find_class(class_path)
    known = accepted(cls)
    if natural is not None and "spectrum" in known:
        arguments["spectrum"] = str(natural)
    for key in given:
        if key in ("model", "seed"):
            raise UserError(f"methods.{method}: {key} is the whole suite's; write it beside methods, not into it")
        if key not in known:
            raise UserError(f"methods.{method}: {cls.__name__} takes no {key}; {nearest(str(key), known)}")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, "generator", fail_untyped=False)
    try:
        generator = parser.instantiate_classes(parser.parse_object({"generator": arguments})).generator
    except UserError as error:
        raise UserError(f"{error} (method {method})") from error
    except ArgumentError as error:
        text = sentence(str(error), lambda key: f"methods.{method}.{key.removeprefix('generator.')}")
        raise UserError(text) from error
    return generator, preset if values.get("class_path") is None and "." not in method else None, class_path


def check_devices(devices: int) -> None:
    """Raise a UserError for a number of devices that this machine does not have; processes on the CPU are free."""
    limit, what = (
        (torch.cuda.device_count(), "GPUs of this machine") if torch.cuda.is_available() else (1024, "processes")
    )
    if not 1 <= devices <= limit:
        raise UserError(f"--devices must be between 1 and {limit} ({what}), not {devices}")


def presets() -> list[str]:
    """The names in configs/generator."""
    return sorted(p.stem for p in (CONFIGS / "generator").glob("*.yaml"))


def read_preset(name: str) -> tuple[str, dict[str, Any]]:
    """Class path and arguments of a preset.

    Raises:
        UserError: when there is none of that name.
    """
    path = CONFIGS / "generator" / f"{name}.yaml"
    if name not in presets():
        raise UserError(
            f"unknown method or preset {name} (--methods; a class of your own is named by its class path, as in "
            f"my_methods.Mine): {nearest(name, presets())}"
        )
    model = yaml.safe_load(path.read_text())["model"]
    return model["class_path"], dict(model.get("init_args") or {})


def find_class(class_path: str) -> type[Generator]:
    """The generator class of a path such as `featvis.generators.MACO`; the current folder counts as importable.

    Raises:
        UserError: when it cannot be imported or is no Generator.
    """
    module, _, name = class_path.rpartition(".")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        if not module or module.startswith("."):
            raise ImportError("no module in front of the last dot")
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"the method {class_path} (--methods) cannot be imported ({error}); name a class as module.Class"
        ) from error
    if not (inspect.isclass(found) and issubclass(found, Generator)):
        raise UserError(
            f"the method {class_path} (--methods) is no subclass of featvis.generators.Generator; name one that is"
        )
    return found


def accepted(cls: type[Generator]) -> list[str]:
    """The arguments that a generator class takes, its bases' included."""
    names: dict[str, None] = {}
    for base in cls.__mro__:
        if issubclass(base, Generator) and "__init__" in vars(base):
            for name, parameter in inspect.signature(base.__init__).parameters.items():
                if name != "self" and parameter.kind is not parameter.VAR_KEYWORD:
                    names[name] = None
    return list(names)


def default_out(name: str, suite: Suite, options: Mapping[str, Any], plain: bool) -> Path:
    """`runs/<suite>`, or, with flags over the suite, a name that says so: no two configurations share a folder."""
    if plain:
        return Path("runs") / name
    text = json.dumps([dataclasses.asdict(suite), dict(options)], sort_keys=True)
    model = re.sub(r"[^A-Za-z0-9_.+-]+", "-", suite.model)
    return Path("runs") / f"{name}-{model}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
