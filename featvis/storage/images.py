"""The image file of a unit: canvas (H, W, 3) and transparency (H, W) in, one RGBA PNG with its facts out; and back.

A file is written under a temporary name, flushed and renamed, so one that exists is finished. Its facts lie in a text
chunk named `featvis`, as JSON. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

CHUNK = "featvis"
END = b"\x00\x00\x00\x00IEND\xaeB`\x82"


class BadImage(OSError):
    """A file that is not a finished image of featvis; the message says why."""


def write_atomic(path: Path, data: bytes, flush: bool = True) -> None:
    """Write a file that is either there and whole, or not there.

    Args:
        path: of the file; its folder is made.
        data: all of it.
        flush: wait until the disk has it. False for the many small files that are made anew in no time: they survive
            the end of the process, though not that of the machine.

    Raises:
        OSError: as the system says it (a full disk, no permission); the half-written file is removed.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from featvis.storage.images import write_atomic
        >>> path = Path(tempfile.mkdtemp()) / "folder" / "note.txt"
        >>> write_atomic(path, b"whole")
        >>> path.read_bytes(), len(list(path.parent.iterdir()))
        (b'whole', 1)
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A leading dot and another ending: no reader that looks for *.json or *.png takes a half-written file for whole.
    # Two machines that share the folder may both have a process of this number.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:6]}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            if flush:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write(path: Path, rgb: np.ndarray, alpha: np.ndarray, facts: Mapping[str, Any]) -> None:
    """Write one image.

    Args:
        path: of the PNG.
        rgb: (H, W, 3), uint8.
        alpha: (H, W), uint8.
        facts: JSON values; the same facts and pixels give the same bytes.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from featvis.storage.images import read, write
        >>> path = Path(tempfile.mkdtemp()) / "301.png"
        >>> write(path, np.zeros((4, 6, 3), np.uint8), np.full((4, 6), 255, np.uint8), {"unit": "301"})
        >>> read(path)[1]
        {'unit': '301'}
    """
    info = PngImagePlugin.PngInfo()
    info.add_text(CHUNK, json.dumps(facts, sort_keys=True, allow_nan=False))
    buffer = BytesIO()
    Image.fromarray(np.dstack([rgb, alpha])).save(buffer, "PNG", pnginfo=info, compress_level=6)
    write_atomic(path, buffer.getvalue())


def read(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """The pixels (H, W, 4), uint8, and the facts.

    Raises:
        BadImage: when the file is missing, cut off, not RGBA or without facts.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from featvis.storage.images import BadImage, read
        >>> path = Path(tempfile.mkdtemp()) / "301.png"
        >>> size = path.write_bytes(b"half of an ima")
        >>> try:
        ...     read(path)
        ... except BadImage as error:
        ...     print(str(error).replace(str(path), path.name))
        301.png is cut off
    """
    try:
        data = path.read_bytes()
        if not data.endswith(END):
            # Pillow would take a file that lacks its last bytes.
            raise BadImage(f"{path} is cut off")
        with Image.open(BytesIO(data), formats=["PNG"]) as image:
            image.verify()
        with Image.open(BytesIO(data), formats=["PNG"]) as image:
            image.load()
            pixels, text = np.asarray(image), image.info.get(CHUNK)
    except BadImage:
        raise
    except (OSError, SyntaxError, ValueError) as error:
        raise BadImage(f"{path} is not a whole PNG: {error}") from error
    if pixels.ndim != 3 or pixels.shape[2] != 4:
        raise BadImage(f"{path} is not RGBA")
    if text is None:
        raise BadImage(f"{path} carries no facts")
    try:
        facts = json.loads(text)
    except ValueError as error:
        raise BadImage(f"the facts of {path} are not JSON") from error
    return pixels, facts


def facts(path: Path) -> dict[str, Any]:
    """The facts of an image, its pixels left alone; empty where there are none, or no image."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            found = json.loads(image.info.get(CHUNK) or "{}")
    except (OSError, SyntaxError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def over_grey(path: Path) -> Image.Image:
    """An image over a middle grey by its transparency: what is opaque stays, what is transparent becomes grey.

    Raises:
        BadImage: see `read`.
    """
    pixels, _ = read(path)
    canvas = Image.new("RGBA", (pixels.shape[1], pixels.shape[0]), (128, 128, 128, 255))
    return Image.alpha_composite(canvas, Image.fromarray(pixels)).convert("RGB")


def verify(path: Path, config_hash: str) -> str | None:
    """Why a file is not the finished image of a configuration, or None if it is."""
    try:
        _, facts = read(path)
    except BadImage as error:
        return str(error)
    if facts.get("config_hash") != config_hash:
        return f"{path} was made by configuration {facts.get('config_hash')}, not {config_hash}"
    return None


def pixels_hash(paths: Sequence[Path]) -> str:
    """SHA-256 of a set of images by their names and RGBA pixels: however the PNGs are compressed, and in any order.

    Raises:
        BadImage: when one of them cannot be read.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from featvis.storage.images import pixels_hash, write
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("a", "b"):
        ...     write(folder / f"{name}.png", np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8), {})
        >>> files = sorted(folder.glob("*.png"))
        >>> pixels_hash(files) == pixels_hash(files[::-1])
        True
    """
    total = hashlib.sha256()
    for path in sorted(paths, key=lambda p: p.stem):
        pixels, _ = read(path)
        total.update(f"{path.stem} {pixels.shape} {hashlib.sha256(pixels.tobytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def append_line(path: Path, line: str) -> None:
    """Append a line to a file whose last one a full disk or a kill may have cut off."""
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else f"\n{line}"
        file.write(f"{line}\n".encode())
