"""What concepts do to a logit: an image, a layer and factors in, total Sobol indices out (CRAFT, section 3.3).

Masks multiply the coefficients of every position of the image; the rest of the network makes a logit of each masked
reconstruction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import qmc
from torch import Tensor, nn

from featvis.concepts.factors import Array, Factors
from featvis.networks.classifier import Classifier
from featvis.networks.layers import Layer, tap
from featvis.networks.objectives import LOGITS

DESIGNS = 32
"""Designs of the Sobol estimator: K concepts cost 32 * (K + 2) logits an image."""


@dataclass(frozen=True)
class Effects:
    """What concepts do to the logit of a class, the mean over images.

    Attributes:
        importance: (K,), total Sobol indices, >= 0; in all 1 where the concepts act independently, more where not.
        effect: (K,), by how much the logit falls when the concept alone is taken away; negative: it speaks against the
            class.
        logit: of the images themselves.
        rebuilt: of their reconstructions, nothing masked.
    """

    importance: Float[Tensor, k]
    effect: Float[Tensor, k]
    logit: float
    rebuilt: float


def total_sobol(
    f: Callable[[Float[np.ndarray, "n k"]], Float[np.ndarray, n]], inputs: int, designs: int = DESIGNS, seed: int = 0
) -> Float[np.ndarray, k]:
    """Total Sobol indices of the inputs of a function, each uniform in [0, 1] (section 3.3, equation 3).

    Jansen's estimator on the two halves of a Halton sequence's dimensions. The sequence is scrambled: the first 32
    points of a plain one do not reach across the cube in the large primes that ten concepts need.

    Args:
        f: of (n, inputs).
        inputs: K.
        designs: points; f gets designs * (K + 2) of them at once.
        seed: of the scrambling.

    Returns:
        (K,), >= 0; zeros where f is constant.

    Example:
        >>> from featvis.concepts.sobol import total_sobol
        >>> first, second = total_sobol(lambda x: 2 * x[:, 0] + x[:, 1], inputs=2, designs=256)
        >>> round(float(first), 1), round(float(second), 1)  # the shares of the variance, 4 to 1
        (0.8, 0.2)
    """
    points = qmc.Halton(2 * inputs, scramble=True, seed=seed).random(designs)
    a, b = points[:, :inputs], points[:, inputs:]
    mixed = np.repeat(a[None], inputs, axis=0)
    for i in range(inputs):
        mixed[i, :, i] = b[:, i]
    values = f(np.concatenate([a, b, mixed.reshape(-1, inputs)]).astype(np.float32)).astype(np.float64)
    at_a, at_b, at_mixed = np.split(values, [designs, 2 * designs])
    variance = np.concatenate([at_a, at_b]).var()
    # All that is left of the variance of a constant is the rounding of its values.
    if variance <= (1e-6 * np.abs(values).max()) ** 2:
        return np.zeros(inputs)
    return np.square(at_a - at_mixed.reshape(inputs, designs)).mean(1) / (2 * variance)


@torch.no_grad()
def rest(classifier: Classifier, layer: Layer, x: Float[Tensor, "1 3 h w"], raw: Tensor) -> Float[Tensor, "b k"]:
    """The logits that the layers after one make of other outputs of it.

    Args:
        classifier: the network.
        layer: whose output is replaced; where the network runs it several times, the last one.
        x: the image, RGB in [0, 1], for all that does not pass through the layer.
        raw: B outputs, in the shape in which the layer has them.
    """
    module = dict(classifier.net.named_modules())[layer.name]
    # What comes before the layer is the same for all: it runs for one image and is broadcast, or, in a network that
    # reads the number of images early, for copies of it.
    for images in (x, x.expand(len(raw), -1, -1, -1)):
        left = layer.calls

        def replace(module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
            nonlocal left
            left -= 1
            return raw.to(output.dtype) if left == 0 else None

        handle = module.register_forward_hook(replace)
        try:
            logits = classifier.shipped(images)
        except RuntimeError:
            if images is not x:
                raise
        else:
            if len(logits) == len(raw):
                break
        finally:
            handle.remove()
    return logits


@torch.no_grad()
def bypassed(classifier: Classifier, layer: Layer, x: Float[Tensor, "1 3 h w"]) -> bool:
    """Whether anything of the image reaches the logits past a layer, as by the shortcut around a residual branch.

    The importance of concepts then tells only of what passes through the layer.
    """
    nothing = torch.zeros(1, *layer.shape, device=x.device)
    one, other = (rest(classifier, layer, image, nothing) for image in (x, 1 - x))
    return not torch.allclose(one, other, atol=1e-3)


@torch.no_grad()
def effects(
    classifier: Classifier,
    layer: str,
    factors: Factors,
    image: Float[Tensor, "3 h w"],
    label: int,
    designs: int = DESIGNS,
    seed: int = 0,
    batch: int = 64,
) -> Effects:
    """What each concept does to the logit of a class, for one image (section 3.3).

    Args:
        classifier: the network.
        layer: whose concepts they are.
        factors: of its activations.
        image: at the network's input size, RGB in [0, 1].
        label: the class.
        designs: of the Sobol estimator.
        seed: of its masks.
        batch: masked reconstructions that pass through the rest of the network together; bounds the memory.
    """
    found, place = classifier.layer(layer), tap(layer, ":")
    x = image[None].to(classifier.device)
    seen = classifier.activations(x, frozenset({place, LOGITS}))
    rows = seen[place][0].clamp_min(0)
    coefficients = torch.from_numpy(factors.project(rows.cpu().numpy())).to(rows)
    vectors = torch.from_numpy(factors.vectors).to(rows)
    channels_last = [n for i, n in enumerate(found.shape, 1) if i != found.channel] + [found.channels]

    def logits(masks: Array) -> Array:
        made = []
        for part in torch.from_numpy(masks).to(rows).split(batch):
            masked = (coefficients * part[:, None]) @ vectors
            raw = masked.reshape(len(part), *channels_last).movedim(-1, found.channel)
            made.append(rest(classifier, found, x, raw)[:, label].cpu())
        return torch.cat(made).numpy()

    count = len(vectors)
    whole, *without = logits(np.concatenate([np.ones((1, count)), 1 - np.eye(count)]).astype(np.float32)).tolist()
    return Effects(
        torch.from_numpy(total_sobol(logits, count, designs, seed)).float(),
        whole - torch.tensor(without),
        float(seen[LOGITS][0, label]),
        whole,
    )
