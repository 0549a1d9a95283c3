"""Real images by class: a set's name and a number in; images of a class as a network sees them, and which, out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from featvis.data.channels import MODES, of_image
from featvis.data.files import fit, to_tensor
from featvis.data.sets import open_images
from featvis.errors import UserError
from featvis.networks.classifier import Classifier
from featvis.networks.units import Unit

Whose = Literal["unit", "next"]
"""Whose images a unit is given: its own class's, or those of the next class that has some (a control)."""


@dataclass(frozen=True)
class Seen:
    """Images of a class, or patches that excite a channel.

    Attributes:
        images: in [0, 1], of the network's input size; see `as_channels`.
        digests: of their files (`featvis.data.files.digest`).
        relevance: how much each counts, above 0 for some.
    """

    images: Float[Tensor, "n c h w"]
    digests: tuple[int, ...]
    relevance: Float[Tensor, n]


def as_channels(image: Image.Image, channels: int) -> Float[Tensor, "c h w"]:
    """An image for a network of 1 to 4 channels: RGB, also for one of which the network reads the luminance.

    Of two channels and of four (`featvis.data.channels`) the last is alpha.
    """
    return to_tensor(image) if channels in (1, 3) else of_image(image, channels)


def check_channels(network: Classifier) -> None:
    """Raise a UserError for a network that no photograph can be shown to."""
    if network.channels not in MODES:
        raise UserError(
            f"photographs have 1 to 4 channels, and {network.alias} takes {network.channels}; take a method that sees "
            "no real images, for example maco"
        )


class ClassImages:
    """The first images of each class of a set.

    Args:
        spec: the set, as `--data` names one (`featvis.data.sets`); its training split, where it has one.
        count: images a class.
        classifier: whose classes and input size.
        whose: see `Whose`.

    Raises:
        UserError: for a set that cannot be read.
    """

    def __init__(self, spec: str, count: int, classifier: Classifier, whose: Whose = "unit") -> None:
        self.source = open_images(spec, classifier, flag="images")
        self.count, self.classifier, self.whose = count, classifier, whose

    def check(self, units: Sequence[Unit]) -> None:
        """Raise a UserError for a class of which there are too few images."""
        for unit in units:
            if (there := len(self.source.rows.get(self._class(unit), []))) < self.count:
                name = self.classifier.labels[self._class(unit)]
                has = "no image" if not there else f"{there} images"
                raise UserError(
                    f"images {self.source.name} has {has} of {name}, and {self.count} are asked for; name another set "
                    f"or a smaller count"
                )

    def _class(self, unit: Unit) -> int:
        if self.whose == "unit":
            return unit.index
        there = sorted({*self.source.rows, unit.index})
        return there[(there.index(unit.index) + 1) % len(there)]

    def of(self, unit: Unit) -> Seen:
        """The images that a unit is given; those that cannot be decoded are passed over.

        Raises:
            UserError: see `check`; or when fewer can be decoded than are asked for.
        """
        images, digests = [], []
        for image, digest in self._opened(unit):
            images.append(as_channels(fit(image, self.classifier.input_size), self.classifier.channels))
            digests.append(digest)
        found = torch.stack(images).to(self.classifier.device)
        return Seen(found, tuple(digests), torch.ones(self.count, device=found.device))

    def digests(self, unit: Unit) -> tuple[int, ...]:
        """Of their files, and nothing of the images is kept: a thousand classes are looked through before a run.

        Raises:
            UserError: see `of`.
        """
        return tuple(digest for _, digest in self._opened(unit))

    def _opened(self, unit: Unit) -> Iterator[tuple[Image.Image, int]]:
        """One after the other, as many as are asked for: what cannot be decoded is none of them."""
        self.check([unit])
        there = 0
        for row in self.source.rows[self._class(unit)]:
            try:
                opened = self.source.open(row, self.classifier.channels)
            except OSError:
                continue
            yield opened
            there += 1
            if there == self.count:
                return
        name = self.classifier.labels[self._class(unit)]
        raise UserError(
            f"images {self.source.name}: {there} images of {name} can be decoded, and {self.count} are asked "
            "for; name another set or a smaller count"
        )
