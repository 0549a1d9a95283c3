"""Units of a network: text in, `Unit`s out.

Units are written `301,323` (classes), `301-310`, `ladybug` or `logits:ladybug` (by name), `blocks.2:0-31`
and `blocks.2:3+7+20-22` (channels of a layer) and `first:20` (of the fixed permutation of the classes).
`direction:concepts.safetensors:0-9` are directions of a file. A channel or a direction is read as the mean over all
positions, tokens beside the patches included; `blocks.2:7[patches]`, `[cls]`, `[reg0]` and `[3,4]` (row, column) say
otherwise. `ladybug@3` is another image of the same unit, with a random stream of its own, and `first:20@0-9` ten
images of each.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from featvis.errors import UserError, nearest
from featvis.networks.classes import Classes, plain
from featvis.networks.classifier import Classifier
from featvis.networks.layers import tap
from featvis.networks.objectives import LOGITS, Objective, channel, direction
from featvis.storage import directions

Tokens = Literal["all", "patches"]
"""Over which tokens of a transformer a unit is averaged that does not say it."""
Together = int | Literal["unit"] | None
"""Which units are optimised together, see `groups`."""


@dataclass(frozen=True)
class Unit:
    """One unit of a network.

    Attributes:
        layer: `logits` or the name of a layer.
        index: class, channel, or row of a file of directions.
        label: a short name for people.
        repeat: which of several images of the same unit.
        where: at which positions it is read, see `featvis.networks.layers`; empty: the mean over all.
        file: of directions, or empty.
        vector: the direction, where it is one.
        cosine: how a direction is maximised, see `featvis.networks.objectives.Direction`.
    """

    layer: str
    index: int
    label: str
    repeat: int = 0
    where: str = ""
    file: str = ""
    vector: tuple[float, ...] | None = None
    cosine: bool = False

    @property
    def id(self) -> str:
        """Its name in file names and records: `301`, `blocks.2-7`, `blocks.2-7-r3c4`, `301@3`."""
        name = str(self.index) if self.layer == LOGITS else f"{self.layer}-{self.index}"
        if self.vector is not None:
            # By content: another file of the same name is another direction.
            digest = hashlib.sha256(repr(self.vector).encode()).hexdigest()[:6]
            name = f"{self.layer}-{Path(self.file).stem or 'direction'}.{digest}-{self.index}"
            name += "-cosine" if self.cosine else ""
        name += f"-{_place(self.where)}" if self.where else ""
        return f"{name}@{self.repeat}" if self.repeat else name

    @property
    def text(self) -> str:
        """What `parse_units` reads as this unit."""
        name = str(self.index) if self.layer == LOGITS else f"{self.layer}:{self.index}"
        if self.vector is not None:
            name = f"direction:{self.file}:{self.index}"
        name = tap(name, self.where)
        return f"{name}@{self.repeat}" if self.repeat else name

    @property
    def objective(self) -> Objective:
        """What is maximised for it."""
        if self.vector is not None:
            return direction(self.layer, self.vector, self.where, self.cosine)
        return channel(self.layer, self.index, self.where)

    def seed(self, seed: int) -> int:
        """The seed of this unit's own random stream, a function of (seed, unit) alone."""
        return stream_seed(seed, self.id)


@dataclass(frozen=True, kw_only=True)
class ImageUnit(Unit):
    """A unit that has an image to start from or to match.

    Attributes:
        path: the image.
        digest: of the file's content (`featvis.data.files.digest`).
    """

    path: Path
    digest: int

    @property
    def image(self) -> str:
        """The image's name and a part of its content's digest, for files: `n01440764_141.3fa9c120`."""
        # Safe in file names, and without an @, before which `class_of` looks for a class.
        stem = re.sub(r"[^A-Za-z0-9_-]+", "_", self.path.stem)[:80]
        return f"{stem}.{self.digest:016x}"[: len(stem) + 9]


def _place(where: str) -> str:
    row, comma, column = where.partition(",")
    return f"r{row}c{column}" if comma else where


def stream_seed(seed: int, unit: str) -> int:
    """The seed of the random stream of a unit, given by its id."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{unit}".encode()).digest()[:8], "big") >> 1


def class_of(unit: str) -> int | None:
    """The class that a unit is, by its id; None for a unit of a layer.

    Example:
        >>> from featvis.networks.units import class_of
        >>> class_of("301@3"), class_of("blocks.2-7")
        (301, None)
    """
    name = unit.partition("@")[0]
    return int(name) if name.isdecimal() else None


def classes_of(units: Iterable[str]) -> list[int]:
    """The classes among units, by their ids, each once, in their order."""
    return list(dict.fromkeys(c for unit in units if (c := class_of(unit)) is not None))


def permutation(count: int) -> list[int]:
    """The fixed order of `count` classes behind `first:n`: by the SHA-256 of the class number, the same everywhere.

    Example:
        >>> from featvis.networks.units import permutation
        >>> permutation(1000)[:3] == permutation(1000)[:3], sorted(permutation(5))
        (True, [0, 1, 2, 3, 4])
    """
    return sorted(range(count), key=lambda i: hashlib.sha256(f"featvis {i}".encode()).digest())


def base_of(unit: str) -> str:
    """The id of a unit without which of its images is meant.

    Example:
        >>> from featvis.networks.units import base_of
        >>> base_of("301@3")
        '301'
    """
    name, cut, repeat = unit.rpartition("@")
    return name if cut and repeat.isdecimal() else unit


def unit_of(name: str, classifier: Classifier) -> Unit | None:
    """The unit that an id, or the name of somebody's file, stands for: `301@3`, `blocks.2-7-r3c4`, `blocks.2_7`.

    Args:
        name: without an ending.
        classifier: the network.

    Returns:
        None for a name that is no class and begins with no layer; ids of directions do not say the direction.

    Raises:
        UserError: for a class, a channel or a place that the network does not have.
    """
    name, cut, repeat = name.partition("@")
    if cut and not repeat.isdecimal():
        return None
    number = int(repeat or 0)
    if name.isdecimal():
        return replace(_class(_range(name, classifier.num_classes, classifier.alias)[0], classifier), repeat=number)
    match = re.fullmatch(r"(.+)[-_:](\d{1,6})(?:-(r\d+c\d+|patches|cls|reg\d+|middle))?", name)
    if match is None or match[1] not in classifier.layers():
        return None
    layer, where = classifier.layer(match[1]), re.sub(r"^r(\d+)c(\d+)$", r"\1,\2", match[3] or "")
    index = _range(match[2], layer.channels, f"layer {layer.name}")[0]
    layer.check(where)
    return Unit(layer.name, index, tap(f"{layer.name}:{index}", where), repeat=number, where=where)


def read_units(names: Iterable[str], classifier: Classifier) -> list[Unit]:
    """The units of some names, which are ids or what `parse_units` reads, one a name.

    Raises:
        UserError: for one that the network does not have.
    """
    return [unit_of(name, classifier) or parse_units(name, classifier, "unit")[0] for name in names]


def parse_classes(text: str, classifier: Classifier, flag: str) -> list[int]:
    """The classes that a text names, in its order.

    Raises:
        UserError: for anything that is no class, or that the network does not have.
    """
    units = parse_units(text, classifier, flag)
    if other := [u.text for u in units if u.layer != LOGITS or u.repeat]:
        raise UserError(f"{flag} {text}: {other[0]} is no class; name classes, for example 301,ladybug")
    return [u.index for u in units]


def parse_units(text: str, classifier: Classifier, flag: str = "--units", tokens: Tokens = "all") -> list[Unit]:
    """The units that a text names, in its order, each once.

    Args:
        text: see the module's docstring.
        classifier: the network that has them.
        flag: the option that gave the text, for messages.
        tokens: over which tokens those units of transformers are averaged that do not say it themselves.

    Raises:
        UserError: for an unknown layer or class name (with the nearest), a name of several classes, an index out of
            range, a place that the layer does not have, or a file that holds no directions of this network.

    Example:
        >>> from torch import nn
        >>> from featvis.networks.classifier import Classifier
        >>> from featvis.networks.units import parse_units
        >>> from featvis.networks.weights import ModelSpec
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> own = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "input_size": (8, 8), "labels": ("cat", "dog")}
        >>> units = parse_units("dog,0:1-2,0:3[1,2]", Classifier(net, ModelSpec("tiny", "tiny", **own)))
        >>> [unit.text for unit in units]
        ['1', '0:1', '0:2', '0:3[1,2]']
    """
    units: list[Unit] = []
    for item in (part.strip() for part in re.split(r",(?![^\[]*\])", str(text))):
        if not item:
            continue
        try:
            units += _parse_item(item, classifier, tokens)
        except UserError as error:
            raise UserError(f"{flag} {item}: {error}") from error
    if not units:
        raise UserError(f"{flag} is empty; name some, for example {flag} 301,323 or {flag} first:10")
    return list(dict.fromkeys(units))


def _parse_item(item: str, classifier: Classifier, tokens: Tokens) -> list[Unit]:
    name, repeated, repeats = item.rpartition("@")
    if repeated and not (item.startswith("direction:") and "." in repeats):
        if re.fullmatch(r"\d{1,4}(-\d{1,4})?", repeats) is None:
            raise UserError(f"{repeats!r} after @ is not a number or a range; write for example ladybug@0-9")
        low, _, high = repeats.partition("-")
        if int(high or low) < int(low):
            raise UserError(f"a range starts with the smaller index; write @{high}-{low}")
        units = _parse_item(name, classifier, tokens)
        return [replace(u, repeat=r) for u in units for r in range(int(low), int(high or low) + 1)]
    placed = re.fullmatch(r"(.*?)\[([^\[\]]*)\]", item)
    item, where = (placed[1], placed[2].replace(" ", "")) if placed is not None else (item, "")
    layer, _, what = item.rpartition(":")
    if placed is not None and not where:
        raise UserError("[] names no position; write [row,column], [patches], [cls] or [reg0]")
    if layer in ("", LOGITS, "first"):
        if where:
            raise UserError(f"{LOGITS} have no space, so no position [{where}]; leave the brackets out")
        return _first(what, classifier) if layer == "first" else _by_class(what, classifier)
    if layer == "direction" or layer.startswith("direction:"):
        units = _directions(layer.partition(":")[2], what, classifier)
    else:
        count = classifier.layer(layer).channels
        units = [Unit(layer, i, f"{layer}:{i}") for i in _range(what, count, f"layer {layer}")]
    found = classifier.layer(units[0].layer)
    if not where and tokens == "patches" and found.extra != 0:
        where = "patches"  # also where nobody knows which they are, which is refused
    if where == ":":
        raise UserError("[:] is no unit; write [row,column], [patches], [cls] or [reg0]")
    found.check(where)
    return [replace(u, where=where, label=tap(u.label, where)) for u in units]


def _first(what: str, classifier: Classifier) -> list[Unit]:
    if not what.isdecimal():
        raise UserError(f"{what!r} is not a whole number; write for example first:20")
    if not 1 <= int(what) <= classifier.num_classes:
        raise UserError(f"{classifier.alias} has {classifier.num_classes} classes; ask for 1 to that many")
    return [_class(i, classifier) for i in permutation(classifier.num_classes)[: int(what)]]


def _by_class(what: str, classifier: Classifier) -> list[Unit]:
    return [_class(i, classifier) for i in _classes(what, classifier)]


def _directions(path: str, what: str, classifier: Classifier) -> list[Unit]:
    if not path:
        raise UserError("a direction is written direction:FILE:index, for example direction:concepts.safetensors:0-9")
    vectors, facts = directions.load(Path(path))
    if facts.get("weights", classifier.weights_hash) != classifier.weights_hash:
        raise UserError(f"{path} holds directions of {facts.get('model', 'another network')}, not of {classifier.name}")
    layer = classifier.layer(facts["layer"])
    if vectors.shape[1] != layer.channels:
        raise UserError(
            f"{path} holds directions of {vectors.shape[1]} channels, but {layer.name} of {classifier.alias} has "
            f"{layer.channels}"
        )
    cosine = facts.get("objective") == "cosine"
    labels = facts.get("labels") or [f"{Path(path).stem} {i}" for i in range(len(vectors))]
    return [
        Unit(layer.name, i, str(labels[i]), file=path, vector=tuple(vectors[i].tolist()), cosine=cosine)
        for i in _range(what, len(vectors), path)
    ]


def _class(index: int, classifier: Classifier) -> Unit:
    return Unit(LOGITS, index, classifier.labels[index])


def _range(text: str, count: int, where: str) -> list[int]:
    if "+" in text:
        return [i for part in text.split("+") for i in _range(part, count, where)]
    match = re.fullmatch(r"(-?\d+)(?:-(\d+))?", text.strip())
    if match is None:
        raise UserError(f"{text!r} is not an index or a range; write for example 7, 0-31 or 3+7+20-22")
    low, high = int(match[1]), int(match[2] or match[1])
    if low < 0 or max(low, high) >= count:
        raise UserError(f"{where} has the indices 0 to {count - 1}")
    if low > high:
        raise UserError(f"a range starts with the smaller index; write {high}-{low}")
    return list(range(low, high + 1))


def _classes(text: str, classifier: Classifier) -> list[int]:
    if re.fullmatch(r"-?\d+(-\d+)?", text):
        return _range(text, classifier.num_classes, classifier.alias)
    if (found := Classes.of(classifier).find(text)) is not None:
        return [found]
    near = nearest(plain(text), [plain(label) for label in classifier.labels])
    raise UserError(f"{classifier.alias} has no class of that name (a layer's units: blocks.2:0-31); {near}")


def groups(units: Sequence[Unit], together: Together) -> list[list[Unit]]:
    """Units that are optimised together, and never apart: what comes out depends on who is in a group.

    Args:
        units: in their order.
        together: None: each alone; `unit`: the images of one unit (`ladybug@0-3`); a number: so many that follow one
            another, and what is left.

    Example:
        >>> from featvis.networks.units import Unit, groups
        >>> units = [Unit("logits", i, "", repeat) for i in (4, 5) for repeat in (0, 1)]
        >>> [[unit.id for unit in group] for group in groups(units, "unit")]
        [['4', '4@1'], ['5', '5@1']]
        >>> [len(group) for group in groups(units, 3)]
        [3, 1]
    """
    if together == "unit":
        found: dict[str, list[Unit]] = {}
        for unit in units:
            found.setdefault(base_of(unit.id), []).append(unit)
        return list(found.values())
    size = together or 1
    return [list(units[i : i + size]) for i in range(0, len(units), size)]


def cut(units: Sequence[Unit], batch_size: int, together: Together = None) -> list[list[Unit]]:
    """Batches, cut before they are dealt to devices: the number of devices never changes a batch.

    A batch holds whole groups: as many as fit into its size, or one that is larger.
    """
    batches: list[list[Unit]] = []
    for group in groups(units, together):
        if batches and len(batches[-1]) + len(group) <= batch_size:
            batches[-1] += group
        else:
            batches.append(group)
    return batches
