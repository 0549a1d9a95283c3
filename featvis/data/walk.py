"""Which files below a folder are images: a folder in; their paths, and which others there are and why, out.

By content and not by ending: whatever Pillow opens is an image. But where an ending is that of images alone, the file
is not opened for it: a folder may hold a million. Links are followed, each folder is looked at once.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageFile

IMAGE_SUFFIXES = frozenset(
    (
        ".jpeg", ".jpg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".ppm",
        ".pgm", ".pbm", ".pnm", ".jp2", ".avif",
    )
)  # fmt: skip
"""Endings of images alone."""

BROKEN = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError, struct.error, zlib.error,
    Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow's readers raise for bytes that are not what their format says."""

WITHOUT_CLASS = ("without a class", "without a class")
_NO_IMAGE = ("that is no image", "that are no images")
_HIDDEN = ("that is hidden", "that are hidden")
_NOWHERE = ("link that leads nowhere", "links that lead nowhere")
_AGAIN = ("link to a folder that is looked at anyway", "links to folders that are looked at anyway")
_CLOSED = ("folder that may not be read", "folders that may not be read")

_NO_PIXELS = ("EPS", "MPEG")
"""What Pillow knows by its first bytes, and would need other programs for."""


@dataclass
class Found:
    """What lies below a folder.

    Attributes:
        paths: of the images, sorted.
        left: the other files, by the reason why each is left out: of one, and of several.
    """

    paths: list[Path] = field(default_factory=list)
    left: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def leave(self, path: str, reason: tuple[str, str]) -> None:
        """Note that something is left out."""
        self.left.setdefault(reason, []).append(os.path.basename(path))  # noqa: PTH119 (one of a million)

    def describe(self, used: Path | None = None) -> str:
        """How many were left out and why, in words; empty where there was none. `used` is a file that serves."""
        parts = []
        for (one, several), names in self.left.items():
            others = sorted(names)
            if used is not None and used.name in others:
                others.remove(used.name)
            if others:
                shown = ", ".join(others[:3]) + ", …" * (len(others) > 3)
                parts.append(f"{len(others)} {several if len(others) > 1 else one} ({shown})")
        return ", ".join(parts)


def is_image(path: str | Path) -> bool:
    """Whether Pillow opens a file, whatever its ending.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from featvis.data.walk import is_image
        >>> path = Path(tempfile.mkdtemp()) / "scan"
        >>> Image.new("RGB", (4, 4)).save(path, "GIF")
        >>> is_image(path)
        True
    """
    try:
        with Image.open(path) as image:
            return not isinstance(image, ImageFile.StubImageFile) and image.format not in _NO_PIXELS
    except Image.DecompressionBombError:
        return True  # an image, which whoever opens it refuses by its name
    except BROKEN:
        return False


def images_below(folder: Path) -> Found:
    """The images below a folder, through links too; files and folders whose names begin with a dot are not looked at.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from featvis.data.walk import images_below
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (4, 4)).save(folder / "a.ppm")
        >>> (folder / "loop").symlink_to(folder)
        >>> size = (folder / "notes").write_text("none")
        >>> found = images_below(folder)
        >>> [path.name for path in found.paths], found.describe()
        (['a.ppm'], '1 that is no image (notes), 1 link to a folder that is looked at anyway (loop)')
    """
    found, paths = Found(), list[str]()
    seen: set[str] = set()
    # Folders before links: what lies here is found under its own name.
    folders, links = [str(folder)], list[str]()
    while folders or links:
        here = folders.pop() if folders else links.pop(0)
        real = os.path.realpath(here)
        if real in seen:
            found.leave(here, _AGAIN)
            continue
        seen.add(real)
        try:
            with os.scandir(here) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            found.leave(here, _CLOSED)
            continue
        for entry in inside:
            kind = _kind(entry)
            if entry.name.startswith("."):
                if kind == "file" and _ending(entry.name) in IMAGE_SUFFIXES:
                    found.leave(entry.path, _HIDDEN)
            elif kind == "folder":
                (links if entry.is_symlink() else folders).append(entry.path)
            elif kind == "file" and (_ending(entry.name) in IMAGE_SUFFIXES or is_image(entry.path)):
                paths.append(entry.path)
            else:
                found.leave(entry.path, _NO_IMAGE if kind == "file" or not entry.is_symlink() else _NOWHERE)
    found.paths = sorted(map(Path, paths))
    return found


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 (one of a million)


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else ""
    except OSError:  # a link to itself
        return ""
