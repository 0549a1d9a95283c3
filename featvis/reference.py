"""The reference of an image set: a folder of images in; the natural spectrum and feature banks out, and read back.

A reference is a folder: `spectrum.safetensors` (E|F(x)| in the decorrelated space, 512 canvas), one
`<network>.safetensors` a network (a `Bank`) and `provenance.json`. The one in `featvis/assets/reference` is embedded.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from jaxtyping import Float, Int
from PIL import Image
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes
from torch import Tensor

from featvis import images
from featvis.data import ImageFile, canvases, digest, fit
from featvis.errors import UserError
from featvis.models import Classifier
from featvis.paths import ASSETS
from featvis.spectrum import magnitude, mean_magnitude, resize_spectrum

EMBEDDED = ASSETS / "reference"
SPECTRUM_SIDE = 512


@dataclass(frozen=True)
class Bank:
    """What one network makes of N real images.

    Attributes:
        network: full timm tag.
        weights_hash: of the network.
        features: (N, D), pooled, before the head.
        labels: (N,), class of each image.
        digests: (N,), content of each image file (`featvis.data.digest`).
        predictions: (N,), the class with the highest logit.
        logits: (N,), the logit of the image's own class.
        flat: (M, L), the last block's output flattened, of the images whose class is in `flat_classes`.
        flat_classes: classes for which `flat` was kept; flattened features are large.
    """

    network: str
    weights_hash: str
    features: Float[Tensor, "n d"]
    labels: Int[Tensor, n]
    digests: Int[Tensor, n]
    predictions: Int[Tensor, n]
    logits: Float[Tensor, n]
    flat: Float[Tensor, "m l"]
    flat_classes: tuple[int, ...]

    @property
    def flat_rows(self) -> Int[Tensor, m]:
        """Which of the N images the rows of `flat` are."""
        return torch.isin(self.labels, torch.tensor(self.flat_classes, dtype=self.labels.dtype)).nonzero()[:, 0]


def build_bank(
    files: Sequence[ImageFile],
    classifier: Classifier,
    flat_classes: Iterable[int],
    report: Callable[[Path, str], None],
    skipped: list[Path],
    batch: int = 16,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = lambda x: x,
) -> Bank:
    """The features of a network for the images of a folder, each resized (short side) and centre-cropped to its input.

    Args:
        files: images with their class; those without one are left out.
        classifier: the network.
        flat_classes: classes for which the flattened last block is kept.
        report: told of each image that cannot be decoded.
        skipped: gets those images.
        batch: images together.
        progress: wraps the files, to draw a bar.
    """
    keep = tuple(sorted(set(flat_classes)))

    def prepare(image: Image.Image) -> Image.Image:
        return fit(image, classifier.input_size)

    found: list[dict[str, Tensor]] = []
    labelled = [f for f in files if f.label is not None]
    for group in _batches(canvases(progress(labelled), prepare, skipped, report), batch):  # type: ignore[arg-type]
        labels = torch.tensor([file.label for file, _ in group])
        out = classifier.features(torch.stack([x for _, x in group]).to(classifier.device))
        logits = out["logits"].cpu()
        found.append(
            {
                "features": out["pooled"].half().cpu(),
                "labels": labels,
                "digests": torch.tensor([digest(file.path) for file, _ in group]),
                "predictions": logits.argmax(1),
                "logits": logits[torch.arange(len(group)), labels],
                "flat": out["flat"].half().cpu()[torch.isin(labels, torch.tensor(keep, dtype=labels.dtype))],
            }
        )
    if not found:
        raise UserError(
            "--data holds no image that can be decoded and whose name carries a class (a synset or an index)"
        )
    columns = {key: torch.cat([f[key] for f in found]) for key in found[0]}
    return Bank(network=classifier.name, weights_hash=classifier.weights_hash, flat_classes=keep, **columns)


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    group = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def build_spectrum(
    files: Sequence[ImageFile],
    size: tuple[int, int],
    report: Callable[[Path, str], None],
    skipped: list[Path],
    progress: Callable[[Iterable[Any]], Iterable[Any]] = lambda x: x,
) -> tuple[Float[Tensor, "3 h f"], int]:
    """E|F(x)| over the images of a folder, each resized to cover the canvas and centre-cropped, and their number."""
    found = canvases(progress(files), lambda image: fit(image, size), skipped, report)  # type: ignore[arg-type]
    return mean_magnitude(x for _, x in found)


def write_bank(folder: Path, bank: Bank) -> Path:
    """Write a bank into a reference folder."""
    tensors = {
        "features": bank.features.half(),
        "labels": bank.labels.short(),
        "digests": bank.digests,
        "predictions": bank.predictions.short(),
        "logits": bank.logits.float(),
        "flat": bank.flat.half(),
        "flat_classes": torch.tensor(bank.flat_classes, dtype=torch.int16),
    }
    path = folder / f"{bank.network}.safetensors"
    facts = {"network": bank.network, "weights_hash": bank.weights_hash}
    images.write_atomic(path, save_bytes({k: v.contiguous() for k, v in tensors.items()}, metadata=facts))
    return path


def read_bank(folder: Path, network: str) -> Bank | None:
    """The bank of a network (full timm tag) in a reference folder, or None.

    Raises:
        UserError: when the file is broken.
    """
    path = folder / f"{network}.safetensors"
    if not path.is_file():
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            facts = file.metadata()
            t = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no mapping)
        return Bank(
            network=facts["network"],
            weights_hash=facts["weights_hash"],
            features=t["features"].float(),
            labels=t["labels"].long(),
            digests=t["digests"],
            predictions=t["predictions"].long(),
            logits=t["logits"],
            flat=t["flat"].float(),
            flat_classes=tuple(t["flat_classes"].tolist()),
        )
    except (safetensors.SafetensorError, KeyError, OSError) as error:
        raise UserError(
            f"the feature bank {path} cannot be read ({error}); make it anew with featvis reference"
        ) from error


def write_spectrum(folder: Path, spectrum: Float[Tensor, "3 h f"], real: Float[Tensor, "3 h2 f2"] | None) -> Path:
    """Write the natural spectrum and, where given, that of the held-out images of the row `real`."""
    tensors = {"magnitude": spectrum.contiguous()} | ({} if real is None else {"real": real.contiguous()})
    path = folder / "spectrum.safetensors"
    images.write_atomic(path, save_bytes(tensors))
    return path


@functools.lru_cache(maxsize=4)
def read_spectrum(folder: Path = EMBEDDED) -> dict[str, Tensor]:
    """`magnitude` (3, 512, 257) of a reference folder and, where it has one, `real`.

    Raises:
        UserError: when there is none or it is broken.
    """
    path = folder / "spectrum.safetensors"
    try:
        return load_bytes(path.read_bytes())
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(
            f"there is no natural spectrum in {folder}; make one with featvis reference --spectrum"
        ) from error


def spectrum_hash(folder: Path = EMBEDDED) -> str:
    """12 hex digits of the SHA-256 of a reference's magnitude spectrum."""
    values = read_spectrum(folder)["magnitude"].contiguous().numpy().tobytes()
    return hashlib.sha256(values).hexdigest()[:12]


def natural_spectrum(size: tuple[int, int], folder: Path = EMBEDDED) -> Float[Tensor, "3 h f"]:
    """r = E|F(x)| of natural images for a canvas of `size` (H, W)."""
    return resize_spectrum(read_spectrum(folder)["magnitude"], size)


def read_provenance(folder: Path = EMBEDDED) -> dict[str, Any]:
    """Source, count, hash and versions of a reference; empty where there is none."""
    path = folder / "provenance.json"
    return json.loads(path.read_text()) if path.is_file() else {}


__all__ = [
    "EMBEDDED",
    "SPECTRUM_SIDE",
    "Bank",
    "build_bank",
    "build_spectrum",
    "magnitude",
    "natural_spectrum",
    "read_bank",
    "read_provenance",
    "read_spectrum",
    "spectrum_hash",
    "write_bank",
    "write_spectrum",
]
