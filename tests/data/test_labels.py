"""Label files: they win over names, match by path, and are refused where they may mean several things."""

from __future__ import annotations

import pytest
from PIL import Image

from featvis.data.sets import FolderImages
from featvis.errors import UserError

OWN = ["cat", "dog", "giant panda", "7 spots"]


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)
    return folder


def classes(folder, known=OWN):
    source = FolderImages(folder, known)
    return {f.path.relative_to(folder).as_posix(): f.label for f in source.files}


@pytest.mark.parametrize(
    "text",
    [
        "img_0.png dog\nimg_1.png cat\nimg_2.png giant panda\n",
        "img_2.png 2\nimg_1.png 0\nimg_0.png 1\n",
        "img_0,dog\nimg_1,cat\nimg_2,Giant_Panda\n",
        "file,class,width\nimg_0.png,dog,640\nimg_1.png,cat,3\nimg_2.png,giant panda,1\n",
        "./img_0.png\tdog\n./img_1.png\tcat\n./img_2.png\tgiant panda\nimg_9.png\tcat\n",
        '\ufeff"img_0.png";"dog"\nset/img_1.png;cat\nimg_2.png;giant panda\n',
        "dog\ncat\ngiant panda\n",
        "1\n0\n2\n",
    ],
    ids=["names", "numbers", "stems", "columns", "tabs", "quoted", "in order", "numbers in order"],
)
@pytest.mark.parametrize("place", ["set/labels.txt", "set.csv", "set/classes.csv"])
def test_a_label_file_wins_over_numbers_in_names(tmp_path, text, place):
    folder = make(tmp_path / "set", "img_0.png", "img_1.png", "img_2.png")
    (tmp_path / place).write_text(text, encoding="utf-8")
    assert classes(folder) == {"img_0.png": 1, "img_1.png": 0, "img_2.png": 2}
    assert FolderImages(folder, OWN).how == f"classes from {place.rpartition('/')[2]}"
    assert "left out" not in FolderImages(folder, OWN).describe()


def test_it_wins_over_folders_and_matches_by_path(tmp_path):
    folder = make(tmp_path / "set", "cat/1.png", "dog/1.png", "dog/my own 2.png", "dog/3.png")
    (folder / "labels.txt").write_text("cat/1.png dog\ndog/1 cat\nmy own 2.png 7 spots\n")
    assert classes(folder) == {"cat/1.png": 1, "dog/1.png": 0, "dog/my own 2.png": 3}
    assert FolderImages(folder, OWN).describe().endswith("left out: 1 without a class (3.png)")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1.png cat\n", "'1.png cat' in .*labels.txt may be cat/1.png and dog/1.png"),
        ("1 cat\n", "may be cat/1.png and dog/1.png"),
        ("cat/1.png cat\ncat/1.png dog\n", "two lines for cat/1.png"),
        ("cat/1.png cat\n./cat/1 cat\n", "two lines for cat/1.png"),
        ("cat/1.png cow\n", "the class cow, which the network does not have"),
        ("cat/1.png 1\ndog/1.png 4\n", "count from 1 to 4; those of the network count from 0"),
        ("dog\ncat\n", "a list of the classes, or the class of each image in order"),
    ],
    ids=["bare", "bare stem", "twice", "twice in two ways", "unknown", "from 1", "a list"],
)
def test_what_may_mean_several_things_is_refused(tmp_path, text, words):
    folder = make(tmp_path / "set", "cat/1.png", "dog/1.png")
    (folder / "labels.txt").write_text(text)
    with pytest.raises(UserError, match=words):
        FolderImages(folder, OWN)


def test_a_bare_name_at_the_top_is_that_files(tmp_path):
    folder = make(tmp_path / "set", "1.png", "more/1.png")
    (folder / "labels.txt").write_text("1.png dog\nmore/1.png cat\n")
    assert classes(folder) == {"1.png": 1, "more/1.png": 0}


def test_two_endings_of_one_name_are_refused(tmp_path):
    folder = make(tmp_path / "set", "a.png", "a.bmp")
    (folder / "labels.txt").write_text("a dog\n")
    with pytest.raises(UserError, match=r"may be a.bmp and a.png"):
        FolderImages(folder, OWN)


def test_other_texts_beside_class_folders_are_left_alone(tmp_path):
    folder = make(tmp_path / "set", "cat/1.png", "dog/1.png")
    (folder / "README.txt").write_text("1.png is a nice one\n")
    (folder / "meta.csv").write_text("cat/1.png,640\n")
    (folder / "labels.txt").write_text("cat\ndog\ngiant panda\n7 spots\n")  # the names of the classes
    assert classes(folder) == {"cat/1.png": 0, "dog/1.png": 1}
    assert "3 that are no images (README.txt, labels.txt, meta.csv)" in FolderImages(folder, OWN).describe()


def test_folders_by_label_by_index_and_of_neither(tmp_path):
    folder = make(tmp_path / "a", "Cat/n02123045_7.png", "giant_panda/0.png", "cows/1.png")
    assert classes(folder) == {"Cat/n02123045_7.png": 0, "giant_panda/0.png": 2}
    assert FolderImages(folder, OWN).left == "1 without a class (1.png)"
    folder = make(tmp_path / "b", "0/n02123045_7.png", "3/0.png", "4/1.png")
    assert classes(folder, ["class 0", "class 1", "class 2", "class 3"]) == {"0/n02123045_7.png": 0, "3/0.png": 3}
    with pytest.raises(UserError, match=r"name the folders by label \(cat\) or by index \(3\)"):
        FolderImages(make(tmp_path / "c", "cats/0.png", "dogs/1.png"), OWN)


def test_a_folder_that_may_be_two_classes_is_refused_unless_a_label_file_says_it(tmp_path):
    folder = make(tmp_path / "set", "0/a.png", "1/b.png")
    with pytest.raises(UserError, match="the folder 0 may be the classes 0 and 1"):
        FolderImages(folder, ["1", "0"])
    (folder / "labels.txt").write_text("0/a.png two\n1/b.png one\n")
    assert list(classes(folder, ["1", "0", "one", "two"]).values()) == [3, 2]


def test_a_class_called_train_is_no_split(tmp_path):
    from featvis.data.sets import open_images

    folder = make(tmp_path / "set", "train/a.png", "ship/b.png")
    assert open_images(str(folder), ["ship", "train"]).labels == [0, 1]
