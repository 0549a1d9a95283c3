"""The network behind FID and KID: torch-fidelity's InceptionV3, from a weights file that is already here.

In: images `(n, 3, H, W)`, uint8 or floats in [0, 1]. Out: features `(n, 2048)`. Nothing is downloaded, and nothing is
unpickled but tensors.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from featvis.data.sweep import Batch, RowsJob
from featvis.errors import UserError
from featvis.networks.weights import content_hash

# The same weights under the names that pytorch-fid and torch-fidelity give them.
FILE_NAMES = ("pt_inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth")
SIDE = 299


def load_inception(search: Sequence[Path] = ()) -> nn.Module | None:
    """Load the InceptionV3 of FID, frozen and in eval mode, if its weights are found.

    Args:
        search: folders to look in, in this order; torch.hub's cache of checkpoints is the last.

    Returns:
        The network, float32, for `inception_features`; None where no folder holds a weights file.

    Raises:
        UserError: for a file that is broken, holds anything but tensors, or is another network's.
    """
    path = find_inception(search)
    return None if path is None else _load(path)


def find_inception(search: Sequence[Path] = ()) -> Path | None:
    """The weights file that `load_inception` takes, or None."""
    folders = [*search, Path(torch.hub.get_dir()) / "checkpoints"]
    files = (folder / name for folder in folders for name in FILE_NAMES)
    return next((file for file in files if file.is_file()), None)


def _load(path: Path) -> nn.Module:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
            raise ValueError("not a state dict")
        # torch-fidelity unpickles the path it is given (weights_only=False). It gets the tensors read above instead.
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        buffer.seek(0)
        return FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=buffer)
    except Exception as error:  # a broken file can fail in any of torch's, pickle's and zip's ways
        raise UserError(
            f"{path} does not hold the InceptionV3 weights of FID (broken, or another network's); "
            f"replace it with a complete {path.name}, or delete it to do without"
        ) from error


@torch.inference_mode()
def inception_features(
    model: nn.Module, images: UInt8[Tensor, "n 3 h w"] | Float[Tensor, "n 3 h w"], batch_size: int = 32
) -> Float32[Tensor, "n 2048"]:
    """Pooled features of the centre of each image.

    The centre 299 x 299 pixels are taken as they are (a canvas of 512 is cropped, never shrunk); an image with a side
    shorter than that is first enlarged, bilinear, until its short side is 299.

    Args:
        model: from `load_inception`.
        images: uint8, or floats in [0, 1], rounded to uint8 as the network was fitted to.
        batch_size: images at once.

    Returns:
        Features on the network's device.

    Raises:
        UserError: for floats outside [0, 1].
    """
    device = next(model.parameters()).device
    features = [model(_crop(_bytes(batch)).to(device))[0] for batch in images.split(batch_size) if len(batch)]
    return torch.cat(features) if features else torch.zeros(0, 2048, device=device)


def _bytes(images: Tensor) -> Tensor:
    if images.dtype == torch.uint8:
        return images
    if not ((images >= 0) & (images <= 1)).all():
        raise UserError("images given as floats must lie in [0, 1]")
    return (images.float() * 255).round().to(torch.uint8)


def _crop(images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    short = min(height, width)
    if short < SIDE:
        size = [max(SIDE, round(side * SIDE / short)) for side in (height, width)]
        larger = interpolate(images.float(), size=size, mode="bilinear", align_corners=False)
        images = larger.round().clamp(0, 255).to(torch.uint8)
        height, width = size
    top, left = (height - SIDE) // 2, (width - SIDE) // 2
    return images[..., top : top + SIDE, left : left + SIDE]


class InceptionJob(RowsJob):
    """Inception's features of an image set: short side to 299, centre crop.

    Args:
        model: from `load_inception`.
        which: says which of the set's images these are.
    """

    title = "features of Inception"
    size = (SIDE, SIDE)

    def __init__(self, model: nn.Module, which: str) -> None:
        self.model = model
        self.facts = {
            "kind": "inception",
            "weights_hash": content_hash(model),
            "preprocessing": "short side resized (bicubic, antialiased) to 299, centre crop",
            "which": which,
        }

    def to(self, device: torch.device) -> None:  # noqa: D102
        self.model.to(device)

    def see(self, views: Float[Tensor, "n 3 h w"], batch: Batch) -> None:  # noqa: D102
        self.found.append({"features": inception_features(self.model, views).cpu(), "digests": batch.digests})
