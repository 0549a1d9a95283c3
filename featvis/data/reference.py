"""The reference of an image set: a folder of images in; the natural spectrum and feature banks out, and read back.

A reference is a folder: `spectrum.safetensors` (E|F(x)| in the decorrelated space, 512 canvas), one
`<network>.safetensors` a network (a `Bank`) and `provenance.json`. The one in `featvis/assets/reference` is embedded.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
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

from featvis.canvas.spectrum import magnitude, resize_spectrum
from featvis.data.files import fit, to_tensor
from featvis.data.spectra import folder_spectrum
from featvis.data.sweep import BATCH, Batch, Chunk, Job, RowsJob
from featvis.data.sweep import read as read_chunk
from featvis.errors import UserError
from featvis.networks.classifier import Classifier
from featvis.paths import ASSETS
from featvis.storage import images

EMBEDDED = ASSETS / "reference"
SPECTRUM_SIDE = 512
IMAGENET_IMAGES = 1_281_167
"""Training images of ILSVRC 2012, of which Deep-KNN's k is stated."""

PREPROCESSING = "short side resized (bicubic, antialiased) to the input, centre crop"
CHUNK = 4096
"""Images in a file of a bank; what a kill can lose at most."""
SPECTRUM_CHUNK = 16384


@dataclass(frozen=True)
class Bank:
    """What one network makes of N real images.

    Attributes:
        network: full timm tag.
        weights_hash: of the network.
        blocks: (n, D) each, N rows together: pooled features before the head, float16, mapped into memory.
        labels: (N,), class of each image.
        digests: (N,), content of each image file (`featvis.data.files.digest`).
        predictions: (N,), the class with the highest logit.
        logits: (N,), the logit of the image's own class.
        flat: (M, L), the last block's output flattened, of the images whose class is in `flat_classes`.
        flat_classes: classes for which `flat` was kept; flattened features are large.
        source: what the images are, in words.
    """

    network: str
    weights_hash: str
    blocks: tuple[Float[Tensor, "_ d"], ...]
    labels: Int[Tensor, n]
    digests: Int[Tensor, n]
    predictions: Int[Tensor, n]
    logits: Float[Tensor, n]
    flat: Float[Tensor, "m l"]
    flat_classes: tuple[int, ...]
    source: str = ""

    @property
    def features(self) -> Float[Tensor, "n d"]:
        """All rows, float32: for banks that are known to be small."""
        return torch.cat([block.float() for block in self.blocks])

    def rows(self, numbers: Int[Tensor, k]) -> Float[Tensor, "k d"]:
        """Some rows, float32."""
        out = torch.empty(len(numbers), self.blocks[0].shape[1])
        start = 0
        for block in self.blocks:
            here = (numbers >= start) & (numbers < start + len(block))
            out[here] = block[numbers[here] - start].float()
            start += len(block)
        return out

    @property
    def flat_rows(self) -> Int[Tensor, m]:
        """Which of the N images the rows of `flat` are."""
        return torch.isin(self.labels, torch.tensor(self.flat_classes, dtype=self.labels.dtype)).nonzero()[:, 0]


class BankJob(RowsJob):
    """Features, predictions and logits of a network.

    Args:
        classifier: the network.
    """

    def __init__(self, classifier: Classifier) -> None:
        self.classifier, self.size = classifier, classifier.input_size
        self.title = f"features of {classifier.alias}"
        self.facts = {
            "kind": "bank",
            "network": classifier.name,
            "weights_hash": classifier.weights_hash,
            **classifier.setting,
            "layer": "penultimate, pooled",
            "preprocessing": f"{PREPROCESSING} {self.size[0]} x {self.size[1]}",
            "dtype": "float16",
        }

    def to(self, device: torch.device) -> None:  # noqa: D102
        self.classifier.to(device)

    def see(self, views: Float[Tensor, "n 3 h w"], batch: Batch) -> None:  # noqa: D102
        out = self.classifier.features(views, flat=False)
        logits = out["logits"].cpu()
        # The classes may be another network's, which has more of them; then there is no logit of the image's own.
        known = (batch.labels >= 0) & (batch.labels < logits.shape[1])
        own = logits[torch.arange(len(logits)), batch.labels.where(known, 0)].masked_fill(~known, torch.nan)
        self.found.append(
            {
                "features": out["pooled"].half().cpu(),
                "labels": batch.labels.to(torch.int32),
                "digests": batch.digests,
                "predictions": logits.argmax(1).to(torch.int32),
                "logits": own,
            }
        )


class SpectrumJob(Job):
    """The sum of the magnitude spectra of the images, in the decorrelated space (Fel et al. 2023, section 3)."""

    def __init__(self) -> None:
        self.title, self.size = "spectrum", (SPECTRUM_SIDE, SPECTRUM_SIDE)
        self.facts = {"kind": "spectrum", "preprocessing": f"{PREPROCESSING} {SPECTRUM_SIDE} x {SPECTRUM_SIDE}"}

    def start(self, chunk: Chunk) -> None:  # noqa: D102
        self.total, self.count = torch.zeros(3, self.size[0], self.size[1] // 2 + 1, dtype=torch.float64), 0

    def see(self, views: Float[Tensor, "n 3 h w"], batch: Batch) -> None:  # noqa: D102
        for view in views:
            self.total += magnitude(view).double().cpu()
        self.count += len(views)

    def finish(self) -> dict[str, Tensor]:  # noqa: D102
        return {"sum": self.total, "count": torch.tensor(self.count)}


class NearestJob(Job):
    """How near each of some pictures is to the real images of its class, in the flattened output of the last block.

    A chunk is a class. The features of its pictures are held while its real images stream past, so that nothing is
    stored but the squared distance and 1 - cosine (NaN for features of length zero): flattened, a ViT's tokens are
    150,528 numbers an image.

    Args:
        classifier: the target network.
        pictures: for each class, how to open its pictures: (RGB image, digest of its file or 0 for none).
        queries: says what the pictures are.
    """

    def __init__(
        self,
        classifier: Classifier,
        pictures: dict[int, list[Callable[[], tuple[Image.Image, int]]]],
        queries: str,
    ) -> None:
        self.classifier, self.size, self.pictures = classifier, classifier.input_size, pictures
        self.title = f"nearest images in {classifier.alias}"
        self.facts = {
            "kind": "nearest",
            "network": classifier.name,
            "weights_hash": classifier.weights_hash,
            **classifier.setting,
            "layer": f"{classifier.last_block()}, flattened",
            "preprocessing": f"{PREPROCESSING} {self.size[0]} x {self.size[1]}",
            "queries": queries,
            "distances": "squared L2; 1 - cosine",
        }

    def to(self, device: torch.device) -> None:  # noqa: D102
        self.classifier.to(device)

    def start(self, chunk: Chunk) -> None:  # noqa: D102
        opened = [picture() for picture in self.pictures[int(chunk.name)]]
        self.digests = torch.tensor([digest for _, digest in opened], dtype=torch.long)
        views = torch.stack([to_tensor(fit(image, self.size)) for image, _ in opened])
        # As many together as of the real images: a class may have hundreds of pictures.
        parts = (part.to(self.classifier.device) for part in views.split(BATCH))
        self.query = torch.cat([self.classifier.features(part)["flat"] for part in parts])
        self.lengths = self.query.double().norm(dim=1).cpu()
        self.nearest = {k: torch.full((len(opened),), torch.inf, dtype=torch.float64) for k in ("squared", "cosine")}

    def see(self, views: Float[Tensor, "n 3 h w"], batch: Batch) -> None:  # noqa: D102
        from featvis.metrics.functional.nearest import cosine_gap  # not above: a spectrum needs no faiss

        flat = self.classifier.features(views)["flat"]
        lengths = flat.double().norm(dim=1).cpu()
        for i, query in enumerate(self.query):
            squared = (flat - query).double().square().sum(1).cpu()
            itself = (batch.digests == self.digests[i]) & (self.digests[i] != 0)
            # A real image without a direction is nobody's neighbour.
            cosine = cosine_gap(squared, self.lengths[i], lengths).masked_fill(itself | (lengths == 0), torch.inf)
            for key, found in (("squared", squared.masked_fill(itself, torch.inf)), ("cosine", cosine)):
                self.nearest[key][i] = torch.minimum(self.nearest[key][i], found.min())

    def finish(self) -> dict[str, Tensor]:  # noqa: D102
        cosine = self.nearest["cosine"].masked_fill(self.lengths == 0, torch.nan)
        return {"squared": self.nearest["squared"], "cosine": cosine}


def read_banked(folder: Path, todo: Sequence[Chunk], job: BankJob, source: str = "") -> Bank:
    """The bank whose chunks lie in a folder.

    Raises:
        UserError: when a chunk is missing or broken, or no image is left.
    """
    parts = []
    for chunk in todo:
        # The pass before has compared every chunk with its digest, or has just written it.
        found = read_chunk(folder / f"{chunk.name}.safetensors", job.facts, check=False)
        if found is None:
            raise UserError(f"the features in {folder} are not whole; run the same command again, which completes them")
        if found[0]:
            parts.append(found[0])
    if not parts:
        raise UserError(f"{source or 'the image set'} holds no image that can be decoded")
    t = {key: torch.cat([p[key] for p in parts]) for key in ("labels", "digests", "predictions", "logits")}
    return Bank(
        network=job.classifier.name,
        weights_hash=job.classifier.weights_hash,
        blocks=tuple(p["features"] for p in parts),
        labels=t["labels"].long(),
        digests=t["digests"],
        predictions=t["predictions"].long(),
        logits=t["logits"].float(),
        flat=torch.zeros(0, 0),
        flat_classes=(),
        source=source,
    )


def broken_images(folder: Path, todo: Sequence[Chunk]) -> list[tuple[str, str]]:
    """(name, reason) of the images of a finished pass that could not be decoded."""
    found = [read_chunk(folder / f"{chunk.name}.safetensors") for chunk in todo]
    return [(name, reason) for f in found if f is not None for name, reason in json.loads(f[1]["broken"])]


def mean_spectrum(folder: Path, todo: Sequence[Chunk]) -> Float[Tensor, "3 h f"]:
    """E|F(x)| from the sums of a finished pass.

    Raises:
        UserError: when no image could be decoded, or a sum is gone.
    """
    total, count = torch.zeros(1, dtype=torch.float64), 0
    for chunk in todo:
        found = read_chunk(folder / f"{chunk.name}.safetensors", SpectrumJob().facts)
        if found is None:
            raise UserError(f"the sums in {folder} are not whole; run the same command again, which completes them")
        total, count = total + found[0]["sum"], count + int(found[0]["count"])
    if not count:
        raise UserError("--data holds no image that can be decoded")
    return (total / count).float()


def write_bank(folder: Path, bank: Bank) -> Path:
    """Write a bank into a reference folder."""
    tensors = {
        "features": torch.cat(bank.blocks).half(),
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
            blocks=(t["features"],),
            labels=t["labels"].long(),
            digests=t["digests"],
            predictions=t["predictions"].long(),
            logits=t["logits"],
            flat=t["flat"].float(),
            flat_classes=tuple(t["flat_classes"].tolist()),
            source=str(read_provenance(folder).get("source", "")),
        )
    except (safetensors.SafetensorError, KeyError, TypeError, OSError) as error:
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


def spectrum_hash(folder: Path = EMBEDDED, channels: int = 3) -> str:
    """12 hex digits of the SHA-256 of a reference's magnitude spectrum."""
    values = _magnitude(folder, channels).contiguous().numpy().tobytes()
    return hashlib.sha256(values).hexdigest()[:12]


def natural_spectrum(
    size: tuple[int, int], folder: Path = EMBEDDED, channels: int = 3
) -> Float[Tensor, "c h f"]:  # fmt: skip
    """r = E|F(x)| of natural images for a canvas of `size` (H, W).

    Args:
        size: of the canvas.
        folder: a reference, or a folder of images of as many channels (`featvis.data.channels`).
        channels: of the canvas. A reference has RGB's; any other number gets its luminance, each.

    Raises:
        UserError: see `read_spectrum` and `folder_spectrum`.
    """
    return resize_spectrum(_magnitude(folder, channels), size)


def _magnitude(folder: Path, channels: int) -> Float[Tensor, "c s f"]:
    if folder.is_dir() and not (folder / "spectrum.safetensors").is_file():
        return folder_spectrum(folder, channels)
    found = read_spectrum(folder)["magnitude"]
    # The first of the decorrelated axes is luminance, nearly.
    return found if channels == 3 else found[:1].expand(channels, -1, -1)


def read_provenance(folder: Path = EMBEDDED) -> dict[str, Any]:
    """Source, count, hash and versions of a reference; empty where there is none.

    Raises:
        UserError: when the file is broken.
    """
    path = folder / "provenance.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}); make it anew with featvis reference") from error
