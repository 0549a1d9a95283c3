"""Submissions: an honest one gets its row, whatever the order; one with anything changed is refused by name."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from commands import check_sentence, command, tree
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tiny import put

from benchmark.cli import main
from benchmark.records.record import Record, load_all
from benchmark.report import tables
from benchmark.site.board import reports
from benchmark.site.packs import pack

pytestmark = pytest.mark.usefixtures("plain_engine")


NET = "test_resnet"
RECORD = f"records/{NET}/maco.json"


@pytest.fixture(scope="module", autouse=True)
def weights(tmp_path_factory) -> Iterator[str]:
    """Random ones of a small network: what is merged is what follows from pictures, whatever those show."""
    folder = put(tmp_path_factory.mktemp("network") / "weights", NET)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATVIS_WEIGHTS", str(folder))
        yield str(folder)


@pytest.fixture(scope="module")
def runs(weights, tmp_path_factory) -> Path:
    """Two submissions, each of one method of a small run."""
    folder = tmp_path_factory.mktemp("submissions")
    (folder / "small.yaml").write_text(
        f"model: {NET}\nunits: 301,323\nclassifiers: []\nmetrics: [logit]\nmethods:\n"
        "  maco: {steps: 2, views: 1, canvas: 48}\n  fourier: {steps: 2, canvas: 48}\n"
    )
    done = command("run", "--suite", "small.yaml", "--wandb", "disabled", "--out", "both", cwd=folder)
    assert done.returncode == 0, done.stderr
    for method, other in (("maco", "fourier"), ("fourier", "maco")):
        run = Path(shutil.copytree(folder / "both", folder / method))
        (run / "records" / NET / f"{other}.json").unlink()
        assert main(["submit", str(run), "--sender", f"Lab of {method}", "--out", str(folder / f"{method}.zip")]) == 0
    return folder


def merged(folder: Path, *packs: Path) -> int:
    args = ["--records", str(folder / "results" / "records"), "--pictures", str(folder / "pictures")]
    return main(["merge", *map(str, packs), *args])


def test_an_honest_submission_gets_its_row_in_any_order(runs, tmp_path, capsys):
    first, second = runs / "maco.zip", runs / "fourier.zip"
    for name, packs in (("a", [first, second]), ("b", [second, first])):
        for path in packs:
            assert merged(tmp_path / name, path) == 0
    trees = [tree(tmp_path / name) for name in "ab"]
    assert trees[0] == trees[1]
    assert len([p for p in trees[0] if p.endswith(".png")]) == 4
    for name in "ab":
        tables.build(load_all(tmp_path / name / "results" / "records"), tmp_path / name / "tables")
    assert tree(tmp_path / "a" / "tables") == tree(tmp_path / "b" / "tables") != {}

    folder = tmp_path / "a" / "results"
    row = folder / "records" / "small" / NET / "maco.json"
    assert row.read_bytes() == (runs / "maco" / "records" / NET / "maco.json").read_bytes()
    report = reports.load_all(folder / "submissions")["small", NET, "maco"]
    logit = Record.read(row).metric("logit")
    assert logit is not None
    assert report.sender == "Lab of maco"
    assert report.reported["logit"] == logit.value == pytest.approx(report.verified["logit"], rel=1e-3)
    assert main(["site", "--records", str(folder / "records"), "--out", str(tmp_path / "site")]) == 0
    page = (tmp_path / "site" / "leaderboard.html").read_text()
    assert "reported, verified by us" in page
    assert "submitted by Lab of maco" in page


def changed(source: Path, target: Path, change: Callable[[dict[str, bytes]], None], listed: bool = True) -> Path:
    """A pack with something changed by hand, its list of hashes made to fit where `listed`."""
    with zipfile.ZipFile(source) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(contents.pop(pack.MANIFEST))
    change(contents)
    if listed:
        manifest["files"] = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in {pack.MANIFEST: json.dumps(manifest).encode(), **contents}.items():
            archive.writestr(name, data)
    return target


def better(contents: dict[str, bytes]) -> None:
    data = json.loads(contents[RECORD])
    one = next(m for m in data["metrics"] if m["name"] == "logit")
    one["value"] += 0.5
    contents[RECORD] = json.dumps(data).encode()


def later(contents: dict[str, bytes]) -> None:
    contents[RECORD] = json.dumps(json.loads(contents[RECORD]) | {"schema": 2}).encode()


def outside(contents: dict[str, bytes]) -> None:
    contents["../outside.txt"] = b"mine"


def lost(contents: dict[str, bytes]) -> None:
    del contents[next(name for name in contents if name.endswith("301.png"))]


def elsewhere(contents: dict[str, bytes]) -> None:
    """Its pictures would lie where those of another row do."""
    data = json.loads(contents[RECORD])
    place = data["images"]
    data["images"] = "resnet/maco/0123456789ab"
    contents[RECORD] = json.dumps(data).encode()
    for name in [name for name in contents if name.startswith(place)]:
        contents[name.replace(place, data["images"])] = contents.pop(name)


@pytest.mark.parametrize(
    ("change", "listed", "words"),
    [
        (better, True, ["maco.zip: test_resnet / maco", "Logit is", "follows from its images"]),
        (better, False, [RECORD, "was changed after it was packed"]),
        (later, True, [RECORD, "later version of featvis (schema 2)"]),
        (outside, True, ["../outside.txt lies outside of the pack"]),
        (elsewhere, True, ["has its images in resnet/maco/0123456789ab, not in test_resnet/<method>/"]),
        (lost, True, ["301.png is missing"]),
        (lost, False, ["301.png is missing; pack the run again"]),
    ],
)
def test_one_that_was_changed_is_refused_by_name_and_not_merged(runs, tmp_path, capsys, change, listed, words):
    (tmp_path / "out").mkdir()
    path = changed(runs / "maco.zip", tmp_path / "maco.zip", change, listed)
    capsys.readouterr()
    assert merged(tmp_path / "out", path) == 1
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert tree(tmp_path / "out") == {}
    assert not (tmp_path / "outside.txt").exists()


def test_two_packs_of_the_same_row_are_both_refused_and_the_other_is_merged(runs, tmp_path, capsys):
    again = changed(runs / "maco.zip", tmp_path / "again.zip", lambda contents: None)
    assert merged(tmp_path, runs / "maco.zip", again, runs / "fourier.zip") == 1
    said = capsys.readouterr().err
    assert "the row small / test_resnet / maco is in again.zip too" in said
    rows = sorted(p.stem for p in (tmp_path / "results" / "records").rglob("*.json"))
    assert rows == ["fourier"]


def test_a_row_that_we_have_otherwise_is_not_overwritten(runs, tmp_path, capsys):
    assert merged(tmp_path, runs / "maco.zip") == 0
    path = next((tmp_path / "results" / "records").rglob("maco.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"device": "another"}))
    before = tree(tmp_path)
    assert merged(tmp_path, runs / "maco.zip") == 1
    assert "there is a record of small / test_resnet / maco already" in capsys.readouterr().err
    assert tree(tmp_path) == before


def as_suite(name: str, change: Callable[[bytes], bytes]) -> Callable[[dict[str, bytes]], None]:
    """A change of a pack: another suite's name, and what becomes of its pictures."""

    def changes(contents: dict[str, bytes]) -> None:
        contents[RECORD] = json.dumps(json.loads(contents[RECORD]) | {"suite": name}).encode()
        for path in [p for p in contents if p.endswith(".png")]:
            contents[path] = change(contents[path])

    return changes


def encoded_anew(data: bytes) -> bytes:
    """The same pixels and facts in another file, so that all else about the pack holds."""
    with Image.open(BytesIO(data)) as image:
        info, buffer = PngInfo(), BytesIO()
        for key, value in image.text.items():
            info.add_text(key, value)
        image.save(buffer, "PNG", pnginfo=info, compress_level=1)
    return buffer.getvalue()


def test_pictures_of_a_row_are_not_replaced_by_those_of_another_suite(runs, tmp_path, capsys):
    """Folders of pictures are named by network, method and configuration, which two suites may share."""
    other = changed(runs / "maco.zip", tmp_path / "other.zip", as_suite("other", encoded_anew))
    same = changed(runs / "maco.zip", tmp_path / "same.zip", as_suite("other", lambda data: data))
    # At once neither is merged, whatever their order.
    assert merged(tmp_path / "both", runs / "maco.zip", other) == 1
    assert tree(tmp_path / "both") == {}
    assert merged(tmp_path / "out", runs / "maco.zip") == 0
    before = tree(tmp_path / "out")
    capsys.readouterr()
    assert merged(tmp_path / "out", other) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if "other.zip" in line]
    assert len(said) == 1
    assert "301.png is there already, and is another one" in said[0]
    assert tree(tmp_path / "out") == before
    # Alone it would be merged; and the same bytes are no conflict.
    assert merged(tmp_path / "alone", other) == 0
    assert merged(tmp_path / "out", same) == 0
    after = tree(tmp_path / "out")
    assert {name: data for name, data in after.items() if name in before} == before
    assert any("records/other/" in name for name in after)


def test_bad_input_is_refused_in_a_sentence(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "note.zip").write_text("no archive")
    for args, words in (
        (["merge"], ["PACK is missing"]),
        (["merge", "nothing.zip"], ["PACK nothing.zip is not a file"]),
        (["submit", "nothing", "--sender", "x"], ["RUN nothing is not the folder of a run"]),
        (["submit", str(runs / "maco")], ["--sender is missing"]),
    ):
        check_sentence(main(args), capsys.readouterr().err, words)
    # A member that says it is encrypted (APPNOTE 4.4.4, bit 0), in its own header and in the directory.
    data = bytearray((runs / "maco.zip").read_bytes())
    for mark, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(mark) + flags] |= 1
    (tmp_path / "locked.zip").write_bytes(data)
    assert main(["merge", "note.zip", "locked.zip"]) == 1
    said = capsys.readouterr().err
    assert "note.zip is no pack" in said
    assert "locked.zip is no pack" in said


def test_one_that_unpacks_to_more_than_there_is_room_for_is_refused_unread(runs, tmp_path, monkeypatch, capsys):
    with zipfile.ZipFile(runs / "maco.zip") as archive:
        whole = sum(len(archive.read(name)) for name in archive.namelist())
    monkeypatch.setattr(pack, "LARGEST", whole)
    assert merged(tmp_path, runs / "maco.zip") == 0
    swollen = changed(
        runs / "maco.zip", tmp_path / "big.zip", lambda contents: contents.update({"zeros": bytes(10**6)})
    )
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("it was unpacked"))
    assert merged(tmp_path, swollen) == 1
    assert "it unpacks to" in capsys.readouterr().err


def by_hand(contents: dict[str, bytes]) -> None:
    """Numbers that no pictures and no run stand behind."""
    data = json.loads(contents[RECORD])
    data |= {"images": None, "images_sha256": None, "config": {}, "config_hash": None, "budget": None}
    contents[RECORD] = json.dumps(data).encode()


def test_numbers_that_nobody_can_compute_anew_are_not_merged(runs, tmp_path, capsys):
    assert merged(tmp_path, changed(runs / "maco.zip", tmp_path / "hand.zip", by_hand)) == 1
    said = capsys.readouterr().err
    assert "no number of small / test_resnet / maco could be scored anew" in said
    assert "its pictures are a folder elsewhere" in said
    assert not (tmp_path / "results").exists()


def test_a_run_whose_files_do_not_fit_is_not_packed(runs, tmp_path, capsys):
    run = Path(shutil.copytree(runs / "maco", tmp_path / "run"))
    next(run.rglob("301.png")).unlink()
    assert main(["submit", str(run), "--sender", "x", "--out", str(tmp_path / "x.zip")]) == 1
    assert "301.png is missing" in capsys.readouterr().err
    assert not (tmp_path / "x.zip").exists()
