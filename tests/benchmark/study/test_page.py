"""People who are none take the whole study in a real browser; what arrives is what was clicked."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from browser import chromium
from small_study import choices, small_study

from benchmark.report.gallery import as_script
from benchmark.study.answers import check
from benchmark.study.trials import Trials, mirrored, order, scramble

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True, "color_scheme": "dark"}
DESK = {"viewport": {"width": 1600, "height": 900}}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> tuple[Trials, Path]:
    folder = tmp_path_factory.mktemp("page")
    return small_study(folder, units=3)[1], folder / "page"


class Visit:
    """Somebody at the page.

    Args:
        browser: Playwright's.
        study: the trials and the page's folder.
        who: the participant.
        options: of the browser's context.
    """

    def __init__(self, browser: Any, study: tuple[Trials, Path], who: str, condition: str, **options: Any) -> None:
        self.trials, self.folder = study
        self.who = who
        self.touch = bool(options.get("has_touch"))
        self.context = browser.new_context(accept_downloads=True, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(120_000)
        self.wrong: list[str] = []
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda m: self.wrong.append(m.text) if m.type == "error" else None)
        self.asked: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.address = f"{self.folder.as_uri()}/index.html?PROLIFIC_PID={who}&condition={condition}"
        self.clicked: list[tuple[str, int]] = []

    def press(self, name: str) -> None:
        button = self.page.get_by_role("button", name=name)
        button.tap() if self.touch else button.click()

    def choose(self, side: str, sure: int) -> None:
        """Answer what is on the screen, by finger or by keyboard."""
        query = self.page.locator(f"button.query[data-side={side}]")
        query.wait_for()
        # The clock starts with the frame after the pictures have been drawn.
        self.page.evaluate("() => new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))")
        if self.touch:
            query.tap()
            self.page.locator(f"[data-sure='{sure}']").tap()
        else:
            self.page.keyboard.press("ArrowLeft" if side == "left" else "ArrowRight")
            self.page.keyboard.press(str(sure))

    def fits(self) -> None:
        """Nothing is wider than the screen."""
        assert self.page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    def begin(self) -> None:
        self.page.goto(self.address)
        self.fits()
        self.press("I agree and want to take part")
        self.page.get_by_role("heading", name="How it works").wait_for()
        self.fits()
        assert self.page.locator("p.keys").is_visible() != self.touch, "a phone has no arrow keys"
        self.press("Start with practice")

    def practise(self, wrong_rounds: int = 0) -> None:
        """Go through the practice, the first trial of each of some rounds wrong."""
        lessons = [t for t in self.trials.trials if t.kind == "practice"]
        for round_ in range(wrong_rounds + 1):
            for i, t in enumerate(lessons):
                right = self.trials.right(t, self.who)
                miss = round_ < wrong_rounds and i == 0
                self.choose({"left": "right", "right": "left"}[right] if miss else right, 3)
                self.page.get_by_text("Not this one" if miss else "Right.", exact=False).first.wait_for()
                self.fits()
                self.press("Continue")
            if round_ < wrong_rounds and round_ < 4:
                self.press("Practise again")

    def answer(self, first: int, last: int) -> None:
        """Answer trials by a rule of the test's own; pictures must stand on the side that the trials say."""
        all_, known = len(self.trials.shown()), {t.id: t for t in self.trials.shown()}
        for i in range(first, last):
            self.page.get_by_text(f"{i + 1} of {all_}", exact=True).wait_for()
            self.fits()
            # The order and the mirrored sides are the same arithmetic in two languages.
            t = known[order(self.trials.seed, self.who, list(known))[i]]
            most = self.page.locator(f".query:has(img[src$='{t.pictures['most']}'])")
            assert most.get_attribute("data-side") == self.trials.right(t, self.who)
            side, sure = ("left", "right")[scramble(f"{self.who}{i}") % 2], 1 + i % 3
            self.choose(side, sure)
            self.clicked.append((side, sure))

    def download(self, folder: Path) -> dict[str, Any]:
        self.page.get_by_text("C0DE").wait_for()
        with self.page.expect_download() as found:
            self.press("Download my answers")
        path = folder / f"{self.who}.json"
        found.value.save_as(path)
        return json.loads(path.read_text())

    def end(self) -> None:
        assert self.wrong == []
        # Nobody but the page's own folder is asked for anything.
        assert {url.partition(":")[0] for url in self.asked} <= {"file", "data", "blob"}
        self.context.close()


def test_three_people_take_the_study_and_their_answers_are_what_they_clicked(browser, study, tmp_path):
    """One by keyboard on a desk, one by touch on a phone, one who reloads in the middle."""
    trials, _ = study
    count = len(trials.shown())

    keys = Visit(browser, study, "Zoë 3", "maco", **DESK)
    keys.begin()
    keys.practise(wrong_rounds=1)
    keys.press("Start")
    keys.answer(0, count)
    keys_found = check(keys.download(tmp_path), trials)
    keys.end()

    touch = Visit(browser, study, "thumb", "olah", **PHONE)
    touch.begin()
    touch.practise()
    touch.press("Start")
    touch.answer(0, count)
    touch_found = check(touch.download(tmp_path), trials)
    touch.end()

    again = Visit(browser, study, "again", "none", **DESK)
    again.begin()
    again.practise()
    again.press("Start")
    again.answer(0, 3)
    again.page.get_by_text(f"4 of {count}", exact=True).wait_for()
    again.page.reload()
    again.answer(3, count)
    again_found = check(again.download(tmp_path), trials)
    # Reloaded at the end, the answers are still there.
    again.page.reload()
    assert check(again.download(tmp_path), trials).answers == again_found.answers
    again.end()

    assert {mirrored(trials.seed, visit.who) for visit in (keys, touch, again)} == {True, False}
    for visit, found, condition, rounds in (
        (keys, keys_found, "maco", 2), (touch, touch_found, "olah", 1), (again, again_found, "none", 1)
    ):  # fmt: skip
        assert choices(found) == visit.clicked
        assert (found.participant, found.condition, found.practice_rounds) == (visit.who, condition, rounds)
        assert [a.trial for a in found.answers] == trials.order(visit.who)
        assert all(a.ms > 0 for a in found.answers)
        assert found.total_ms > found.instructions_ms > 0


def test_after_five_rounds_the_study_ends(browser, study, tmp_path):
    lost = Visit(browser, study, "never", "maco", **DESK)
    lost.begin()
    lessons = [t for t in lost.trials.trials if t.kind == "practice"]
    for round_ in range(5):
        for t in lessons:
            lost.choose({"left": "right", "right": "left"}[lost.trials.right(t, "never")], 1)
            lost.press("Continue")
        if round_ < 4:
            lost.press("Practise again")
    found = check(lost.download(tmp_path), lost.trials)
    assert (found.practice_rounds, found.answers) == (6, ())
    lost.end()


def test_one_can_do_with_the_tab_key_and_a_screen_reader(browser, study):
    visit = Visit(browser, study, "tabs", "constructor", **DESK)
    visit.begin()
    page = visit.page
    state = json.loads(page.evaluate("Object.entries(localStorage).find(([key]) => key.endsWith('/tabs'))[1]"))
    assert state["condition"] in visit.trials.conditions, "a condition is one of the study's, whatever the address says"
    page.get_by_role("radiogroup", name="To which of the two does the unit respond more?").wait_for()
    assert all(page.locator("main img").evaluate_all("(all) => all.map((i) => i.alt.length > 0)"))
    radio = page.get_by_role("radio", name="left picture")
    radio.focus()
    page.keyboard.press("Space")
    assert radio.get_attribute("aria-checked") == "true"
    assert "left picture chosen" in page.locator("#said").inner_text()
    sure = page.get_by_role("button", name="sure", exact=False).last
    assert sure.is_enabled()
    visit.end()


class Site(SimpleHTTPRequestHandler):
    """The page's folder, and a study's server beside it, busy the first two times that it is asked for a thing.

    Attributes:
        taken: the bodies of the answers that it took.
        asked: how often it was asked, by path.
    """

    taken: list[Any]
    asked: Counter[str]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked[self.path] += 1
        busy = self.asked[self.path] <= 2
        if not busy and self.path == "/answers":
            self.taken.append(body)
        self.send_response(503 if busy else 200)
        self.end_headers()
        self.wfile.write(b'{"error": "busy"}' if busy else b'{"condition": "maco"}')

    def log_message(self, *args: Any) -> None:
        pass


def test_what_a_busy_server_and_a_lost_connection_do_not_take_is_kept_and_asked_again(browser, study, tmp_path):
    trials, folder = study
    handler = type("Handler", (Site,), {"taken": [], "asked": Counter()})
    server: HTTPServer = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    before = (folder / "server.js").read_bytes()
    (folder / "server.js").write_bytes(as_script("STUDY_SERVER", {"start": "start", "answers": "answers"}))
    try:
        visit = Visit(browser, study, "sent", "maco", **DESK)
        visit.address = f"http://127.0.0.1:{server.server_address[1]}/index.html?participant=sent"
        page = visit.page
        lesson = next(t for t in trials.trials if t.kind == "practice")
        page.route(f"**/{lesson.pictures['most']}", lambda route: route.abort())
        page.goto(visit.address)
        for _ in range(2):
            visit.press("I agree and want to take part")
            page.get_by_text("The server cannot take you in now").wait_for()
        assert page.locator(".note:visible").count() == 1, "one problem is told once"
        visit.press("I agree and want to take part")
        visit.press("Start with practice")
        page.get_by_text("A picture did not arrive").wait_for()
        page.unroute(f"**/{lesson.pictures['most']}")
        visit.press("Try again")
        page.locator("button.query").first.wait_for()
        assert page.evaluate("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
        visit.practise()
        visit.press("Start")
        visit.answer(0, len(trials.shown()))
        # Not taken yet: they can be downloaded meanwhile.
        kept = visit.download(tmp_path)
        visit.page.get_by_text("Your answers have arrived").wait_for()
        assert handler.asked == {"/start": 3, "/answers": 3}
        assert handler.taken == [kept]
        assert choices(check(kept, trials)) == visit.clicked
        visit.context.close()
    finally:
        (folder / "server.js").write_bytes(before)
        server.shutdown()
        server.server_close()
