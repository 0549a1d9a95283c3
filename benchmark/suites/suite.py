"""Suites: a YAML and the flags over it in, a checked `Suite` out. Writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from benchmark.arguments import split
from benchmark.records import columns
from benchmark.records import record as records
from benchmark.records.schema import FILE_NAME, parse
from benchmark.suites.controls import check_control
from benchmark.suites.presets import presets
from featvis.errors import UserError, nearest
from featvis.networks.names import unprefixed
from featvis.paths import CONFIGS

PAPER_CLASSIFIERS = (
    "mobilenetv1_100.ra4_e3600_r224_in1k",
    "vgg16.tv_in1k",
    "legacy_xception.tf_in1k",
    "tf_efficientnet_b0.in1k",
    "convnext_tiny.fb_in1k",
    "densenet121.tv_in1k",
)
"""Fel et al. 2023, section 4: the six networks of the transferability score."""


@dataclass(frozen=True)
class Suite:
    """What a suite YAML may say.

    Attributes:
        model: the target network.
        units: which of its units, see `featvis.networks.units`.
        methods: a row of the table each: `preset` (a file of configs/generator; default: the row's name) or
            `class_path`, arguments of the generator over it, and `transparency: true` where the images are to be scored
            over a middle grey by their transparency; `control` makes it one of `benchmark.suites.controls`. Rows of
            one configuration share their images.
        classifiers: the networks of the transferability score.
        frechet: the network whose features stand in where Inception's weights are missing.
        observers: networks in whose features units are told apart and sets compared; null: the classifiers.
        metrics: groups or single columns (`benchmark.records.columns`) to compute; empty: all.
        seed: of all random streams.
        batch_size: units optimised together.
        data: real images to compare with, see `featvis.data.sets`; null: the embedded reference.
        frechet_data: those that sets of images are compared with; null: `data`, its validation split where it has one.
        spectrum_data: those whose spectrum MACO keeps and the deviation is from; null: MACO keeps the embedded one, and
            the deviation is from that of `data`.
        seen_data: those that methods which see images of the class are given, others than `data`; null: those of their
            presets.
        tokens: over which tokens of a transformer those units are averaged that do not say it: `all`, or `patches`.
    """

    model: str
    units: str
    methods: dict[str, Any]
    classifiers: tuple[str, ...] = PAPER_CLASSIFIERS
    frechet: str = "efficientnet_lite1"
    observers: tuple[str, ...] | None = None
    metrics: tuple[str, ...] = ()
    seed: int = 0
    batch_size: int = 5
    data: str | None = None
    frechet_data: str | None = None
    spectrum_data: str | None = None
    seen_data: str | None = None
    tokens: Literal["all", "patches"] = "all"


class Loader(yaml.SafeLoader):
    """YAML in which `4:30` is a text, channel 30 of layer 4, and not 270: numbers to the base of 60 are YAML 1.1's."""


def _without_colons(number: Callable[[Loader, Any], Any]) -> Callable[[Loader, Any], Any]:
    return lambda loader, node: node.value if ":" in node.value else number(loader, node)


Loader.add_constructor("tag:yaml.org,2002:int", _without_colons(Loader.construct_yaml_int))
Loader.add_constructor("tag:yaml.org,2002:float", _without_colons(Loader.construct_yaml_float))


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
        data = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"--suite {path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise UserError(f"--suite {path} must hold keys and values: model, units, methods, …")
    check_file_name(path.stem, f"--suite {path}")
    return path.stem, data


def check_file_name(name: str, what: str) -> None:
    """Raise a UserError unless a name can be a part of a file's."""
    if FILE_NAME.fullmatch(name) is None:
        raise UserError(
            f"{what} is named {name!r}, which cannot be part of a file name; use letters, digits and _ . + -"
        )


def read_with(path: str, flags: Mapping[str, Any]) -> tuple[str, Suite, dict[str, Any]]:
    """A suite with the flags of `featvis run` over it; None is a flag that was not given.

    Args:
        path: of the suite, or its name.
        flags: as the command has them.

    Returns:
        Its name, the suite, and which of its keys were given.

    Raises:
        UserError: see `read` and `resolve`; or for an empty list of methods.
    """
    name, values = read(Path(path))
    given = {k: v for k, v in flags.items() if k in Suite.__dataclass_fields__ and v is not None}
    if "methods" in given:
        if not split(given["methods"]):
            raise UserError("--methods is empty; name some, for example --methods maco,fourier")
        known = values.get("methods")
        rows = known if isinstance(known, dict) else {}
        given["methods"] = {m: (rows.get(m) or {}) for m in split(given["methods"])}
    for key in {"classifiers", "observers"} & set(given):
        given[key] = split(given[key])
    return name, resolve(values, f"--suite {path}", given), given


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
    suite = replace(
        suite,
        model=unprefixed(suite.model),
        classifiers=tuple(unprefixed(name, f"classifiers of {source}:") for name in suite.classifiers),
        frechet=unprefixed(suite.frechet, f"frechet of {source}:"),
        observers=None
        if suite.observers is None
        else tuple(unprefixed(name, f"observers of {source}:") for name in suite.observers),
    )
    if not suite.methods:
        raise UserError(f"{source}: methods (--methods) is empty; name one or more of {', '.join(presets())}")
    columns.check(suite.metrics, f"{source}: metrics")
    for name, values in suite.methods.items():
        check_file_name(name, f"{source}: a row of methods")
        if name in records.REFERENCES:
            raise UserError(f"{source}: methods.{name} is a row of every table already; call the method something else")
        if values is not None and not isinstance(values, dict):
            raise UserError(f"{source}: methods.{name} must hold keys and values, not {values!r:.60}")
        for key, value in (values or {}).items():
            if key in ("preset", "class_path") and not isinstance(value, str):
                raise UserError(f"{source}: methods.{name}.{key} is {value!r:.60}, but must be a text")
            if key == "control":
                check_control(value, f"{source}: methods.{name}")
            if key == "transparency" and not isinstance(value, bool):
                raise UserError(f"{source}: methods.{name}.{key} is {value!r:.60}, but must be true or false")
    return suite
