"""What the studies of photographs share: a folder in, its images; pictures of each in, a figure and a page out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmark.report import montage
from benchmark.report.montage import Panel, Strip, Tile
from benchmark.running.produce import put_down
from featvis.data.files import find_images
from featvis.data.walk import Found
from featvis.networks.units import ImageUnit


def listed(images: Path, limit: int | None) -> list[Path]:
    """The images of a folder, or one image; what else is there is said.

    Args:
        images: the folder, or the image.
        limit: at most so many, the first ones.

    Raises:
        UserError: for a folder without an image.
    """
    found = Found([images]) if images.is_file() else find_images(images, "--images")
    if left := found.describe():
        print(f"featvis: left out of {images.name}: {left}", file=sys.stderr)
    return found.paths[:limit]


def strip(said: str, unit: ImageUnit, file: Path, name: str, out: Path, size: tuple[int, int]) -> Strip:
    """A photograph, what was made of it, its transparency, and both (the columns of Fel et al. 2023, figure 6a).

    Args:
        said: of the photograph and its picture.
        unit: with the photograph.
        file: of the picture.
        name: what the picture is.
        out: folder of everything, which gets the photograph as the network sees it.
        size: of the network's input.
    """
    seen = put_down(out, size, unit)
    return Strip(
        said,
        (Tile(seen, "image"), Tile(file, name), Tile(file, "transparency", "mask"), Tile(file, "both", "over_grey")),
    )


def publish(out: Path, name: str, title: str, about: str, caption: str, panels: Sequence[Panel]) -> None:
    """Write the figure `<out>/figures/<name>.png` and the page, and say where they are."""
    figure = montage.draw(panels, out / "figures" / f"{name}.png")
    page = montage.write_page(out, title, about, panels, [(caption, figure)])
    print(f"figure   {figure}\npage     {page}")
