"""Pictures of a site: PIL images in, WebP files in two sizes out, each written once. No torch."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from benchmark.arguments import without_places
from benchmark.site.model import Picture
from featvis.storage.hashing import config_hash
from featvis.storage.images import write_atomic

FOLDER = "pictures"
LARGE, SMALL = 512, 160
"""The longest side of either size, in pixels."""
QUALITY = 82
FILE = re.compile(r"(?P<name>[0-9a-f]{12})(-t)?(-s)?\.webp")
"""What a shelf's files are called."""


class Shelf:
    """Puts pictures down below a site's folder; one whose source has not changed stays as it is.

    Args:
        out: the site's folder.
    """

    def __init__(self, out: Path) -> None:
        self.folder = out / FOLDER

    def name(self, source: Any) -> str:
        """The name of a picture: 12 hex digits of what it depends on, JSON values."""
        return config_hash({"source": source, "large": LARGE, "small": SMALL, "quality": QUALITY})

    def put(
        self, source: Any, make: Any, alt: str, facts: dict[str, str], command: str = "", transparent: bool = False
    ) -> Picture:
        """A picture, made where it is not there.

        Args:
            source: what it depends on.
            make: a function that gives the PIL image, called only where it is needed.
            alt: what it shows.
            facts: what is known of it.
            command: that makes it; where its files lie on this machine is left out.
            transparent: keep a copy with the image's transparency beside the opaque one.
        """
        name = self.name(source)
        last = self.folder / f"{name}.webp"  # written last: where it is, all of its sizes are
        if not last.is_file():
            image: Image.Image = make()
            if transparent:
                self._write(image.convert("RGBA"), f"{name}-t")
            self._write(image.convert("RGB"), name)
        with Image.open(last) as large:
            width, height = large.size
        return Picture(name, width, height, alt, facts, without_places(command), transparent)

    def _write(self, image: Image.Image, name: str) -> None:
        for side, file in ((SMALL, f"{name}-s.webp"), (LARGE, f"{name}.webp")):
            small = image.copy()
            small.thumbnail((side, side), Image.Resampling.LANCZOS)
            buffer = BytesIO()
            small.save(buffer, "WEBP", quality=QUALITY, method=4)
            write_atomic(self.folder / file, buffer.getvalue(), flush=False)
