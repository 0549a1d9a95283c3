"""A site's data and records in, all of its pages out. No torch."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from benchmark.arguments import names_alone, without_places
from benchmark.records.record import Record, load_all
from benchmark.report.gallery import as_script
from benchmark.report.tables import csv
from benchmark.site.board import reports
from benchmark.site.board.boards import Board, Line, boards, facts
from benchmark.site.model import (
    MARKER,
    Atlas,
    ClassPage,
    Entry,
    LayerPage,
    Network,
    Picture,
    Reference,
    Site,
    UnitPage,
    address,
    read,
)
from benchmark.site.pictures import Shelf
from benchmark.site.rendering.charts import histogram
from benchmark.site.rendering.index import parts
from benchmark.site.rendering.pages import Pages
from featvis.errors import UserError

A_PAGE = 100
"""Classes on a page of a comparison."""
OF_A_ROW = 24
"""Pictures that a row of the leaderboard shows."""


def render(out: Path, records: Path | None, runs: Path | None = None) -> int:
    """Write the pages of a site; how many there are.

    Args:
        out: the site's folder, with its data.
        records: folder of the leaderboard's records; None: no leaderboard.
        runs: folder of the run whose pictures the records name; None: rows show no pictures.

    Raises:
        UserError: the folder holds no site, or something in it cannot be read.
    """
    site = read(out / MARKER, Site)
    found = _records(records)
    pages = Pages(out, site, found is not None)
    networks = [pages.data(f"data/{alias}/network.json", Network) for alias in site.networks]
    atlases = {n.alias for n in networks if (out / "data" / n.alias / "atlas.json").is_file()}
    about = f"{site.title}: {', '.join(site.networks) or 'a leaderboard of feature visualization'}"
    preview = next((e.picture for n in networks for e in n.classes if e.picture), None)
    pages.page("home.html", "index.html", "Home", about, networks=networks, atlases=atlases, preview=preview)
    for network in networks:
        _network(pages, network, networks, network.alias in atlases)
    for first, second in itertools.combinations(networks, 2):
        _compare(pages, first, second)
    if found is not None:
        _leaderboard(pages, found, reports.load_all((records or out).parent / reports.FOLDER), runs)
    for name, data in parts(networks):
        pages.put(f"index/{name}", data)
    pages.assets()
    pages.remove_others()
    return sum(path.endswith(".html") for path in pages.written)


def _records(folder: Path | None) -> list[Record] | None:
    return None if folder is None else load_all(folder) if folder.is_dir() else []


def _network(pages: Pages, network: Network, networks: Sequence[Network], atlas: bool) -> None:
    alias = network.alias
    preview = next((e.picture for e in (*network.classes, *network.layers) if e.picture), None)
    about = f"{alias}: {len(network.classes)} classes and {len(network.layers)} layers, visualized"
    pages.page(
        "network.html", f"{alias}/index.html", alias, about, network=alias, n=network, atlas=atlas, preview=preview
    )
    others: dict[str, list[Reference]] = {}
    for other in networks:
        for own, theirs in shared_classes(network, other) if other is not network else ():
            others.setdefault(own.key, []).append(Reference("class", other.alias, theirs.key, theirs.name))
    for entry in network.classes:
        page = pages.data(f"data/{alias}/classes/{entry.key}.json", ClassPage)
        _class(pages, page, others.get(entry.key, []))
    for entry in network.layers:
        layer = pages.data(f"data/{alias}/layers/{entry.key}.json", LayerPage)
        first = next((t.picture for t in layer.tiles if t.picture), None)
        about = f"All {len(layer.tiles)} channels of {layer.name} of {alias}, alike ones beside each other"
        path = address("layer", alias, layer.key)
        pages.page("layer.html", path, f"{layer.name} of {alias}", about, network=alias, p=layer, preview=first)
        for tile in layer.tiles:
            _unit(pages, pages.data(f"data/{alias}/units/{tile.key}.json", UnitPage))
    if atlas:
        _atlas(pages, pages.data(f"data/{alias}/atlas.json", Atlas))


def _class(pages: Pages, page: ClassPage, others: Sequence[Reference]) -> None:
    preview = next((p for s in page.visualizations for p in s.pictures), None)
    pages.page(
        "class.html", address("class", page.network, page.key), f"{page.name} in {page.network}",
        f"What {page.network} looks for in the class {page.name}, and the {len(page.concepts)} concepts it is made of",
        network=page.network, p=page, others=others, preview=preview,
    )  # fmt: skip


def _unit(pages: Pages, page: UnitPage) -> None:
    drawn = None if page.distribution is None else histogram(page.distribution)
    preview = next((p for s in page.visualizations for p in s.pictures), next(iter(page.most), None))
    pages.page(
        "unit.html", address("unit", page.network, page.key), f"{page.name} of {page.network}",
        f"What unit {page.index} of the layer {page.layer} of {page.network} looks for", network=page.network, p=page,
        bars=drawn.bars if drawn else (), line=drawn.line if drawn else None, axis=drawn.axis if drawn else (0, 0),
        preview=preview,
    )  # fmt: skip


def _atlas(pages: Pages, atlas: Atlas) -> None:
    alias = atlas.network
    rows = [
        [
            round(p.x, 4), round(p.y, 4), p.to.text, address(p.to.kind, p.to.network, p.to.key, p.to.part),
            p.to.picture.file if p.to.picture else "",
        ]
        for p in atlas.points
    ]  # fmt: skip
    pages.put(f"index/atlas-{alias}.js", as_script("FEATVIS_ATLAS", rows))
    about = f"All {len(rows)} concepts and units of {alias} in a plane, alike ones near each other"
    pages.page("atlas.html", f"{alias}/atlas.html", f"Atlas of {alias}", about, network=alias, a=atlas)


def shared_classes(first: Network, second: Network) -> list[tuple[Entry, Entry]]:
    """The classes that two networks share: of one number and name, else of a name that each has once.

    ImageNet has two classes that are called `crane`, and two `maillot`.
    """
    keys = {entry.key: entry for entry in second.classes}
    counts = [Counter(entry.name for entry in network.classes) for network in (first, second)]
    names = {entry.name: entry for entry in second.classes if all(count[entry.name] == 1 for count in counts)}
    pairs = ((entry, keys.get(entry.key) or names.get(entry.name)) for entry in first.classes)
    return [(own, theirs) for own, theirs in pairs if theirs is not None]


def _compare(pages: Pages, first: Network, second: Network) -> None:
    """The classes that two networks share, `A_PAGE` on a page."""
    shared = [(own.name, own.key, theirs.key) for own, theirs in shared_classes(first, second)]
    count = max(1, -(-len(shared) // A_PAGE))
    for number in range(count):
        rows = []
        for name, left, right in shared[number * A_PAGE : (number + 1) * A_PAGE]:
            one = pages.data(f"data/{first.alias}/classes/{left}.json", ClassPage)
            two = pages.data(f"data/{second.alias}/classes/{right}.json", ClassPage)
            rows.append((name, one, two))
        path = f"compare/{first.alias}--{second.alias}-{number + 1}.html"
        title = f"{first.alias} and {second.alias}"
        about = f"{title}, class by class: visualizations and concepts beside each other"
        pages.page(
            "compare.html", path, title, about, kind="compare", a=first.alias, b=second.alias, rows=rows,
            page=number + 1, pages=count,
        )  # fmt: skip


# --- The leaderboard --------------------------------------------------------------------------------------------------


def _leaderboard(
    pages: Pages, records: Sequence[Record], reported: dict[tuple[str, str, str], reports.Report], runs: Path | None
) -> None:
    made = boards(records, reported)
    lines = [line for board in made for line in board.lines]
    filters = {
        "suite": [board.suite for board in made],
        "target": [board.target for board in made],
        "budget": [line.budget for line in lines],
        "sees": [line.sees for line in lines],
    }
    choices = [(name, sorted({v for v in values if v})) for name, values in filters.items()]
    about = f"{len(lines)} rows of {len(made)} tables: methods of feature visualization, compared"
    pages.page(
        "leaderboard.html", "leaderboard.html", "Leaderboard", about, kind="leaderboard", boards=made, filters=choices
    )
    pages.put("leaderboard.csv", csv(records).encode() if records else b"")
    shelf = Shelf(pages.out)
    for board in made:
        for line in board.lines:
            _row(pages, board, line, shelf, runs)


def _row(pages: Pages, board: Board, line: Line, shelf: Shelf, runs: Path | None) -> None:
    title = f"{line.name} on {board.target}, suite {board.suite}"
    pictures = _pictures(line.record, shelf, runs)
    pages.keep(pictures)
    pages.page(
        "row.html", f"leaderboard/{line.key}.html", title, f"A row of the leaderboard: {title}", kind="leaderboard",
        board=board, line=line, command=without_places(line.record.command or ""), config=_named(line.record.config),
        facts=facts(line), rows=list(zip(board.heads, line.values, strict=True)),
        pictures=pictures, preview=next(iter(pictures), None),
    )  # fmt: skip


def _named(config: Any) -> Any:
    """A configuration, of the files that it names the names alone."""
    if isinstance(config, str):
        return names_alone(config)
    if isinstance(config, dict):
        return {key: _named(value) for key, value in config.items()}
    return [_named(value) for value in config] if isinstance(config, list | tuple) else config


def _pictures(record: Record, shelf: Shelf, runs: Path | None) -> list[Picture]:
    """The first pictures of a record, where its run is here and they are the ones that it was made from."""
    if runs is None or record.images is None:
        return []
    found = []
    named = list(zip(record.units, record.labels, strict=True))[:OF_A_ROW]
    for unit, label in named:
        path = runs / record.images / f"{unit}.png"
        if path.is_file():
            source = ["row", record.images_sha256, unit]
            told = {"unit": unit, "label": label, "method": record.method, "target": record.model}
            try:
                found.append(
                    shelf.put(
                        source, lambda p=path: Image.open(p), f"{record.method} of {label}", told, record.command or ""
                    )
                )
            except OSError as error:
                raise UserError(f"{path} cannot be read ({error}); make it again, or leave --runs out") from None
    return found
