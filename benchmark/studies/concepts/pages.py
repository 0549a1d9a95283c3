"""How concepts are shown: the facts and pictures of classes in; mosaics, one sheet (PNG) and one static page out.

The mosaics show patches of other people's images: they stay in the run's folder. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmark.report.drawing import figure_of, save
from benchmark.report.gallery import environment, link, write_opaque
from featvis.storage.images import write_atomic

COLUMNS = 3
"""Of a mosaic."""
BLUE, RED = "#0072B2", "#D55E00"
"""Of bars: for the class, and against it (Okabe and Ito)."""


@dataclass(frozen=True)
class ClassPictures:
    """A class with its concepts, the most important first.

    Attributes:
        facts: of its file of concepts.
        visualizations: image files, None where one failed.
        mosaics: image files.
    """

    facts: dict[str, Any]
    visualizations: list[Path | None]
    mosaics: list[Path]

    @property
    def summary(self) -> str:
        """What the concepts were made of and how good they are, in words."""
        f = self.facts
        others = len(f["images"]) - f["own"]
        text = f"{f['own']} image{'s' * (f['own'] != 1)} of the class"
        numbers = f"{f['explained']:.0%} of the variance · logit {f['logit']:.2f}, rebuilt {f['logit_rebuilt']:.2f}"
        return f"{numbers} · {text}" + (f" and {others} of {', '.join(f['sisters'])}" if others else "")


@dataclass(frozen=True)
class Concept:
    """A concept on the page: its pictures (empty where one failed), its numbers, and its bar, 1 for the longest."""

    number: int
    transparent: str
    opaque: str
    mosaic: str
    importance: float
    effect: float
    bar: float


def mosaic(patches: Sequence[NDArray[np.uint8]], side: int) -> bytes:
    """A PNG of patches (s, s, 3), resized to `side` pixels, `COLUMNS` a row, with a thin gap between them."""
    step = side + 2
    rows = -(-len(patches) // COLUMNS)
    canvas = Image.new("RGB", (COLUMNS * step - 2, rows * step - 2), "white")
    for i, patch in enumerate(patches):
        small = Image.fromarray(patch).resize((side, side), Image.Resampling.BICUBIC)
        canvas.paste(small, (i % COLUMNS * step, i // COLUMNS * step))
    buffer = BytesIO()
    canvas.save(buffer, "PNG")
    return buffer.getvalue()


def sheet(classes: Sequence[ClassPictures], path: Path) -> Path:
    """One figure: for each class a row of visualizations, the mosaics under them, and bars of importance under those.

    Visualizations are shown without their transparency. A bar is red where the logit rises without the concept.
    """
    columns = max(len(c.mosaics) for c in classes)
    side, left, bars, head = 1.3, 0.15, 0.32, 0.42
    block = head + 2 * side + bars
    width, height = left + side * columns, block * len(classes)
    figure = figure_of(width, height)

    def axis(column: int, top: float, tall: float) -> Any:
        place = (left + side * column) / width, 1 - (top + tall) / height
        return figure.add_axes((*place, (side - 0.06) / width, (tall - 0.06) / height))

    for row, shown in enumerate(classes):
        top = row * block
        title = f"{shown.facts['name']}  ({shown.facts['layer']})"
        figure.text(left / width, 1 - (top + 0.15) / height, title, fontsize=10, fontweight="bold", va="center")
        figure.text(
            left / width, 1 - (top + 0.31) / height, shown.summary[:200], fontsize=6.5, va="center", color="#555555"
        )
        importance, effect = shown.facts["importance"], shown.facts["effect"]
        longest = max([*importance, 1e-12])
        for i, tiles in enumerate(shown.mosaics):
            made = shown.visualizations[i]
            upper, lower = axis(i, top + head, side), axis(i, top + head + side, side)
            if made is None:
                upper.text(0.5, 0.5, "failed", ha="center", va="center", color=RED, transform=upper.transAxes)
            else:
                with Image.open(made) as image:
                    upper.imshow(image.convert("RGB"), interpolation="antialiased")
            with Image.open(tiles) as image:
                lower.imshow(image.convert("RGB"), interpolation="antialiased")
            bar = axis(i, top + head + 2 * side, bars)
            bar.barh([0], [importance[i]], color=BLUE if effect[i] >= 0 else RED, height=0.5)
            bar.set(xlim=(0, longest), ylim=(-0.3, 1.3))
            bar.text(0, 0.45, f"{importance[i]:.3f}   {effect[i]:+.2f}", fontsize=7, va="bottom")
            for a in (upper, lower, bar):
                a.set_axis_off()
    return save(figure, path)


def build_page(classes: Sequence[ClassPictures], alias: str, layer: str, out: Path) -> Path:
    """Write the page `<out>/index.html`, whose opaque copies of the visualizations lie in `<out>/page`.

    Args:
        classes: with pictures below `out`.
        alias: of the network.
        layer: of it.
        out: folder of the page.
    """
    shown = []
    for c in classes:
        importance, effect = c.facts["importance"], c.facts["effect"]
        concepts = []
        for i, made in enumerate(c.visualizations):
            transparent = opaque = ""
            if made is not None:
                copy = out / "page" / f"{made.stem}.jpg"
                with Image.open(made) as image:
                    write_opaque(image, copy)
                transparent, opaque = link(out, made), link(out, copy)
            bar = importance[i] / max([*importance, 1e-12])
            tiles = link(out, c.mosaics[i])
            concepts.append(Concept(i + 1, transparent, opaque, tiles, importance[i], effect[i], bar))
        shown.append((c.facts, c.summary, concepts))
    page = (
        environment()
        .get_template("concepts.html")
        .render(classes=shown, alias=alias, layer=layer, negative=max(c.facts["negative"] for c in classes))
    )
    write_atomic(out / "index.html", page.encode())
    return out / "index.html"
