"""The magnitude spectrum of a folder of anyone's images, of any number of channels: a folder in, (C, S, S//2+1) out."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from featvis.canvas.spectrum import magnitude
from featvis.data.channels import cover, of_array, of_image
from featvis.data.files import open_image
from featvis.data.walk import BROKEN, images_below
from featvis.errors import UserError

SIDE = 512
"""Longest side of the images, in pixels."""
SAME = 1e-4
"""Below a level of 8 bits, above what resizing makes of a constant."""


@lru_cache(maxsize=8)
def folder_spectrum(folder: Path, channels: int) -> Float[Tensor, "c s f"]:
    """The mean magnitude spectrum of a folder's images, a channel each (RGB: in the decorrelated space).

    Args:
        folder: of images, or of .npy files, at any depth.
        channels: how many they have.

    Returns:
        (C, S, S//2+1), S the short side that all of them reach, at most `SIDE`.

    Raises:
        UserError: when there is none that can be read, or they have other channels, or a channel varies in none. RGB
            is left as it is: grey images give grey pictures.
    """
    below = folder.rglob("*.npy") if folder.is_dir() else []
    paths = sorted(p for p in below if p.is_file() and not _hidden(p, folder))
    if not paths and folder.is_dir():
        paths = images_below(folder).paths
    sides: dict[Path, int] = {}
    reason = "there is no image in it"
    for path in paths:
        try:
            sides[path] = _short_side(path, channels)
        except BROKEN as error:
            reason = f"{path.name}: {error}"
    # The sizes first, of the headers alone: a folder may hold more images than the memory does.
    while sides:
        side, broken = min(SIDE, *sides.values()), set()
        total = torch.zeros(channels, side, side // 2 + 1, dtype=torch.float64)
        varies = torch.zeros(channels, dtype=torch.bool)
        for path in tqdm(sides, desc=f"spectrum of {folder.name}", disable=len(sides) < 100):
            try:
                array = path.suffix == ".npy"
                x = of_array(path, channels) if array else of_image(open_image(path, channels), channels)
            except OSError as error:
                broken.add(path)
                reason = f"{path.name}: {error}"
                continue
            square = cover(x, (side, side))
            varies |= square.amax((1, 2)) - square.amin((1, 2)) > SAME
            total += (magnitude(square) if channels == 3 else torch.fft.rfft2(square).abs()).double()
        sides = {path: short for path, short in sides.items() if path not in broken}
        # One that cannot be read must not have said how small all of them are made.
        if sides and min(SIDE, *sides.values()) == side:
            _check_varies(folder, varies.tolist())
            return (total / len(sides)).float()
    raise UserError(
        f"spectrum={folder} is neither a reference (featvis reference --spectrum) nor a folder of images of "
        f"{channels} channels ({reason:.160})"
    )


def _check_varies(folder: Path, varies: list[bool]) -> None:
    if len(varies) != 3 and not all(varies):
        raise UserError(
            f"spectrum={folder}: channel {varies.index(False) + 1} of {len(varies)} is the same everywhere in each "
            "image, so there is no phase of it to optimise; name images in which it varies (the alpha of an image file "
            "is its last of 2 or 4), or no spectrum, and each channel has natural images' luminance"
        )


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _short_side(path: Path, channels: int) -> int:
    """In pixels, by the file's header."""
    if path.suffix != ".npy":
        with Image.open(path) as image:
            return min(image.size)
    shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
    return min(shape[1:] if len(shape) == 3 and shape[0] == channels else shape[:2])
