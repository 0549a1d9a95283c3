"""Feature accentuation: what of an image excites a unit, brought out in the image itself (Hamblin et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from featvis.canvas.parametrizations import OwnPhase, Parametrization
from featvis.canvas.transforms import Crop, Transform
from featvis.data.channels import alpha_fact
from featvis.data.files import as_seen, check_image, digest
from featvis.errors import UserError
from featvis.generators.base import Generator
from featvis.generators.passes import BESIDE
from featvis.generators.state import Visualizations
from featvis.networks.classifier import Classifier
from featvis.networks.layers import stages, tap
from featvis.networks.objectives import Objective, agreement, objective
from featvis.networks.units import ImageUnit, Unit

Mode = Literal["accentuate", "caricature"]


@dataclass(frozen=True, eq=False)
class Seed:
    """The image that an accentuation begins as.

    Attributes:
        name: of its file.
        digest: of the file's content (`featvis.data.files.digest`).
        image: (C, H, W) in [0, 1], of the canvas's size.
    """

    name: str
    digest: int
    image: Float[Tensor, "c h w"]


class Accentuated(ImageUnit):
    """A unit in an image."""

    @property
    def id(self) -> str:
        """Its name in file names and records: `281-cat.3fa9c120`."""
        return f"{super().id}-{self.image}"


def units_of(paths: Sequence[Path], units: Sequence[Unit], channels: int = 3) -> list[Unit]:
    """Each unit in each image, image by image.

    Args:
        paths: of the images.
        units: of a network.
        channels: that the network takes.

    Raises:
        UserError: for a file that is no image.
    """
    found: list[Unit] = []
    for path in paths:
        check_image(path, channels)
        for unit in units:
            same = {f.name: getattr(unit, f.name) for f in fields(Unit)}
            found.append(Accentuated(**same, path=path, digest=digest(path)))
    return found


class Accentuation(Generator):
    """The unit's activation in crops of an image, near the image in an early layer (Hamblin et al. 2024, section 3).

    The canvas begins as the image; its phases change, under its own magnitude. Each view is held to the same view of
    the image: the penalty is |A(view) - A(view of the image)| / |A(view of the image)| at a layer. A caricature leaves
    the unit out and exaggerates what the layer sees: dot * max(cos, .1)^2 of the two (Olah et al. 2017, Lucid).

    Args:
        mode: `accentuate`, or `caricature`.
        layer: of the penalty, or of the caricature; null: the second of five blocks, or the last but one.
        weight: of the penalty.
        crop: smallest and largest side of the crops, fractions of the canvas.
        steps: optimisation steps.
        canvas: side of the canvas in pixels, or (height, width); images are made to cover it.
        views: crops a step.
        lr: learning rate of Adam, in radians.
        kwargs: of `Generator`.
    """

    sees = "one image"

    def __init__(
        self,
        mode: Mode = "accentuate",
        layer: str | None = None,
        weight: float = 10.0,
        crop: tuple[float, float] = (0.05, 0.99),
        steps: int = 40,
        canvas: int | tuple[int, int] = 224,
        views: int = 4,
        lr: float = 0.05,
        **kwargs: Any,
    ) -> None:
        super().__init__(steps=steps, canvas=canvas, views=views, lr=lr, **kwargs)
        low, high = crop
        if not 0 < low <= high <= 1:
            raise UserError(f"crop must be two fractions of the canvas in ascending order, not {low}, {high}")
        self.mode, self.named, self.weight = mode, layer, weight
        self.chain: list[Transform] = [Crop((low + high) / 2, (high - low) / 2, "uniform")]
        self.own = OwnPhase(self.size)
        self.parametrization = self.own
        self._seeds: dict[int, Seed] = {}

    def forget(self) -> None:
        """Also the images, which have the network's channels."""
        super().forget()
        self._seeds = {}

    def facts(self) -> dict[str, Any]:
        """Whether the images' alpha is seen."""
        return alpha_fact(self.load_classifier().channels)

    def in_channels(self, channels: int) -> Parametrization:
        """As many as the image has."""
        return self.own

    def layer(self) -> str:
        """The layer at which views are compared.

        Raises:
            UserError: for one that the network lacks.
        """
        network: Classifier = self.load_classifier()
        if self.named is not None:
            return network.layer(self.named).name
        blocks = stages(network.measured(), 5)
        if not blocks:
            raise UserError(f"{network.alias} has no layer with positions at which views could be compared")
        return blocks[1 if self.mode == "accentuate" and len(blocks) > 1 else max(0, len(blocks) - 2)]

    def check_units(self, units: Sequence[Unit]) -> None:
        """Raise a UserError for a unit without an image, or a layer that the network lacks."""
        self.layer()
        for unit in units:
            if not isinstance(unit, Accentuated):
                raise UserError(f"an accentuation is of an image, and {unit.text} has none; use featvis accentuate")

    def photographs(self, unit: Unit) -> tuple[int, ...]:
        """The image."""
        return (self.photograph(unit)[1],)

    def photograph(self, unit: Unit) -> tuple[str, int]:
        """The name of a unit's image, and its digest."""
        assert isinstance(unit, Accentuated)
        return unit.path.name, unit.digest

    def as_canvas(self, unit: Unit) -> Float[Tensor, "c h w"]:
        """A unit's image as the canvas begins."""
        assert isinstance(unit, Accentuated)
        return as_seen(unit.path, self.size, self.load_classifier().channels)

    def optimise(self, units: list[Unit]) -> Visualizations:
        """See `Generator`; the images of other batches are dropped before."""
        wanted = {self.photograph(unit)[1] for unit in units}
        self._seeds = {digest: seed for digest, seed in self._seeds.items() if digest in wanted}
        return super().optimise(units)

    def start(self, units: list[Unit], streams: Sequence[torch.Generator]) -> tuple[Tensor, Tensor | None]:
        """The images' own phases and magnitudes."""
        return self.own.of(self.beside(units))

    def transforms(self, step: int) -> Sequence[Transform]:
        """A crop."""
        return self.chain

    def beside(self, units: Sequence[Unit]) -> Float[Tensor, "b c h w"]:
        """The images."""
        return torch.stack([self.seed_of(unit).image for unit in units]).to(self.device)

    def seed_of(self, unit: Unit) -> Seed:
        """A unit's image, read once a batch, and once for all units that begin with it."""
        name, digest = self.photograph(unit)
        if digest not in self._seeds:
            self._seeds[digest] = Seed(name, digest, self.as_canvas(unit))
        return self._seeds[digest]

    def objective(self, unit: Unit) -> Objective:
        """The unit's, less the penalty; or the caricature's."""
        here = tap(self.layer(), ":")

        def distance(a: Mapping[str, Tensor]) -> Float[Tensor, n]:
            seed = a[BESIDE + here].flatten(1)
            return (a[here].flatten(1) - seed).norm(dim=1) / seed.norm(dim=1).clamp_min(1e-12)

        def exaggeration(a: Mapping[str, Tensor]) -> Float[Tensor, n]:
            seed = a[BESIDE + here].flatten(1)
            return agreement(a[here].flatten(1), seed / seed.norm(dim=1, keepdim=True).clamp_min(1e-12))

        if self.mode == "caricature":
            return objective(exaggeration, here, BESIDE + here)
        return unit.objective - self.weight * objective(distance, here, BESIDE + here)

    def about(self, unit: Unit) -> dict[str, Any]:
        """The image, and the layer at which it is kept."""
        name, digest = self.photograph(unit)
        return {"image": name, "seen": [f"{digest:016x}"], "layer": self.layer()}
