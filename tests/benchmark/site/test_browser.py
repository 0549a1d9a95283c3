"""Somebody walks through a site in a real browser, from files: what is clicked, typed and dragged does what it says."""

from __future__ import annotations

import csv
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium
from places import ROOT

from benchmark.site import synthetic
from benchmark.site.rendering.render import render

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True, "color_scheme": "dark"}
DESK = {"viewport": {"width": 1600, "height": 900}, "accept_downloads": True}
NAMES = ["tench", "<img src=x onerror=alert(1)>", "parachute 🪂"]
AXE = "axe-core@4.10.3"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("walk")
    for board in ("quick/efficientnet_lite0", "recipes/deit_tiny_patch16_224"):
        shutil.copytree(ROOT / "results" / "records" / board, folder / "records" / board)
    synthetic.make(folder / "site", ["near", "far"], NAMES, concepts=3, units=6)
    render(folder / "site", folder / "records")
    return folder / "site"


class Visit:
    """Somebody at a site; what the console says and what is asked of others is kept."""

    def __init__(self, browser: Any, site: Path, **options: Any) -> None:
        self.site = site
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(120_000)
        self.wrong: list[str] = []
        self.page.on("console", lambda m: self.wrong.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.wrong.append(dialog.message), dialog.dismiss()))
        self.context.on("request", self._asked)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.site.as_uri(), "data:", "blob:")):
            self.wrong.append(f"asks for {request.url}")

    def go(self, path: str) -> Any:
        self.page.goto(f"{self.site.as_uri()}/{path}")
        return self.page

    @property
    def at(self) -> str:
        return self.page.url.removeprefix(f"{self.site.as_uri()}/")

    def end(self) -> None:
        self.context.close()
        assert self.wrong == []


def test_from_search_to_class_concept_and_picture(browser, site):
    visit = Visit(browser, site, **DESK)
    page = visit.go("index.html")
    page.keyboard.press("/")
    page.keyboard.type("tench concept 2")
    page.get_by_role("option").first.wait_for()
    assert page.locator("#search").get_attribute("aria-expanded") == "true"
    page.keyboard.press("ArrowDown")
    chosen = page.locator("#hits [aria-selected=true]")
    assert chosen.inner_text().startswith("tench, concept 2")
    page.keyboard.press("Enter")
    page.wait_for_url("**/class/0.html#concept-2")
    # A picture opens with its facts and the line that makes it, and Escape closes it.
    page.locator("#concept-2 a.pic").first.click()
    page.get_by_role("dialog").wait_for()
    assert "synthetic" in page.locator("dialog dl").inner_text()
    assert "featvis site" in page.locator("dialog pre").inner_text()
    page.keyboard.press("Escape")
    page.locator("dialog:not([open])").wait_for(state="attached")
    # Transparency on and off.
    shown = page.locator(".seeds img").first
    before = shown.evaluate("(img) => img.currentSrc")
    page.get_by_role("button", name="Transparency").click()
    page.wait_for_function("() => document.querySelector('.seeds img').currentSrc.includes('-t')")
    assert page.get_by_role("button", name="Transparency").get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="Transparency").click()
    page.wait_for_function("(was) => document.querySelector('.seeds img').currentSrc === was", arg=before)
    # A dot of the chart shows its image.
    page.locator(".chart a").first.focus()
    assert page.locator(".hover").is_visible()
    visit.end()


def test_search_finds_labels_units_and_nothing(browser, site):
    visit = Visit(browser, site, **DESK)
    page = visit.go("near/index.html")
    for query, first in (("onerror", NAMES[1]), ("blocks.4:5", "blocks.4:5"), ("PARACHUTE", "parachute")):
        page.locator("#search").fill(query)
        page.locator("#hits li", has_text=first).first.wait_for()
    page.locator("#search").fill("no such thing")
    page.locator("#hits").wait_for(state="hidden")
    assert "nothing found" in page.locator(".said").inner_text()
    page.locator("#search").fill("blocks.4:5")
    page.locator("#hits li").first.wait_for()
    page.keyboard.press("Enter")
    page.wait_for_url("**/unit/blocks.4-5.html")
    assert page.get_by_role("heading", level=1).inner_text() == "Unit 5"
    # From the unit to its layer, and to another of its units.
    page.get_by_role("link", name="blocks.4", exact=True).click()
    page.wait_for_url("**/layer/blocks.4.html")
    assert page.locator(".sheet li").count() == 6
    page.locator(".sheet a").nth(2).click()
    page.wait_for_url("**/unit/blocks.4-2.html")
    visit.end()


def test_a_random_page_is_a_class(browser, site):
    visit = Visit(browser, site, **DESK)
    page = visit.go("index.html")
    page.get_by_role("button", name="Random", exact=True).click()
    page.wait_for_url("**/class/*.html")
    page.locator("#concept-1").wait_for()
    visit.end()


def test_the_atlas_by_mouse_and_keyboard(browser, site):
    visit = Visit(browser, site, **DESK)
    page = visit.go("near/atlas.html")
    box = page.locator("[data-atlas]")
    page.wait_for_function("() => document.querySelector('[data-atlas]').dataset.scale === '1.00'")
    assert box.get_attribute("data-pictures") == "0"
    place = page.locator("canvas").bounding_box()
    page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    page.mouse.wheel(0, -400)
    page.wait_for_function("() => Number(document.querySelector('[data-atlas]').dataset.pictures) > 0")
    page.locator("canvas").focus()
    page.keyboard.press("0")
    page.wait_for_function("() => document.querySelector('[data-atlas]').dataset.scale === '1.00'")
    for key in ("+", "ArrowLeft", "ArrowUp", "-", "n"):
        page.keyboard.press(key)
    said = page.locator(".said").inner_text()
    assert "concept" in said
    assert page.locator(".atlas .label").inner_text() == said
    page.keyboard.press("Enter")
    page.wait_for_url("**/class/*.html#concept-*")
    visit.end()


def test_the_atlas_by_touch(browser, site):
    visit = Visit(browser, site, **PHONE)
    page = visit.go("near/atlas.html")
    page.wait_for_function("() => document.querySelector('[data-atlas]').dataset.scale === '1.00'")
    place = page.locator("canvas").bounding_box()
    x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    session = visit.context.new_cdp_session(page)
    for kind, apart in (("touchStart", 20), ("touchMove", 60), ("touchMove", 120)):
        fingers = [{"x": x - apart / 2, "y": y, "id": 0}, {"x": x + apart / 2, "y": y, "id": 1}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_function("() => Number(document.querySelector('[data-atlas]').dataset.scale) > 2")
    visit.end()


def test_the_leaderboard_sorts_filters_and_can_be_sent(browser, site, tmp_path):
    visit = Visit(browser, site, **DESK)
    page = visit.go("leaderboard.html")
    assert page.locator(".board:visible").count() == 2
    page.locator("select[name=suite]").select_option("quick")
    assert page.locator(".board:visible").count() == 1
    board = page.locator(".board:visible")
    head = board.locator("th[data-metric=logit]")
    for order, sign in (("descending", -1), ("ascending", 1)):
        head.get_by_role("button").focus()
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == order
        column = [h.get_attribute("data-metric") for h in board.locator("thead th").all()].index("logit")
        cells = [row.locator("> *").nth(column) for row in board.locator("tbody tr").all()]
        values = [float(v) for cell in cells if (v := cell.get_attribute("data-value"))]
        assert values == sorted(values, key=lambda v: sign * v)
        assert len(values) >= 3
    # Somebody else opens the link and sees the same.
    other = Visit(browser, site, **DESK)
    again = other.go(visit.at)
    assert again.locator(".board:visible").count() == 1
    assert again.locator(".board:visible th[data-metric=logit]").get_attribute("aria-sort") == "ascending"
    with page.expect_download() as caught:
        page.get_by_role("button", name="Download as CSV").click()
    caught.value.save_as(tmp_path / "board.csv")
    with (tmp_path / "board.csv").open() as file:
        rows = list(csv.DictReader(file))
    logits = [float(r["value"]) for r in rows if r["metric"] == "logit" and r["value"]]
    assert {r["suite"] for r in rows} == {"quick"}
    assert logits == values
    page.locator("select[name=sees]").select_option("natural spectrum")
    assert {r.get_attribute("data-method") for r in board.locator("tbody tr:visible").all()} == {"maco"}
    board.get_by_role("link", name="maco").click()
    page.wait_for_url("**/leaderboard/quick-*-maco.html")
    assert "featvis run" in page.locator("pre").first.inner_text()
    other.end()
    visit.end()


PAGES = (
    "index.html", "near/index.html", "near/class/1.html", "near/unit/blocks.4-3.html", "near/layer/blocks.4.html",
    "near/atlas.html", "compare/near--far-1.html", "leaderboard.html",
)  # fmt: skip


@pytest.mark.parametrize("options", [PHONE, DESK], ids=["phone, dark", "desk"])
def test_no_page_is_wider_than_the_screen(browser, site, options):
    visit = Visit(browser, site, **options)
    for path in PAGES:
        page = visit.go(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= options["viewport"]["width"], path
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, ground[4:-1].split(","))) < 300) == (options is PHONE)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    visit.end()


@pytest.fixture(scope="module")
def axe(tmp_path_factory) -> str:
    """axe-core's script, from npm, whose cache serves it the next time."""
    if (npm := shutil.which("npm")) is None:
        pytest.skip("needs npm, which fetches axe-core")
    folder = tmp_path_factory.mktemp("axe")
    call = [npm, "pack", AXE, "--silent", "--prefer-offline", "--fetch-timeout=20000", "--fetch-retries=0"]
    done = subprocess.run(call, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs {AXE}, which npm could not fetch")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        found = archive.extractfile("package/axe.min.js")
        assert found is not None
        return found.read().decode()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(browser, site, axe, scheme):
    visit = Visit(browser, site, color_scheme=scheme)
    for path in PAGES:
        page = visit.go(path)
        page.evaluate(axe)
        found = page.evaluate("async () => (await axe.run({preload: false})).violations")
        serious = [
            (f["id"], [n["html"][:120] for n in f["nodes"][:3]])
            for f in found
            if f["impact"] in ("serious", "critical")
        ]
        assert serious == [], path
    visit.end()
