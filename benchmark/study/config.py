"""A study's YAML in, a checked `Study` out. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmark.records.schema import parse
from benchmark.suites.suite import Loader, check_file_name
from featvis.errors import UserError, nearest
from featvis.paths import CONFIGS

MOST_REFERENCES = 9
CONSENT = (
    "You are invited to take part in a study on how people understand what computer vision systems respond to.",
    "You will look at pictures and choose between two of them. Taking part is voluntary: you can stop at any time by "
    "closing this page, and then none of your answers is sent.",
    "We record your answers, how long they took, and a participant number, and nothing else about you.",
)


@dataclass(frozen=True)
class Condition:
    """What one group of participants sees beside the trials; with nothing said, nothing.

    Attributes:
        method: a preset of configs/generator, whose pictures are made where they are not there yet.
        options: arguments of the generator over the preset.
        folder: of pictures that are there, `<unit>.png` and `<unit>@<n>.png`; `{model}` stands for the network.
        natural: show the most exciting natural images instead.
        blur: deviation of a Gaussian over each picture, as a share of its side.
        transparency: show the pictures through their transparency, over a middle grey.
        label: its name in tables and figures.
    """

    method: str | None = None
    options: dict[str, Any] | None = None
    folder: str | None = None
    natural: bool = False
    blur: float = 0.0
    transparency: bool = False
    label: str | None = None

    @property
    def shows(self) -> bool:
        """Whether there are pictures at all."""
        return self.method is not None or self.folder is not None or self.natural


@dataclass(frozen=True)
class Exclusions:
    """Whose answers are left out.

    Attributes:
        instructions_under: seconds that the instructions were looked at.
        total_under: seconds that all of it took.
        total_over: the same.
        catch_under: share of the catch trials that were right.
        practice_over: rounds of practice, after which the page ends.
        one_side: leave out who chose the same side every time.
    """

    instructions_under: float = 20.0
    total_under: float = 90.0
    total_over: float = 900.0
    catch_under: float = 0.6
    practice_over: int = 5
    one_side: bool = True


@dataclass(frozen=True)
class Study:
    """What a study's YAML may say.

    Attributes:
        models: networks; everyone sees the trials of all of them.
        units: of each network, see `featvis.networks.units`.
        conditions: what is shown, by name; everyone is in one of them.
        data: natural images, see `featvis.data.sets`.
        images: trials of each unit.
        candidates: images of each unit that are measured; the trials are spread over their difficulty.
        own: take a class's images for its unit; images of any class where it has none, or where this is false.
        side: of the square occluder, as a share of the image's shorter side.
        stride: pixels between two of its positions, for images of 224; others in proportion.
        references: pictures of each unit.
        catch: trials of each network whose answer is obvious.
        practice: trials before the first that counts.
        minimum_gap: units are left out whose activation changes by no more than this, as a share of its spread.
        seed: of every choice.
        batch_size: images through the network at once.
        observers: networks that take the study too, as machines.
        title: of the page.
        consent: paragraphs.
        contact: who answers questions.
        minutes: that it takes, as the page says.
        code: shown at the end, for the platform; also as the parameter `cc` of `back`.
        back: address that the last screen leads to.
        endpoint: address that answers are sent to; null: they are downloaded, unless `featvis study serve` is there.
        exclude: whose answers are left out.
    """

    models: tuple[str, ...]
    units: str
    conditions: dict[str, Condition]
    data: str | None = None
    images: int = 1
    candidates: int = 3
    own: bool = True
    side: float = 0.4
    stride: int = 2
    references: int = MOST_REFERENCES
    catch: int = 3
    practice: int = 3
    minimum_gap: float = 0.0
    seed: int = 0
    batch_size: int = 64
    observers: tuple[str, ...] = ()
    title: str = "What does this unit respond to?"
    consent: tuple[str, ...] = CONSENT
    contact: str = ""
    minutes: int = 10
    code: str = "THANKYOU"
    back: str = ""
    endpoint: str | None = None
    exclude: Exclusions = Exclusions()


RANGES: dict[str, tuple[float, float]] = {
    "images": (1, 100), "candidates": (1, 1000), "side": (0.05, 0.9), "stride": (1, 224), "references": (1, 9),
    "catch": (0, 100), "practice": (0, 20), "batch_size": (1, 4096), "minutes": (1, 240),
}  # fmt: skip


def read(path: str, **flags: Any) -> tuple[str, Study]:
    """A study's name and what its YAML says, flags that are not None over it.

    Args:
        path: of the file, or its name in configs/study.
        flags: fields of `Study`.

    Raises:
        UserError: when it is missing, no YAML, or says something that cannot be.
    """
    file = Path(path)
    if not file.is_file():
        file = CONFIGS / "study" / f"{path}.yaml"
    if not file.is_file():
        known = sorted(p.stem for p in (CONFIGS / "study").glob("*.yaml"))
        raise UserError(f"STUDY {path} is not a file, nor the name of a study: {nearest(path, known)}")
    try:
        data = yaml.load(file.read_text(encoding="utf-8"), Loader)
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"STUDY {path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise UserError(f"STUDY {path} must hold keys and values: models, units, conditions, …")
    check_file_name(file.stem, f"STUDY {path}")
    return file.stem, checked(data | {k: v for k, v in flags.items() if v is not None}, f"STUDY {path}")


def checked(data: dict[str, Any], source: str) -> Study:
    """Plain data as a `Study`.

    Raises:
        UserError: for an unknown key, a wrong type, or a number that cannot be.

    Example:
        >>> from benchmark.study.config import checked
        >>> study = checked({"models": ["vit"], "units": "first:2", "conditions": {"none": None}}, "mine.yaml")
        >>> study.conditions["none"].shows, study.side
        (False, 0.4)
    """
    if isinstance(data.get("conditions"), dict):
        data = data | {"conditions": {str(k): v or {} for k, v in data["conditions"].items()}}
    if isinstance(data.get("units"), int) and not isinstance(data["units"], bool):
        data = data | {"units": str(data["units"])}
    study: Study = parse(Study, data, source)
    if not study.models or not study.conditions:
        raise UserError(f"{source}: models and conditions must each name at least one")
    for key, (low, high) in RANGES.items():
        if not low <= getattr(study, key) <= high:
            raise UserError(f"{source}: {key} must be between {low:g} and {high:g}, not {getattr(study, key):g}")
    if not 1 <= study.exclude.practice_over <= 100:
        raise UserError(f"{source}: exclude.practice_over must be between 1 and 100, not {study.exclude.practice_over}")
    if study.images > study.candidates:
        raise UserError(
            f"{source}: images ({study.images}) are chosen among the candidates, of which there must be at least as "
            f"many, not {study.candidates}"
        )
    for name, condition in study.conditions.items():
        check_file_name(name, f"{source}: a condition")
        kinds = [condition.method is not None, condition.folder is not None, condition.natural]
        if sum(kinds) > 1:
            raise UserError(f"{source}: conditions.{name} must say one of method, folder and natural, or none of them")
        if not 0 <= condition.blur <= 0.5:
            raise UserError(f"{source}: conditions.{name}.blur must be between 0 and 0.5, not {condition.blur:g}")
    return study


def rules(text: str | None, known: dict[str, Any]) -> Exclusions:
    """Rules of exclusion: a study's, with what a flag says over them.

    Args:
        text: `catch_under=0.5,one_side=false`; `none` leaves nobody out.
        known: the study's.

    Raises:
        UserError: for a rule that there is not.

    Example:
        >>> from benchmark.study.config import rules
        >>> rules("catch_under=0.5,one_side=false", {}).catch_under
        0.5
    """
    if text == "none":
        return Exclusions(-1.0, -1.0, float("inf"), -1.0, 10**9, False)
    given: dict[str, Any] = {}
    for item in (text or "").split(","):
        if item.strip():
            key, _, value = item.partition("=")
            try:
                given[key.strip()] = yaml.safe_load(value)
            except yaml.YAMLError as error:
                raise UserError(f"--rules {item}: {value} is no value") from error
    found: Exclusions = parse(Exclusions, known | given, "--rules")
    return found
