"""What the channels of layers say of real images: one pass in, kept in files; activations, places and patches out."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from benchmark.site.making.options import Options, Subject
from featvis.data import sweep
from featvis.data.files import fit
from featvis.data.gallery import read_rows
from featvis.data.sets import ImageSet
from featvis.data.sweep import Batch, RowsJob
from featvis.networks.classifier import Classifier
from featvis.networks.layers import Layer, tap
from featvis.storage.hashing import config_hash

CHUNK = 512
PART = 0.375
"""Side of a patch, as a share of the network's input."""


class LayerJob(RowsJob):
    """Each channel's mean activation, and where it is largest: (N, C) each, float32 and int32, for each layer.

    Args:
        network: in float32.
        layers: of it.
    """

    def __init__(self, network: Classifier, layers: Sequence[Layer]) -> None:
        self.network, self.layers, self.size = network, list(layers), network.input_size
        self.title = f"layers of {network.alias}"
        self.facts = {
            "kind": "layers", "network": network.name, "weights_hash": network.weights_hash,
            "layers": ",".join(layer.name for layer in layers), "size": f"{self.size[0]} x {self.size[1]}",
            **network.setting,
        }  # fmt: skip

    def to(self, device: torch.device) -> None:  # noqa: D102
        self.network.to(device)

    @torch.no_grad()
    def see(self, views: Float[Tensor, "n 3 h w"], batch: Batch) -> None:  # noqa: D102
        taps = {layer.name: tap(layer.name, "" if layer.kind == "vector" else ":") for layer in self.layers}
        read = self.network.activations(views, frozenset(taps.values()))
        kept: dict[str, Tensor] = {"rows": batch.rows}
        for layer in self.layers:
            each = read[taps[layer.name]].float().cpu()
            each = each[:, None] if layer.kind == "vector" else each
            kept[f"mean {layer.name}"] = each.mean(1)
            # Extra tokens have no place in the image.
            kept[f"place {layer.name}"] = (each[:, layer.first :].argmax(1) + layer.first).int()
        self.found.append(kept)


@dataclass(frozen=True)
class Seen:
    """A layer over N real images.

    Attributes:
        rows: (N,), the images' numbers.
        values: (N, C), mean activations.
        places: (N, C), where each channel is largest.
    """

    rows: NDArray[np.int64]
    values: NDArray[np.float64]
    places: NDArray[np.int64]

    def order(self, channel: int) -> list[int]:
        """Positions of the images in `rows`, from what excites a channel most to what does so least."""
        found: list[int] = np.argsort(-self.values[:, channel], kind="stable").tolist()
        return found


def look(subject: Subject, layers: Sequence[Layer], options: Options, work: Path) -> dict[str, Seen]:
    """Layers over the first images of each class; by name. Empty where there are no images or layers."""
    source = subject.source
    if source is None or not layers:
        return {}
    rows = sorted(i for members in source.rows.values() for i in members[: options.images]) or list(range(len(source)))
    job, todo = LayerJob(subject.exact, layers), sweep.chunks(rows, CHUNK)
    place = config_hash(job.facts | {"images": source.fingerprint, "each": options.images})
    folder = work / "seen" / f"{subject.alias}-{place}"
    sweep.run(source, job, todo, folder)
    found = read_rows(folder, todo, job, source.name)
    numbers = found.all("rows").numpy()
    return {
        layer.name: Seen(
            numbers,
            found.all(f"mean {layer.name}").double().numpy(),
            found.all(f"place {layer.name}").long().numpy(),
        )
        for layer in layers
    }


class Photographs:
    """Real images as a network sees them, decoded once as long as they are needed again soon.

    Args:
        source: the images.
        size: of the network's input.
    """

    def __init__(self, source: ImageSet, size: tuple[int, int]) -> None:
        self.source, self.size = source, size
        self.whole = functools.lru_cache(maxsize=512)(self._whole)

    def _whole(self, row: int) -> Image.Image:
        return fit(self.source.open(row)[0], self.size)

    def patch(self, row: int, place: int, layer: Layer) -> Image.Image:
        """The part of an image around a place of a layer; all of it where the layer has no places."""
        image, position = self.whole(row), layer.position(place)
        if position is None or layer.grid is None:
            return image
        height, width = self.size
        side = round(PART * min(height, width))
        middle = [(p + 0.5) / n * s for p, n, s in zip(position, layer.grid, (height, width), strict=True)]
        top, left = (min(max(0, round(m - side / 2)), s - side) for m, s in zip(middle, (height, width), strict=True))
        return image.crop((left, top, left + side, top + side))


def correlations(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson's correlation of each column of one with each of another, over the same rows; 0 where one is constant.

    Args:
        first: (n, a).
        second: (n, b).

    Returns:
        (a, b).

    Example:
        >>> import numpy as np
        >>> from benchmark.site.making.seen import correlations
        >>> other = np.array([[2.0, 5.0], [4.0, 5.0], [6.0, 5.0]])
        >>> correlations(np.array([[1.0], [2.0], [3.0]]), other).round(6).tolist()
        [[1.0, 0.0]]
    """

    def unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
        centred = x - x.mean(axis=0)
        length = np.linalg.norm(centred, axis=0)
        return np.divide(centred, length, out=np.zeros_like(centred), where=length > 1e-12)

    return unit(first).T @ unit(second)
