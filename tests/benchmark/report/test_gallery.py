from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image
from sample_records import TOP1, metric, record, write_images

from benchmark.records.record import FailedUnit, Record
from benchmark.report.gallery import build_page
from featvis.errors import UserError


class Page(HTMLParser):
    """Every element's attributes, every text, and which tags are left open."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())

    def links(self) -> list[str]:
        names = ("src", "href", "data-opaque", "data-alpha")
        return [str(a[n]) for _, a in self.elements for n in names if a.get(n) and not str(a[n]).startswith("#")]


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, list[Record]]:
    out = tmp_path / "run"
    units = ("301", "323", "blocks.2:5")
    records = [
        record("real", metric("fid", 160.0, 5.0), metric(TOP1, 1.0, 0.0), units=units),
        record("maco", metric("fid", None), metric(TOP1, 0.75, 0.1), units=units),
        record(
            "cbr",
            metric("fid", 250.0, 5.0),
            metric(TOP1, 0.5, 0.1),
            units=units,
            failed_units=(FailedUnit("323", 7, "not <finite>"),),
        ),
        record("am", units=units, status="failed", error="out of memory"),
    ]
    write_images(records[1], out, {"unit": "301", "logit": 8.125, "score": 7.5, "seed": 0})
    write_images(records[2], out)
    (out / "flexivit/cbr/0123456789ab/323.png").unlink()
    (out / "figures").mkdir()
    Image.new("RGB", (8, 8)).save(out / "figures" / "score_grid.png")
    return out, records


def test_every_unit_and_method_is_there_with_its_numbers(run: tuple[Path, list[Record]]) -> None:
    out, records = run
    assert build_page(records, out) == out / "index.html"
    page = Page(out / "index.html")
    assert page.open == []
    alts = [a["alt"] for tag, a in page.elements if tag == "img" and "data-alpha" in a]
    expected = [
        (m, u) for u in ("301, ladybug", "323, monarch", "blocks.2:5, unit blocks.2:5") for m in ("maco", "cbr")
    ]
    expected.remove(("cbr", "323, monarch"))
    assert alts == [f"{method} visualization of unit {unit}" for method, unit in expected]
    assert page.texts.count("logit 8.12 · score 7.50") == 3
    assert "failed at step 7: not <finite>" in page.texts
    for text in (
        "failed: out of memory",
        "no weights",
        "75 %",
        "[65, 85]",
        "fid\u00a0↓",
        "230.68",
        "Against the paper",
    ):
        assert text in page.texts, text
    assert any("commit a1b2c3d" in text for text in page.texts)


def test_nothing_is_fetched_from_elsewhere_and_the_folder_can_be_moved(
    run: tuple[Path, list[Record]], tmp_path: Path
) -> None:
    out, records = run
    build_page(records, out)
    text = (out / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text)
    assert str(tmp_path) not in text
    moved = shutil.move(out, tmp_path / "elsewhere")
    links = [link for link in Page(Path(moved) / "index.html").links() if link != "data:,"]
    assert len(links) == 5 * 3 + 2
    for link in links:
        assert (Path(moved) / unquote(link)).is_file(), link


def test_opaque_copies_show_the_canvas_under_transparency(run: tuple[Path, list[Record]]) -> None:
    out, records = run
    build_page(records, out)
    copy = out / "page" / "flexivit" / "maco" / "0123456789ab" / "301.jpg"
    with Image.open(copy) as image:
        assert image.mode == "RGB"
        assert image.size == (32, 24)
        assert np.abs(np.asarray(image).astype(int) - [200, 40, 90]).max() <= 3
    before = copy.stat().st_mtime_ns
    build_page(records, out)
    assert copy.stat().st_mtime_ns == before


def test_pictures_load_lazily_and_controls_have_names(run: tuple[Path, list[Record]]) -> None:
    out, records = run
    build_page(records, out)
    page = Page(out / "index.html")
    images = [a for tag, a in page.elements if tag == "img" and a.get("src")]
    assert images
    assert all(a["loading"] == "lazy" and a["alt"] for a in images)
    assert all(a.get("width") and a.get("height") for a in images if "data-alpha" in a)
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {"filter", "alpha", "grounds", "viewer"} <= set(ids)


@pytest.mark.parametrize("facts", [{"logit": None, "score": "high"}, {}])
def test_facts_that_are_missing_or_odd_do_no_harm(tmp_path: Path, facts: dict[str, object]) -> None:
    maco = record("maco", metric("fid", 1.0))
    write_images(maco, tmp_path, facts)
    page = Page(build_page([maco], tmp_path))
    assert not [text for text in page.texts if text.startswith(("logit", "score"))]


def test_names_from_records_cannot_become_markup(tmp_path: Path) -> None:
    odd = record("maco", metric("fid", 1.0, label="<script>x</script>"), labels=('"><img src=x>', "b"))
    write_images(odd, tmp_path)
    text = build_page([odd], tmp_path).read_text(encoding="utf-8")
    assert "<script>x" not in text
    assert "<img src=x>" not in text


def test_a_page_without_pictures_and_one_without_records(tmp_path: Path) -> None:
    page = Page(build_page([record("real", metric("fid", 1.0))], tmp_path))
    assert "script" not in {tag for tag, _ in page.elements}
    with pytest.raises(UserError, match="no record"):
        build_page([], tmp_path)
