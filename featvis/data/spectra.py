"""The magnitude spectrum of a folder of anyone's images, of any number of channels: a folder in, (C, S, S//2+1) out."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from featvis.canvas.spectrum import magnitude
from featvis.data.channels import cover, of_array, of_image
from featvis.data.files import open_rgb
from featvis.errors import UserError

SIDE = 512
"""Longest side of the images, in pixels."""


@lru_cache(maxsize=8)
def folder_spectrum(folder: Path, channels: int) -> Float[Tensor, "c s f"]:
    """The mean magnitude spectrum of a folder's images, a channel each (RGB: in the decorrelated space).

    Args:
        folder: of images, or of .npy files, at any depth.
        channels: how many they have.

    Returns:
        (C, S, S//2+1), S the short side that all of them reach, at most `SIDE`.

    Raises:
        UserError: when there is none that can be read, or they have other channels.
    """
    arrays = sorted(p for p in folder.rglob("*.npy") if p.is_file()) if folder.is_dir() else []
    paths = arrays or (sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else [])
    images: list[Tensor] = []
    reason = "there is no image in it"
    for path in tqdm(paths, desc=f"spectrum of {folder.name}", disable=len(paths) < 100):
        try:
            images.append(of_array(path, channels) if arrays else of_image(open_rgb(path), channels))
        except OSError as error:
            reason = f"{path.name}: {error}"
    if not images:
        raise UserError(
            f"spectrum={folder} is neither a reference (featvis reference --spectrum) nor a folder of images of "
            f"{channels} channels ({reason:.160})"
        )
    side = min(SIDE, *(min(x.shape[1:]) for x in images))
    total = torch.zeros(channels, side, side // 2 + 1, dtype=torch.float64)
    for x in images:
        square = cover(x, (side, side))
        total += (magnitude(square) if channels == 3 else torch.fft.rfft2(square).abs()).double()
    return (total / len(images)).float()
