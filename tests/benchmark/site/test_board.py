"""The leaderboard: ranks, intervals and what rows may see, from records made to be checked by hand."""

from __future__ import annotations

import csv
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from places import ROOT
from sample_records import metric, record, write_images

from benchmark.cli import main
from benchmark.records.record import load_all
from benchmark.report.tables.numbers import frame
from benchmark.site.board import reports
from benchmark.site.board.boards import boards


def rows():
    """Photographs best and noise last in the distance; in the logit too."""
    values = {"real": (1.0, 20.0), "maco": (2.0, 15.0), "fourier": (3.0, 16.0), "cbr": (4.0, 9.0), "noise": (9.0, 0.0)}
    return [
        record(m, metric("plausibility_flat", distance, 0.5), metric("logit", logit))
        for m, (distance, logit) in values.items()
    ]


def test_ranks_are_mean_places_over_what_brackets():
    board = boards(rows())[0]
    assert {line.name: line.rank for line in board.lines} == {
        "real": None, "maco": 1.5, "fourier": 1.5, "cbr": 3.0, "noise": None,
    }  # fmt: skip
    assert [line.reference for line in board.lines] == [True, False, False, False, True]


def test_intervals_stand_where_their_ends_are_in_the_range_of_the_column():
    board = boards(rows())[0]
    at = [head.metric for head in board.heads].index("plausibility_flat")
    bars = {line.name: line.values[at].bar for line in board.lines}
    # The column reaches from 0.5 (photographs) to 9.5 (noise).
    assert bars["real"] == pytest.approx((0.0, 100 / 9, 50 / 9))
    assert bars["noise"] == pytest.approx((100 * 8 / 9, 100 / 9, 100 * 8.5 / 9))
    logit = [head.metric for head in board.heads].index("logit")
    assert all(line.values[logit].bar is None for line in board.lines)


def test_what_a_method_may_see():
    (board,) = boards([*rows(), record("mine", metric("logit", 1.0), sees="1000 images of the class")])
    assert {line.name: line.sees for line in board.lines if line.name in ("mine", "noise")} == {
        "mine": "1000 images of the class", "noise": "",
    }  # fmt: skip


def test_a_number_that_was_not_scored_anew_is_reported_alone():
    found = rows()
    report = reports.Report("quick", "flexivit", "maco", "A lab", "0" * 64, {"logit": 15.0}, {"logit": 15.0}, ())
    line = next(x for x in boards(found, {report.cell: report})[0].lines if x.name == "maco")
    said = {head.metric: value.status for head, value in zip(boards(found)[0].heads, line.values, strict=True)}
    assert said == {"logit": "reported, verified by us", "plausibility_flat": "reported"}


def test_only_what_is_absent_has_a_reason():
    found = [*rows(), record("mine", metric("logit", None, absent="no weights"), metric("plausibility_flat", 5.0))]
    (board,) = boards(found)
    whys = {(line.name, h.metric): v.why for line in board.lines for h, v in zip(board.heads, line.values, strict=True)}
    assert {cell: why for cell, why in whys.items() if why} == {("mine", "logit"): "no weights"}


class Table(HTMLParser):
    """The tables of a page as lists of their cells' values, by suite and target."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.boards: dict[tuple[str, str], dict[str, list[str]]] = {}
        self.heads: dict[tuple[str, str], list[str]] = {}
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "section" and given.get("class") == "board":
            self.at = (given["data-suite"], given["data-target"])
            self.boards[self.at], self.heads[self.at] = {}, []
        if tag == "th" and "data-metric" in given:
            self.heads[self.at].append(given["data-metric"])
        if tag == "tr" and "data-method" in given:
            self.row = self.boards[self.at].setdefault(given["data-method"], [])
        if tag in ("td", "th") and "data-value" in given:
            self.row.append(given["data-value"])


@pytest.fixture(scope="module")
def ours(tmp_path_factory) -> Path:
    """A site of some of our own records."""
    folder = tmp_path_factory.mktemp("ours")
    for suite in ("quick", "units"):
        shutil.copytree(ROOT / "results" / "records" / suite, folder / "records" / suite)
    assert main(["site", "--records", str(folder / "records"), "--out", str(folder / "site")]) == 0
    return folder


def test_the_page_has_every_number_of_our_records(ours):
    table = Table(ours / "site" / "leaderboard.html")
    found = load_all(ours / "records")
    filled = {(r.suite, r.alias, m.name) for r in found for m in r.metrics if m.value is not None}
    for r in found:
        cells = dict(zip(table.heads[r.suite, r.alias], table.boards[r.suite, r.alias][r.method], strict=True))
        for m in r.metrics:
            expected = "" if m.value is None else str(m.value)
            # A column that is empty for all rows is left out.
            assert cells.get(m.name) == (expected if (r.suite, r.alias, m.name) in filled else None), (r.method, m.name)
    with (ours / "site" / "leaderboard.csv").open() as file:
        listed = [row for row in csv.DictReader(file) if row["value"]]
    assert len(listed) == int(frame(found)["value"].notna().sum()) > 100


def test_every_row_opens_to_its_definitions_and_command(ours):
    found = load_all(ours / "records")
    for r in found:
        text = (ours / "site" / "leaderboard" / f"{r.suite}-{r.alias}-{r.method}.html").read_text()
        assert "Made anew by" in text
        for m in r.metrics[:3]:
            assert str(m.definition["text"]).split(";")[0].replace("'", "&#39;").replace(">", "&gt;")[:60] in text


def test_a_row_shows_the_pictures_of_its_run(tmp_path):
    one = record("maco", metric("logit", 3.0))
    write_images(one, tmp_path, {"unit": "301"})
    one.write(one.record_path(tmp_path))
    args = ["site", "--records", str(tmp_path / "records"), "--runs", str(tmp_path), "--out", str(tmp_path / "site")]
    assert main(args) == 0
    text = (tmp_path / "site" / "leaderboard" / "quick-flexivit-maco.html").read_text()
    assert "maco of ladybug" in text
    assert len(list((tmp_path / "site" / "pictures").glob("*-s.webp"))) == len(one.units)
