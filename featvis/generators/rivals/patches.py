"""Patches of real images that excite a channel: a set and a unit in; patches as a network sees them, and whose, out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from featvis.data.files import fit
from featvis.data.sets import ImageSet
from featvis.errors import UserError
from featvis.generators.rivals.images import Seen, Whose, as_channels
from featvis.networks.classifier import Classifier
from featvis.networks.layers import Layer, tap
from featvis.networks.units import Unit

POOL = 500
"""Images of a set that are looked at, evenly spread over it."""
ENLARGED = 2
"""A patch is so much smaller than what the network sees of an image, and is shown to it in full size."""
BATCH = 10
"""Real images that pass through the network together."""


@dataclass(frozen=True)
class Peaks:
    """Where images of the pool excite the channels of a layer most.

    Attributes:
        rows: the images' numbers.
        values: the largest activation of each channel in each image.
        places: at which of the layer's positions.
    """

    rows: tuple[int, ...]
    values: Float[Tensor, "n c"]
    places: Int[Tensor, "n c"]


class Patches:
    """The patches of a set that excite a channel most, one of an image.

    A patch is cut about the position at which an image excites the channel most; those of the `count` images with the
    largest activations are taken. The relevance of a patch is how far that activation lies above that of the median
    image of the pool.

    Args:
        source: the set.
        count: patches a channel.
        classifier: whose channels and input size.
        whose: `unit`, or `next`: the patches that excite the layer's next channel, a control.
    """

    def __init__(self, source: ImageSet, count: int, classifier: Classifier, whose: Whose = "unit") -> None:
        self.source, self.count, self.classifier, self.whose = source, count, classifier, whose
        self.rows = range(0, len(source), -(-len(source) // POOL))
        self._peaks: dict[str, Peaks] = {}
        self._digests: tuple[int, ...] | None = None

    def check(self, unit: Unit) -> None:
        """Raise a UserError for a unit that is no channel of a layer with rows and columns, or for too few images."""
        layer = self.classifier.layer(unit.layer)
        if unit.vector is not None or unit.where not in ("", "patches"):
            raise UserError(
                f"patches are sought for whole channels, and {unit.text} is none; name one, for example {layer.name}:0"
            )
        if layer.grid is None:
            raise UserError(f"layer {layer.name} has no rows and columns, so no patch that excites {unit.text}")
        if len(self.rows) <= self.count:
            raise UserError(
                f"images {self.source.name} has {len(self.rows)} images, and of more than {self.count} the "
                f"{self.count} are chosen that excite {unit.text} most; name another set or a smaller count"
            )

    def digests(self) -> tuple[int, ...]:
        """Of the files of all images that are looked at, which are the same for all units."""
        if self._digests is None:
            self._digests = tuple(digest for _, _, digest in self._pool())
        return self._digests

    def of(self, unit: Unit) -> Seen:
        """The patches of a unit, the most exciting one first, with their relevances.

        Raises:
            UserError: see `check`; or where no image excites the channel more than the median one.
        """
        self.check(unit)
        layer = self.classifier.layer(unit.layer)
        channel = (unit.index + (self.whose == "next")) % layer.channels
        peaks = self._peaks.get(layer.name) or self._peaks.setdefault(layer.name, self._find(layer))
        values = peaks.values[:, channel]
        best = values.argsort(descending=True, stable=True)[: self.count]
        relevance = (values[best] - values.median()).clamp_min(0)
        if len(best) < self.count or not bool(relevance.any()):
            raise UserError(
                f"images {self.source.name}: no {self.count} of the {len(values)} that were looked at excite "
                f"{layer.name}:{channel} more than the others; name another set, another unit or a smaller count"
            )
        height, width = self.classifier.input_size
        cut, digests = [], []
        for i in best.tolist():
            image, digest = self.source.open(peaks.rows[i], self.classifier.channels)
            place = layer.position(int(peaks.places[i, channel]))
            assert place is not None
            part = patch(fit(image, (ENLARGED * height, ENLARGED * width)), place, layer, (height, width))
            cut.append(as_channels(part, self.classifier.channels))
            digests.append(digest)
        device = self.classifier.device
        return Seen(torch.stack(cut).to(device), tuple(digests), relevance.to(device))

    def _pool(self) -> Iterator[tuple[int, Image.Image, int]]:
        """The images that are looked at: number, image, digest. What cannot be decoded is left out."""
        for row in self.rows:
            try:
                image, digest = self.source.open(row, self.classifier.channels)
            except OSError:
                continue
            yield row, image, digest

    @torch.no_grad()
    def _find(self, layer: Layer) -> Peaks:
        """One pass of the pool through the network, for all channels of a layer."""
        rows: list[int] = []
        values: list[Tensor] = []
        places: list[Tensor] = []
        batch: list[Tensor] = []

        def look() -> None:
            read = self.classifier.activations(torch.stack(batch).to(self.classifier.device), frozenset({at}))[at]
            top = read[:, layer.first :].max(dim=1)
            values.append(top.values.float().cpu())
            places.append(top.indices.cpu() + layer.first)
            batch.clear()

        at = tap(layer.name, ":")
        digests: list[int] = []
        for row, image, digest in self._pool():
            rows.append(row)
            digests.append(digest)
            batch.append(as_channels(fit(image, self.classifier.input_size), self.classifier.channels))
            if len(batch) == BATCH:
                look()
        if batch:
            look()
        if not rows:
            raise UserError(f"images {self.source.name} holds no image that can be decoded")
        self._digests = tuple(digests)
        return Peaks(tuple(rows), torch.cat(values), torch.cat(places))


def patch(image: Image.Image, place: tuple[int, int], layer: Layer, size: tuple[int, int]) -> Image.Image:
    """The part of an image about a position of a layer, moved inward where it would reach beyond the image.

    Args:
        image: as the network sees it, enlarged.
        place: row and column of the layer's grid.
        layer: the layer, with a grid.
        size: (h, w) of the patch, in pixels of the image.
    """
    assert layer.grid is not None
    whole = (image.height, image.width)
    middle = [(at + 0.5) / cells * side for at, cells, side in zip(place, layer.grid, whole, strict=True)]
    top, left = (min(max(round(m - own / 2), 0), side - own) for m, own, side in zip(middle, size, whole, strict=True))
    return image.crop((left, top, left + size[1], top + size[0]))
