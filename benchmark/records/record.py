"""Records: one small reviewable JSON file a cell (a method on a model), from which tables, figures and pages derive.

In: numbers, and the facts that say what they are. Out: `<out>/records/<alias>/<method>.json`. A number is a number; one
that is not there is `null` and says why. Nothing here knows about torch, so reading results needs no deep-learning
stack.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmark.records.schema import FILE_NAME, parse
from featvis.errors import UserError
from featvis.storage.hashing import canonical
from featvis.storage.images import write_atomic

SCHEMA: Literal[1] = 1
# The ceilings and the floors: rows of tables, never competitors.
REFERENCES = ("real", "natural", "real_other", "noise")
OPAQUE, BLENDED = "without transparency", "over a middle grey by its transparency"
"""How an image is scored, in the texts of definitions."""
_SHOWN = {"real_other": "real, other classes"}
_HASH = re.compile(r"[0-9a-f]{12}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Measurement:
    """One metric of one cell.

    Attributes:
        name: the metric's key, such as `plausibility_flat` or `top1_<full timm tag>`.
        label: the column's heading.
        group: which metrics stand together (`plausibility`, `fid`, `frechet`, `sphere`, `transferability`, …).
        value: the number in the metric's own unit (top-1 is a fraction in 0..1), or None.
        interval: 95 % bootstrap interval (low, high), or None.
        n: how many images the number is over.
        higher_is_better: the direction, a fact of the metric's class.
        definition: `text` (one or two sentences) and whatever fixes the number: layer, pooling, k, bank, extractor,
            resize.
        absent: why there is no value, one sentence; None exactly where there is one.
        values: of each unit, in the order of the record's; None for a unit without one. Absent for what is measured of
            a whole set, and in older records.
    """

    name: str
    label: str
    group: str
    value: float | None
    interval: tuple[float, float] | None
    n: int
    higher_is_better: bool
    definition: dict[str, Any]
    absent: str | None = None
    values: tuple[float | None, ...] | None = None


@dataclass(frozen=True)
class Budget:
    """What an image cost: optimisation steps, views a step, forward-backward passes in all; canvas (height, width)."""

    steps: int
    views: int
    passes_per_image: int
    canvas: tuple[int, int]


@dataclass(frozen=True)
class FailedUnit:
    """A unit without an image: at which step it failed (None: not while optimising), and why."""

    unit: str
    step: int | None
    reason: str


@dataclass(frozen=True)
class Record:
    """Everything that is known about one cell of a suite.

    `model` is the full timm tag and `alias` the name of its configuration, which file names use. `given` is what loads
    the network, `wrap:FILE`, where its alias does not. `images` is the folder
    with `<unit>.png`, relative to the run's folder, and `images_sha256` the digest of their pixels
    (`storage.images.pixels_hash`). `command` is what makes the record anew. `budget`, `config_hash` and `preset` are
    None where nothing was optimised. `seconds_per_image` is wall-clock time. `created` is ISO 8601.
    `silent_units` had no gradient at any step, so their images show nothing. `sees` is what the method may see besides
    the network (`benchmark.records.seen`, which knows it of records without it too).
    """

    suite: str
    model: str
    alias: str
    method: str
    preset: str | None
    config: dict[str, Any]
    config_hash: str | None
    units: tuple[str, ...]
    labels: tuple[str, ...]
    units_hash: str
    n: int
    budget: Budget | None
    failed_units: tuple[FailedUnit, ...]
    images: str | None
    metrics: tuple[Measurement, ...]
    seconds_per_image: float | None
    git_commit: str | None
    versions: dict[str, str]
    device: str
    status: Literal["done", "failed"]
    error: str | None
    created: str
    images_sha256: str | None = None
    command: str | None = None
    silent_units: tuple[str, ...] = ()
    given: str | None = None
    sees: str | None = None
    schema: Literal[1] = SCHEMA

    @classmethod
    def from_dict(cls, data: Any, source: str = "the record") -> Record:
        """A record from plain JSON data.

        Args:
            data: what `json.loads` gave.
            source: the file's name, for messages.

        Raises:
            UserError: an unknown or missing key, a wrong type, a number that is not finite, or facts that contradict
                each other; the message names the file and the key.
        """
        record = typing.cast(Record, parse(cls, data, source))
        _check(record, source)
        return record

    @classmethod
    def read(cls, path: Path | str) -> Record:
        """The record in a file.

        Raises:
            UserError: the file is not there, is not JSON, or is not a valid record (`from_dict`).
        """
        path = Path(path)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"There is no record {path}.") from None
        except (json.JSONDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
            raise UserError(f"{path} is not a JSON file: {error}.") from None
        return cls.from_dict(data, str(path))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as `from_dict` takes it."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """The file's text: keys sorted, one fact a line and one metric a line, so that a diff shows what changed."""
        return _layout(json.loads(canonical(self.to_dict(), "the record")))

    def write(self, path: Path | str) -> Path:
        """Write the record; whoever sees the file sees all of it.

        Args:
            path: the file; its folder is made. `record_path(out)` is the usual place.

        Returns:
            The path.

        Raises:
            UserError: the record is not valid (nothing is written).
        """
        path = Path(path)
        Record.from_dict(self.to_dict(), str(path))
        # A file's name that is no text is escaped as JSON has it.
        write_atomic(path, self.to_json().encode("utf-8", "backslashreplace"))
        return path

    def record_path(self, out: Path | str) -> Path:
        """`<out>/records/<alias>/<method>.json`."""
        return Path(out) / "records" / self.alias / f"{self.method}.json"

    @property
    def blended(self) -> bool:
        """Whether its images were scored over a middle grey by their transparency."""
        return bool((self.config.get("evaluation") or {}).get("transparency"))

    def metric(self, name: str) -> Measurement | None:
        """The measurement of that name, or None where this cell was not given that metric."""
        return next((m for m in self.metrics if m.name == name), None)


def shown(method: str) -> str:
    """What people read for a row.

    Example:
        >>> shown("real_other"), shown("maco")
        ('real, other classes', 'maco')
    """
    return _SHOWN.get(method, method)


def listed(methods: Iterable[str]) -> str:
    """Rows in a sentence; what holds a comma itself stands in quotation marks.

    Example:
        >>> listed(["real", "real_other", "maco"])
        'real, “real, other classes”, maco'
    """
    return ", ".join(f"“{name}”" if "," in name else name for name in map(shown, methods))


def load_all(folder: Path | str) -> list[Record]:
    """Every record below a folder, sorted by suite, model and method.

    Args:
        folder: searched with its subfolders for `*.json`.

    Raises:
        UserError: the folder is not there, a file is not a valid record, or two files hold the same cell.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"There is no folder of records at {folder}; `featvis run` makes one.")
    seen: dict[tuple[str, str, str], Path] = {}
    records = []
    for path in sorted(folder.rglob("*.json")):
        record = Record.read(path)
        key = (record.suite, record.alias, record.method)
        if key in seen:
            raise UserError(f"{seen[key]} and {path} both hold {' / '.join(key)}; keep one of them.")
        seen[key] = path
        records.append(record)
    return sorted(records, key=lambda r: (r.suite, r.alias, r.method))


def units_hash(units: Iterable[str]) -> str:
    """12 hex digits that name a set of units. Their order does not matter, because no image depends on it."""
    return hashlib.sha256(canonical(sorted(units), "the units").encode("utf-8")).hexdigest()[:12]


def _layout(data: dict[str, Any]) -> str:
    def line(value: Any) -> str:
        return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)

    parts = []
    for key, value in sorted(data.items()):
        if isinstance(value, list) and value and isinstance(value[0], dict):
            text = "[\n" + ",\n".join(f"    {line(item)}" for item in value) + "\n  ]"
        else:
            text = line(value)
        parts.append(f"  {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _check(record: Record, source: str) -> None:
    """Facts that must agree with each other: what a type cannot say."""

    def require(truth: bool, key: str, message: str) -> None:
        if not truth:
            raise UserError(f"{source}: {key} {message}.")

    for key in ("suite", "alias", "method"):
        name = getattr(record, key)
        require(FILE_NAME.fullmatch(name) is not None, key, f"is {name!r}, which cannot be part of a file name")
    for key in ("config_hash", "units_hash"):
        digest = getattr(record, key)
        require(digest is None or _HASH.fullmatch(digest) is not None, key, f"is {digest!r}, not 12 hex digits")
    require(record.units_hash == units_hash(record.units), "units_hash", "does not belong to the units listed")
    require(len(set(record.units)) == len(record.units), "units", "names a unit twice")
    require(len(record.labels) == len(record.units), "labels", "must be as many as the units")
    require(record.n >= 0, "n", "is negative")
    if record.images is not None:
        inside = (
            not record.images.startswith("/") and ".." not in record.images.split("/") and "\\" not in record.images
        )
        require(
            inside and record.images != "", "images", "must be a folder inside the run's folder, with forward slashes"
        )
    failed = record.status == "failed"
    require(failed == (record.error is not None), "error", "must be given exactly when status is 'failed'")
    digest = record.images_sha256
    require(
        digest is None or _SHA256.fullmatch(digest) is not None, "images_sha256", f"is {digest!r}, not 64 hex digits"
    )
    require(set(record.silent_units) <= set(record.units), "silent_units", "names a unit that is not among the units")
    names = [m.name for m in record.metrics]
    for i, m in enumerate(record.metrics):
        key = f"metrics[{i}] ({m.name})"
        require(names.count(m.name) == 1, key, "is there twice")
        require((m.value is None) == (m.absent is not None), key, "needs either a value or the reason why it is absent")
        require(m.value is not None or m.interval is None, key, "has an interval but no value")
        require(m.interval is None or m.interval[0] <= m.interval[1], key, "has an interval whose ends are swapped")
        require(isinstance(m.definition.get("text"), str), key, "needs a definition with a text")
        fits = m.values is None or len(m.values) == len(record.units)
        require(fits, key, "needs as many values as there are units, or none")
