"""VITAL against NumPy's sorting and hooks set here; which images it sees; what it refuses."""

from __future__ import annotations

import copy
import gc
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from tiny import LABELS, network

import featvis
from featvis.data.files import digest
from featvis.errors import UserError
from featvis.generators import VITAL, Fourier, SeededAccentuation
from featvis.generators.callbacks import image_of
from featvis.generators.rivals import vital
from featvis.generators.rivals.vital import SortedMatch
from featvis.generators.state import cosine
from featvis.networks.classifier import Classifier
from featvis.networks.own.modules import classifier_of
from featvis.networks.units import parse_units
from featvis.networks.weights import ModelSpec
from featvis.storage.images import facts

LAYERS = ("1", "4")


def made(tiny, folder, **options):
    return VITAL(**{"model": tiny, "images": str(folder), "count": 2, "layers": LAYERS, "canvas": 16, "jitter": 0,
                    "steps": 3, **options})  # fmt: skip


def activations(tiny, images: np.ndarray) -> dict[str, np.ndarray]:
    """What hooks see of two layers: (N, C, positions)."""
    found: dict[str, np.ndarray] = {}
    handles = [
        tiny.net[int(name)].register_forward_hook(
            lambda m, a, out, name=name: found.update({name: out.detach().numpy()})
        )
        for name in LAYERS
    ]
    with torch.no_grad():
        tiny.net(torch.tensor((images - 0.5) / 0.25, dtype=torch.float32))
    for handle in handles:
        handle.remove()
    return {name: out.reshape(*out.shape[:2], -1) for name, out in found.items()}


def of_channels(count: int) -> Classifier:
    """A network of so many channels."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(count, 6, 3, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(6, len(LABELS)),
    )  # fmt: skip
    about = {"mean": (0.5,) * count, "std": (0.25,) * count, "input_size": (16, 16), "labels": LABELS}
    return Classifier(net, ModelSpec("many", "many", **about), precision="float32")


def rgb(paths: list[Path]) -> np.ndarray:
    return np.stack([np.asarray(Image.open(p), dtype=np.float64).transpose(2, 0, 1) / 255 for p in paths])


@pytest.mark.parametrize(("whose", "label"), [("unit", "cat"), ("next", "dog")])
def test_the_loss_is_numpys_between_sorted_activations(tiny, pictures, whose, label):
    generator = made(tiny, pictures, whose=whose, logit_weight=0.5)
    (unit,) = parse_units("cat", tiny)
    seen = sorted((pictures / label).iterdir())[:2]
    wanted = {k: np.sort(a, -1).mean(0) for k, a in activations(tiny, rgb(seen)).items()}
    canvas = np.random.default_rng(1).random((2, 3, 16, 16))
    loss = sum(
        ((np.sort(a, -1) - wanted[k]) ** 2).mean((1, 2)) / wanted[k].var(-1).mean()
        for k, a in activations(tiny, canvas).items()
    )
    x = torch.tensor(canvas, dtype=torch.float32)
    with torch.no_grad():
        logits = tiny(x)[:, 0].numpy()
    objective = generator.objective(unit)
    found = objective(tiny.activations(x.requires_grad_(), objective.taps))
    assert np.allclose(found.detach().numpy(), 0.5 * logits - loss, rtol=1e-4)
    assert generator.photographs(unit) == tuple(digest(p) for p in seen)


def test_extra_tokens_are_left_out_and_an_image_of_the_distribution_loses_nothing():
    tokens = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(0))
    match = SortedMatch("blocks.0", tokens[0, 1:].T.sort().values, extra=1)
    shuffled = torch.cat([tokens[:, :1] + 9, tokens[:, [3, 1, 4, 2]]], 1)
    assert float(match(shuffled)) == 0
    assert float(match(shuffled + 1)) < 0


def test_the_class_token_of_a_network_of_one_input_size_is_not_sorted(pictures):
    torch.manual_seed(0)
    net = torchvision.models.VisionTransformer(16, 4, 2, 2, hidden_dim=8, mlp_dim=16, num_classes=len(LABELS)).eval()
    torch.nn.init.normal_(net.class_token)
    vit, block = classifier_of(net, "float32", mean=0.5, std=0.25, input_size=16, labels=LABELS), "encoder.layers"
    seen: list[np.ndarray] = []
    handle = net.get_submodule(block).register_forward_hook(lambda m, a, out: seen.append(out.detach().numpy()))
    x = np.random.default_rng(1).random((2, 3, 16, 16))
    with torch.no_grad():
        for images in (rgb(sorted((pictures / "cat").iterdir())[:2]), x):
            net(torch.tensor((images - 0.5) / 0.25, dtype=torch.float32))
    handle.remove()
    assert seen[0].shape == (2, 17, 8)
    wanted, own = (np.sort(tokens[:, 1:], 1) for tokens in seen)
    wanted = wanted.mean(0)
    loss = ((own - wanted) ** 2).mean((1, 2)) / wanted.var(0).mean()
    objective = made(vit, pictures, layers=(block,)).objective(parse_units("cat", vit)[0])
    found = objective(vit.activations(torch.tensor(x, dtype=torch.float32), objective.taps))
    assert np.allclose(found.detach().numpy(), -loss, rtol=1e-3)


def test_tokens_of_which_nobody_knows_which_are_patches_are_not_matched(pictures):
    class Prompted(torch.nn.Module):
        """A class token beside 4 x 4 patches that no module makes, of one input size."""

        def __init__(self):
            super().__init__()
            self.extra, self.block = torch.nn.Parameter(torch.randn(1, 17, 48)), torch.nn.Linear(48, 8)
            self.head = torch.nn.Linear(8, len(LABELS))

        def forward(self, x):
            x = torch.nn.functional.pad(torch.nn.functional.unfold(x, 4, stride=4), (1, 0)).transpose(1, 2)
            return self.head(self.block(x + self.extra)[:, 0])

    torch.manual_seed(0)
    known = classifier_of(Prompted(), "float32", mean=0.5, std=0.25, input_size=16, labels=LABELS)
    for layers, words in (
        (("block",), "layer block has 17 tokens of which nobody can tell"),
        (None, "no layer of prompted"),
    ):
        generator = made(known, pictures, layers=layers)
        with pytest.raises(UserError, match=words):
            generator.check_units(parse_units("cat", known))


def test_it_comes_nearer_and_says_what_it_saw(tiny, pictures):
    generator = made(tiny, pictures, steps=30, lr=0.1)
    out = generator.visualize("cat@0-1,dog")
    assert bool((out.scores[-1] > 0.5 * out.scores[0]).all()), "the loss is less than half"
    assert not torch.equal(out.canvas[0], out.canvas[1])
    assert generator.seen() == "2 images of the class"
    assert len(generator.about(out.units[0])["seen"]) == 2
    # By content, wherever it lies; and the control is another configuration.
    moved = pictures.parent / "elsewhere"
    pictures.rename(moved)
    assert made(tiny, moved, steps=30, lr=0.1).config_hash() == generator.config_hash()
    assert made(tiny, moved, steps=30, lr=0.1, whose="next").config_hash() != generator.config_hash()


def test_its_loss_is_no_activation_of_the_unit(tiny, pictures):
    told = {}
    for generator in (made(tiny, pictures), Fourier(model=tiny, canvas=16, steps=1, chain="none")):
        out = generator.visualize("cat")
        told[type(generator)] = image_of(generator, "", out, 0)[2]
        assert told[type(generator)]["score"] == pytest.approx(float(out.scores[-1, 0]))
    assert told[VITAL]["activation"] is told[VITAL]["logit"] is None
    canvas = out.canvas[:1]
    logit = tiny(canvas)[0, 0].item()
    assert told[Fourier]["activation"] == told[Fourier]["logit"] == pytest.approx(logit, abs=1e-4)


def test_a_rate_rises_and_falls_as_a_cosine():
    rates = [cosine(0.03, step, 100, warmup=0.05) for step in range(100)]
    assert np.allclose(rates[:5], 0.03 * np.arange(1, 6) / 5)
    assert np.allclose(rates[5:], 0.03 * (1 + np.cos(np.pi * np.arange(95) / 95)) / 2)


def test_what_it_cannot_see_is_said_in_a_sentence(tiny, pictures):
    for options, units, words in (
        ({"images": None}, "cat", "VITAL sees real images; name a set"),
        ({"count": 0}, "cat", "count must be at least 1"),
        ({"count": 4}, "cat", "images has 3 images of cat, and 4 are asked for"),
        ({}, "cat,owl", "images has no image of owl, and 2 are asked for"),
        ({"images": str(pictures / "nowhere")}, "cat", "is not a folder"),
        ({"layers": ("1", "layer7")}, "cat", "has no layer layer7"),
        ({"layers": ("8",)}, "cat", "has no positions to sort"),
    ):
        with pytest.raises(UserError, match=words):
            made(tiny, **{"folder": pictures, **options}).visualize(units)
    (pictures / "cat" / "0.png").write_bytes(b"no picture")
    (pictures / "cat" / "1.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="1 images of cat can be decoded, and 2 are asked for"):
        made(tiny, pictures).visualize("cat")


def test_another_network_is_matched_with_what_its_own_layers_see(tiny, pictures):
    other = network()
    torch.nn.init.normal_(other.net[0].weight)
    other.labels = list(reversed(LABELS))
    generator = made(tiny, pictures)
    for net, unit in ((tiny, "cat"), (other, "cat"), (other, "4:1")):
        out = featvis.visualize(net, unit, generator, progress=False)
        fresh = featvis.visualize(net, unit, made(net, pictures), progress=False)
        assert torch.equal(out.canvas, fresh.canvas), unit
        assert generator.about(out.units[0]) == fresh.generator.about(out.units[0])


def test_a_network_that_was_trained_meanwhile_is_matched_as_it_is(tiny, pictures):
    live = copy.deepcopy(tiny.net)
    live.image_mean, live.image_std, live.image_size, live.labels = (0.5,) * 3, (0.25,) * 3, 16, list(LABELS)
    generator = made(live, pictures)
    before = generator.visualize("cat").canvas
    with torch.no_grad():
        live[0].weight.mul_(-2)
    after = generator.visualize("cat").canvas
    assert torch.equal(after, made(live, pictures).visualize("cat").canvas)
    assert not torch.equal(after, before)


def live() -> int:
    """The numbers in all tensors that somebody holds."""
    gc.collect()
    return sum(o.numel() for o in gc.get_objects() if type(o) is torch.Tensor)


def test_of_a_thousand_units_no_image_is_held_and_the_targets_of_a_batch_alone(tiny, pictures, monkeypatch):
    monkeypatch.setattr(vital, "KEPT", 0)
    monkeypatch.setattr(vital, "_MADE", WeakKeyDictionary())
    (pictures / "dog" / "0.png").write_bytes(b"no picture")
    units = parse_units("cat,dog,fox", tiny)
    files = {label: sorted((pictures / label).iterdir())[label == "dog" :][:2] for label in ("cat", "dog", "fox")}
    generator = made(tiny, pictures)
    generator.check_units(units)
    before = live()
    for unit in units:
        assert generator.photographs(unit) == tuple(map(digest, files[unit.label])), "what can be decoded"
    assert live() == before
    held = []
    for unit in (*units, *units):
        generator.optimise([unit])
        assert generator.about(unit)["seen"] == [f"{digest(path):016x}" for path in files[unit.label]]
        held.append(live() - before)
    one = 6 * 16 * 16 + 8 * 8 * 8
    assert set(held) == {held[0]}, "no more after six batches than after one"
    assert one <= held[0] < 2 * one, "the channels of two layers at all of their positions, of one unit"
    for unit in units:
        seen = {k: np.sort(a, -1).mean(0) for k, a in activations(tiny, rgb(files[unit.label])).items()}
        for _, match in generator.objective(unit).terms:
            assert np.allclose(match.target.numpy(), seen[match.layer], atol=1e-5)


def test_what_is_written_of_an_earlier_batch_costs_nothing_anew(tiny, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(vital, "KEPT", 0)
    monkeypatch.setattr(vital, "_MADE", WeakKeyDictionary())
    generator = made(tiny, pictures)
    parts = [generator.visualize(label) for label in ("cat", "dog", "fox")]
    out = featvis.visualize(tiny, "cat,dog,fox", generator, batch_size=1, progress=False)
    # Nothing of an image can be seen from now on, nor what it does to the network.
    monkeypatch.setattr(vital, "mean_sorted", None)
    monkeypatch.setattr(generator, "class_images", None)
    before = live()
    told = [image_of(generator, "", part, 0)[2] for part in parts] + [facts(p) for p in out.save(tmp_path)]
    assert live() == before
    for label, fact in zip(("cat", "dog", "fox") * 2, told, strict=True):
        assert fact["activation"] is fact["logit"] is None
        assert fact["seen"] == [f"{digest(path):016x}" for path in sorted((pictures / label).iterdir())[:2]]


def test_rows_of_a_suite_share_what_images_do_to_the_network(tiny, pictures, monkeypatch):
    first, second = made(tiny, pictures), made(tiny, pictures, logit_weight=1.0)
    units = parse_units("cat,dog", tiny)
    wanted = [first.objective(unit).terms[0][1].target for unit in units]
    monkeypatch.setattr(vital, "mean_sorted", None)
    assert all(second.objective(u).terms[0][1].target is w for u, w in zip(units, wanted, strict=True))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_of_other_channels_it_sees_what_image_files_have(pictures, count):
    network = of_channels(count)
    color = rgb(sorted((pictures / "cat").iterdir())[:2])
    grey, alpha = np.tensordot([0.299, 0.587, 0.114], color, (0, 1))[:, None], np.ones((2, 1, 16, 16))
    seen = np.concatenate({1: [grey], 2: [grey, alpha], 4: [color, alpha]}[count], 1)
    with torch.no_grad():
        read = network.net[0](torch.tensor((seen - 0.5) / 0.25, dtype=torch.float32)).flatten(2).numpy()
    generator = made(network, pictures, layers=("0",))
    out = generator.visualize("cat,0:1")
    assert out.canvas.shape == (2, count, 16, 16)
    ((_, match),) = generator.objective(out.units[0]).terms
    # An image file's luminance is on 256 levels.
    assert np.abs(match.target.numpy() - np.sort(read, -1).mean(0)).max() < 0.02
    begun = SeededAccentuation(model=network, images=str(pictures), layer="0", untouched=True, canvas=16).visualize(
        "cat"
    )
    assert begun.canvas.shape == (1, count, 16, 16)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_alpha_of_files_is_seen_by_networks_of_two_and_four_channels(pictures, count):
    rng = np.random.default_rng(1)
    for path in pictures.rglob("*.png"):
        alpha = Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8))
        Image.merge("RGBA", (*Image.open(path).convert("RGB").split(), alpha)).save(path)
    net = of_channels(count)
    files = {digest(path): np.asarray(Image.open(path), np.float64) / 255 for path in pictures.rglob("*.png")}

    def as_taken(image: np.ndarray) -> np.ndarray:
        color, alpha = image[..., :3].transpose(2, 0, 1), image[None, ..., 3]
        return {2: np.concatenate([np.tensordot([0.299, 0.587, 0.114], color, 1)[None], alpha]), 3: color,
                4: np.concatenate([color, alpha])}[count]  # fmt: skip

    matched = made(net, pictures, layers=("0",))
    for unit in parse_units("cat,0:1", net):
        seen = matched._see(unit)
        taken = np.stack([as_taken(files[d]) for d in seen.digests])
        if unit.layer == "logits":
            assert np.abs(seen.images.numpy() - taken).max() < 0.6 / 255, "luminance is on 256 levels"
        else:
            # A patch is of half the side; the mean of the enlarged image is the image's, nearly.
            assert seen.images.shape == taken.shape
            assert count == 3 or float(seen.images[:, -1].std()) > 0.1
    begun = SeededAccentuation(model=net, images=str(pictures), layer="0", untouched=True, canvas=16)
    out = begun.visualize("cat@0-3")
    for unit, canvas in zip(out.units, out.canvas, strict=True):
        assert np.abs(canvas.numpy() - as_taken(files[begun.photographs(unit)[0]])).max() < 1.6 / 255
    for method in (matched, begun):
        assert method.config().get("alpha") == (None if count == 3 else "of the files")


@pytest.mark.parametrize("method", [VITAL, SeededAccentuation])
@pytest.mark.parametrize("unit", ["cat", "0:1"])
def test_of_more_channels_than_image_files_have_it_says_so(pictures, method, unit):
    with pytest.raises(UserError, match="photographs have 1 to 4 channels, and many takes 5"):
        method(model=of_channels(5), images=str(pictures), canvas=16, steps=1).visualize(unit)
