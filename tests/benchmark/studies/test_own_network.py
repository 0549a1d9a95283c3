"""Attack and concepts on a network of one's own, whose file is called as a network of timm's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from benchmark.cli import main
from benchmark.records.record import Record
from featvis.concepts.craft import sisters
from featvis.data.files import digest
from featvis.networks.classifier import Classifier
from featvis.networks.names import ModelSpec

NET = """
from torch import nn

def make(classes=4, channels=3):
    return nn.Sequential(nn.Conv2d(channels, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, classes))
"""
MODEL, ALIAS = "wrap:efficientnet_lite2.yaml", "wrap-efficientnet_lite2"


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """The current folder: a network of four classes without names, and two images of each."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fourclasses.py").write_text(NET)
    for stem in ("efficientnet_lite2", "judge"):
        (tmp_path / f"{stem}.yaml").write_text(
            "class_path: fourclasses.make\nmean: [0.5, 0.5, 0.5]\nstd: [0.25, 0.25, 0.25]\ninput_size: [32, 32]\n"
        )
    random = np.random.default_rng(0)
    for i in range(8):
        path = tmp_path / "own" / str(i // 2) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (32, 32, 3), np.uint8)).save(path)
    return tmp_path


def test_an_attack_is_of_that_file_and_verified_with_it(here, capsys):
    assert main(["attack", MODEL, "--images", "own", "--steps", "2", "--limit", "2", "--out", "out"]) == 0
    record = Record.read(here / "out" / "records" / ALIAS / "sign-steps-2.json")
    assert (record.alias, record.given) == (ALIAS, MODEL)
    assert record.config["evaluation"]["given"] == {ALIAS: MODEL}
    assert str(record.command).startswith(f"featvis attack {MODEL} ")
    capsys.readouterr()
    assert main(["verify", "out"]) == 0
    said = capsys.readouterr().out
    present = sum(m.value is not None for m in record.metrics)
    assert f"2 images and {present} numbers checked, 0 problems" in said
    (here / "efficientnet_lite2.yaml").unlink()
    assert main(["verify", "out"]) == 1
    said = capsys.readouterr()
    assert "there is no file efficientnet_lite2.yaml" in said.out
    assert "no number of the run was checked" in said.err


def test_classes_without_names_are_not_those_of_a_judge(here, capsys):
    assert main(["attack", MODEL, "--images", "own", "--others", "wrap:judge.yaml", "--out", "out"]) == 2
    assert "--others wrap:judge.yaml has other classes than wrap-efficientnet_lite2" in capsys.readouterr().err
    assert not (here / "out").exists()


def test_concepts_of_a_module_that_names_no_head(here, capsys):
    args = ["concepts", MODEL, "--classes", "1", "--data", "own", "--steps", "2", "--crops", "2", "--canvas", "32"]
    assert main([*args, "--patch", "8", "--concepts", "2", "--out", "out"]) == 0
    found = list((here / "out" / "records" / ALIAS).rglob("*.json"))
    assert len(found) == 1
    record = Record.read(found[0])
    assert record.given == MODEL
    assert str(record.command).startswith(f"featvis concepts {MODEL} ")
    assert "of the nearest classes" in capsys.readouterr().out, "two images are few"


@pytest.fixture
def grey(here) -> str:
    """A network that takes one channel."""
    (here / "grey.yaml").write_text(
        "class_path: fourclasses.make\ninit_args: {channels: 1}\nmean: [0.5]\nstd: [0.25]\ninput_size: [32, 32]\n"
    )
    return "wrap:grey.yaml"


def test_a_grey_network_is_inverted_and_what_it_saw_is_put_down_grey(here, grey):
    assert main(["invert", grey, "--images", "own", "--limit", "2", "--steps", "2", "--out", "out"]) == 0
    record = Record.read(next((here / "out" / "records").rglob("*.json")))
    assert [m.n for m in record.metrics] == [2] * len(record.metrics)
    seen = np.asarray(Image.open(next((here / "out" / "originals" / "32x32").glob("0.*.png"))))
    luminance = np.asarray(Image.open(here / "own" / "0" / "0.png").convert("L"))
    np.testing.assert_array_equal(seen, np.repeat(luminance[..., None], 3, 2))


def test_a_unit_of_a_grey_network_is_brought_out(here, grey, capsys):
    call = ["accentuate", grey, "--images", "own/0/0.png", "--units", "1", "--steps", "2", "--out", "out"]
    assert main(call) == 0
    assert "figure   out/figures/accentuate-wrap-grey.png" in capsys.readouterr().out
    assert Record.read(next((here / "out" / "records").rglob("*.json"))).metrics[0].n == 1


def test_a_network_of_four_channels_sees_alpha_and_no_original_of_before_without_it(here):
    (here / "four.yaml").write_text(
        "class_path: fourclasses.make\ninit_args: {channels: 4}\nmean: [0.5, 0.5, 0.5, 0.5]\n"
        "std: [0.25, 0.25, 0.25, 0.25]\ninput_size: [32, 32]\n"
    )
    alpha = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    (here / "one").mkdir()
    with Image.open(here / "own" / "0" / "0.png") as image:
        Image.merge("RGBA", (*image.convert("RGB").resize((32, 32)).split(), Image.fromarray(alpha))).save("one/a.png")
    name = f"a.{digest(Path('one/a.png')):016x}"[:10] + ".png"
    stale = here / "out" / "originals" / "32x32" / name
    stale.parent.mkdir(parents=True)
    Image.new("RGB", (64, 64), "white").save(stale)
    assert main(["invert", "wrap:four.yaml", "--images", "one", "--steps", "2", "--out", "out"]) == 0
    (seen,) = (p for p in (here / "out" / "originals").rglob(name) if p != stale)
    np.testing.assert_array_equal(np.asarray(Image.open(seen))[32:, 32:, 0], alpha)


def test_what_is_of_rgb_alone_is_refused_before_anything_is_made(here, grey, capsys):
    for call in (["attack", grey, "--images", "own"], ["concepts", grey, "--classes", "1", "--data", "own"]):
        assert main([*call, "--out", "out"]) == 2
        assert "wrap:grey.yaml takes 1 channel; " in capsys.readouterr().err
    assert not (here / "out").exists()


def test_sister_classes_are_by_the_weights_of_the_layer_that_makes_the_logits():
    weights = torch.tensor([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.0], [0.0, 5.0]])
    linear, conv = nn.Linear(2, 4), nn.Conv2d(2, 4, 1)
    linear.weight.data, conv.weight.data = weights, weights[:, :, None, None].clone()
    body = [nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    half = (0.5, 0.5, 0.5)
    rows = weights - weights.mean(0)
    rows = rows / rows.norm(dim=1, keepdim=True)
    expected = [i for i in (rows @ rows[0]).argsort(descending=True).tolist() if i != 0]
    for end in ([nn.Flatten(), linear], [conv, nn.Flatten()]):
        spec = ModelSpec("tiny", "tiny", mean=half, std=half, input_size=(8, 8))
        assert sisters(Classifier(nn.Sequential(*body, *end), spec), 0) == expected
