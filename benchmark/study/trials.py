"""The trials of a study: `trials.json`, with the right answers, and the order in which a participant sees them.

The page computes the same order in its own language, so what decides it is whole numbers of 32 bits alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from benchmark.records.schema import parse
from featvis.errors import UserError
from featvis.storage.hashing import canonical
from featvis.storage.images import write_atomic

FILE = "trials.json"
Kind = Literal["trial", "catch", "practice", "example"]


@dataclass(frozen=True)
class Trial:
    """Two queries of one image, of which one excites the unit more.

    Attributes:
        id: says nothing of the answer.
        kind: `trial`, `catch`, `practice` or `example`.
        model: the network, by its alias.
        unit: its id.
        label: its name.
        image: the natural image, by its name in its set.
        digest: of that image's file, 16 hex digits.
        side: of the occluder, in pixels of the network's input.
        most: (row, column) of the occluder's upper left corner where the unit is excited most.
        least: the same where it is excited least.
        activation: of the unit: `whole`, `most`, `least`.
        gap: `most` less `least`.
        percentile: of the gap among the images that were measured for the unit, 0..1.
        left: which of the two stands on the left.
        pictures: of `image`, `most` and `least`, by file name.
        references: pictures by condition; a condition that shows none is not in it.
    """

    id: str
    kind: Kind
    model: str
    unit: str
    label: str
    image: str
    digest: str
    side: int
    most: tuple[int, int]
    least: tuple[int, int]
    activation: dict[str, float]
    gap: float
    percentile: float
    left: Literal["most", "least"]
    pictures: dict[str, str]
    references: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Trials:
    """A study as it was made.

    Attributes:
        study: its name.
        seed: of every choice.
        conditions: by name, their labels.
        models: by alias, name and hash of the weights.
        trials: all of them, examples and practice included.
        exclude: as `benchmark.study.config.Exclusions`.
        left_out: units without a trial, and why.
        made: how, for people who make it again.
        hash: SHA-256 of everything else, 64 hex digits.
    """

    study: str
    seed: int
    conditions: dict[str, str]
    models: dict[str, dict[str, str]]
    trials: tuple[Trial, ...]
    exclude: dict[str, Any]
    left_out: dict[str, str]
    made: dict[str, Any]
    hash: str = ""

    def shown(self) -> list[Trial]:
        """Those whose answers are kept: trials and catch trials."""
        return [t for t in self.trials if t.kind in ("trial", "catch")]

    def order(self, participant: str) -> list[str]:
        """The ids of `shown` in this participant's order."""
        return order(self.seed, participant, [t.id for t in self.shown()])

    def right(self, trial: Trial, participant: str) -> Literal["left", "right"]:
        """The side of the right answer, as this participant sees it."""
        on_left = (trial.left == "most") != mirrored(self.seed, participant)
        return "left" if on_left else "right"


def scramble(text: str) -> int:
    """A hash of 32 bits that a page can compute: FNV-1a, then the last step of MurmurHash3 (Appleby, public domain).

    Example:
        >>> from benchmark.study.trials import scramble
        >>> scramble("0/ann/t1"), scramble("0/ann/t2")
        (201575687, 2401370943)
    """
    h = 0x811C9DC5
    for byte in text.encode():
        h = ((h ^ byte) * 0x01000193) & 0xFFFFFFFF
    h = ((h ^ (h >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return h ^ (h >> 16)


def order(seed: int, participant: str, ids: Sequence[str]) -> list[str]:
    """Trials in a participant's order, a function of (seed, participant) alone.

    Example:
        >>> from benchmark.study.trials import order
        >>> order(0, "ann", ["t2", "t1"])
        ['t1', 't2']
    """
    return sorted(ids, key=lambda i: (scramble(f"{seed}/{participant}/{i}"), i))


def mirrored(seed: int, participant: str) -> bool:
    """Whether a participant sees left and right exchanged: every other one does."""
    return bool(scramble(f"{seed}/{participant}/mirror") & 1)


def sealed(trials: Trials) -> Trials:
    """The same with its hash."""
    return replace(trials, hash=_digest(asdict(trials)))


def write(trials: Trials, folder: Path) -> Trials:
    """Write `trials.json`; the same with its hash."""
    # Conditions stay in the order of the YAML, in which tables and figures have them.
    text = json.dumps(asdict(sealed(trials)), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomic(folder / FILE, f"{text}\n".encode())
    done: Trials = parse(Trials, json.loads(text), FILE)
    return done


def read(folder: Path) -> Trials:
    """The trials of a study's folder.

    Raises:
        UserError: when they are missing, or were changed after they had been made.
    """
    path = folder / FILE
    if not path.is_file():
        raise UserError(f"{folder} holds no {FILE}; name a folder that `featvis study make` has made")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a JSON file ({error}); make the study again") from error
    found: Trials = parse(Trials, data, str(path))
    if found.hash != _digest(data):
        raise UserError(
            f"{path} was changed after it had been made (its hash is another); answers could not be compared with it, "
            "so make the study again"
        )
    return found


def _digest(plain: dict[str, Any]) -> str:
    # Through JSON, so that tuples and lists are one.
    text = canonical(json.loads(json.dumps(plain | {"hash": ""})), FILE)
    return hashlib.sha256(text.encode()).hexdigest()
