"""One page of a site: a template, an address and what it shows in; an HTML file out, written only where it differs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from benchmark.report.gallery import environment
from benchmark.report.tables.sheet import arrow
from benchmark.site.model import Picture, Site, address, read
from benchmark.site.pictures import FILE, FOLDER, SMALL
from featvis.storage.images import write_atomic

HERE = Path(__file__).parent
ASSETS = ("site.css", "site.js", "atlas.js")
PLACES = (
    "leaderboard.html", "leaderboard.csv", "leaderboard/*.html", "compare/*--*.html", "index/part*.js",
    "index/atlas-*.js",
)  # fmt: skip
OF_A_NETWORK = ("atlas.html", "class/*.html", "layer/*.html", "unit/*.html")
"""Where pages and parts of the index lie that one making of a site has and another has not."""
T = TypeVar("T")


def small_width(picture: Picture) -> int:
    """The width of a picture's small file, in pixels."""
    return max(1, round(picture.width * min(1.0, SMALL / max(picture.width, picture.height))))


class Pages:
    """Writes the pages of a site.

    Args:
        out: the site's folder.
        site: what all pages share.
        board: whether there is a leaderboard.
    """

    def __init__(self, out: Path, site: Site, board: bool) -> None:
        self.out, self.site = out, site
        self.written: set[str] = set()
        self.read: set[str] = set()
        self.pictures: set[str] = set()
        self.environment = environment(HERE / "templates")
        self.environment.add_extension("jinja2.ext.loopcontrols")
        self.environment.filters |= {"address": address, "small_width": small_width, "arrow": arrow}
        pairs = [(a, b) for i, a in enumerate(site.networks) for b in site.networks[i + 1 :]]
        self.environment.globals |= {"site": site, "board": board, "pairs": pairs}

    def page(self, template: str, path: str, title: str, about: str, **shown: Any) -> None:
        """Write a page.

        Args:
            template: its file.
            path: of the page below the site's folder.
            title: for the tab, and for whom it is sent to.
            about: one sentence, likewise.
            shown: what the template names; `kind`, `network` and `preview` (a picture) are for all.
        """
        root = "../" * path.count("/")
        given: dict[str, Any] = {"kind": "", "network": "", "preview": None} | shown
        text = self.environment.get_template(template).render(
            root=root, path=path, title=title, about=about, citation=self._citation(title, path), **given
        )
        self.put(path, text.encode())

    def put(self, path: str, data: bytes) -> None:
        """Write a file below the site's folder, unless it is there as it shall be."""
        self.written.add(path)
        if not (self.out / path).is_file() or (self.out / path).read_bytes() != data:
            write_atomic(self.out / path, data, flush=False)

    def assets(self) -> None:
        """Write the style and the scripts."""
        for name in ASSETS:
            self.put(f"assets/{name}", (HERE / "assets" / name).read_bytes())

    def data(self, path: str, kind: type[T]) -> T:
        """Read the data of a page.

        Args:
            path: of its file below the site's folder.
            kind: of the page.

        Raises:
            UserError: see `benchmark.site.model.read`.
        """
        page = read(self.out / path, kind)
        if path not in self.read:
            self.read.add(path)
            self.keep(_pictures(page))
        return page

    def keep(self, pictures: Iterable[Picture]) -> None:
        """Take note of pictures that pages show."""
        self.pictures.update(picture.file for picture in pictures)

    def remove_others(self) -> None:
        """Remove what an earlier making left: pages, the index, data and pictures that this one does not have.

        The whole folder is published, so what no page shows any more must not stay in it. Files that are not called as
        those of a site are somebody's own, and stay.
        """
        for path in list(self._pages()):
            if path.relative_to(self.out).as_posix() not in self.written:
                path.unlink()
        for alias in self.site.networks:
            for kind in ("classes", "layers", "units"):
                for path in (self.out / "data" / alias / kind).glob("*.json"):
                    if path.relative_to(self.out).as_posix() not in self.read and _is_data(path, alias):
                        path.unlink()
        for path in (self.out / FOLDER).glob("*.webp"):
            match = FILE.fullmatch(path.name)
            if match is not None and match["name"] not in self.pictures:
                path.unlink()

    def _pages(self) -> Iterator[Path]:
        """The files of the folder that are called as those that `put` writes."""
        for pattern in PLACES:
            yield from self.out.glob(pattern)
        for alias in self.site.networks:
            for pattern in OF_A_NETWORK:
                yield from (self.out / alias).glob(pattern)

    def _citation(self, title: str, path: str) -> str:
        where = f",\n  url = {{{self.site.address}{path}}}" if self.site.address else ""
        return (
            f"@misc{{featvis,\n  title = {{{title}, in {self.site.title}}},\n  note = {{made with featvis}}{where}\n}}"
        )


def _pictures(value: Any) -> Iterator[Picture]:
    """All pictures in the data of a page."""
    if isinstance(value, Picture):
        yield value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _pictures(getattr(value, field.name))
    elif isinstance(value, tuple):
        for one in value:
            yield from _pictures(one)


def _is_data(path: Path, network: str) -> bool:
    """Whether a file is the data of a page of a network."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(said, dict) and (said.get("network"), said.get("key")) == (network, path.stem)
