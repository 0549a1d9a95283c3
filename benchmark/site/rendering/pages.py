"""One page of a site: a template, an address and what it shows in; an HTML file out, written only where it differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmark.report.gallery import environment
from benchmark.report.tables.sheet import arrow
from benchmark.site.model import Picture, Site, address
from benchmark.site.pictures import SMALL
from featvis.storage.images import write_atomic

HERE = Path(__file__).parent
ASSETS = ("site.css", "site.js", "atlas.js")


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

    def remove_others(self) -> None:
        """Remove the pages and the index of an earlier making that this one has not written."""
        for folder in (*self.site.networks, "compare", "leaderboard", "index"):
            for path in (self.out / folder).rglob("*"):
                if path.suffix in (".html", ".js") and path.relative_to(self.out).as_posix() not in self.written:
                    path.unlink()

    def _citation(self, title: str, path: str) -> str:
        where = f",\n  url = {{{self.site.address}{path}}}" if self.site.address else ""
        return (
            f"@misc{{featvis,\n  title = {{{title}, in {self.site.title}}},\n  note = {{made with featvis}}{where}\n}}"
        )
