"""Feature accentuation in tables: each unit begins with a photograph of another class (Hamblin et al. 2024)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from featvis.data.channels import of_image
from featvis.data.files import fit
from featvis.data.sets import ImageSet, open_images
from featvis.errors import UserError
from featvis.generators.rivals.accentuation import Accentuation
from featvis.generators.rivals.images import check_channels
from featvis.networks.units import Unit, class_of, stream_seed


class SeededAccentuation(Accentuation):
    """Accentuation whose images come from a set (Hamblin et al. 2024, section 3), a photograph of another class a unit.

    With a photograph of the unit's own class the scores would be the photograph's. So it is drawn from the other
    classes, by the seed and the unit's id, and the row `control: untouched seed` shows what it scores as it is.

    Args:
        images: set of real images, as `--data` names one (`featvis.data.sets`); its training split, if it has one.
        untouched: optimise nothing: a control, whose canvas is the photograph as accentuation begins with it.
        kwargs: of `Accentuation`.

    Raises:
        UserError: without images; and, once the network is known, where the set has no image of another class.
    """

    sees = "one image of another class"

    def __init__(self, images: str | None = None, untouched: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if images is None:
            raise UserError("accentuation begins with real images; name a set of them, for example images: imagenette")
        self.images, self.untouched = images, untouched
        self._drawn: dict[str, tuple[int, str, int]] = {}
        if untouched:
            self.steps = 0

    @functools.cached_property
    def seeds(self) -> ImageSet:
        """The images, listed at the first use."""
        return open_images(self.images, self.load_classifier(), flag="images")

    def forget(self) -> None:
        """Also the set, whose labels are the network's classes."""
        super().forget()
        self._drawn = {}
        vars(self).pop("seeds", None)

    def facts(self) -> dict[str, Any]:
        """The images by their names, sizes and classes: where they lie changes no image."""
        return {"images": self.seeds.fingerprint, **super().facts()}

    def config(self, device: torch.device | None = None) -> dict[str, Any]:
        """As of any method; of an untouched photograph without steps, which is what its record says that it cost."""
        found = super().config(device)
        if self.untouched:
            found["init_args"]["steps"] = 0
        return found

    def check_units(self, units: Sequence[Unit]) -> None:
        """Raise a UserError for an unknown layer, five channels or more, or a unit without another class's image."""
        check_channels(self.load_classifier())
        self.layer()
        for unit in units:
            self._others(unit)

    def _others(self, unit: Unit) -> list[int]:
        """The numbers of the images of other classes; of all for a unit that is no class."""
        others = [i for i, label in enumerate(self.seeds.labels) if label != class_of(unit.id)]
        if not others:
            raise UserError(
                f"images {self.seeds.name} has images of {unit.label} alone, and with a seed of the unit's own class "
                "the scores are the seed's; name a set that has other classes too"
            )
        return others

    def photograph(self, unit: Unit) -> tuple[str, int]:
        """The name of a unit's photograph, and its digest."""
        return self._draw(unit)[1:]

    def as_canvas(self, unit: Unit) -> Float[Tensor, "c h w"]:
        """A unit's photograph as the canvas begins."""
        channels = self.load_classifier().channels
        image, _ = self.seeds.open(self._draw(unit)[0], channels)
        return of_image(fit(image, self.size), channels)

    def _draw(self, unit: Unit) -> tuple[int, str, int]:
        """A unit's photograph, drawn by the seed and its id: number, name and digest, and nothing of the image is kept.

        One that cannot be decoded is passed over.

        Raises:
            UserError: when none can be decoded.
        """
        if unit.id in self._drawn:
            return self._drawn[unit.id]
        others = self._others(unit)
        first = stream_seed(self.seed, f"photograph of {unit.id}") % len(others)
        for row in (*others[first:], *others[:first]):
            try:
                _, digest = self.seeds.open(row)
            except OSError:
                continue
            return self._drawn.setdefault(unit.id, (row, self.seeds.where(row).rpartition("/")[2], digest))
        raise UserError(f"images {self.seeds.name}: no image of another class than {unit.label} can be decoded")
