"""Image sets in all their layouts: the same photographs, whichever way they come."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from timm.data import dataset_factory

from benchmark.scoring import packs
from benchmark.scoring.references import imagenet_synsets
from benchmark.study.making import passes
from featvis.data.files import digest
from featvis.data.sets import check_decodable, open_images, place_of
from featvis.errors import UserError
from featvis.storage.hashing import config_hash

SYNSETS = imagenet_synsets()
CHOSEN = ("n02165456", "n02279972", "n01440764", "n07753275")


@pytest.fixture
def folder(sample, tmp_path):
    """Five photographs of four classes, one folder a class."""
    data = tmp_path / "set"
    for name in CHOSEN:
        shutil.copytree(sample / name, data / name)
    shutil.copy(next((sample / "n02165456").iterdir()), data / "n02165456" / "again_n02165456.JPEG")
    return data


def content(source):
    """Class, digest and pixels of every image, in an order of their own."""
    found = []
    for i in range(len(source)):
        image, number = source.open(i)
        found.append((source.labels[i], number, np.asarray(image).tobytes()))
    return sorted(found)


def flat(folder, target):
    """The same photographs in one folder, their names without a class; their synsets in that order."""
    target.mkdir()
    files = sorted(folder.rglob("*.JPEG"))
    for i, file in enumerate(files):
        shutil.copy(file, target / f"ILSVRC2012_val_{i + 1:08d}.JPEG")
    return [file.parent.name for file in files]


def test_a_folder_a_class(folder):
    source = open_images(str(folder), SYNSETS)
    assert sorted(str(label) for label in source.labels) == sorted(
        str(SYNSETS.index(p.parent.name)) for p in folder.rglob("*.JPEG")
    )
    assert source.describe() == "set: 5 images of 4 classes (classes from the names)"
    assert {number for _, number, _ in content(source)} == {digest(p) for p in folder.rglob("*.JPEG")}
    assert source.rows[SYNSETS.index("n02165456")] == [i for i, x in enumerate(source.labels) if x == 301]


def test_a_folder_a_class_by_index_whatever_its_files_are_called(folder, tmp_path):
    for name in CHOSEN:
        for i, file in enumerate(sorted((folder / name).iterdir())):
            target = tmp_path / "indices" / str(SYNSETS.index(name)) / f"{i}.JPEG"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    assert content(open_images(str(tmp_path / "indices"), SYNSETS)) == content(open_images(str(folder), SYNSETS))


@pytest.mark.parametrize("layout", ["names", "order", "indices", "kaggle"])
def test_a_flat_folder_and_a_label_file(folder, tmp_path, layout):
    target = tmp_path / "val"
    synsets = flat(folder, target)
    names = sorted(p.name for p in target.iterdir())
    lines = {
        "names": [f"{n} {s}" for n, s in reversed(list(zip(names, synsets, strict=True)))],
        "order": synsets,
        "indices": [f"{n},{SYNSETS.index(s)}" for n, s in zip(names, synsets, strict=True)],
        "kaggle": ["ImageId,PredictionString"]
        + [f"{n.removesuffix('.JPEG')},{s} 85 1 499 272 {s} 1 2 3 4" for n, s in zip(names, synsets, strict=True)],
    }[layout]
    # Inside the folder, or beside it.
    path = target / "labels.txt" if layout == "order" else tmp_path / "val.csv"
    path.write_text("\n".join(lines) + "\n")
    source = open_images(str(target), SYNSETS)
    assert content(source) == content(open_images(str(folder), SYNSETS))
    assert path.name in source.how


def test_label_files_that_cannot_be_right(folder, tmp_path):
    target = tmp_path / "val"
    flat(folder, target)
    with pytest.raises(UserError, match=r"add a label file \(labels.txt"):
        open_images(str(target), SYNSETS)
    labels = target / "labels.txt"
    labels.write_text("n02165456\n")
    with pytest.raises(UserError, match="has 1 classes for 5 images"):
        open_images(str(target), SYNSETS)
    labels.write_text("1000\n1\n2\n3\n4\n")
    with pytest.raises(UserError, match="ILSVRC's own numbers"):
        open_images(str(target), SYNSETS)
    labels.write_text("n02165456\nn02165456\nn02165456\nn02165456\nn99999999\n")
    with pytest.raises(UserError, match="the class n99999999, which the network does not have"):
        open_images(str(target), SYNSETS)
    labels.write_text("other.JPEG n02165456\nanother.JPEG n02165456\n")
    with pytest.raises(UserError, match="names none of the 5 images"):
        open_images(str(target), SYNSETS)
    (target / "more.csv").write_text("x")
    with pytest.raises(UserError, match="several label files"):
        open_images(str(target), SYNSETS)


def test_each_use_takes_its_split(folder, tmp_path):
    root = tmp_path / "imagenet"
    shutil.copytree(folder, root / "train")
    shutil.copytree(folder / "n01440764", root / "val" / "n01440764")
    assert [len(open_images(str(root), SYNSETS, role)) for role in ("bank", "spectrum", "frechet")] == [5, 5, 1]
    shutil.rmtree(root / "val")
    assert len(open_images(str(root), SYNSETS, "frechet")) == 5, "the only split serves for all"
    (root / "train").rename(root / "val")
    shutil.copytree(folder / "n01440764", root / "test" / "n01440764")
    assert [len(open_images(str(root), SYNSETS, role)) for role in ("bank", "frechet")] == [5, 5], "not the test split"


def shards(folder, target, kinds):
    """WebDataset shards of two images each, with the class beside them in a file of the kind given, or in the name."""
    target.mkdir()
    files = sorted(folder.rglob("*.JPEG"))
    for start in range(0, len(files), 2):
        with tarfile.open(target / f"set-train-{start // 2:04d}.tar", "w") as tar:
            for i, file in enumerate(files[start : start + 2], start):
                label, kind = SYNSETS.index(file.parent.name), kinds[i % len(kinds)]
                base = f"{i:06d}" if kind else f"{file.parent.name}_{i}"
                said = json.dumps({"label": label}).encode() if kind == "json" else str(label).encode()
                for name, data in ((f"{base}.jpg", file.read_bytes()), (f"{base}.{kind}", said)):
                    if not name.endswith("."):
                        info = tarfile.TarInfo(name)
                        info.size = len(data)
                        tar.addfile(info, io.BytesIO(data))


def test_webdataset_shards(folder, tmp_path):
    target = tmp_path / "shards"
    shards(folder, target, ["cls", "json", ""])
    want = content(open_images(str(folder), SYNSETS))
    assert content(open_images(f"wds/{target}", SYNSETS)) == want
    assert content(open_images(f"wds/{target}:train", SYNSETS)) == want
    with pytest.raises(UserError, match="no tar file with val in its name"):
        open_images(f"wds/{target}:val", SYNSETS)
    info = {"splits": {"few": {"filenames": ["set-train-0001.tar"], "num_samples": 2, "shard_lengths": [2]}}}
    (target / "_info.json").write_text(json.dumps(info))
    assert len(open_images(f"wds/{target}:few", SYNSETS)) == 2
    with pytest.raises(UserError, match="no split few2: did you mean few"):
        open_images(f"wds/{target}:few2", SYNSETS)
    for broken in ("half a fi", "[]", '{"splits": {"few": 1}}', '{"splits": 1}'):
        (target / "_info.json").write_text(broken)
        with pytest.raises(UserError, match="_info.json says no files of splits"):
            open_images(f"wds/{target}:few", SYNSETS)
    whole = (target / "set-train-0000.tar").read_bytes()
    (target / "set-train-0000.tar").write_bytes(b"no tar file" + whole[:1000])
    with pytest.raises(UserError, match=r"set-train-0000\.tar cannot be read as a tar file"):
        open_images(f"wds/{target}", SYNSETS)


def with_files(target, files):
    target.mkdir()
    with tarfile.open(target / "a.tar", "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return f"wds/{target}"


def test_of_several_places_in_a_shard_the_one_that_says_the_class_counts(folder, tmp_path):
    image = next(folder.rglob("*.JPEG")).read_bytes()
    nothing = json.dumps({"width": 3}).encode()
    beside = with_files(tmp_path / "beside", {"0.jpg": image, "0.cls": b"\xef\xbb\xbf1", "0.json": nothing})
    named = with_files(tmp_path / "named", {f"{SYNSETS[1]}_0.jpg": image, f"{SYNSETS[1]}_0.json": nothing})
    assert open_images(beside, SYNSETS).labels == open_images(named, SYNSETS).labels == [1]


def test_shards_that_cannot_be_read_are_named(folder, tmp_path):
    image = next(folder.rglob("*.JPEG")).read_bytes()
    for name, data in (("text", b"no json"), ("list", b"[1]"), ("binary", b"\xff\xfe")):
        spec = with_files(tmp_path / name, {"0.jpg": image, "0.json": data})
        with pytest.raises(UserError, match=r"a\.tar cannot be read.*0\.json in it is no JSON object"):
            open_images(spec, SYNSETS)
    packed = tmp_path / "text" / "a.tar"
    packed.write_bytes(gzip.compress(packed.read_bytes()))
    with pytest.raises(UserError, match="cannot be read as a tar file, uncompressed"):
        open_images(f"wds/{tmp_path / 'text'}", SYNSETS)


def test_timm_reads_the_same_shards_to_the_same_classes(folder, tmp_path):
    """timm's own reader of image folders agrees on the classes; an independent look at the order of the synsets."""
    from timm.data.dataset_factory import create_dataset

    class_map = tmp_path / "synsets.txt"
    class_map.write_text("\n".join(SYNSETS) + "\n")
    theirs = create_dataset("", root=str(folder), class_map=str(class_map))
    found = sorted((int(label), np.asarray(image).tobytes()) for image, label in theirs)
    assert found == [(label, pixels) for label, _, pixels in content(open_images(str(folder), SYNSETS))]


def test_hugging_face_data_sets(folder, tmp_path, monkeypatch):
    pytest.importorskip("datasets", reason="the extra featvis[data] is not installed")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    source = open_images(f"hfds/{folder}:train", SYNSETS)
    assert content(source) == content(open_images(str(folder), SYNSETS))
    assert source.how == "classes named by synset"
    with pytest.raises(UserError, match="the split other cannot be loaded"):
        open_images(f"hfds/{folder}:other", SYNSETS)


def hub(monkeypatch, labels, names=None, known=("cat", "dog")):
    """A set of the hub whose column holds these labels; KeyError: it has no such column."""
    pytest.importorskip("datasets", reason="the extra featvis[data] is not installed")

    def targets():
        if labels is KeyError:
            raise KeyError("label")
        yield from labels

    reader = SimpleNamespace(
        iter_targets=targets,
        class_to_idx={n: i for i, n in enumerate(names or ())},
        dataset=SimpleNamespace(_fingerprint="0a"),
    )
    monkeypatch.setattr(dataset_factory, "create_dataset", lambda *args, **kwargs: SimpleNamespace(reader=reader))
    return open_images("hfds/somebodys/set:test", known)


@pytest.mark.parametrize("labels", [["cat", "dog"], [None, 1], [[0], [1]], KeyError])
def test_a_set_of_the_hub_without_numbers_of_classes_is_refused(labels, monkeypatch):
    with pytest.raises(UserError, match="--data hfds/somebodys/set: its label column holds no class numbers"):
        hub(monkeypatch, labels)


@pytest.mark.parametrize("names", [None, ["dog", "cat"]])
def test_images_of_the_hub_whose_class_is_hidden_have_none(names, monkeypatch):
    source = hub(monkeypatch, [1, -1, 0], names)
    assert source.labels == [1, None, 0] if names is None else [0, None, 1]
    assert source.describe().endswith("left out: 1 without a class")
    with pytest.raises(UserError, match="no image of the split test has a class"):
        hub(monkeypatch, [-1, -1], names)


def test_a_name_that_is_no_text_is_a_name_and_others_have_the_fingerprint_that_they_had(tmp_path):
    image = io.BytesIO()
    Image.new("RGB", (4, 4)).save(image, "PNG")
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "café.png").write_bytes(image.getvalue())
    size = len(image.getvalue())
    before = hashlib.sha256(f"1/café.png\0{size}\0001\n".encode()).hexdigest()
    assert open_images(str(tmp_path), ["cat", "dog"]).fingerprint == before
    strange = os.fsencode(tmp_path / "1") + b"/caf\xe9.png"
    try:
        Path(os.fsdecode(strange)).write_bytes(image.getvalue())
    except OSError:
        pytest.skip("this file system takes text alone")
    source = open_images(str(tmp_path), ["cat", "dog"])
    assert len(source) == 2
    names = [name.encode() for name in ("1/café.png",)] + [b"1/caf\xe9.png"]
    facts = b"".join(name + f"\0{size}\0001\n".encode() for name in names)
    assert source.fingerprint == hashlib.sha256(facts).hexdigest()
    assert packs.fingerprint(tmp_path, source.files) != packs.fingerprint(tmp_path, source.files[:1])
    assert passes.ordered(source, [0, 1], 0, "0")
    assert config_hash({"images": [source.where(1)]})


def test_splits_are_known_in_capitals(folder, tmp_path):
    root = tmp_path / "imagenet"
    shutil.copytree(folder, root / "Train")
    shutil.copytree(folder / "n01440764", root / "TEST" / "n01440764")
    found = {role: place_of(str(root), role).name for role in ("bank", "spectrum", "frechet")}
    assert found == {"bank": str(root / "Train"), "spectrum": str(root / "Train"), "frechet": str(root / "TEST")}


def test_sets_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match="is a stream or a download"):
        open_images("tfds/imagenet2012", SYNSETS)
    with pytest.raises(UserError, match="is not a folder of tar files"):
        open_images("wds/nowhere:train", SYNSETS)
    with pytest.raises(UserError, match="nowhere is not a folder"):
        open_images("nowhere", SYNSETS)
    broken = tmp_path / "n02165456"
    broken.mkdir()
    (broken / "a.jpg").write_bytes(b"nothing")
    with pytest.raises(UserError, match="no image that has a class can be decoded"):
        check_decodable(open_images(str(tmp_path), SYNSETS))


def test_the_fingerprint_is_of_names_sizes_and_classes(folder, tmp_path):
    first = open_images(str(folder), SYNSETS).fingerprint
    shutil.copytree(folder, tmp_path / "copy")
    assert open_images(str(tmp_path / "copy"), SYNSETS).fingerprint == first
    (tmp_path / "copy" / "n02165456").rename(tmp_path / "copy" / "n02165105")
    assert open_images(str(tmp_path / "copy"), SYNSETS).fingerprint != first
