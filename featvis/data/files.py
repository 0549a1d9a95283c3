"""Image files: a folder in, its images with the classes that their names carry out; a file in, RGB in [0, 1] out."""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from featvis.data import channels as by_channel
from featvis.errors import UserError

IMAGE_SUFFIXES = frozenset((".jpeg", ".jpg", ".png", ".webp", ".bmp", ".tif", ".tiff"))


@dataclass(frozen=True)
class ImageFile:
    """An image of a folder.

    Attributes:
        path: the file.
        label: its class, or None where its name carries none.
    """

    path: Path
    label: int | None


def list_images(folder: Path, synsets: Sequence[str], flag: str = "--data") -> list[ImageFile]:
    """The images below a folder, sorted, each with the class that its name carries.

    A class is a synset (`n02165456`) in the name of the file or of its folder, or else a class index that is the name
    of its folder, or starts or ends the file's name (`301.png`, `ladybug_301.png`). `folder` itself names no class.

    Raises:
        UserError: when the folder is missing or holds no image.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from featvis.data.files import list_images
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("301.png", "ladybug_1.png", "sky.png"):
        ...     Image.new("RGB", (4, 4)).save(folder / name)
        >>> [(file.path.name, file.label) for file in list_images(folder, [f"n{i:08}" for i in range(1000)])]
        [('301.png', 301), ('ladybug_1.png', 1), ('sky.png', None)]
    """
    if not folder.is_dir():
        raise UserError(
            f"{flag} {folder} is not a folder; name one with images in it (one folder a class, named by synset)"
        )
    found = (p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
    files = sorted(p for p in found if p.is_file())
    if not files:
        raise UserError(f"{flag} {folder} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
    index = {synset: i for i, synset in enumerate(synsets)}
    return [ImageFile(p, _label(p, index, p.parent.name if p.parent != folder else "")) for p in files]


def image_file(path: Path, synsets: Sequence[str]) -> ImageFile:
    """One image, with the class that its name or its folder's carries (see `list_images`).

    Example:
        >>> from pathlib import Path
        >>> from featvis.data.files import image_file
        >>> image_file(Path("photos/n00000007_2.jpg"), [f"n{i:08}" for i in range(10)]).label
        7
    """
    return ImageFile(path, _label(path, {synset: i for i, synset in enumerate(synsets)}, path.parent.name))


def _label(path: Path, index: dict[str, int], parent: str) -> int | None:
    synsets = [synset for text in (path.stem, parent) for synset in re.findall(r"n\d{8}", text)]
    if synsets:
        # Where the network knows none of them, no number beside them is a class either.
        return next((index[s] for s in synsets if s in index), None)
    # A folder that is a number is a class; the files in it may well be counted from 0.
    match = (
        re.fullmatch(r"(\d{1,3})", parent)
        or re.match(r"(\d{1,3})(?!\d)", path.stem)
        or re.search(r"(?<!\d)(\d{1,3})$", path.stem)
    )
    return int(match[1]) if match is not None and int(match[1]) < len(index) else None


def digest(path: Path) -> int:
    """63 bits of the SHA-256 of a file's bytes: what says that two files are the same image. Never 0.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from featvis.data.files import digest, digest_of
        >>> path = Path(tempfile.mkdtemp()) / "note.txt"
        >>> size = path.write_bytes(b"bytes")
        >>> digest(path) == digest_of(b"bytes")
        True
    """
    return digest_of(path.read_bytes())


def digest_of(data: bytes) -> int:
    """`digest` of a file's bytes.

    Example:
        >>> from featvis.data.files import digest_of
        >>> digest_of(b"the same bytes") == digest_of(b"the same bytes") != digest_of(b"others")
        True
    """
    return (int.from_bytes(hashlib.sha256(data).digest()[:8], "big") >> 1) or 1


_BROKEN = (
    SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError, struct.error, zlib.error,
    Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow's readers raise, besides OSError, for bytes that are not what their format says."""


def open_rgb(source: Path | bytes) -> Image.Image:
    """An image, a file or its bytes, as RGB, upright, whole; an alpha channel is dropped, never blended.

    Raises:
        OSError: when it cannot be decoded.

    Example:
        >>> from io import BytesIO
        >>> from PIL import Image
        >>> from featvis.data.files import open_rgb
        >>> file = BytesIO()
        >>> Image.new("RGBA", (6, 4), (255, 0, 0, 0)).save(file, "PNG")  # wholly transparent red
        >>> open_rgb(file.getvalue()).getpixel((0, 0))
        (255, 0, 0)
    """
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
            image.load()
            upright = ImageOps.exif_transpose(image)
            if upright.mode == "RGBA":
                return Image.merge("RGB", upright.split()[:3])
            return upright.convert("RGB")
    except UnidentifiedImageError as error:
        # Pillow's message has the place of the bytes in memory.
        raise OSError("no known image format") from error
    except _BROKEN as error:
        raise OSError(str(error)) from error


def to_tensor(image: Image.Image) -> Float[Tensor, "3 h w"]:
    """RGB in [0, 1].

    Example:
        >>> from PIL import Image
        >>> from featvis.data.files import to_tensor
        >>> to_tensor(Image.new("RGB", (6, 4), (255, 0, 51)))[:, 0, 0].tolist()
        [1.0, 0.0, 0.20000000298023224]
    """
    return torch.from_numpy(np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / 255)


def fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize (bicubic, antialiased) to cover `size` (h, w), then crop the centre: never stretched, a square whole.

    Example:
        >>> from PIL import Image
        >>> from featvis.data.files import fit
        >>> fit(Image.new("RGB", (640, 480)), (224, 224)).size
        (224, 224)
    """
    return ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BICUBIC)


def as_seen(path: Path, size: tuple[int, int], channels: int = 3) -> Float[Tensor, "c h w"]:
    """An image as a network of that input sees it: it covers `size`, antialiased, centre-cropped, on 256 levels.

    Args:
        path: of an image file; for other channels than three also of an array (`featvis.data.channels`).
        size: (h, w).
        channels: that the network takes.

    Raises:
        OSError: when it cannot be decoded, or has not as many channels.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from featvis.data.files import as_seen
        >>> path = Path(tempfile.mkdtemp()) / "sky.png"
        >>> Image.new("RGB", (64, 48)).save(path)
        >>> as_seen(path, (16, 16)).shape
        torch.Size([3, 16, 16])
    """
    if path.suffix == ".npy":
        return (by_channel.cover(by_channel.of_array(path, channels), size) * 255).round() / 255
    return by_channel.of_image(fit(open_rgb(path), size), channels)
