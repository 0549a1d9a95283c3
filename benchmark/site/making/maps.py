"""Where concepts lie in real images, and which of them matters to which image: `Concepts` and images in, arrays out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from featvis.canvas.color import to_bytes
from featvis.concepts.craft import Concepts
from featvis.concepts.factors import Factors
from featvis.networks.classifier import Classifier
from featvis.networks.layers import tap

DARK = 0.3
"""How bright an image stays where a concept is not."""


@torch.no_grad()
def maps(
    classifier: Classifier, layer: str, found: Concepts, images: Float[Tensor, "n 3 h w"]
) -> Float[np.ndarray, "n k r c"]:
    """How strongly each concept is there at each position of a layer: coefficients by non-negative least squares.

    Args:
        classifier: the network, in float32.
        layer: with positions.
        found: its concepts.
        images: at the network's input size, RGB in [0, 1].
    """
    shape = classifier.layer(layer)
    assert shape.grid is not None
    name = tap(layer, ":")
    read = classifier.activations(images.to(classifier.device), frozenset({name}))[name][:, shape.first :]
    rows = read.clamp_min(0).flatten(0, 1).cpu().numpy()
    factors = Factors(found.coefficients.numpy(), found.vectors.numpy(), found.error, found.explained)
    each = factors.project(rows).reshape(len(images), *shape.grid, len(found.vectors))
    return each.transpose(0, 3, 1, 2)


def lit(image: Float[Tensor, "3 h w"], strength: Float[np.ndarray, "r c"], most: float) -> Image.Image:
    """An image that is bright where a concept is, and dark elsewhere.

    Args:
        image: RGB in [0, 1].
        strength: of the concept, position by position.
        most: the strength that is fully bright.
    """
    pixels = np.asarray(to_bytes(image), dtype=np.float32)
    size = (pixels.shape[1], pixels.shape[0])
    smooth = Image.fromarray(np.clip(strength / max(most, 1e-12), 0, 1).astype(np.float32)).resize(
        size, Image.Resampling.BICUBIC
    )
    light = DARK + (1 - DARK) * np.clip(np.asarray(smooth), 0, 1)[..., None]
    return Image.fromarray((pixels * light).round().astype(np.uint8))


def most_lit(found: Concepts, concept: int, own: int, count: int) -> list[int]:
    """The class's own images whose patches fire most for a concept, each once, the strongest first."""
    order = [place.image for place in found.top(concept, len(found.places)) if place.image < own]
    return list(dict.fromkeys(order))[:count]


def weights(found: Concepts, importance: Sequence[float], own: int) -> NDArray[np.float64]:
    """By how much each concept matters to each of the class's own images: (own, K), >= 0.

    The mean coefficient of the image's patches, over that of all images, times the concept's importance.
    """
    at = np.array([place.image for place in found.places])
    each = found.coefficients.double().numpy()
    mean = np.stack([each[at == i].mean(axis=0) for i in range(own)])
    whole = mean.mean(axis=0)
    relative = np.divide(mean, whole, out=np.zeros_like(mean), where=whole > 1e-12)
    return relative * np.maximum(np.asarray(importance, dtype=np.float64), 0)
