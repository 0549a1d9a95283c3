"""A site of made-up networks, to see what a large one costs: `python -m benchmark.site.synthetic OUT`.

Prints how long its pages take to render, how large the index and a class page are, and, where Playwright and Chromium
are there, when the first of a class page is seen from disk.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jsonargparse import auto_cli
from PIL import Image

from benchmark.site.model import (
    Atlas,
    ClassPage,
    Concept,
    Distribution,
    Dot,
    Entry,
    LayerPage,
    Network,
    Picture,
    Point,
    Reference,
    Shown,
    Site,
    Tile,
    UnitPage,
    address,
    check_folder,
    key_of,
    write,
)
from benchmark.site.pictures import Shelf
from benchmark.site.rendering.render import render

DIFFERENT = 12
"""Pictures that are drawn; pages share them."""
LAYER = "blocks.4"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Maker:
    """Draws pictures and makes up the data of networks.

    Args:
        out: the site's folder.
        seed: of everything made up.
    """

    def __init__(self, out: Path, seed: int = 0) -> None:
        self.out, self.rng = out, np.random.default_rng(seed)
        shelf = Shelf(out)
        self.pictures = [self._draw(shelf, i) for i in range(DIFFERENT)]

    def _draw(self, shelf: Shelf, number: int) -> Picture:
        colours = np.random.default_rng(number).integers(0, 255, (4, 4, 4), dtype=np.uint8)
        image = Image.fromarray(colours, "RGBA").resize((256, 256), Image.Resampling.BICUBIC)
        facts = {"method": "synthetic", "number": str(number)}
        return shelf.put(["synthetic", number], lambda: image, f"colours {number}", facts, "featvis site", True)

    def picture(self) -> Picture:
        """Any of them."""
        return self.pictures[int(self.rng.integers(DIFFERENT))]

    def class_page(self, alias: str, label: int, name: str, concepts: int) -> ClassPage:
        """A class with concepts whose importance falls."""
        importance = np.sort(self.rng.random(concepts))[::-1]
        shares = importance / importance.sum() if concepts else importance
        made = tuple(
            Concept(
                i + 1, float(importance[i]), float(shares[i]), float(self.rng.normal(1)),
                self.picture(), self.picture(), tuple(self.picture() for _ in range(4)),
                tuple(Reference("concept", alias, key_of(label), "alike", 0.5, 1, self.picture()) for _ in range(3)),
            )
            for i in range(concepts)
        )  # fmt: skip
        dots = tuple(
            Dot(self.rng.random(), self.rng.random(), int(self.rng.integers(concepts)) + 1, self.picture())
            for _ in range(40 if concepts else 0)
        )
        shown = tuple(Shown(m, tuple(self.picture() for _ in range(3))) for m in ("maco", "fourier"))
        absent = None if concepts else "No real images were given, so there are no concepts."
        return ClassPage(
            alias, key_of(label), label, name, shown, LAYER, "Made up.", made, absent, "Placed at random.", dots
        )

    def unit_page(self, alias: str, index: int, elsewhere: str | None) -> UnitPage:
        """A channel with everything that one can have."""
        alike = tuple(
            Reference("unit", alias, key_of(LAYER, i), f"{LAYER}:{i}", 0.5, 0, self.picture()) for i in range(2)
        )
        other = () if elsewhere is None else (Reference("unit", elsewhere, key_of(LAYER, index), "alike", 0.3),)
        counts = tuple(int(n) for n in self.rng.integers(0, 50, 24))
        return UnitPage(
            alias, LAYER, key_of(LAYER), index, key_of(LAYER, index), (Shown("maco", (self.picture(),)),),
            tuple(self.picture() for _ in range(6)), tuple(self.picture() for _ in range(6)),
            Distribution(0.0, 2.0, counts, 3.0, 1.0), alike, other, None,
        )  # fmt: skip

    def network(self, alias: str, names: Sequence[str], concepts: int, units: int, elsewhere: str | None) -> Network:
        """Write a network's pages' data."""
        points = []
        for label, name in enumerate(names):
            page = self.class_page(alias, label, name, concepts)
            write(self.out, page)
            for concept in page.concepts:
                to = Reference("concept", alias, page.key, f"{name}, concept {concept.number}", None, concept.number)
                points.append(Point(self.rng.random(), self.rng.random(), replace(to, picture=concept.visualization)))
        for index in range(units):
            write(self.out, self.unit_page(alias, index, elsewhere))
        tiles = tuple(Tile(i, key_of(LAYER, i), self.picture(), i % 3 == 0) for i in range(units))
        write(self.out, LayerPage(alias, LAYER, key_of(LAYER), "made up", "In order.", tiles))
        write(self.out, Atlas(alias, "Placed at random.", tuple(points)))
        classes = tuple(Entry(key_of(i), name, concepts, self.picture()) for i, name in enumerate(names))
        layers = (Entry(key_of(LAYER), LAYER, units, self.picture()),)
        network = Network(alias, f"{alias}, made up", "No weights.", classes, layers)
        write(self.out, network)
        return network


def make(out: Path, networks: Sequence[str], names: Sequence[str], concepts: int, units: int, seed: int = 0) -> None:
    """Write the data and pictures of a synthetic site.

    Args:
        out: its folder.
        networks: aliases.
        names: of the classes.
        concepts: a class; 0: none, as where there are no real images.
        units: of the one layer.
        seed: of everything made up.
    """
    maker = Maker(out, seed)
    for alias in networks:
        other = next((n for n in networks if n != alias), None)
        maker.network(alias, names, concepts, units, other)
    write(out, Site("Lens", tuple(networks), "Everything is made up.", "python -m benchmark.site.synthetic", "", ()))


def first_paint(page: Path, times: int = 5) -> float | None:
    """Milliseconds until the first content of a page is painted, from disk: the median; None without a browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    path = next((place for name in BROWSERS if (place := shutil.which(name))), None)
    if path is None:
        return None
    script = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        found = []
        for _ in range(times):
            view = browser.new_page()
            view.goto(page.absolute().as_uri())
            view.wait_for_function(script)
            found.append(float(view.evaluate(script)))
            view.close()
        browser.close()
    return statistics.median(found)


def main(out: str, classes: int = 1000, concepts: int = 10, networks: int = 2, units: int = 200, seed: int = 0) -> None:
    """Make a site of made-up networks and say what it costs.

    Args:
        out: folder of the site.
        classes: of each network.
        concepts: of each class.
        networks: how many.
        units: of each network's one layer.
        seed: of everything made up.
    """
    folder, aliases = Path(out), [f"network{i}" for i in range(networks)]
    check_folder(folder, aliases)
    names = [f"class {i} of {classes}" for i in range(classes)]
    start = time.perf_counter()
    make(folder, aliases, names, concepts, units, seed)
    made = time.perf_counter()
    count = render(folder, None)
    print(f"data         {made - start:.1f} s")
    print(f"pages        {time.perf_counter() - made:.1f} s, {count} of them")
    index = [p.stat().st_size for p in (folder / "index").glob("part*.js")]
    print(f"index        {sum(index) / 1000:.0f} kB in {len(index)} files, the largest {max(index) / 1000:.0f} kB")
    page = folder / address("class", aliases[0], key_of(0))
    print(f"class page   {page.stat().st_size / 1000:.0f} kB without pictures")
    painted = first_paint(page)
    print("first paint  " + ("not measured: needs playwright and chromium" if painted is None else f"{painted:.0f} ms"))


if __name__ == "__main__":
    auto_cli(main, as_positional=True)
