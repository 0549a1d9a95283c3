"""A site rendered from its data: every link leads somewhere, labels stay text, nothing is written twice."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from commands import check_sentence, tree
from PIL import Image
from sample_records import metric, record, write_images

from benchmark.cli import main
from benchmark.commands.site import make
from benchmark.site import model, synthetic
from benchmark.site.pictures import Shelf
from benchmark.site.rendering.render import render, shared_classes

NAMES = ["<script>alert(1)</script>", "\"quoted\" & 'single'", "crème brûlée 🍮", "</title><b>tench", "tiger"]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    synthetic.make(folder, ["near", "far"], NAMES, concepts=2, units=5)
    render(folder, None)
    return folder


class Page(HTMLParser):
    """What a browser makes of a page: its links, ids, scripts and text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.inline: list[str] = []
        self.texts: list[str] = []
        self.handlers: list[str] = []
        self.inside = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.inside = tag
        self.links += [given[k] for k in ("href", "src") if given.get(k)]
        self.links += [part.split()[0] for part in (given.get("srcset") or "").split(",") if part]
        self.ids += [given["id"]] if given.get("id") else []
        self.handlers += [k for k in given if k.startswith("on")]

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        (self.inline if self.inside == "script" else self.texts).append(data.strip())


def test_every_link_of_every_page_leads_to_a_file_and_a_place_in_it(site):
    pages = {path: Page(path) for path in site.rglob("*.html")}
    assert len(pages) == 2 + 2 * (1 + len(NAMES) + 5 + 1 + 1)  # home, compare; each: list, classes, units, layer, atlas
    for path, page in pages.items():
        assert page.links
        for link in page.links:
            if link.startswith("data:"):
                continue
            place, _, part = link.partition("#")
            target = (path.parent / unquote(place)).resolve() if place else path
            assert site.resolve() in target.parents, f"{path}: {link} leaves the site"
            assert target.is_file(), f"{path}: {link}"
            if part and target.suffix == ".html":
                assert part in Page(target).ids, f"{path}: {link}"


def test_classes_of_one_name_are_told_apart_by_their_number():
    def network(*names: str, first: int = 0) -> model.Network:
        entries = tuple(model.Entry(f"{i}-{name}", name, 0, None) for i, name in enumerate(names, first))
        return dataclasses.replace(synthetic_network, classes=entries)

    synthetic_network = model.Network(**{f.name: () for f in dataclasses.fields(model.Network)})

    def shared(one: model.Network, two: model.Network) -> list[tuple[str, str]]:
        return [(a.key, b.key) for a, b in shared_classes(one, two)]

    birds = network("crane", "tench", "crane")
    assert shared(birds, birds) == [(k, k) for k in ("0-crane", "1-tench", "2-crane")]
    assert shared(birds, network("tench", "crane", first=5)) == [("1-tench", "5-tench")]


def test_labels_are_text_wherever_they_stand(site):
    for path in site.rglob("*.html"):
        page = Page(path)
        assert page.inline == [], path
        assert page.handlers == [], path
    for number, name in enumerate(NAMES):
        assert name in Page(site / "near" / "class" / f"{number}.html").texts
        assert name in Page(site / "near" / "index.html").texts
    for path in (site / "index").glob("*.js"):
        assert "</script" not in path.read_text()
    rows = json.loads((site / "index" / "part-0.js").read_text().partition("=")[2].rstrip().rstrip(";"))
    assert [row[1] for row in rows if row[0] == "class"] == NAMES


def test_rendering_again_writes_nothing_and_removes_what_is_gone(site, tmp_path):
    stamps = {p: p.stat().st_mtime_ns for p in site.rglob("*") if p.is_file()}
    stale = site / "near" / "class" / "999-gone.html"
    stale.write_text("gone")
    assert main(["site", "--render-only", "--out", str(site)]) == 0
    assert {p: p.stat().st_mtime_ns for p in site.rglob("*") if p.is_file()} == stamps


def test_what_a_remade_site_no_longer_shows_does_not_stay_in_its_folder(tmp_path):
    """With fewer classes, concepts and units and no leaderboard, there is what a new folder has, and others' files."""
    out, new, runs = tmp_path / "out", tmp_path / "new", tmp_path / "run"
    one = record("maco", metric("logit", 3.0))
    write_images(one, runs, {"unit": "301"})
    one.write(one.record_path(runs))
    synthetic.make(out, ["near", "far"], NAMES, concepts=2, units=5)
    args = ["--records", str(runs / "records"), "--runs", str(runs)]
    assert main(["site", "--render-only", *args, "--out", str(out)]) == 0
    leaderboard = tree(out / "leaderboard")
    private = Shelf(out).put(["private"], lambda: Image.new("RGBA", (9, 9), "red"), "", {}, "", True)
    own = ["notes.html", "near/notes.html", "pictures/me.webp", "data/near/units/mine.json", "data/near/notes.json"]
    for name in own:
        (out / name).write_text('{"key": "another"}')
    for folder in (out, new):
        synthetic.make(folder, ["near", "far"], NAMES[:1], concepts=1, units=2)
        assert main(["site", "--render-only", "--out", str(folder)]) == 0
    assert set(leaderboard) == {"quick-flexivit-maco.html"}
    files = {name: data for name, data in tree(out).items() if data is not None}
    assert set(files) == {name for name, data in tree(new).items() if data is not None} | set(own)
    # Every picture is one that some page or its data names, in each of the sizes that it has.
    text = b"".join(data for name, data in files.items() if name.endswith((".html", ".js", ".json"))).decode()
    shown = {Path(name).name for name in files if name.startswith("pictures/") and name not in own}
    assert {name[:12] for name in shown} <= set(re.findall("[0-9a-f]{12}", text))
    assert len(shown) % 4 == 0 < len(shown)
    assert private.file not in text


def test_pages_name_files_and_not_where_they_lie_on_this_machine(tmp_path, monkeypatch):
    home = tmp_path / "home" / "me"
    home.mkdir(parents=True)
    (home / "net.yaml").write_text("{class_path: x.Net, mean: [0, 0, 0], std: [1, 1, 1], input_size: [8, 8]}")
    line = f"featvis run --suite {home}/mine.yaml --model wrap:{home}/net.yaml --steps 2"
    config = {"generator": {"init_args": {"model": f"wrap:{home}/net.yaml", "size": [8, 8]}}}
    one = record("maco", metric("logit", 3.0), command=line, config=config, given=f"wrap:{home}/net.yaml")
    write_images(one, tmp_path, {"unit": "301"})
    one.write(one.record_path(tmp_path))

    def made(models, flags, about, out):
        model.write(out, about)
        return []

    monkeypatch.setattr(make, "_make", made)
    flags = ["--layers", "x", "--records", str(tmp_path / "records"), "--runs", str(tmp_path)]
    assert main(["site", f"wrap:{home}/net.yaml", *flags, "--out", str(tmp_path / "site")]) == 0
    texts = {p: p.read_text() for p in (tmp_path / "site").rglob("*") if p.suffix not in (".webp", "")}
    assert len(texts) > 5
    assert [str(p) for p, text in texts.items() if str(tmp_path) in text] == []
    assert model.read(tmp_path / "site" / "site.json", model.Site).command.startswith("featvis site wrap:net.yaml ")
    row = texts[tmp_path / "site" / "leaderboard" / "quick-flexivit-maco.html"]
    assert row.count("featvis run --suite mine.yaml --model wrap:net.yaml --steps 2") == 3  # the row's, two pictures'
    assert json.dumps("wrap:net.yaml") in row


def test_a_class_page_is_small_and_its_pictures_keep_their_place(site):
    maker = synthetic.Maker(site)
    large = maker.class_page("near", 7, "a class with everything", 10)
    out = site.parent / "large"
    synthetic.make(out, ["near"], ["x"], concepts=10, units=1)
    model.write(out, large)
    model.write(out, model.Network("near", "near", "", (model.Entry(large.key, large.name, 10, None),), ()))
    render(out, None)
    page = out / "near" / "class" / f"{large.key}.html"
    assert page.stat().st_size < 150_000
    text = page.read_text()
    assert text.count("<img ") == text.count(" width=")  # nothing moves as pictures arrive


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--render-only", "--out", "nothing"], ["--out nothing holds no site"]),
        (["efficientnet_lite0", "--out", "x"], ["--classes and --layers are missing"]),
        (["--out", "x"], ["MODEL is missing"]),
        (
            ["efficientnet_lte0", "--classes", "1"],
            ["unknown MODEL efficientnet_lte0", "did you mean efficientnet_lite0"],
        ),
        (["efficientnet_lite0", "--classes", "1", "--methods", "maca"], ["maca", "did you mean maco"]),
        (["efficientnet_lite0", "--classes", "1", "--seeds", "0"], ["--seeds must be at least 1, not 0"]),
        (["efficientnet_lite0", "--classes", "1", "--data", "nowhere"], ["--data nowhere is not a folder"]),
        (["--records", "nowhere"], ["--records nowhere is not a folder"]),
        (["efficientnet_lite0", "--classes", "1", "--address", "lab.org"], ["--address lab.org", "https://"]),
        (["--records", "records", "--out", "other"], ["--out other holds files that are no site"]),
        (["--render-only", "--out", "later"], ["later version", "schema 2"]),
        (["--render-only", "--out", "broken"], ["site.json is not a JSON file"]),
    ],
)
def test_bad_input_is_refused_in_a_sentence(tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.chdir(tmp_path)
    for name, text in (("other/notes.txt", "mine"), ("later/site.json", '{"schema": 2}'), ("broken/site.json", "{")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    (tmp_path / "records").mkdir()
    before = tree(tmp_path)
    check_sentence(main(["site", *flags]), capsys.readouterr().err, words)
    assert tree(tmp_path) == before


def test_a_site_of_other_networks_is_not_overwritten(site):
    with pytest.raises(ValueError, match="another site, of near, far"):
        model.check_folder(site, ["near"])
    model.check_folder(site, ["near", "far"])


def test_an_empty_folder_of_records_makes_a_leaderboard_that_says_so(tmp_path, capsys):
    (tmp_path / "records").mkdir()
    assert main(["site", "--records", str(tmp_path / "records"), "--out", str(tmp_path / "out")]) == 0
    assert any("There is no record yet" in t for t in Page(tmp_path / "out" / "leaderboard.html").texts)


def test_data_goes_to_a_file_and_back(tmp_path):
    page = synthetic.Maker(tmp_path).class_page("near", 3, NAMES[0], 2)
    assert model.read(model.write(tmp_path, page), model.ClassPage) == page
    unit = synthetic.Maker(tmp_path).unit_page("near", 3, "far")
    assert model.read(model.write(tmp_path, unit), model.UnitPage) == unit


def test_a_missing_part_of_the_data_is_named(site, tmp_path, capsys):
    model.write(tmp_path, model.Site("Lens", ("gone",), "", "", "", ()))
    words = ["data/gone/network.json is not there", "without --render-only"]
    check_sentence(main(["site", "--render-only", "--out", str(tmp_path)]), capsys.readouterr().err, words)
