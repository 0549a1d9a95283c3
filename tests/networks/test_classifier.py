"""Networks: real weights on real images, and where the weights come from."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import timm
import tiny
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

from featvis.canvas.color import to_bytes
from featvis.data.files import fit, list_images, open_rgb, to_tensor
from featvis.errors import UserError
from featvis.networks import hub, names, weights
from featvis.networks.classifier import Classifier
from featvis.networks.loading import load
from featvis.networks.names import ModelSpec, resolve
from featvis.networks.weights import locate

LITE0 = "efficientnet_lite0"


def photographs(folder: Path, classifier: Classifier, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    files = list_images(folder, classifier.synsets)[::step]
    images = torch.stack([to_tensor(fit(open_rgb(f.path), classifier.input_size)) for f in files])
    return images, torch.tensor([f.label for f in files])


@pytest.mark.parametrize("size", [(64, 128), (96, 48), (64, 64), (16, 16)])
def test_a_canvas_is_seen_as_its_file_is(size):
    """By Pillow's resizing of its 256 levels; a square one whole, to the bit as PyTorch resizes it."""
    network, stream = tiny.network(), torch.Generator().manual_seed(0)
    canvas = 0.2 + 0.6 * torch.rand(2, 3, *size, generator=stream)
    found = network.preprocess(canvas)
    files = [to_tensor(fit(Image.fromarray(to_bytes(one)), (16, 16))) for one in canvas]
    assert torch.allclose(found, torch.stack(files), atol=2 / 255)
    if size[0] == size[1]:
        whole = F.interpolate(canvas, (16, 16), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        assert found.equal(canvas if size == (16, 16) else whole)


@torch.no_grad()
def test_real_weights_know_real_images(classifier, sample):
    images, labels = photographs(sample, classifier, 25)
    assert float((classifier(images).argmax(1) == labels).float().mean()) >= 0.8
    out = classifier.features(images[:4])
    assert torch.allclose(out["logits"], classifier(images[:4]), atol=1e-3)
    # The head is linear: the logits follow from the pooled features by hand.
    head = classifier.net.classifier
    assert torch.allclose(out["pooled"] @ head.weight.T + head.bias, out["logits"], atol=1e-3)


@torch.no_grad()
def test_zoo_weights_are_built_as_their_metadata_says(zoo, sample, monkeypatch):
    monkeypatch.setenv("FEATVIS_WEIGHTS", str(zoo))
    network = load("mobilenetv1_100", "float32")
    images, labels = photographs(sample, network, 25)
    assert float((network(images).argmax(1) == labels).float().mean()) >= 0.85
    assert resolve("mobilenetv1_100").create_kwargs == {"pad_type": "same"}
    assert network.mean.flatten().tolist() == [0.5, 0.5, 0.5]
    assert {s.alias for s, w, _ in hub.available() if w} >= {"mobilenetv1_100", "mobilenetv2_100", LITE0}


@torch.no_grad()
def test_mean_and_std_are_applied_inside(classifier):
    x = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(classifier(x), classifier.net((x - 0.5) / 0.5), atol=1e-3)


def test_names_and_labels(classifier):
    assert classifier.name == "tf_efficientnet_lite0.in1k"
    assert (classifier.labels[301], classifier.synsets[301]) == ("ladybug", "n02165456")
    assert classifier.input_size == (224, 224)
    assert not classifier.train().training
    assert not any(p.requires_grad for p in classifier.parameters())


@torch.no_grad()
def test_positions_are_averaged_as_the_layout_demands(classifier):
    x = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    kept = {}
    handle = classifier.net.blocks[3].register_forward_hook(lambda m, a, o: kept.update(map=o))
    classifier.net((x - 0.5) / 0.5)
    handle.remove()
    found = classifier.activations(x, frozenset({"blocks.3", "logits"}))
    assert torch.allclose(found["blocks.3"], kept["map"].mean((2, 3)), atol=1e-4)
    assert torch.allclose(found["logits"], classifier(x), atol=1e-3)
    vit = Classifier(
        timm.create_model("vit_tiny_patch16_224").eval(), ModelSpec("vit", "vit_tiny_patch16_224"), precision="float32"
    )
    handle = vit.net.blocks[5].register_forward_hook(lambda m, a, o: kept.update(tokens=o))
    vit.net((x - vit.mean) / vit.std)
    handle.remove()
    assert kept["tokens"].shape == (2, 197, 192)
    # A channel of a ViT is a hidden dimension over all tokens, CLS included, never one token.
    assert torch.allclose(vit.activations(x, frozenset({"blocks.5"}))["blocks.5"], kept["tokens"].mean(1), atol=1e-4)
    assert vit.layer("blocks.5").channels == 192
    swin = Classifier(
        timm.create_model("swin_tiny_patch4_window7_224").eval(), ModelSpec("swin", "swin"), precision="float32"
    )
    assert swin.layer("layers.1").channels == 192


def test_hooks_are_removed_even_after_an_error(classifier):
    with pytest.raises(RuntimeError, match="stop"), classifier.tapped({"blocks.1", "conv_head"}):
        raise RuntimeError("stop")
    assert not any(m._forward_hooks for m in classifier.net.modules())
    with pytest.raises(UserError, match=r"no layer blocks\.11: did you mean blocks\.1"):
        classifier.layer("blocks.11")


def weights_folder(tmp_path: Path, monkeypatch) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setenv("FEATVIS_WEIGHTS", str(folder))
    return folder


def plain(classifier: Classifier) -> dict[str, torch.Tensor]:
    """A state dict that safetensors takes; channels_last is a layout that it does not."""
    return {k: v.clone().contiguous() for k, v in classifier.net.state_dict().items()}


def test_the_directory_comes_before_the_package(classifier, tmp_path, monkeypatch):
    assert locate(resolve(LITE0)).kind == "package"
    folder = weights_folder(tmp_path, monkeypatch)
    state = plain(classifier)
    state["classifier.bias"] += 1
    save_file(state, folder / f"{LITE0}.safetensors", metadata={"mean": json.dumps([0.4, 0.4, 0.4])})
    assert locate(resolve(LITE0)).kind == "directory"
    changed = load(LITE0, "float32")
    assert torch.allclose(changed.net.classifier.bias, classifier.net.classifier.bias + 1)
    assert changed.weights_hash != classifier.weights_hash
    assert changed.mean.flatten().tolist() == pytest.approx([0.4] * 3)


class Malicious:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


def test_files_that_are_no_weights(classifier, tmp_path, monkeypatch):
    folder = weights_folder(tmp_path, monkeypatch)
    path = folder / f"{LITE0}.safetensors"
    save_file(plain(classifier), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=rf"{LITE0}\.safetensors cannot be read"):
        load(LITE0)
    save_file(plain(load("efficientnet_lite1")) | {"extra": torch.zeros(1)}, path)
    with pytest.raises(UserError, match=r"of another network than tf_efficientnet_lite0\.in1k.*missing|unknown|shape"):
        load(LITE0)
    marker = tmp_path / "executed"
    path.write_bytes(pickle.dumps(Malicious(marker)))
    with pytest.raises(UserError, match="cannot be read"):
        load(LITE0)
    torch.save(Malicious(marker), tmp_path / "x.pth")
    with pytest.raises(UserError, match="pickled objects are never loaded"):
        weights._read(tmp_path / "x.pth")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("efficientnet_lite9", "did you mean.*efficientnet_lite"),
        ("resnet50", "has no tag.*resnet50.a1_in1k"),
        ("flexivitt", "flexivit"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(UserError, match=message):
        load(name)


@torch.no_grad()
def test_every_model_file_is_parsed():
    for alias in names.aliases():
        spec = resolve(alias)
        assert timm.is_model(spec.name), alias
        assert (names.CONFIGS / "model" / f"{alias}.yaml").read_text().startswith(f"# featvis run --model {alias} ")
