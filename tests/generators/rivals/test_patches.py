"""VITAL for channels, of a CNN and a transformer: patches, their relevance and the loss against NumPy and hooks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from tiny import LABELS

from featvis.data.files import digest
from featvis.errors import UserError
from featvis.generators import VITAL
from featvis.networks.classifier import Classifier
from featvis.networks.units import Unit, parse_units
from featvis.networks.weights import ModelSpec


@pytest.fixture(scope="module")
def transformer() -> Classifier:
    """Of a class token and 4 x 4 patches."""
    torch.manual_seed(0)
    net = VisionTransformer(img_size=16, patch_size=4, embed_dim=12, depth=2, num_heads=2, num_classes=len(LABELS))
    about = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "input_size": (16, 16), "labels": LABELS}
    return Classifier(net.eval(), ModelSpec("vit", "vit", **about), precision="float32")


def positions(network: Classifier, layer: str, images: np.ndarray) -> np.ndarray:
    """What a hook sees of a layer at each image position: (N, C, positions), without a class token."""
    found = []
    module = network.net.get_submodule(layer)
    handle = module.register_forward_hook(lambda m, a, out: found.append(out.detach().numpy()))
    with torch.no_grad():
        network.net(torch.tensor((images - 0.5) / 0.25, dtype=torch.float32))
    handle.remove()
    (out,) = found
    return out.reshape(*out.shape[:2], -1) if out.ndim == 4 else out[:, 1:].transpose(0, 2, 1)


def rgb(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.float64).transpose(2, 0, 1) / 255


@pytest.mark.parametrize(("kind", "own", "early"), [("tiny", "4", "1"), ("transformer", "blocks.1", "blocks.0")])
@pytest.mark.parametrize("whose", ["unit", "next"])
def test_patches_relevance_and_loss_are_numpys(request, pictures: Path, kind: str, own: str, early: str, whose: str):
    network = request.getfixturevalue(kind)
    generator = VITAL(model=network, images=str(pictures), count=3, layers=(early, own), canvas=16, whose=whose)
    (unit,) = parse_units(f"{own}:2", network)
    paths = sorted(pictures.rglob("*.png"))
    read = positions(network, own, np.stack([rgb(Image.open(p)) for p in paths]))[:, 2 + (whose == "next")]
    strongest = read.max(1)
    chosen = np.argsort(-strongest, kind="stable")[:3]
    relevance = strongest[chosen] - np.sort(strongest)[len(paths) // 2]
    side = round(read.shape[1] ** 0.5)
    patches = []
    for i in chosen:
        row, column = divmod(int(read[i].argmax()), side)
        top, left = (min(max(round((at + 0.5) * 32 / side - 8), 0), 16) for at in (row, column))
        patches.append(rgb(Image.open(paths[i]).resize((32, 32), 3))[:, top : top + 16, left : left + 16])
    seen = generator.patches().of(unit)
    assert np.allclose(seen.images.numpy(), np.stack(patches), atol=1e-6)
    assert np.allclose(seen.relevance.numpy(), relevance, atol=1e-5)
    assert generator.about(unit)["seen"] == [f"{digest(paths[i]):016x}" for i in chosen]
    assert sorted(generator.photographs(unit)) == sorted(map(digest, paths)), "all among which they were sought"

    canvas = np.random.default_rng(1).random((2, 3, 16, 16))
    loss = np.zeros(2)
    for layer in (early, own):
        ranked = np.sort(positions(network, layer, np.stack(patches)), -1)
        wanted = (ranked * relevance[:, None, None]).sum(0) / relevance.sum()
        match = (np.sort(positions(network, layer, canvas), -1) - wanted) ** 2
        loss += match.mean((1, 2)) / wanted.var(-1).mean()
    objective = generator.objective(unit)
    found = objective(network.activations(torch.tensor(canvas, dtype=torch.float32), objective.taps))
    assert np.allclose(found.detach().numpy(), -loss, rtol=1e-3)


def test_without_names_the_layers_end_at_the_channels_own(tiny, pictures):
    generator = VITAL(model=tiny, images=str(pictures), count=3, canvas=16, jitter=0, steps=20, lr=0.1)
    late, early = parse_units("5:1,2:1@0-1", tiny)[0], parse_units("2:1", tiny)[0]
    taps = {unit.text: generator.objective(unit).taps for unit in (late, early)}
    assert "2[:]" in taps["2:1"]
    assert not {"3[:]", "4[:]", "5[:]"} & taps["2:1"]
    assert "5[:]" in taps["5:1"]
    out = generator.visualize("5:1,2:1")
    assert bool((out.scores[-1] > 0.5 * out.scores[0]).all()), "the loss is less than half"
    assert generator.seen([late]) == "3 exciting patches"
    assert generator.seen([late, *parse_units("cat", tiny)]) == "3 images of the class"


def test_what_has_no_patches_is_refused(tiny, transformer, pictures):
    for network, options, text, words in (
        (tiny, {}, "4:1[0,1]", "4:1\\[0,1\\] is none; name one, for example 4:0"),
        (transformer, {"layers": ("blocks.1",)}, "blocks.1:1[cls]", "for example blocks.1:0"),
        (tiny, {"count": 9}, "4:1", "has 9 images, and of more than 9 the 9 are chosen that excite 4:1 most"),
        (tiny, {"layers": ("4",)}, "8:1", "layer 8 has no rows and columns"),
        (tiny, {"layers": ("layer9",)}, "4:1", "has no layer layer9"),
    ):
        made = VITAL(**{"model": network, "images": str(pictures), "count": 2, "canvas": 16, **options})
        units = parse_units(text, network)
        with pytest.raises(UserError, match=words):
            made.check_units(units)
    direction = Unit("4", 0, "mine", file="mine.safetensors", vector=(1.0,) * 8)
    with pytest.raises(UserError, match="patches are sought for whole channels"):
        VITAL(model=tiny, images=str(pictures), count=2, canvas=16).check_units([direction])
    for path in pictures.rglob("*.png"):
        Image.new("RGB", (16, 16)).save(path)
    generator = VITAL(model=tiny, images=str(pictures), count=2, canvas=16)
    with pytest.raises(UserError, match="no 2 of the 9 that were looked at excite 4:1 more than the others"):
        generator.objective(parse_units("4:1", tiny)[0])


def test_the_images_that_are_looked_at_are_opened_once_for_all_units(tiny, pictures, monkeypatch):
    generator = VITAL(model=tiny, images=str(pictures), count=2, layers=("4",), canvas=16)
    units, source, opened = parse_units("4:0-3", tiny), generator.class_images().source, []
    monkeypatch.setattr(source, "open", lambda row, *how, whole=source.open: (opened.append(row), whole(row, *how))[1])
    found = [generator.photographs(unit) for unit in units]
    assert found == [tuple(map(digest, sorted(pictures.rglob("*.png"))))] * len(units)
    assert sorted(opened) == list(range(9))
