"""What a site shows, as plain data: dataclasses in, JSON files out, and back. No torch.

Below the site's folder: `site.json`; `data/<network>/network.json`, `atlas.json`, `classes/<key>.json`,
`layers/<key>.json` and `units/<key>.json`; `pictures/<file>.webp` and, smaller, `pictures/<file>-s.webp`. Pages are
made of these files alone, so that a site is rendered anew without any network.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from benchmark.records.schema import parse
from featvis.errors import UserError
from featvis.storage.hashing import canonical
from featvis.storage.images import write_atomic

SCHEMA: Literal[1] = 1
MARKER = "site.json"
Kind = Literal["class", "concept", "unit", "layer"]
T = TypeVar("T")


@dataclass(frozen=True)
class Picture:
    """A picture in two sizes.

    Attributes:
        file: its name below `pictures`, without an ending.
        width: of the large one, in pixels.
        height: likewise.
        alt: what it shows, for those who do not see it.
        facts: what is known of it, by name, as people read it.
        command: the line that makes it; empty where none does.
        transparent: whether `<file>-t.webp` and `<file>-t-s.webp`, with its transparency, lie beside it.
    """

    file: str
    width: int
    height: int
    alt: str
    facts: dict[str, str]
    command: str = ""
    transparent: bool = False


@dataclass(frozen=True)
class Reference:
    """A page about something alike: `value` says how much, from -1 to 1; `part` is the number of a concept."""

    kind: Kind
    network: str
    key: str
    text: str
    value: float | None = None
    part: int = 0
    picture: Picture | None = None


@dataclass(frozen=True)
class Shown:
    """What a method made of something, a picture a seed."""

    method: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Concept:
    """A concept of a class.

    Attributes:
        number: its place in the order of importance, from 1.
        importance: its total Sobol index for the logit.
        share: of the sum of the importance of all concepts of the class, 0 to 1.
        effect: by how much the logit falls without it.
        visualization: None where there is none.
        patches: of real images, those that fire most.
        maps: where it lies in real images.
        similar: concepts of other classes.
    """

    number: int
    importance: float
    share: float
    effect: float
    visualization: Picture | None
    patches: Picture | None
    maps: tuple[Picture, ...]
    similar: tuple[Reference, ...]


@dataclass(frozen=True)
class Dot:
    """A real image in the chart of importance: its place, and the number of the concept that matters most to it."""

    x: float
    y: float
    strongest: int
    picture: Picture


@dataclass(frozen=True)
class ClassPage:
    """A class of a network.

    Attributes:
        network: its alias.
        key: name in addresses.
        label: index.
        name: for people.
        visualizations: of its logit.
        layer: of the concepts.
        summary: of the concepts, in words.
        concepts: the most important first.
        absent: why there are no concepts; None where there are.
        chart: how the dots were placed.
        dots: real images.
    """

    network: str
    key: str
    label: int
    name: str
    visualizations: tuple[Shown, ...]
    layer: str
    summary: str
    concepts: tuple[Concept, ...]
    absent: str | None
    chart: str
    dots: tuple[Dot, ...]
    schema: Literal[1] = SCHEMA


@dataclass(frozen=True)
class Distribution:
    """Activations of a unit over real images.

    Attributes:
        low: the left edge of the first bin.
        high: the right edge of the last.
        counts: images a bin.
        reached: activation of the visualization; None where there is none.
        below: share of the images that excite the unit less than it does.
    """

    low: float
    high: float
    counts: tuple[int, ...]
    reached: float | None
    below: float | None


@dataclass(frozen=True)
class UnitPage:
    """A channel of a layer.

    Attributes:
        network: its alias.
        layer: its name.
        layer_key: in addresses.
        index: of the channel.
        key: name in addresses.
        visualizations: empty where it has none.
        most: patches of the real images that excite it most.
        least: likewise least.
        distribution: None without real images.
        similar: units of the layer that look for the same.
        elsewhere: units at the same depth of other networks.
        absent: why something is left out; None where nothing is.
    """

    network: str
    layer: str
    layer_key: str
    index: int
    key: str
    visualizations: tuple[Shown, ...]
    most: tuple[Picture, ...]
    least: tuple[Picture, ...]
    distribution: Distribution | None
    similar: tuple[Reference, ...]
    elsewhere: tuple[Reference, ...]
    absent: str | None
    schema: Literal[1] = SCHEMA

    @property
    def name(self) -> str:
        """For people: `blocks.4:17`."""
        return f"{self.layer}:{self.index}"


@dataclass(frozen=True)
class Tile:
    """A channel on a layer's sheet; `made`: the picture is a visualization, and not a patch of a real image."""

    index: int
    key: str
    picture: Picture | None
    made: bool


@dataclass(frozen=True)
class LayerPage:
    """A layer with all of its channels, in an order in which neighbours are alike; `order` says how it was found."""

    network: str
    name: str
    key: str
    what: str
    order: str
    tiles: tuple[Tile, ...]
    schema: Literal[1] = SCHEMA


@dataclass(frozen=True)
class Entry:
    """A page of a network in its lists: `parts` is the number of its concepts or units."""

    key: str
    name: str
    parts: int
    picture: Picture | None


@dataclass(frozen=True)
class Network:
    """A network: its alias, its full name, where the weights came from, and its pages."""

    alias: str
    name: str
    about: str
    classes: tuple[Entry, ...]
    layers: tuple[Entry, ...]
    schema: Literal[1] = SCHEMA


@dataclass(frozen=True)
class Point:
    """Something in an atlas: `x` and `y` from 0 to 1."""

    x: float
    y: float
    to: Reference


@dataclass(frozen=True)
class Atlas:
    """All concepts and units of a network in two dimensions, and how they were placed."""

    network: str
    how: str
    points: tuple[Point, ...]
    schema: Literal[1] = SCHEMA


@dataclass(frozen=True)
class Site:
    """A site.

    Attributes:
        title: of it.
        networks: aliases, in the order of the pages.
        made: what it was made with, for people.
        command: that makes it.
        address: under which it will be published, for previews; empty where it is not known.
        notes: what was left out, and why.
        kind: tells the file from any other JSON.
    """

    title: str
    networks: tuple[str, ...]
    made: str
    command: str
    address: str
    notes: tuple[str, ...]
    kind: Literal["featvis site"] = "featvis site"
    schema: Literal[1] = SCHEMA


# --- Names -----------------------------------------------------------------------------------------------------------


def key_of(*parts: object) -> str:
    """A name that may stand in addresses and file names, of anything.

    Example:
        >>> key_of("blocks.4", 17), key_of("a/b <c>")
        ('blocks.4-17', 'a_b_c_')
    """
    return re.sub(r"[^A-Za-z0-9_.+-]+", "_", "-".join(map(str, parts)))


def address(kind: Kind, network: str, key: str, part: int = 0) -> str:
    """Where a page lies below the site's folder: `resnet50/class/301-ladybug.html#concept-3`."""
    folder = "class" if kind == "concept" else kind
    return f"{network}/{folder}/{key}.html" + (f"#concept-{part}" if part else "")


# --- Files -----------------------------------------------------------------------------------------------------------


def write(out: Path, page: Any) -> Path:
    """Write one of the dataclasses above to its place below a site's folder.

    Args:
        out: the site's folder.
        page: a `Site`, `Network`, `Atlas`, `ClassPage`, `LayerPage` or `UnitPage`.
    """
    path = out / place(page)
    data = (canonical(dataclasses.asdict(page), "a page of the site") + "\n").encode()
    if not path.is_file() or path.read_bytes() != data:
        write_atomic(path, data, flush=False)
    return path


def place(page: Any) -> str:
    """The file of a page's data, below the site's folder."""
    match page:
        case Site():
            return MARKER
        case Network(alias=alias):
            return f"data/{alias}/network.json"
        case Atlas(network=alias):
            return f"data/{alias}/atlas.json"
        case ClassPage(network=alias, key=key):
            return f"data/{alias}/classes/{key}.json"
        case LayerPage(network=alias, key=key):
            return f"data/{alias}/layers/{key}.json"
        case UnitPage(network=alias, key=key):
            return f"data/{alias}/units/{key}.json"
    raise TypeError(type(page).__name__)


def read(path: Path, kind: type[T]) -> T:
    """What `write` wrote.

    Raises:
        UserError: the file is not there or holds something else, or comes from a later version.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is not there; `featvis site` without --render-only makes it") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is not a JSON file ({error}); remove it and make the site again") from None
    if isinstance(data, dict) and isinstance(data.get("schema"), int) and data["schema"] > SCHEMA:
        raise UserError(f"{path} was made by a later version of featvis (schema {data['schema']}); install that one")
    found: T = parse(kind, data, str(path))
    return found


def check_folder(out: Path, networks: Sequence[str] | None) -> None:
    """Refuse a folder that holds something else than this site.

    Args:
        out: the folder, there or not.
        networks: of the site to be made; None: whatever the folder holds, which must be a site.

    Raises:
        UserError: it holds another site, or files and no site.
    """
    if not (out / MARKER).is_file():
        if networks is None:
            raise UserError(f"--out {out} holds no site to render; `featvis site MODEL` makes one")
        if out.is_dir() and any(not p.name.startswith(".") for p in out.iterdir()):
            raise UserError(f"--out {out} holds files that are no site; name a new folder")
        return
    there = read(out / MARKER, Site)
    if networks is not None and tuple(networks) != there.networks:
        raise UserError(
            f"--out {out} holds another site, of {', '.join(there.networks) or 'no network'}; name another folder"
        )
