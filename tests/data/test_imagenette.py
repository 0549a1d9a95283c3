"""`--data imagenette`: a tiny archive from a mirror on the loopback is fetched, unpacked, read; and what is refused."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
from pathlib import Path

import pytest
from PIL import Image
from servers import Served, serving

from benchmark.checks import check_images
from featvis.data import imagenette
from featvis.data.sets import open_images
from featvis.errors import UserError
from featvis.storage import fetch as fetching

SYNSETS = ["n01440764", "n02102040", "n02979186"]


def member(tar: tarfile.TarFile, name: str, data: bytes, kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, link
    tar.addfile(info, io.BytesIO(data))


def archive(*more: tuple, top: str = "imagenette2-320", splits: tuple[str, ...] = ("train", "val")) -> bytes:
    """A tiny Imagenette: two classes, two images each in `train`, one in `val`."""
    buffer, picture = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (8, 6), (200, 30, 30)).save(picture, "JPEG")
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for split in splits:
            for synset in SYNSETS[:2]:
                for i in range(2 if split == "train" else 1):
                    member(tar, f"{top}/{split}/{synset}/{synset}_{i}.JPEG", picture.getvalue())
        for one in more:
            member(tar, *one)
    return buffer.getvalue()


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(fetching, "SILENCE", 120.0)  # a mirror that answers may be slow
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    with serving() as served:
        yield served


def offer(mirror: Served, monkeypatch: pytest.MonkeyPatch, data: bytes, sha256: str | None = None) -> str:
    """Put an archive on the mirror and name it with its checksum."""
    mirror.files["/mine.tgz"] = data
    digest = sha256 or hashlib.sha256(data).hexdigest()
    monkeypatch.setenv("FEATVIS_IMAGENETTE", f"{mirror.url}/mine.tgz#sha256={digest}")
    return digest


def test_it_is_fetched_once_and_read_by_what_it_is_for(mirror, monkeypatch, tmp_path):
    digest = offer(mirror, monkeypatch, archive())
    check_images("imagenette", "--data")
    assert mirror.asked == [], "checks ask nobody"
    bank = open_images("imagenette", SYNSETS)
    assert (bank.name, sorted(x for x in bank.labels if x is not None)) == ("train", [0, 0, 1, 1])
    assert len(open_images("imagenette", SYNSETS, "frechet")) == 2
    assert mirror.gets() == [None]
    home = tmp_path / "cache" / "featvis"
    assert [p.name for p in home.iterdir() if not p.name.startswith(".")] == [f"imagenette-{digest[:12]}"]
    # Another archive is another folder.
    offer(mirror, monkeypatch, archive(("imagenette2-320/readme.txt", b"x")))
    open_images("imagenette", SYNSETS)
    assert len([p for p in home.iterdir() if not p.name.startswith(".")]) == 2


def test_a_folder_of_that_name_goes_before_it(mirror, monkeypatch):
    offer(mirror, monkeypatch, archive())
    path = Path("imagenette", SYNSETS[2])
    path.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(path / "a.png")
    assert open_images("imagenette", SYNSETS).labels == [2]
    assert mirror.asked == []


def test_a_killed_fetch_loses_nothing(mirror, monkeypatch, tmp_path):
    data = archive()
    digest = offer(mirror, monkeypatch, data)
    home = tmp_path / "cache" / "featvis"
    home.mkdir(parents=True)
    (home / f".imagenette-{digest[:12]}.tgz.part").write_bytes(data[:300])
    # And one that was killed while unpacking.
    (home / f".imagenette-{digest[:12]}.abc.tmp" / "imagenette2-320" / "train").mkdir(parents=True)
    assert len(open_images("imagenette", SYNSETS)) == 4
    assert mirror.gets() == ["bytes=300-"]
    assert not list(home.glob(".*.tmp"))


def test_an_interrupted_fetch_goes_on(mirror, monkeypatch):
    offer(mirror, monkeypatch, archive())
    mirror.cut = [200]
    assert len(open_images("imagenette", SYNSETS)) == 4
    assert mirror.gets() == [None, "bytes=200-"]


def refused(words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        open_images("imagenette", SYNSETS)
    home = tmp_path / "cache" / "featvis"
    assert not [p for p in home.glob("*") if not p.name.startswith(".")], "nothing half-done is left"
    assert not list(home.glob(".*.tmp"))
    assert not (tmp_path / "evil.txt").exists()


def test_another_archive_than_the_one_named_is_refused(mirror, monkeypatch, tmp_path):
    offer(mirror, monkeypatch, archive(), "0" * 64)
    refused("--data imagenette: the archive cannot be fetched.*not the file expected.*FEATVIS_IMAGENETTE", tmp_path)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("../evil.txt", b"x"), "cannot be unpacked.*outside"),
        (("imagenette2-320/out", b"", tarfile.SYMTYPE, "../../../.."), "cannot be unpacked"),
        (("imagenette2-320/pipe", b"", tarfile.FIFOTYPE), "cannot be unpacked"),
    ],
)
def test_an_archive_that_would_write_elsewhere_is_refused(mirror, monkeypatch, tmp_path, more, words):
    offer(mirror, monkeypatch, archive(more))
    refused(words, tmp_path)


def test_an_archive_of_something_else_is_refused(mirror, monkeypatch, tmp_path):
    offer(mirror, monkeypatch, archive(splits=("train",)))
    refused("holds no folder with train and val", tmp_path)
    offer(mirror, monkeypatch, b"no archive at all")
    refused("cannot be unpacked", tmp_path)


def test_without_a_network_it_is_a_sentence_with_the_ways_out(mirror, monkeypatch, tmp_path):
    digest = offer(mirror, monkeypatch, archive())
    with serving() as gone:
        pass
    monkeypatch.setenv("FEATVIS_IMAGENETTE", f"{gone.url}/mine.tgz#sha256={digest}")
    refused("cannot be fetched.*mirror in FEATVIS_IMAGENETTE, or a folder with images of your own", tmp_path)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("ftp://x/imagenette2-320.tgz", "is no address"),
        ("/data/imagenette2-320.tgz", "is no address"),
        ("http://mirror/other.tgz", "by its checksum alone.*#sha256="),
        ("http://mirror/other.tgz#sha256=12", "64 hex digits"),
        ("http://mirror/other.tgz#md5=" + "0" * 32, "64 hex digits"),
    ],
)
def test_a_mirror_that_is_none_is_refused_before_anything_is_asked(monkeypatch, tmp_path, value, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEATVIS_IMAGENETTE", value)
    with pytest.raises(UserError, match=words):
        check_images("imagenette", "--data")


def test_a_mirror_of_the_public_archives_needs_no_checksum(monkeypatch):
    """Their sizes and digests are fastai's; torchvision knows the same addresses."""
    from torchvision.datasets import Imagenette

    for url, _ in Imagenette._ARCHIVES.values():
        name = url.rpartition("/")[2]
        monkeypatch.setenv("FEATVIS_IMAGENETTE", f"https://mirror.example/some/where/{name}")
        assert imagenette.source()[1:] == imagenette.ARCHIVES[name][::-1]
    monkeypatch.delenv("FEATVIS_IMAGENETTE")
    assert imagenette.source()[0] == Imagenette._ARCHIVES["320px"][0]


def test_a_cache_that_cannot_be_written_is_a_sentence(mirror, monkeypatch, tmp_path):
    offer(mirror, monkeypatch, archive())
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="cannot be written.*XDG_CACHE_HOME"):
        open_images("imagenette", SYNSETS)
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
