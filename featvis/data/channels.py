"""Images of other channels than RGB: an image or an array in, (C, H, W) in [0, 1] out.

One channel is an image file's luminance (ITU-R 601), two are that and its alpha, three RGB, four RGB and alpha, which
is 1 where a file has none. Any number comes from an array: a .npy file of (C, H, W) or (H, W, C), whole numbers over
their type's range, others as they are in [0, 1].
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from featvis.canvas import sampling

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
"""How Pillow calls images of so many channels."""
WITH_ALPHA = (2, 4)
"""Of so many channels the last is an image file's alpha."""


def alpha_fact(channels: int) -> dict[str, str]:
    """What a configuration says of image files seen with their alpha: once it was taken to be 1 everywhere."""
    return {"alpha": "of the files"} if channels in WITH_ALPHA else {}


def of_image(image: Image.Image, channels: int) -> Float[Tensor, "c h w"]:
    """An image in as many channels as a network takes.

    Raises:
        OSError: for a number that image files do not have.

    Example:
        >>> from PIL import Image
        >>> from featvis.data.channels import of_image
        >>> of_image(Image.new("RGB", (6, 4), (255, 0, 0)), 1)[:, 0, 0].mul(255).round().tolist()
        [76.0]
    """
    if channels not in MODES:
        raise OSError(f"an image file has 1 to 4 channels, the network takes {channels}; write arrays (.npy)")
    array = np.asarray(image.convert(MODES[channels]), dtype=np.float32)
    return torch.from_numpy(array.reshape(*array.shape[:2], channels).transpose(2, 0, 1) / 255)


def of_array(path: Path, channels: int) -> Float[Tensor, "c h w"]:
    """A .npy file of (C, H, W) or (H, W, C) in [0, 1].

    Raises:
        OSError: when it holds something else; pickles are not read.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise OSError(f"no array of numbers ({error})") from error
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or channels not in (array.shape[0], array.shape[-1]):
        raise OSError(f"an array of {' x '.join(map(str, array.shape))} numbers, not an image of {channels} channels")
    if array.shape[0] != channels:
        array = array.transpose(2, 0, 1)
    if np.issubdtype(array.dtype, np.unsignedinteger):
        array = array / np.iinfo(array.dtype).max
    found = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    if not bool(((found >= 0) & (found <= 1)).all()):
        raise OSError("an array of numbers beyond [0, 1]; scale it, or write whole numbers without a sign")
    return found


def cover(x: Float[Tensor, "c h w"], size: tuple[int, int]) -> Float[Tensor, "c ho wo"]:
    """Resize (bicubic, antialiased) to cover `size`, then crop the centre, as `featvis.data.files.fit` does."""
    return sampling.cover(x[None], size)[0]
