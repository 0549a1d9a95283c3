"""Concepts of a class by CRAFT (Fel et al. 2023, "CRAFT: Concept Recursive Activation FacTorization").

In: images (N, 3, h, w) of a class at the network's input size, RGB in [0, 1], and a layer. Out: `Concepts`, whose
vectors (K, C) are directions of the layer's channel space, ordered by their importance for the class's logit.

The non-negative activations A (patches x channels) of image patches, averaged over space, are factorised as U W with
U, W >= 0 (section 3.1); the importance of a concept is the total Sobol index of its coefficient (section 3.3): masks
multiply the coefficients of every position of an image, the rest of the network makes a logit of each masked
reconstruction, and the index is the share of the logit's variance in which the concept's mask has a part. The recursion
of section 3.2 into an earlier layer is left to the caller: name that layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from featvis.concepts.factors import factorise
from featvis.concepts.sobol import Effects, effects
from featvis.errors import UserError
from featvis.networks.classifier import Classifier
from featvis.networks.layers import tap
from featvis.networks.objectives import LOGITS
from featvis.storage import directions

PATCH = 64
"""Side of the patches in pixels of the network's input, as in the paper's code."""
STRIDE = 0.8
"""Of the patches, as a fraction of their side."""
NEGATIVE = 0.1
"""Above which share of the squared activations that is negative a layer is refused; the tails of GELU are below it."""


class Place(NamedTuple):
    """Where a patch lies: the number of its image, and its upper left corner in pixels."""

    image: int
    top: int
    left: int


@dataclass(frozen=True)
class Concepts:
    """The concepts of a class, the most important first.

    Attributes:
        vectors: (K, C), >= 0, of length 1.
        coefficients: (P, K), of each patch, >= 0.
        places: of the P patches; the images are those that `find` got.
        effects: on the logit.
        error: of the factorisation, see `Factors`.
        explained: likewise.
    """

    vectors: Float[Tensor, "k c"]
    coefficients: Float[Tensor, "p k"]
    places: list[Place]
    effects: Effects
    error: float
    explained: float

    def top(self, concept: int, count: int = 9) -> list[Place]:
        """The patches that fire most for a concept, the strongest first."""
        order = self.coefficients[:, concept].argsort(descending=True, stable=True)
        return [self.places[i] for i in order[:count].tolist()]

    def save(self, path: Path, facts: Mapping[str, Any]) -> None:
        """Write a file of directions (`featvis.storage.directions`), which `direction:FILE:0-9` names as units.

        Args:
            path: of the file.
            facts: see `featvis.storage.directions.save`; the numbers are put beside them.
        """
        e = self.effects
        numbers = {
            "importance": [round(v, 6) for v in e.importance.tolist()],
            "effect": [round(v, 6) for v in e.effect.tolist()],
            "logit": e.logit,
            "logit_rebuilt": e.rebuilt,
            "error": self.error,
            "explained": self.explained,
        }
        more = {"coefficients": self.coefficients, "places": torch.tensor(self.places, dtype=torch.int32)}
        directions.save(path, self.vectors, dict(facts) | numbers, **more)

    @classmethod
    def load(cls, path: Path) -> tuple[Concepts, dict[str, Any]]:
        """What `save` wrote, and its facts.

        Raises:
            UserError: when it is no file of concepts.
        """
        vectors, facts = directions.load(path)
        tensors = safetensors.torch.load(path.read_bytes())
        try:
            numbers = (torch.tensor(facts["importance"]), torch.tensor(facts["effect"]))
            effects = Effects(*numbers, float(facts["logit"]), float(facts["logit_rebuilt"]))
            where = [Place(*row) for row in tensors["places"].tolist()]
            return cls(vectors, tensors["coefficients"], where, effects, facts["error"], facts["explained"]), facts
        except (KeyError, TypeError) as error:
            raise UserError(f"{path} holds directions that are no concepts ({error}); remove it") from error


# --- Patches ----------------------------------------------------------------------------------------------------------


def places(count: int, size: tuple[int, int], side: int = PATCH) -> list[Place]:
    """The patches of `count` images of `size` (h, w), image by image, row by row; a rest at the edges is left out."""
    stride = max(1, int(STRIDE * side))
    tops, lefts = range(0, size[0] - side + 1, stride), range(0, size[1] - side + 1, stride)
    return [Place(i, top, left) for i in range(count) for top in tops for left in lefts]


def cut(images: Float[Tensor, "n 3 h w"], where: Sequence[Place], side: int) -> Float[Tensor, "p 3 s s"]:
    """The patches at some places."""
    return torch.stack([images[p.image, :, p.top : p.top + side, p.left : p.left + side] for p in where])


@torch.no_grad()
def activations(
    classifier: Classifier, layer: str, images: Float[Tensor, "n 3 h w"], side: int = PATCH
) -> Iterator[Float[np.ndarray, "p c"]]:
    """The positive part of a layer's mean activations for the patches of images, image by image.

    Each patch is resized to the network's input (bilinear), as in the paper's code.
    """
    each = places(1, (images.shape[2], images.shape[3]), side)
    for i in range(len(images)):
        patches = cut(images[i : i + 1], each, side).to(classifier.device)
        x = F.interpolate(patches, classifier.input_size, mode="bilinear", align_corners=False)
        yield classifier.activations(x, frozenset({layer}))[layer].clamp_min(0).cpu().numpy()


# --- Layers -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def default_layer(classifier: Classifier, x: Float[Tensor, "n 3 h w"]) -> str:
    """The last layer with positions whose activations on `x` are not negative, or else hardly so (`NEGATIVE`).

    Raises:
        UserError: when there is none.
    """
    shares: dict[str, float] = {}

    def note(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        # At once: what follows may work in place.
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            shares.pop(name, None)
            shares[name] = _negative(output)

        return hook

    modules = dict(classifier.net.named_modules())
    good = [n for n, layer in classifier.layers().items() if layer.grid not in (None, (1, 1))]
    # Identity is a place where timm could have put something, not a layer to name.
    good = [n for n in good if not isinstance(modules[n], nn.Identity)]
    handles = [modules[n].register_forward_hook(note(n)) for n in good]
    try:
        classifier.shipped(x)
    finally:
        for handle in handles:
            handle.remove()
    for limit in (0.0, NEGATIVE):
        # In the order in which they end, so that a block stands for its last module.
        if (found := next((n for n, share in reversed(shares.items()) if share <= limit), None)) is not None:
            return found
    raise UserError(f"{classifier.alias} has no layer with positions whose activations are not negative")


@torch.no_grad()
def check_layer(classifier: Classifier, name: str, x: Float[Tensor, "n 3 h w"]) -> float:
    """The share of a layer's squared activations on `x` that is negative; concepts are made of the positive part.

    A layer without positions counts as one position.

    Raises:
        UserError: for a layer that is not there, the logits, or a share above `NEGATIVE`; the message names others.
    """
    if name == LOGITS:
        raise UserError(f"{LOGITS} are the output, after which nothing is left of the network; name a layer before it")
    layer = tap(classifier.layer(name).name, ":")
    share = _negative(classifier.activations(x, frozenset({layer}))[layer])
    if share > NEGATIVE:
        raise UserError(
            f"{share:.0%} of the squared activations of layer {name} are of negative ones, and concepts are factors of "
            f"non-negative activations; name a layer after a ReLU, such as {default_layer(classifier, x)}"
        )
    return share


def _negative(a: Tensor) -> float:
    a = a.float()
    return float(a.clamp(max=0).square().sum() / a.square().sum().clamp_min(1e-12))


def sisters(classifier: Classifier, label: int) -> list[int]:
    """All other classes, the nearest first: by the cosine between the classes' weights in the network's last layer.

    The mean weight is taken off each before: it is what all classes share.

    Raises:
        UserError: when the network's head has no such weights.
    """
    head = classifier.ends().head
    weight = getattr(classifier.net.get_submodule(head), "weight", None) if head else None
    if not isinstance(weight, Tensor) or weight.ndim < 2 or len(weight) != classifier.num_classes:
        raise UserError(f"the classes of {classifier.alias} cannot be compared, so none is near another")
    rows = weight.detach().float().flatten(1)
    rows = rows - rows.mean(0)
    order = F.cosine_similarity(rows[label][None], rows).argsort(descending=True, stable=True)
    return [i for i in order.tolist() if i != label]


# --- Concepts ---------------------------------------------------------------------------------------------------------


def find(
    classifier: Classifier,
    layer: str,
    images: Float[Tensor, "n 3 h w"],
    label: int,
    own: int | None = None,
    concepts: int = 10,
    patch: int = PATCH,
    seed: int = 0,
    report: Callable[[], object] = lambda: None,
) -> Concepts:
    """The concepts of a class.

    Args:
        classifier: the network.
        layer: with activations that are not negative, see `check_layer`.
        images: at the network's input size, RGB in [0, 1].
        label: the class, whose logit the importance is for.
        own: the first so many of the images are of the class itself, and the importance is the mean over them; None:
            all are.
        concepts: how many.
        patch: side of the patches, in pixels.
        seed: of the factorisation and the masks.
        report: called whenever one of the images has been seen: `len(images) + own` times.

    Raises:
        UserError: for a layer that does not fit, or fewer patches or channels than concepts.
    """
    check_layer(classifier, layer, images[:4].to(classifier.device))
    where = places(len(images), (images.shape[2], images.shape[3]), patch)
    channels = classifier.layer(layer).channels
    if not 1 <= concepts <= min(len(where), channels):
        raise UserError(
            f"--concepts must be between 1 and the {len(where)} patches of the {len(images)} images and the {channels} "
            f"channels of {layer}, not {concepts}; more images, a smaller --patch or fewer --concepts would help"
        )
    rows = []
    for part in activations(classifier, layer, images, patch):
        rows.append(part)
        report()
    factors = factorise(np.concatenate(rows), concepts, seed)
    if not len(factors.vectors):
        raise UserError(f"layer {layer} is silent on all {len(where)} patches, so there are no concepts in it")
    seen = []
    for image in images[:own]:
        seen.append(effects(classifier, layer, factors, image, label, seed=seed))
        report()
    mean = Effects(
        torch.stack([e.importance for e in seen]).mean(0),
        torch.stack([e.effect for e in seen]).mean(0),
        sum(e.logit for e in seen) / len(seen),
        sum(e.rebuilt for e in seen) / len(seen),
    )
    order = mean.importance.argsort(descending=True, stable=True)
    return Concepts(
        torch.from_numpy(factors.vectors)[order],
        torch.from_numpy(factors.coefficients)[:, order],
        where,
        Effects(mean.importance[order], mean.effect[order], mean.logit, mean.rebuilt),
        factors.error,
        factors.explained,
    )
