"""Feature inversion: the canvas whose activations match an image's (Fel et al. 2023, section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from featvis.canvas.parametrizations import Phase, ScaledSpectrum
from featvis.canvas.transforms import Crop, Noise, Transform
from featvis.data.channels import alpha_fact
from featvis.data.files import as_seen, check_image, digest
from featvis.data.reference import EMBEDDED, natural_spectrum, spectrum_hash
from featvis.engine import NAdam
from featvis.errors import UserError
from featvis.generators.base import Generator
from featvis.generators.state import adam
from featvis.networks.classifier import Classifier
from featvis.networks.layers import tap
from featvis.networks.objectives import Objective, match
from featvis.networks.units import ImageUnit, Unit


class Inverted(ImageUnit):
    """An image at a layer: the unit of an inversion."""

    @property
    def id(self) -> str:
        """Its name in file names and records: `blocks.6.0-n01440764_141.3fa9c120`."""
        return f"{self.layer}-{self.image}"


def units_of(paths: Sequence[Path], layers: Sequence[str], classifier: Classifier) -> list[Unit]:
    """Each image at each layer, layer by layer.

    Raises:
        UserError: for an unknown layer, or a file that is no image.
    """
    for layer in layers:
        classifier.layer(layer)
    found = []
    for path in paths:
        check_image(path, classifier.channels)
        found.append((path, digest(path)))
    return [Inverted(layer, 0, f"{p.stem} at {layer}", path=p, digest=d) for layer in layers for p, d in found]


class Inversion(Generator):
    """The canvas whose activations at a layer match those of an image: dot * max(cos, .1)^2 (`objectives.Match`).

    Args:
        steps: optimisation steps.
        canvas: side of the canvas in pixels, or (height, width).
        views: views a step.
        domain: `spectrum`, scaled by frequency (Olah et al. 2017), which can match an early layer closely, or `phase`,
            under the magnitude of natural images (MACO), which cannot, since the image has another one.
        crop: by how much, at most, the crops' side is below the canvas's. Views are compared position by position, so
            that anything but the whole canvas costs an early layer much of its match (.8 instead of .94).
        noise: half-width of the uniform noise on each view, in the (-1, 1) range; at .05 a cosine of .93 falls to .89.
        lr: learning rate; null: .05 of Adam for `spectrum`, 1 of NAdam for `phase`.
        kwargs: of `Generator`.
    """

    sees = "one image"

    def __init__(
        self,
        steps: int = 256,
        canvas: int | tuple[int, int] = 224,
        views: int = 1,
        domain: Literal["spectrum", "phase"] = "spectrum",
        crop: float = 0.0,
        noise: float = 0.0,
        lr: float | None = None,
        **kwargs: Any,
    ) -> None:
        rate = lr if lr is not None else {"spectrum": 0.05, "phase": 1.0}[domain]
        super().__init__(steps=steps, canvas=canvas, views=views, lr=rate, **kwargs)
        if not 0 <= crop < 0.5:
            raise UserError(f"crop must be between 0 and .5, not {crop}")
        self.domain = domain
        square = self.size[0] == self.size[1]
        if crop and not square:
            raise UserError(f"crop is of square canvases; this one has {self.size[0]} x {self.size[1]} pixels")
        # A crop is a square; the whole of another canvas is no crop.
        whole: list[Transform] = [Crop(1 - crop / 2, crop / 2, "uniform")] if square else []
        self.chain: list[Transform] = [*whole, Noise(uniform=noise)] if crop or noise else []
        self.parametrization = self.in_channels(3)

    def in_channels(self, channels: int) -> ScaledSpectrum | Phase:
        """A spectrum, or phases under the natural one, of as many channels."""
        if self.domain == "spectrum":
            return ScaledSpectrum(self.size, channels=channels)
        return Phase(self.size, natural_spectrum(self.size, EMBEDDED, channels), offset=True)

    def facts(self) -> dict[str, Any]:
        """The natural spectrum by its content, where it is used; and whether alpha is seen."""
        spectrum = {"spectrum": spectrum_hash(EMBEDDED)} if self.domain == "phase" else {}
        return spectrum | alpha_fact(self.load_classifier().channels)

    def transforms(self, step: int) -> Sequence[Transform]:
        """The whole canvas as it is, unless asked otherwise."""
        return self.chain

    def optimizer(self, parameters: list[Tensor]) -> torch.optim.Optimizer:
        """Adam on a spectrum, NAdam on phases."""
        if self.domain == "phase":
            return NAdam(parameters, lr=self.lr, maximize=True)
        return adam(parameters, self.lr)

    def objective(self, unit: Unit) -> Objective:
        """The match with what the image does to the layer."""
        if not isinstance(unit, Inverted):
            raise UserError(f"an inversion is of an image, not of the unit {unit.text}; use featvis invert")
        return match(unit.layer, self.activations(unit.layer, self.picture(unit)[None])[0])

    def picture(self, unit: Inverted) -> Float[Tensor, "c h w"]:
        """The image as the network sees it, in [0, 1]."""
        classifier = self.load_classifier()
        return as_seen(unit.path, classifier.input_size, classifier.channels).to(self.device)

    def activations(self, layer: str, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b p k"]:
        """What images of the network's input size do to a layer."""
        with torch.no_grad():
            return self.load_classifier().activations(images, frozenset({tap(layer, ":")}))[tap(layer, ":")]

    def about(self, unit: Unit) -> dict[str, Any]:
        """The image that was inverted."""
        assert isinstance(unit, Inverted)
        return {"image": unit.path.name, "digest": f"{unit.digest:016x}", "layer": unit.layer}
