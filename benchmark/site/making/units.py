"""Pages of units and layers: networks, and what their layers say of real images, in; the pages' data out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from benchmark.site.making.embedding import embed
from benchmark.site.making.options import Options, Subject
from benchmark.site.making.seen import Photographs, Seen, correlations
from benchmark.site.making.visualizations import visualize
from benchmark.site.model import Distribution, Entry, LayerPage, Picture, Reference, Shown, Tile, UnitPage, key_of
from benchmark.site.pictures import Shelf
from featvis.networks.layers import Layer
from featvis.networks.units import Unit, permutation

PATCHES = 6
"""Real images on a unit's page, on either end."""
ALIKE = 6
"""Units on a unit's page that look for the same."""
BINS = 40
NO_IMAGES = (
    "No real images were given (--data), so those that excite it, the distribution and the units alike are left out."
)


@dataclass(frozen=True)
class Sight:
    """A layer of a network, with what it says of real images (None: there are none), and its relative depth."""

    subject: Subject
    layer: Layer
    seen: Seen | None
    depth: float


def sights(subject: Subject, names: Sequence[str], seen: Mapping[str, Seen]) -> list[Sight]:
    """The layers of a site of one network.

    Raises:
        UserError: for a layer that is not there, or has no units.
    """
    order = list(subject.exact.layers())
    found = [subject.exact.layer(name) for name in names]
    return [Sight(subject, one, seen.get(one.name), order.index(one.name) / len(order)) for one in found]


def names_of(sight: Sight) -> list[str]:
    """What the images that a layer has seen are called in their set, in the order of its rows; empty: it saw none."""
    source, seen = sight.subject.source, sight.seen
    return [] if source is None or seen is None else [source.where(int(row)) for row in seen.rows]


class Patches:
    """Pictures of the parts of real images that excite the channels of a layer.

    Args:
        sight: the layer.
        shelf: of the site's pictures.
        command: that makes the site.
    """

    def __init__(self, sight: Sight, shelf: Shelf, command: str) -> None:
        source = sight.subject.source
        self.sight, self.shelf, self.command = sight, shelf, command
        self.photographs = Photographs(source, sight.subject.exact.input_size) if source is not None else None

    def __call__(self, channel: int, rank: int, end: Literal["most", "least"]) -> Picture | None:
        """The one of a rank (0 is the first) from either end; None where there are not so many."""
        seen, photographs, layer = self.sight.seen, self.photographs, self.sight.layer
        if seen is None or photographs is None or rank >= len(seen.rows):
            return None
        order = seen.order(channel)
        at = order[rank] if end == "most" else order[-1 - rank]
        row, place = int(seen.rows[at]), int(seen.places[at, channel])
        source, name = photographs.source, photographs.source.where(row)
        facts = {
            "image": name, "unit": f"{layer.name}:{channel}", "rank": f"{rank + 1}, from the {end}",
            "activation": f"{seen.values[at, channel]:.3f}", "set": source.name,
        }  # fmt: skip
        key = ["patch", source.fingerprint, row, place, layer.name, self.sight.subject.alias]
        alt = f"part of {name}, which excites unit {channel} {end}"
        return self.shelf.put(key, lambda: photographs.patch(row, place, layer), alt, facts, self.command)


class LayerMaker:
    """Makes the pages of a layer.

    Args:
        sight: the layer.
        others: those of other networks.
        options: what to show.
        work: folder of what is computed.
        shelf: of the site's pictures.
        command: that makes the site.
    """

    def __init__(
        self, sight: Sight, others: Sequence[Sight], options: Options, work: Path, shelf: Shelf, command: str
    ) -> None:
        self.sight, self.options = sight, options
        self.layer, self.seen, self.alias = sight.layer, sight.seen, sight.subject.alias
        self.patch = Patches(sight, shelf, command)
        chosen = permutation(self.layer.channels)[: options.channels]
        units = [Unit(self.layer.name, i, f"{self.layer.name}:{i}") for i in chosen]
        made = visualize(sight.subject, options.methods, units, options, work, shelf)
        self.shown, self.reached, self.missing = made
        self.alike = correlations(self.seen.values, self.seen.values) if self.seen is not None else None
        self.near = min(others, key=lambda o: abs(o.depth - sight.depth), default=None)
        self.patch_there = Patches(self.near, shelf, command) if self.near is not None else None
        self.across = self._across()

    def pages(self) -> tuple[LayerPage, list[UnitPage]]:
        """The page of the layer, and those of all of its units."""
        order, how = self._order()
        tiles = []
        for i in order:
            best = self.patch(i, 0, "most")
            tiles.append(Tile(i, self.key(i), self.visualization(i) or best, self.visualization(i) is not None))
        name = self.layer.name
        sheet = LayerPage(self.alias, name, key_of(name), self.layer.what, how, tuple(tiles))
        return sheet, [self._unit(i) for i in range(self.layer.channels)]

    def entry(self, page: LayerPage) -> Entry:
        """The layer in the lists of its network."""
        made = next((t.picture for t in page.tiles if t.made), None)
        return Entry(page.key, page.name, len(page.tiles), made or page.tiles[0].picture)

    def key(self, channel: int) -> str:
        """Of a unit's page."""
        return key_of(self.layer.name, channel)

    def visualization(self, channel: int) -> Picture | None:
        """The first of a channel."""
        shown = self._shown(channel)
        return shown[0].pictures[0] if shown else None

    def _shown(self, channel: int) -> tuple[Shown, ...]:
        return self.shown.get(Unit(self.layer.name, channel, "").id, ())

    def picture(self, channel: int) -> Picture | None:
        """What stands for a channel: its visualization, or else the patch that excites it most."""
        return self.visualization(channel) or self.patch(channel, 0, "most")

    def _order(self) -> tuple[list[int], str]:
        if self.seen is None:
            return list(range(self.layer.channels)), "In the order of the network, because there are no real images."
        x = self.seen.values
        spread = x.std(axis=0)
        rows = np.divide(x - x.mean(axis=0), spread, out=np.zeros_like(x), where=spread > 1e-12).T
        places, how = embed(rows, 1, self.options.seed)
        text = f"Neighbours look for the same: in one dimension, by {how} of their activations over real images."
        return [int(i) for i in np.argsort(places[:, 0], kind="stable")], text

    def _unit(self, channel: int) -> UnitPage:
        ends = [self._patches(channel, "most"), self._patches(channel, "least")]
        return UnitPage(
            network=self.alias, layer=self.layer.name, layer_key=key_of(self.layer.name), index=channel,
            key=self.key(channel), visualizations=self._shown(channel), most=ends[0], least=ends[1],
            distribution=self._distribution(channel), similar=self._similar(channel),
            elsewhere=self._elsewhere(channel), absent=NO_IMAGES if self.seen is None else None,
        )  # fmt: skip

    def _patches(self, channel: int, end: Literal["most", "least"]) -> tuple[Picture, ...]:
        found = [self.patch(channel, rank, end) for rank in range(PATCHES)]
        return tuple(picture for picture in found if picture is not None)

    def _distribution(self, channel: int) -> Distribution | None:
        if self.seen is None:
            return None
        values = self.seen.values[:, channel]
        counts, edges = np.histogram(values, BINS)
        reached = self.reached.get(Unit(self.layer.name, channel, "").id)
        below = None if reached is None else float((values < reached).mean())
        return Distribution(float(edges[0]), float(edges[-1]), tuple(map(int, counts)), reached, below)

    def _similar(self, channel: int) -> tuple[Reference, ...]:
        if self.alike is None:
            return ()
        order = [int(i) for i in np.argsort(-self.alike[channel], kind="stable") if i != channel][:ALIKE]
        return tuple(
            Reference(
                "unit", self.alias, self.key(i), f"{self.layer.name}:{i}", round(float(self.alike[channel, i]), 3),
                picture=self.picture(i),
            )
            for i in order
        )  # fmt: skip

    def _across(self) -> np.ndarray | None:
        """Correlations with the units at the same depth of another network, over the images that both have seen."""
        if self.seen is None or self.near is None or self.near.seen is None:
            return None
        # Not by number: either list lacks the images of classes that its own network does not know.
        there = {name: at for at, name in enumerate(names_of(self.near))}
        both = [(at, there[name]) for at, name in enumerate(names_of(self.sight)) if name in there]
        if len(both) < 2:
            return None
        mine, theirs = zip(*both, strict=True)
        return correlations(self.seen.values[list(mine)], self.near.seen.values[list(theirs)])

    def _elsewhere(self, channel: int) -> tuple[Reference, ...]:
        if self.across is None or self.near is None or self.patch_there is None:
            return ()
        name, alias = self.near.layer.name, self.near.subject.alias
        best = np.argsort(-self.across[channel], kind="stable")[:3]
        like = [round(float(v), 3) for v in self.across[channel, best]]
        return tuple(
            Reference(
                "unit", alias, key_of(name, int(i)), f"{alias}, {name}:{i}", value,
                picture=self.patch_there(int(i), 0, "most"),
            )
            for i, value in zip(best, like, strict=True)
        )  # fmt: skip
