"""Image files: a folder in, its images with the classes that their names carry out; a file in, RGB in [0, 1] out."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from featvis.canvas.montage import from_picture
from featvis.data import channels as by_channel
from featvis.data.walk import BROKEN, Found, images_below
from featvis.errors import UserError
from featvis.networks.classes import SYNSET, Classes
from featvis.networks.classifier import Classifier
from featvis.networks.units import base_of

Known = Classes | Classifier | Sequence[str]
"""Whose classes images may be of: a network's, or a list of synsets or labels."""


@dataclass(frozen=True)
class ImageFile:
    """An image of a folder.

    Attributes:
        path: the file.
        label: its class, or None where its name carries none.
    """

    path: Path
    label: int | None


def list_images(folder: Path, known: Known, flag: str = "--data") -> list[ImageFile]:
    """The images below a folder, sorted, each with the class that its name carries.

    A class is a synset (`n02165456`) in the name of the file or of its folder, or else a label or a class index that is
    the name of its folder, or an index that starts the file's name or, where no number does, ends it (`301.png`,
    `301_2.png`, `ladybug_301.png`). Such an index has no more digits than the last class, or three; a name that is
    nothing else may have six. `@2` at the end says which picture of its class a file is, and no class. `folder` itself
    names no class.

    Raises:
        UserError: when the folder is missing or holds no image, or a name may be of two classes.

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
    return with_names(folder, find_images(folder, flag), known, flag)


def find_images(folder: Path, flag: str = "--data") -> Found:
    """The images below a folder, and what else is there.

    Raises:
        UserError: when the folder is missing or holds no image.
    """
    if not folder.is_dir():
        raise UserError(
            f"{flag} {folder} is not a folder; name one with images in it (one folder a class, named by synset)"
        )
    found = images_below(folder)
    if not found.paths:
        left = f"; left out: {found.describe()}" if found.left else ""
        raise UserError(f"{flag} {folder} holds no image (.jpg, .png or whatever else Pillow opens{left})")
    return found


def with_names(folder: Path, found: Found, known: Known, flag: str = "--data", below: bool = True) -> list[ImageFile]:
    """Images with the classes that their names carry (see `list_images`).

    Args:
        folder: of the images.
        found: in it.
        known: the classes that there are.
        flag: the option that named the folder, for messages.
        below: whether a number in a file's name is a class too where its folder is not `folder` itself.
    """
    classes, folders = Classes.of(known), dict[str, int | None]()
    files = []
    for path in found.paths:
        parent = path.parent.name if path.parent != folder else ""
        if parent not in folders:
            try:
                folders[parent] = classes.find(parent) if parent else None
            except UserError as error:
                raise UserError(f"{flag} {folder}: the folder {error}") from error
        files.append(ImageFile(path, _label(path, classes, parent, folders[parent], below or not parent)))
    return files


def image_file(path: Path, known: Known) -> ImageFile:
    """One image, with the class that its name or its folder's carries (see `list_images`).

    Example:
        >>> from pathlib import Path
        >>> from featvis.data.files import image_file
        >>> image_file(Path("photos/n00000007_2.jpg"), [f"n{i:08}" for i in range(10)]).label
        7
    """
    return with_names(path.parent.parent, Found([path]), known)[0]


def _label(path: Path, classes: Classes, parent: str, by_folder: int | None, number: bool) -> int | None:
    synsets = [synset for text in (path.stem, parent) for synset in SYNSET.findall(text)]
    known = next((i for s in synsets if (i := classes.synset(s)) is not None), by_folder)
    width = max(3, len(str(len(classes) - 1)))
    # A folder that is a number is a class; the files in it may well be counted from 0. Nor is a number beside a synset
    # that the network does not know a class.
    if known is not None or synsets or re.fullmatch(rf"\d{{1,{width}}}", parent) or not number:
        return known
    # What stands behind an @ says which picture of a class it is.
    stem = base_of(path.stem)
    if first := re.match(r"\d+", stem):
        # One of too many digits may count the files, or be a class of another network: what ends such a name is a class
        # or a seed, and nobody can tell.
        found, most = first[0], max(6, width) if first[0] == stem else width
    else:
        last = re.search(r"(?<!\d)\d+$", stem)
        found, most = last[0] if last else "", width
    return int(found) if 0 < len(found) <= most and int(found) < len(classes) else None


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


def open_rgb(source: Path | bytes) -> Image.Image:
    """An image, a file or its bytes, as RGB, upright, whole; an alpha channel is dropped, never blended.

    Of an animated one it is the first frame. More than eight bits a value are scaled to 0..255: 16 bits by 65535;
    floats by 1 where they lie in [0, 1]; other floats and integers by a usual largest value (255, 65535 ...) where the
    image's own lies in the upper half of that, else from its smallest to its largest.

    Raises:
        OSError: when it cannot be decoded, or is a decompression bomb.

    Example:
        >>> from io import BytesIO
        >>> from PIL import Image
        >>> from featvis.data.files import open_rgb
        >>> file = BytesIO()
        >>> Image.new("RGBA", (6, 4), (255, 0, 0, 0)).save(file, "PNG")  # wholly transparent red
        >>> open_rgb(file.getvalue()).getpixel((0, 0))
        (255, 0, 0)
    """
    return _opened(source, alpha=False)


def open_image(source: Path | bytes, channels: int) -> Image.Image:
    """An image for networks of so many channels: as `open_rgb` has it, of 2 and 4 with its alpha, as RGBA.

    Alpha is 255 where a file has none, and no colour is weighted by it.

    Raises:
        OSError: see `open_rgb`.

    Example:
        >>> from io import BytesIO
        >>> from PIL import Image
        >>> from featvis.data.files import open_image
        >>> file = BytesIO()
        >>> Image.new("RGBA", (6, 4), (255, 0, 0, 51)).save(file, "PNG")
        >>> [open_image(file.getvalue(), channels).getpixel((0, 0)) for channels in (3, 4)]
        [(255, 0, 0), (255, 0, 0, 51)]
    """
    return _opened(source, alpha=channels in by_channel.WITH_ALPHA)


def _opened(source: Path | bytes, alpha: bool) -> Image.Image:
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
            deep, short = image.mode[0] in "IF", image.format in ("PNG", "PPM")
            image.load()
            upright = ImageOps.exif_transpose(image)
            if deep:
                sixteen = image.mode.startswith("I;16") or (image.mode == "I" and short)
                return _scaled(upright, sixteen).convert("RGBA" if alpha else "RGB")
            rgb = _colours(upright)
            if not alpha:
                return rgb
            clear = upright.has_transparency_data
            opaque = Image.new("L", rgb.size, 255)
            return Image.merge("RGBA", (*rgb.split(), upright.convert("RGBA").getchannel("A") if clear else opaque))
    except UnidentifiedImageError as error:
        # Pillow's message has the place of the bytes in memory.
        raise OSError("no known image format") from error
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise OSError(f"a decompression bomb: more than {limit} pixels") from error
    except BROKEN as error:
        raise OSError(str(error)) from error


def _colours(image: Image.Image) -> Image.Image:
    """RGB of an image of any mode, its alpha dropped and never blended."""
    return Image.merge("RGB", image.split()[:3]) if image.mode == "RGBA" else image.convert("RGB")


_CEILINGS = (1, 255, 1023, 4095, 16383, 65535, 2**31 - 1, 2**32 - 1)


def _scaled(image: Image.Image, sixteen: bool) -> Image.Image:
    """A grey image of more than eight bits, or of floats, as RGB on 256 levels; see `open_rgb`."""
    values = np.asarray(image).astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    if sixteen:
        low, high = 0.0, 65535.0
    elif low >= 0 and image.mode == "F" and high <= 1:
        low, high = 0.0, 1.0
    elif low >= 0 and (usual := next((c for c in _CEILINGS if c / 2 < high <= c), None)) is not None:
        low, high = 0.0, float(usual)
    grey = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / (high - low or 1.0)
    return Image.fromarray((grey.clip(0, 1) * 255).round().astype(np.uint8)).convert("RGB")


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
    if image.mode == "RGBA":
        # Apart: Pillow would weight the colours by the alpha.
        return Image.merge("RGBA", (*fit(_colours(image), size).split(), fit(image.getchannel("A"), size)))
    return ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BICUBIC)


def as_input(image: Image.Image, size: tuple[int, int], channels: int) -> Float[Tensor, "c h w"]:
    """A picture as a network of so many channels takes it: RGB (also for one channel), or the tiles of a montage.

    Example:
        >>> from PIL import Image
        >>> from featvis.data.files import as_input
        >>> as_input(Image.new("RGB", (12, 8)), (4, 4), 5).shape  # six tiles of 4 x 4, of which five are channels
        torch.Size([5, 4, 4])
    """
    if channels in (1, 3):
        return to_tensor(fit(image, size))
    return by_channel.cover(from_picture(np.asarray(image), channels), size)


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
    return by_channel.of_image(fit(open_image(path, channels), size), channels)


def check_image(path: Path, channels: int, flag: str = "--images") -> None:
    """Raise a UserError for a file that is no image which a network of so many channels could be shown."""
    try:
        as_seen(path, (1, 1), channels)
    except OSError as error:
        raise UserError(f"{flag} {path} is no image that can be decoded ({error}); remove or replace it") from error
