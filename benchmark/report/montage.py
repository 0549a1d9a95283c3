"""What people look at of layers and inversions: image files in; figures and a page out. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmark.report.drawing import figure_of, save
from benchmark.report.gallery import environment, link, write_opaque
from featvis.storage.images import BadImage, over_grey, read, write_atomic

SIDE, GAP, HEAD = 1.15, 0.05, 0.27
"""Inches: a picture, between two, a line of text."""


@dataclass(frozen=True)
class Tile:
    """A picture: its file, what stands under it, and how it is shown.

    Attributes:
        path: an image file of featvis, or any other image.
        caption: under it; may be empty.
        show: `opaque`, `mask` (its transparency as grey levels) or `over_grey` (seen through it).
    """

    path: Path
    caption: str = ""
    show: str = "opaque"


@dataclass(frozen=True)
class Strip:
    """A row of pictures with a heading."""

    heading: str
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Panel:
    """Rows of pictures that belong together, such as a network's; panels stand side by side."""

    title: str
    strips: tuple[Strip, ...]


def picture(tile: Tile) -> Image.Image | None:
    """A tile's picture as RGB, or None where there is no such file."""
    if not tile.path.is_file():
        return None
    try:
        if tile.show == "mask":
            return Image.fromarray(read(tile.path)[0][:, :, 3]).convert("RGB")
        if tile.show == "over_grey":
            return over_grey(tile.path)
    except BadImage:
        return None
    with Image.open(tile.path) as image:
        return image.convert("RGB")


def draw(panels: Sequence[Panel], path: Path, below: str = "") -> Path:
    """A figure of panels side by side, each strip under its heading.

    Args:
        panels: with about as many strips each.
        path: of the PNG.
        below: a line of explanation.
    """
    captions = any(t.caption for p in panels for s in p.strips for t in s.tiles)
    line = SIDE + HEAD + (0.2 if captions else 0.0) + GAP
    counts = [max((len(s.tiles) for s in panel.strips), default=1) for panel in panels]
    width = sum(n * (SIDE + GAP) for n in counts) + 0.35 * (len(panels) - 1) + 0.2
    height = 0.4 + line * max(len(panel.strips) for panel in panels) + (0.3 if below else 0.1)
    figure = figure_of(width, height)
    left = 0.1
    for panel, count in zip(panels, counts, strict=True):
        figure.text(left / width, 1 - 0.25 / height, panel.title, fontsize=11, fontweight="bold")
        for row, strip in enumerate(panel.strips):
            top = height - 0.4 - row * line
            figure.text(left / width, (top - 0.2) / height, strip.heading, fontsize=8, color="#444444")
            for column, tile in enumerate(strip.tiles):
                x, y = left + column * (SIDE + GAP), top - HEAD - SIDE
                axis = figure.add_axes((x / width, y / height, SIDE / width, SIDE / height))
                axis.set_axis_off()
                if (image := picture(tile)) is None:
                    axis.text(0.5, 0.5, "no image", ha="center", va="center", color="#767676", fontsize=8)
                else:
                    axis.imshow(_array(image), interpolation="antialiased")
                if tile.caption:
                    axis.text(
                        0.5, -0.03, tile.caption, ha="center", va="top", fontsize=7, color="#444444",
                        transform=axis.transAxes,
                    )  # fmt: skip
        left += count * (SIDE + GAP) + 0.35
    if below:
        figure.text(0.1 / width, 0.1 / height, below, fontsize=7.5, color="#444444")
    return save(figure, path)


def _array(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image)


def write_page(out: Path, title: str, lead: str, panels: Sequence[Panel], figures: Sequence[tuple[str, Path]]) -> Path:
    """One static page: every picture in its strip, enlarged by a click, and the figures.

    Args:
        out: folder of the page; the opaque copies go to its `page/`.
        title: heading.
        lead: what is to be seen, a sentence or two.
        panels: the pictures, whose files lie in `out`.
        figures: caption and file.

    Returns:
        `<out>/index.html`.
    """
    shown = []
    for panel in panels:
        strips = []
        for strip in panel.strips:
            tiles = [(tile, _copy(tile, out)) for tile in strip.tiles]
            strips.append((strip.heading, [(t.caption, copy, link(out, t.path)) for t, copy in tiles]))
        shown.append((panel.title, strips))
    drawn = [(caption, link(out, path)) for caption, path in figures]
    template = environment().get_template("montage.html")
    text = template.render(title=title, lead=lead, panels=shown, figures=drawn)
    write_atomic(out / "index.html", text.encode())
    return out / "index.html"


def _copy(tile: Tile, out: Path) -> str:
    """The link of a picture as a browser must show it; empty where there is none."""
    image = picture(tile)
    if image is None:
        return ""
    place = tile.path.relative_to(out).with_suffix("")
    path = out / "page" / place.with_name(f"{place.name}.{tile.show}.jpg")
    if not path.is_file() or path.stat().st_mtime < tile.path.stat().st_mtime:
        write_opaque(image, path)
    return link(out, path)
