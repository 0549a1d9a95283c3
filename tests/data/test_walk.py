"""Which files are images: by content, through links, and what is said of the others."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from featvis.data import walk
from featvis.data.sets import FolderImages
from featvis.data.walk import images_below

PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8))


@pytest.fixture
def folder(tmp_path):
    for name in ("0/a", "1/b"):
        (tmp_path / "set" / name).parent.mkdir(parents=True)
        PHOTO.save(tmp_path / "set" / f"{name}.png")
    return tmp_path / "set"


def names(folder):
    return [p.relative_to(folder).as_posix() for p in images_below(folder).paths]


def test_what_pillow_opens_is_an_image_whatever_it_is_called(folder):
    for name, kind in (("c.gif", "GIF"), ("d.jfif", "JPEG"), ("e.ppm", "PPM"), ("f", "PNG"), ("g.dat", "TIFF"),
                       ("h.txt", "WEBP"), ("i.tga", "TGA"), ("J.JPE", "JPEG")):  # fmt: skip
        PHOTO.save(folder / "0" / name, kind)
    (folder / "0" / "notes").write_text("P is for notes\n" * 50)
    (folder / "0" / "empty.bin").write_bytes(b"")
    (folder / "0" / "movie.mpg").write_bytes(b"\x00\x00\x01\xb3" + bytes(500))
    source = FolderImages(folder, ["a", "b"])
    assert sorted(p.path.name for p in source.files) == sorted(
        ["J.JPE", "a.png", "b.png", "c.gif", "d.jfif", "e.ppm", "f", "g.dat", "h.txt", "i.tga"]
    )
    assert all(source.open(i)[0].size == (8, 8) for i in range(len(source)))
    assert source.describe().endswith("left out: 3 that are no images (empty.bin, movie.mpg, notes)")


def test_links_are_followed_and_loops_survived(folder, tmp_path):
    links = tmp_path / "links"
    links.mkdir()
    for name in ("0", "1"):
        (links / name).symlink_to(folder / name)
    assert names(links) == ["0/a.png", "1/b.png"]
    assert FolderImages(links, ["a", "b"]).labels == [0, 1]
    (folder / "0" / "again.png").symlink_to(folder / "1" / "b.png")
    (folder / "0" / "up").symlink_to(folder)
    (folder / "1" / "here").symlink_to(".")
    (folder / "1" / "other").symlink_to(folder / "0")
    (folder / "itself").symlink_to("itself")
    (folder / "gone.png").symlink_to("nowhere.png")
    assert names(folder) == ["0/a.png", "0/again.png", "1/b.png"]
    said = images_below(folder).describe()
    assert "2 links that lead nowhere (gone.png, itself)" in said
    assert "3 links to folders that are looked at anyway (here, other, up)" in said


def test_a_web_of_links_is_walked_once(tmp_path):
    for a in range(12):
        (tmp_path / f"{a}").mkdir()
        PHOTO.save(tmp_path / f"{a}" / "x.png")
        for b in range(12):
            (tmp_path / f"{a}" / f"to{b}").symlink_to(tmp_path / f"{b}")
    assert len(names(tmp_path)) == 12


def test_what_is_hidden_or_a_pipe_is_left_out(folder):
    PHOTO.save(folder / "0" / "._a.png")
    (folder / ".git").mkdir()
    PHOTO.save(folder / ".git" / "c.png")
    os.mkfifo(folder / "0" / "pipe")
    found = images_below(folder)
    assert len(found.paths) == 2
    assert found.describe() == "1 that is hidden (._a.png), 1 that is no image (pipe)"


def test_files_with_an_images_ending_are_not_opened(folder, monkeypatch):
    opened = []
    monkeypatch.setattr(walk, "is_image", lambda path: opened.append(path))
    (folder / "0" / "c.unknown").write_text("")
    assert names(folder) == ["0/a.png", "1/b.png"]
    assert [os.path.basename(p) for p in opened] == ["c.unknown"]  # noqa: PTH119
