"""`featvis concepts`: what it refuses, and a small run on real images, twice."""

from __future__ import annotations

import json
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Refusals, tree
from PIL import Image

from benchmark.audit.verify import verify
from benchmark.cli import main
from benchmark.records.record import Record
from benchmark.studies.concepts import run as concepts_run
from benchmark.studies.concepts.pages import mosaic
from benchmark.studies.concepts.run import Options, choose
from featvis.concepts.craft import Concepts
from featvis.data.sets import open_images
from featvis.networks.units import parse_units

pytestmark = pytest.mark.usefixtures("plain_engine")
LITE0 = "efficientnet_lite0"


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch) -> Refusals:
    """Refused commands, in a folder with two real images of ladybugs' and tigers' classes (noise will do)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEATVIS_WEIGHTS", raising=False)
    rng = np.random.default_rng(0)
    for synset in ("n02165456", "n02129604"):
        (tmp_path / "data" / synset).mkdir(parents=True)
        Image.fromarray(rng.integers(0, 255, (80, 80, 3), np.uint8)).save(tmp_path / "data" / synset / "a.png")
    (tmp_path / "empty").mkdir()
    return Refusals(tmp_path, capsys)


GOOD = {"--classes": "ladybug", "--data": "data", "--concepts": "2"}
REFUSED = {
    "layer": ({"--layer": "blocks.55"}, ["--layer blocks.55", "no layer blocks.55", "did you mean blocks.5"]),
    "layer, negative": ({"--layer": "blocks.6"}, ["--layer blocks.6", "negative", "such as bn2"]),
    "layer, the output": ({"--layer": "logits"}, ["--layer logits", "output"]),
    "layer, too few channels": (
        {"--layer": "blocks.0.0.bn1", "--concepts": "33", "--patch": "16"},
        ["--concepts must be between 1 and 32, the channels of blocks.0.0.bn1"],
    ),
    "class": ({"--classes": "ladybugg"}, ["--classes ladybugg", "did you mean ladybug"]),
    "class out of range": ({"--classes": "1000"}, ["--classes 1000", "0 to 999"]),
    "units of a layer": ({"--classes": "blocks.2:0-3"}, ["--classes blocks.2:0-3", "no class", "301"]),
    "an image of a class": ({"--classes": "ladybug@2"}, ["--classes ladybug@2", "no class"]),
    "no classes": ({"--classes": None}, ["--classes is missing", "ladybug"]),
    "no data": ({"--data": None}, ["--data is missing"]),
    "data, no folder": ({"--data": "nowhere"}, ["--data nowhere", "not a folder"]),
    "data, no image": ({"--data": "empty"}, ["--data empty", "no image"]),
    "data without the class": ({"--classes": "goldfish"}, ["--data data", "no image of the class 1", "goldfish"]),
    "fewer patches than concepts": (
        {"--pool": "0", "--concepts": "17"},
        ["16 patches", "--concepts 17", "--pool", "--patch", "fewer --concepts"],
    ),
    "concepts": ({"--concepts": "0"}, ["--concepts must be between 1 and", "not 0"]),
    "patch, larger than the input": ({"--patch": "225"}, ["--patch must be between 8 and 224", "not 225"]),
    "patch, too small": ({"--patch": "7"}, ["--patch must be between 8 and 224", "not 7"]),
    "pool": ({"--pool": "-1"}, ["--pool must be between 0 and 999", "not -1"]),
    "images": ({"--images": "0"}, ["--images must be between 1 and", "not 0"]),
    "batch": ({"--batch-size": "0"}, ["--batch-size must be between 1 and 4096", "not 0"]),
    "seed": ({"--seed": "-1"}, ["--seed must be between 0 and", "not -1"]),
    "steps": ({"--steps": "0"}, ["--steps must be between", "not 0"]),
    "method": ({"--method": "maca"}, ["maca", "did you mean maco"]),
    "objective": ({"--objective": "sum"}, ["--objective must be cosine or dot, not sum"]),
    "out": ({"--out": "data/n02165456/a.png"}, ["--out", "cannot be written"]),
}


@pytest.mark.parametrize(("changed", "words"), REFUSED.values(), ids=REFUSED)
def test_bad_input(refused, changed, words):
    given = {k: v for k, v in (GOOD | changed).items() if v is not None}
    refused(["concepts", LITE0, *(f"{k}={v}" for k, v in given.items())], *words)


def test_unknown_network(refused):
    refused(["concepts", "efficientnet_lit0", "--classes", "1", "--data", "data"], "MODEL efficientnet_lit0", LITE0)


def test_a_class_of_few_images_is_pooled_with_its_nearest(classifier, sample):
    source = open_images(str(sample), classifier.synsets)
    few = choose(source, classifier, 292, Options())
    assert (few.own, len(few.rows), len(few.sisters)) == (1, 10, 9)
    assert source.labels[few.rows[0]] == 292
    assert [source.labels[i] for i in few.rows[1:]] == few.sisters
    assert choose(source, classifier, 292, Options(pool=3)).sisters == few.sisters[:3]
    assert choose(source, classifier, 292, Options(pool=0)).sisters == []


def test_a_mosaic_holds_the_patches_in_their_order():
    patches = [np.full((8, 8, 3), 20 * i, np.uint8) for i in range(1, 6)]
    with Image.open(BytesIO(mosaic(patches, 10))) as image:
        pixels = np.asarray(image)
    assert pixels.shape == (22, 34, 3)
    assert [int(pixels[5, x, 0]) for x in (5, 17, 29)] == [20, 40, 60]
    assert [int(pixels[17, x, 0]) for x in (5, 17, 29)] == [80, 100, 255]


def test_a_small_run_and_again(classifier, sample, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["concepts", LITE0, "--classes", "tiger", "--data", str(sample), "--concepts", "3", "--pool", "3"]
    command += ["--patch", "100", "--steps", "2", "--crops", "1", "--canvas", "64", "--out", "run"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "bn2 (the last one" in said
    assert "1 image, and 3 of the nearest classes: tiger cat, jaguar" in said
    home = tmp_path / "run" / LITE0 / "bn2"
    file = home / "292-tiger" / "concepts.safetensors"
    found, facts = Concepts.load(file)
    assert found.vectors.shape == (3, 1280)
    assert facts["name"] == "tiger"
    assert facts["labels"] == ["tiger concept 1", "tiger concept 2", "tiger concept 3"]
    assert facts["importance"] == sorted(facts["importance"], reverse=True)
    # The file's units are the images that were made.
    units = parse_units(f"direction:{file}:0-2", classifier)
    made = sorted(p.stem for p in home.glob("visualizations/*/*.png"))
    assert made == sorted(u.id for u in units)
    record = Record.read(tmp_path / "run" / "records" / LITE0 / "concepts_bn2_292.json")
    values = {m.name: m.value for m in record.metrics}
    assert [values[f"importance_{i}"] for i in (1, 2, 3)] == facts["importance"]
    assert values["error"] == pytest.approx(facts["error"])
    assert str(sample) not in json.dumps(record.to_dict())
    report = verify(tmp_path / "run", {})
    assert (report.images, report.problems, len(report.unchecked)) == (3, [], 1)
    page = (home / "index.html").read_text()
    for link in re.findall(r'(?:src|data-alpha)="([^"]+)"', page):
        assert (home / link).is_file()
    with Image.open(home / "sheet.png") as image:
        assert image.width > 600
    # The strongest patch, cut from its file by hand, is the mosaic's first tile.
    first = found.top(0, 1)[0]
    name = Path(facts["images"][first.image])
    with Image.open(sample / Path(*name.parts[1:])) as image:
        from featvis.data.files import fit

        crop = fit(image.convert("RGB"), (224, 224)).crop((first.left, first.top, first.left + 100, first.top + 100))
    with Image.open(home / "292-tiger" / "mosaic_0.png") as image:
        tile = np.asarray(image.crop((0, 0, 96, 96)), dtype=float)
    assert np.abs(tile - np.asarray(crop.resize((96, 96), Image.Resampling.BICUBIC), dtype=float)).max() <= 1

    before = tree(tmp_path / "run")
    assert main(command) == 0
    assert "(was there)" in capsys.readouterr().out
    assert tree(tmp_path / "run") == before
    # What is cut off is made anew, the same.
    file.write_bytes(file.read_bytes()[:1000])
    assert main(command) == 0
    assert "(was there)" not in capsys.readouterr().out
    assert torch.equal(Concepts.load(file)[0].vectors, found.vectors)
    assert tree(tmp_path / "run") == before
    # Killed between the concepts and their pictures, a run leaves none of those before.
    file.unlink()
    monkeypatch.setattr(concepts_run, "mosaics", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(command)
    assert file.is_file()
    assert list(file.parent.glob("mosaic_*.png")) == []
