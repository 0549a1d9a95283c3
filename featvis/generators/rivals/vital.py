"""VITAL: an image whose activations are distributed as those of real images of its unit (Gorgun et al. 2025)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from featvis.canvas.parametrizations import Pixel, Pyramid
from featvis.canvas.transforms import Jitter, Transform
from featvis.data.channels import alpha_fact
from featvis.errors import UserError
from featvis.generators.base import Generator
from featvis.generators.rivals.images import ClassImages, Seen, Whose, check_channels
from featvis.generators.rivals.patches import BATCH, Patches
from featvis.generators.state import Visualizations, cosine
from featvis.networks.classifier import NORMS, Classifier
from featvis.networks.layers import Layer, stages, tap
from featvis.networks.objectives import LOGITS, Objective
from featvis.networks.units import Unit, base_of

_MADE: WeakKeyDictionary[Classifier, dict[Hashable, dict[str, Tensor]]] = WeakKeyDictionary()
"""What `mean_sorted` made last, by the network, the images and the layers."""
KEPT = 2**28
"""Bytes of it a network, on its device: about thirty units of a ResNet-50. A thousand classes would be gigabytes."""


@dataclass(frozen=True, eq=False)
class SortedMatch:
    """How far the sorted activations of each channel are from given ones, with a minus (Gorgun et al. 2025, section 3).

    Sorting leaves where a channel is active to the image, and asks for how much of it: the mean squared difference over
    ranks and channels, divided by the mean spatial variance of the given ones, so that layers are comparable.

    Attributes:
        layer: its name.
        target: (C, P), each channel's activations at all positions, ascending.
        extra: tokens before the patches, which are left out.
    """

    layer: str
    target: Float[Tensor, "c p"]
    extra: int = 0

    @property
    def tap(self) -> str:
        """What it reads."""
        return tap(self.layer, ":")

    def __call__(self, activation: Float[Tensor, "n q c"]) -> Float[Tensor, n]:
        """0 where they are the same."""
        ranked = ascending(activation, self.extra)
        spread = self.target.var(1, correction=0).mean().clamp_min(1e-12)
        return -(ranked - self.target.to(ranked)).square().mean((1, 2)) / spread

    def __str__(self) -> str:
        return f"sorted({self.layer})"


def ascending(activation: Float[Tensor, "n q c"], extra: int) -> Float[Tensor, "n c p"]:
    """Each channel's activations at all positions but the `extra` first, sorted; in rows, which sort faster."""
    return activation[:, extra:].transpose(1, 2).contiguous().sort(dim=-1).values


class VITAL(Generator):
    """Distribution matching (Gorgun et al. 2025, section 3, "Feature Visualization with VITAL").

    For some layers the activations of a channel, sorted, shall be those of real images of the class, sorted and
    averaged over the images; for a channel of a layer, those of the patches that excite it most, weighted by their
    relevance (`featvis.generators.rivals.patches`). The published loss never reads the unit. Published are raw pixels
    and 2000 steps; in a pyramid of grids 128 steps do: the parametrization decides, not the loss.

    Args:
        images: set of real images, as `--data` names one (`featvis.data.sets`); its training split, if it has one.
        count: images of each class that are seen, the first ones; or patches of a channel.
        layers: whose activations are matched; null: the first batch norm or layer, and four blocks from first to last,
            of which those behind a channel's layer are left out.
        logit_weight: of the unit's activation beside the matches; 0 as published.
        whose: `unit`, or `next`: the images of the next class, a control: what the picture then shows is theirs.
        steps: optimisation steps.
        canvas: side of the canvas in pixels, or (height, width).
        domain: `pyramid`, or `pixel` as published.
        jitter: pixels by which a view is shifted and smaller than the canvas.
        lr: learning rate of Adam; it rises over the first twentieth of the steps, and falls as a cosine.
        kwargs: of `Generator`.

    Raises:
        UserError: without images; and, once the network is known, for images or layers that are not there.
    """

    sees = "n images of the class"

    def __init__(
        self,
        images: str | None = None,
        count: int = 50,
        layers: tuple[str, ...] | None = None,
        logit_weight: float = 0.0,
        whose: Whose = "unit",
        steps: int = 128,
        canvas: int | tuple[int, int] = 256,
        domain: Literal["pyramid", "pixel"] = "pyramid",
        jitter: int = 32,
        lr: float = 0.03,
        **kwargs: Any,
    ) -> None:
        super().__init__(steps=steps, canvas=canvas, lr=lr, **kwargs)
        if images is None:
            raise UserError(
                "VITAL sees real images; name a set of them, for example images: imagenette, or --seen-data in a run"
            )
        if count < 1:
            raise UserError(f"count must be at least 1, not {count}")
        self.images, self.count, self.whose, self.named = images, count, whose, layers
        self.logit_weight = logit_weight
        self.chain: list[Transform] = [Jitter(jitter)]
        self.parametrization = (
            Pyramid(self.size, gain=2.0, decorrelated=False) if domain == "pyramid" else Pixel(self.size, min_max=False)
        )
        self.forget()

    def forget(self) -> None:
        """Also of the images: their classes and size are the network's, and what they do to it."""
        super().forget()
        self._found: ClassImages | None = None
        self._patches: Patches | None = None
        self._targets: dict[str, list[SortedMatch]] = {}
        self._digests: dict[str, tuple[int, ...]] = {}

    def seen(self, units: Sequence[Unit] = ()) -> str:
        """So many images of the class; of channels alone so many patches."""
        channels = units and all(unit.layer != LOGITS for unit in units)
        return f"{self.count} exciting patches" if channels else f"{self.count} images of the class"

    def facts(self) -> dict[str, Any]:
        """The images by their names, sizes and classes: where they lie changes no image."""
        return {"images": self.class_images().source.fingerprint, **alpha_fact(self.load_classifier().channels)}

    def class_images(self) -> ClassImages:
        """The images, listed at the first call."""
        if self._found is None:
            self._found = ClassImages(self.images, self.count, self.load_classifier(), self.whose)
        return self._found

    def check_units(self, units: Sequence[Unit]) -> None:
        """Raise a UserError for a unit without images, a layer that the network lacks, or more channels than four."""
        network = self.load_classifier()
        check_channels(network)
        for unit in units:
            matched_layers(network, self.named, unit.layer)
            if unit.layer != LOGITS:
                self.patches().check(unit)
        self.class_images().check([unit for unit in units if unit.layer == LOGITS])

    def patches(self) -> Patches:
        """The patches of the same images."""
        if self._patches is None:
            self._patches = Patches(self.class_images().source, self.count, self.load_classifier(), self.whose)
        return self._patches

    def photographs(self, unit: Unit) -> tuple[int, ...]:
        """The digests of the images that are seen for a unit: of a channel all among which patches are sought."""
        return self._digests_of(unit) if unit.layer == LOGITS else self.patches().digests()

    def _digests_of(self, unit: Unit) -> tuple[int, ...]:
        """The files that are seen for a unit; of several pictures of one unit found once, and of no image kept."""
        name = base_of(unit.id)
        if name not in self._digests:
            classes = unit.layer == LOGITS
            self._digests[name] = self.class_images().digests(unit) if classes else self._see(unit).digests
        return self._digests[name]

    def _see(self, unit: Unit) -> Seen:
        """What is seen for a unit, for whoever reads it now: a generator that kept the images of all would fill up."""
        seen = (self.class_images() if unit.layer == LOGITS else self.patches()).of(unit)
        self._digests[base_of(unit.id)] = seen.digests
        return seen

    def transforms(self, step: int) -> Sequence[Transform]:
        """A shift by whole pixels."""
        return self.chain

    def optimizer(self, parameters: list[Tensor]) -> torch.optim.Optimizer:
        """Adam of a short memory."""
        fused = parameters[0].device.type in ("cpu", "cuda")
        return torch.optim.Adam(parameters, lr=self.lr, betas=(0.5, 0.9), fused=fused, maximize=True)

    def rate(self, step: int) -> float:
        """A twentieth of the steps to rise, a cosine to fall."""
        return cosine(self.lr, step, self.steps, warmup=0.05)

    def objective(self, unit: Unit) -> Objective:
        """The matches of all layers, and as much of the logit as was asked for."""
        matches = Objective(tuple((1.0, match) for match in self._target(unit)))
        return matches + self.logit_weight * unit.objective if self.logit_weight else matches

    def maximises(self, unit: Unit) -> bool:
        """Never the unit's own activation, for which its images need not be looked at."""
        return False

    def about(self, unit: Unit) -> dict[str, Any]:
        """The images that were seen, or whose patches were."""
        return {"seen": [f"{digest:016x}" for digest in self._digests_of(unit)]}

    def optimise(self, units: list[Unit]) -> Visualizations:
        """See `Generator`; what the images of units of other batches did to the network is dropped before."""
        names = {base_of(unit.id) for unit in units}
        self._targets = {name: target for name, target in self._targets.items() if name in names}
        self._objectives = {}
        return super().optimise(units)

    def _target(self, unit: Unit) -> list[SortedMatch]:
        """What a unit's images do to each layer; of several pictures of one unit once."""
        name = base_of(unit.id)
        if name not in self._targets:
            network = self.load_classifier()
            layers = matched_layers(network, self.named, unit.layer)
            seen = None if name in self._digests else self._see(unit)
            # Rows of a suite share a network, and most of what its images do to it.
            kept = _MADE.setdefault(network, {})
            key = (
                self._digests[name],
                (name, self.whose) if unit.layer != LOGITS else None,
                *(layer.name for layer in layers),
            )
            if key not in kept:
                kept[key] = mean_sorted(network, layers, seen or self._see(unit))
            targets = kept[key]
            while len(kept) > 1 and sum(t.nbytes for one in kept.values() for t in one.values()) > KEPT:
                del kept[next(iter(kept))]
            self._targets[name] = [SortedMatch(layer.name, targets[layer.name], layer.first) for layer in layers]
        return self._targets[name]


def matched_layers(network: Classifier, named: Sequence[str] | None, unit_layer: str = LOGITS) -> list[Layer]:
    """The layers that are matched, by name or, without names, from the network's beginning to its end.

    Args:
        network: whose they are.
        named: their names, or None.
        unit_layer: the unit's own; without names it is the last one, because nothing behind it has to do with the unit.

    Raises:
        UserError: for a layer that the network lacks, that has no positions, or whose patches nobody can tell from its
            other tokens; without names where there is no other.
    """
    if named is None:
        known = [name for name, layer in network.layers().items() if layer.kind != "vector" and layer.extra is not None]
        norms = [name for name in known if isinstance(network.net.get_submodule(name), NORMS)]
        named = [*(norms or known)[:1], *(name for name in stages(network.measured(), 4) if name in known)]
        if unit_layer != LOGITS:
            own = network.layer(unit_layer).name
            order = list(network.measured())
            named = [*(name for name in named if order.index(name) < order.index(own)), own]
    found = [network.layer(name) for name in dict.fromkeys(named)]
    for layer in found:
        if layer.kind == "vector":
            raise UserError(f"layer {layer.name} has no positions to sort; `featvis layers` shows which have some")
        if layer.extra is None:
            raise UserError(
                f"layer {layer.name} has {layer.places} tokens of which nobody can tell which are patches, and VITAL "
                "sorts those alone; name other layers"
            )
    if not found:
        raise UserError(f"no layer of {network.alias} has positions that are known to be of patches, which VITAL sorts")
    return found


@torch.no_grad()
def mean_sorted(network: Classifier, layers: Sequence[Layer], seen: Seen) -> dict[str, Float[Tensor, "c p"]]:
    """The mean over images, weighted by their relevance, of each layer's activations, each channel's sorted.

    Extra tokens are left out.
    """
    total: dict[str, Tensor] = {}
    taps = frozenset(tap(layer.name, ":") for layer in layers)
    for images, relevance in zip(seen.images.split(BATCH), seen.relevance.split(BATCH), strict=True):
        read = network.activations(images, taps)
        for layer in layers:
            ranked = (ascending(read[tap(layer.name, ":")], layer.first) * relevance[:, None, None]).sum(0)
            total[layer.name] = total.get(layer.name, torch.zeros_like(ranked)) + ranked
    return {name: ranked / seen.relevance.sum() for name, ranked in total.items()}
