"""Bad input to `featvis attack`: one sentence, exit code 2, nothing written."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from commands import Refusals
from PIL import Image


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch) -> Refusals:
    """Refused commands, in a folder with pictures: a ladybug (301) by its folder's name, and one without a class."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEATVIS_WEIGHTS", raising=False)
    for name in ("pictures/n02165456/one.png", "unknown/two.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        pixels = np.random.default_rng(0).integers(0, 256, (240, 230, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "three.jpg").write_text("no image")
    shutil.copy(tmp_path / "unknown" / "two.png", tmp_path / "broken" / "two.png")
    return Refusals(tmp_path, capsys)


NET = "efficientnet_lite0"
GOOD = [NET, "--images", "pictures"]
CASES = {
    "no model": (["--images", "pictures"], ["MODEL is missing"]),
    "model, empty": ([",", "--images", "pictures"], ["MODEL is empty"]),
    "model": (["efficientnet_lit0", "--images", "pictures"], ["MODEL efficientnet_lit0", NET]),
    "one model of several": (["efficientnet_lite0,flexivitt", "--images", "pictures"], ["MODEL flexivitt", "flexivit"]),
    "others": ([*GOOD, "--others", "efficientnet_lit1"], ["--others efficientnet_lit1", "efficientnet_lite1"]),
    "no images": ([NET], ["--images is missing"]),
    "images, missing": ([NET, "--images", "nowhere"], ["--images nowhere", "not a folder"]),
    "images, empty": ([NET, "--images", "empty"], ["--images empty", "no image"]),
    "images, one broken": ([NET, "--images", "broken"], ["--images", "three.jpg", "no image that can be", "remove"]),
    "image, broken": ([NET, "--images", "broken/three.jpg"], ["--images broken/three.jpg", "no image that can be"]),
    "target, own class": ([*GOOD, "--targets", "301"], ["--targets 301", "one.png", "ladybug", "already", "its name"]),
    "target, one of several": ([*GOOD, "--targets", "3,ladybug"], ["--targets 3,ladybug", "one.png", "already"]),
    "target, own class of one image": (
        [NET, "--images", "pictures/n02165456/one.png", "--targets", "301"], ["one.png", "ladybug", "already"],
    ),
    "target, unknown": ([*GOOD, "--targets", "ladybugg"], ["--targets ladybugg", "did you mean ladybug"]),
    "target, out of range": ([*GOOD, "--targets", "1000"], ["--targets 1000", "0 to 999"]),
    "target, units of a layer": ([*GOOD, "--targets", "blocks.2:3"], ["--targets blocks.2:3", "no class", "301"]),
    "target, repeated": ([*GOOD, "--targets", "ladybug@3"], ["--targets", "301@3", "no class"]),
    "target, empty": ([*GOOD, "--targets", ","], ["--targets is empty"]),
    "preset": ([*GOOD, "--preset", "resnet50"], ["--preset resnet50", "did you mean resnet50v2"]),
    "epsilon, too large": ([*GOOD, "--epsilon", "4"], ["--epsilon must be between 0 and 1, not 4"]),
    "epsilon, negative": ([*GOOD, "--epsilon", "1/255,-1/255"], ["--epsilon must be between 0 and 1, not -0.0"]),
    "epsilon, a word": ([*GOOD, "--epsilon", "small"], ["--epsilon small", "not a number", "4/255"]),
    "epsilon, by zero": ([*GOOD, "--epsilon", "4/0"], ["--epsilon 4/0", "not a number"]),
    "epsilon, nan": ([*GOOD, "--epsilon", "nan"], ["--epsilon nan", "not a number"]),
    "alpha": ([*GOOD, "--alpha", "0"], ["--alpha must be above 0"]),
    "alpha, nan": ([*GOOD, "--alpha", "nan"], ["--alpha must be a number, not nan"]),
    "alpha, a word": ([*GOOD, "--alpha", "x"], ["--alpha must be a number, not x"]),
    "tv": ([*GOOD, "--tv", "-1"], ["--tv must be at least 0"]),
    "steps": ([*GOOD, "--steps", "0"], ["--steps must be between 1 and 100000, not 0"]),
    "sign": ([*GOOD, "--sign", "maybe"], ["unexpected argument maybe"]),
    "limit": ([*GOOD, "--limit", "0"], ["--limit must be at least 1, not 0"]),
    "batch size": ([*GOOD, "--batch-size", "0"], ["--batch-size must be between 1 and 4096, not 0"]),
    "option": ([*GOOD, "--epsilonn", "1"], ["--epsilonn", "did you mean --epsilon"]),
    "out": ([*GOOD, "--out", "unknown/two.png"], ["--out unknown/two.png cannot be written"]),
}  # fmt: skip


@pytest.mark.parametrize(("args", "words"), CASES.values(), ids=CASES)
def test_what_is_refused(refused, args, words):
    refused(["attack", *args], *words)


def test_a_target_that_the_network_sees_already(refused, classifier):
    """Where no name carries a class, the prediction is the image's own class."""
    with Image.open("unknown/two.png") as image:
        from featvis.data.files import fit

        x = torch.from_numpy(np.asarray(fit(image, (224, 224)), np.float32).transpose(2, 0, 1) / 255)[None]
    seen = int(classifier(x).argmax())
    words = ("two.png", classifier.labels[seen], "already", "as efficientnet_lite0 sees it")
    refused(["attack", NET, "--images", "unknown", "--targets", str(seen)], *words)
