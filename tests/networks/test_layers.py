"""Units of layers: what is named is what rises, by hooks that know each network by hand."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from featvis.errors import UserError
from featvis.generators import AM
from featvis.networks.classifier import Classifier
from featvis.networks.layers import Layer, stages
from featvis.networks.loading import load
from featvis.networks.measuring import measure
from featvis.networks.names import ModelSpec
from featvis.networks.own.modules import classifier_of
from featvis.networks.units import parse_units
from featvis.storage import directions

# Each network, smaller than it comes, with layers of every layout that it has and, by hand, where its channels are: the
# dimensions of its own output that NumPy averages, and the one that it picks from.
MAP, TOKENS, LAST = ((2, 3), 1), ((1,), 2), ((1, 2), 3)
SMALL_VIT = {"img_size": 96, "depth": 3}
NETWORKS = {
    "tf_efficientnet_lite0": ({}, {"blocks.1.1": MAP, "blocks.4.0.bn2": MAP, "conv_head": MAP}),
    "mobilenetv1_100": ({}, {"blocks.1.0": MAP, "blocks.2.0.conv_pw": MAP}),
    "resnet18": ({}, {"layer1.1": MAP, "layer3.0.conv2": MAP}),
    "inception_v3": ({}, {"Mixed_5b": MAP, "Mixed_6b.branch7x7_1": MAP}),
    "vit_tiny_patch16_224": ({**SMALL_VIT, "reg_tokens": 4}, {"blocks.1": TOKENS, "blocks.2.mlp.fc1": TOKENS}),
    "flexivit_small": ({**SMALL_VIT}, {"blocks.1": TOKENS, "patch_embed.proj": MAP, "blocks.2.attn.qkv": TOKENS}),
    "swin_tiny_patch4_window7_224": (
        {"img_size": 112, "depths": (1, 1, 1, 1)},
        {"layers.1": LAST, "layers.1.blocks.0.mlp.fc1": TOKENS, "patch_embed.proj": MAP},
    ),
    "convnext_atto": (
        {"conv_mlp": False, "depths": (1, 1, 1, 1)},
        {"stages.1": MAP, "stages.0.blocks.0.mlp.fc1": LAST, "stages.0.blocks.0.norm": LAST},
    ),
}
SIZE = {"inception_v3": 112, "swin_tiny_patch4_window7_224": 112}


def network(name: str) -> Classifier:
    kwargs, _ = NETWORKS[name]
    torch.manual_seed(0)
    net = timm.create_model(name, **kwargs).eval()
    side = SIZE.get(name, 96)
    return Classifier(net, ModelSpec(name, name, input_size=(side, side)), precision="float32")


def outputs_of(classifier: Classifier, layer: str, canvas: torch.Tensor) -> np.ndarray:
    """The raw output of a module for images of the input's size, with hooks and preprocessing written out here."""
    kept = []
    handle = classifier.net.get_submodule(layer).register_forward_hook(lambda m, a, o: kept.append(o.detach().numpy()))
    mean, std = classifier.mean.numpy(), classifier.std.numpy()
    with torch.no_grad():
        classifier.net(torch.from_numpy((canvas.numpy() - mean) / std))
    handle.remove()
    return kept[-1]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_unit_that_is_named_is_the_one_that_rises(name):
    classifier = network(name)
    noise = torch.rand(8, 3, *classifier.input_size, generator=torch.Generator().manual_seed(0))
    noise = 0.5 + (noise - 0.5) * torch.linspace(0.1, 1, 8)[:, None, None, None]
    for layer, (places, channel) in NETWORKS[name][1].items():
        alone = {"ascent": "adam", "decay": 1.0, "lr": 0.1, "chain": "none", "precision": "float32"}
        method = AM(steps=20, canvas=classifier.input_size[0], **alone)
        method.classifier = classifier
        units = parse_units(f"{layer}:1+5+8", classifier)
        parameters, fixed = method.start(units, method.streams(units))
        before = method.parametrization.decode(parameters, fixed).detach()
        found = method.predict_step(units)
        first, last = (outputs_of(classifier, layer, c).mean(places) for c in (before, found.canvas))
        assert first.shape == (3, outputs_of(classifier, layer, before).shape[channel])
        # What a channel does by itself, from image to image of noise.
        usual = outputs_of(classifier, layer, noise).mean(places).std(0)
        for row, unit in enumerate(units):
            own = last[:, unit.index]
            rise = own[row] - first[row, unit.index]
            others = max(np.delete(own, row)) - first[row, unit.index]
            said = f"{name} {unit.id}: {first[row, unit.index]:.3g} to {own[row]:.3g} (others' canvases: {others:+.3g})"
            assert float(found.activations[row]) == pytest.approx(own[row], rel=1e-3, abs=1e-4), said
            assert rise > 4 * usual[unit.index], said
            assert rise > 2 * others, said


@pytest.fixture(scope="module")
def vit() -> Classifier:
    """A ViT with a class token and four registers before 6 x 6 patches."""
    return network("vit_tiny_patch16_224")


def test_positions_are_the_ones_that_are_named(vit):
    x = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    raw = outputs_of(vit, "blocks.1", x)
    assert raw.shape == (2, 1 + 4 + 36, 192)
    expected = {
        "blocks.1": raw.mean(1),
        "blocks.1[patches]": raw[:, 5:].mean(1),
        "blocks.1[cls]": raw[:, 0],
        "blocks.1[reg2]": raw[:, 3],
        "blocks.1[2,4]": raw[:, 5 + 2 * 6 + 4],
        "blocks.1[:]": raw,
    }
    with torch.no_grad():
        found = vit.activations(x, frozenset(expected))
    for tap, values in expected.items():
        np.testing.assert_allclose(found[tap].numpy(), values, rtol=1e-4, atol=1e-5, err_msg=tap)
    cnn = network("convnext_atto")
    first, last = outputs_of(cnn, "stages.0", x), outputs_of(cnn, "stages.0.blocks.0.norm", x)
    with torch.no_grad():
        found = cnn.activations(x, frozenset({"stages.0[3,7]", "stages.0.blocks.0.norm[3,7]"}))
    np.testing.assert_allclose(found["stages.0[3,7]"], first[:, :, 3, 7], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["stages.0.blocks.0.norm[3,7]"], last[:, 3, 7], rtol=1e-4, atol=1e-5)


def test_a_neuron_looks_at_its_place(classifier):
    """The gradient of an early neuron lies around its position: the picture is asked for there and nowhere else."""
    x = torch.full((1, 3, 224, 224), 0.5).requires_grad_()
    neuron = classifier.activations(x, frozenset({"blocks.1.1[10,40]"}))["blocks.1.1[10,40]"][:, :8].sum()
    (gradient,) = torch.autograd.grad(neuron, x)
    weight = gradient.abs().sum((0, 1))
    scale = 224 / classifier.layer("blocks.1.1").grid[0]
    centre = [(weight.sum(1 - d) * torch.arange(224)).sum() / weight.sum() for d in (0, 1)]
    assert float(centre[0]) == pytest.approx(10.5 * scale, abs=6)
    assert float(centre[1]) == pytest.approx(40.5 * scale, abs=6)


def test_the_network_runs_no_further_than_it_is_read(classifier):
    ran = []
    handles = [b.register_forward_hook(lambda m, a, o, i=i: ran.append(i)) for i, b in enumerate(classifier.net.blocks)]
    try:
        x = torch.rand(1, 3, 224, 224)
        classifier.activations(x, frozenset({"blocks.2", "blocks.1.0[0,0]"}))
        assert ran == [0, 1] or ran == [0, 1, 2]
        ran.clear()
        assert "logits" in classifier.activations(x, frozenset({"blocks.2", "logits"}))
        assert ran == list(range(7))
    finally:
        for handle in handles:
            handle.remove()


class Odd(nn.Module):
    """What timm's networks do not do: tuples, shared modules, channels that no size tells from positions."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.act = nn.ReLU()
        self.fixed = nn.AdaptiveAvgPool2d(4)
        self.gru = nn.GRU(8, 5, batch_first=True)
        self.head = nn.Linear(5, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.fixed(self.act(self.conv(self.act(x))))
        x, _ = self.gru(x.flatten(2).transpose(1, 2))
        return self.head(x.mean(1))


def test_any_module_is_wrapped_by_a_file(tmp_path, monkeypatch):
    torch.manual_seed(5)
    net = Odd()
    save_file(net.state_dict(), tmp_path / "odd.safetensors")
    (tmp_path / "my_nets.py").write_text(Path(__file__).read_text())
    (tmp_path / "odd.yaml").write_text(
        "class_path: my_nets.Odd\nweights: odd.safetensors\nmean: [0.2, 0.3, 0.4]\nstd: [0.5, 0.6, 0.7]\n"
        "input_size: [24, 32]\nlabels: [cat, dog, bird]\n"
    )
    monkeypatch.chdir(tmp_path)
    wrapped = load("wrap:odd.yaml", "float32")
    assert (wrapped.alias, wrapped.name, wrapped.num_classes) == ("wrap-odd", "my_nets.Odd", 3)
    assert (wrapped.labels, wrapped.input_size) == (["cat", "dog", "bird"], (24, 32))
    x = torch.rand(4, 3, 24, 32)
    mean, std = torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1), torch.tensor([0.5, 0.6, 0.7]).view(3, 1, 1)
    with torch.no_grad():
        assert torch.allclose(wrapped(x), net((x - mean) / std), atol=1e-5)
        features = wrapped.features(x)
    assert features["pooled"].shape == (4, 5)
    assert torch.allclose(net.head(features["pooled"]), features["logits"], atol=1e-5)
    assert wrapped.layer("conv") == Layer("conv", (8, 24, 32), "map", 1, (24, 32))
    assert wrapped.layer("act").calls == 2
    # The last of a shared module's outputs counts, and the network runs until then.
    both = wrapped.activations(x, frozenset({"act", "conv"}))
    assert torch.allclose(both["act"], net.act(net.conv(net.act((x - mean) / std))).mean((2, 3)), atol=1e-5)
    with pytest.raises(UserError, match="layer gru of wrap-odd puts out a tuple, not a tensor"):
        wrapped.layer("gru")
    with pytest.raises(UserError, match="layer fixed of wrap-odd has no one channel dimension"):
        wrapped.layer("fixed")
    units = parse_units("dog,conv:3[5,6],conv:0-1+7", wrapped)
    assert [u.id for u in units] == ["1", "conv-3-r5c6", "conv-0", "conv-1", "conv-7"]
    assert parse_units(",".join(u.text for u in units), wrapped) == units


WRAPS = {
    "no file": (None, "there is no file net.yaml"),
    "unknown key": ({"sise": 3}, "unknown key sise: choose one of class_path"),
    "missing": ({"mean": ...}, "lacks mean"),
    "mean": ({"mean": [1, 2]}, "std must be a list of 2 numbers"),
    "std": ({"std": [1, 0, 1]}, "std must be a list of 3 numbers"),
    "module": ({"class_path": "torch.nn.Nothing"}, "torch.nn.Nothing cannot be imported"),
    "argument": ({"init_args": {"x": 1}}, "cannot be made"),
    "no module": ({"class_path": "builtins.dict", "init_args": {}}, "gives a dict, not a torch.nn.Module"),
    "pickle": ({"weights": "net.pth"}, "pickles are never loaded"),
    "labels": ({"labels": ["one"]}, "there are 1 labels, but the network has 8 classes"),
    "image": ({"class_path": "torch.nn.Linear", "init_args": {"in_features": 5, "out_features": 5}}, "does not take a"),
    "map": ({"class_path": "torch.nn.Conv2d"}, "not one number a class"),
}


@pytest.mark.parametrize("case", WRAPS)
def test_what_is_wrong_with_a_wrapped_network(case, tmp_path, monkeypatch):
    changed, message = WRAPS[case]
    values = {
        "class_path": "tests_flat.make", "mean": [0, 0, 0], "std": [1, 1, 1], "input_size": [8, 8], "labels": ["a"] * 8
    }  # fmt: skip
    (tmp_path / "tests_flat.py").write_text(
        "from torch import nn\ndef make(): return nn.Sequential(nn.Flatten(), nn.Linear(192, 8))\n"
    )
    if case == "map":
        values["init_args"] = {"in_channels": 3, "out_channels": 8, "kernel_size": 3}
    if changed is not None:
        values |= changed
        values = {k: v for k, v in values.items() if v is not ...}
        (tmp_path / "net.yaml").write_text(json.dumps(values))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as refused:
        load("wrap:net.yaml")
    assert "wrap:net.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)


UNITS = {
    "blocks.9:0": r"no layer blocks\.9: did you mean",
    "blocks.1:192": r"layer blocks\.1 has the indices 0 to 191",
    "blocks.1:3[6,0]": "the rows 0 to 5 and the columns 0 to 5",
    "blocks.1:3[0]": r"\[0\] is no position",
    "blocks.1:3[reg4]": "has cls, reg0, reg1, reg2, reg3 beside its patches",
    "blocks.1:3[]": "names no position",
    "blocks.1:3[:]": "is no unit",
    "head:3[1,1]": "layer head has no space",
    "3[cls]": "logits have no space",
    "blocks.0.attn.q_norm:0": r"no one channel dimension .* 3 x 41 x 64\)",
    "direction:none.safetensors:0": "is not a file of directions",
    "direction:0": "a direction is written direction:FILE:index",
}


@pytest.mark.parametrize("text", UNITS)
def test_what_is_wrong_with_a_unit(text, vit):
    with pytest.raises(UserError, match=UNITS[text]):
        parse_units(text, vit)


def test_tokens_beside_the_patches_are_left_out_on_demand(vit):
    texts = [u.text for u in parse_units("3,blocks.1:3,blocks.1:4[cls],patch_embed:5", vit, tokens="patches")]
    assert texts == ["3", "blocks.1:3[patches]", "blocks.1:4[cls]", "patch_embed:5"]


def test_directions_of_a_file_are_units(vit, tmp_path):
    vectors = torch.randn(3, 192, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "found.safetensors"
    facts = {"layer": "blocks.1", "weights": vit.weights_hash, "labels": ["a", "b", "c"]}
    directions.save(path, vectors, facts)
    units = parse_units(f"direction:{path}:0-2@0-1", vit)
    assert len({u.id for u in units}) == 6
    assert [u.label for u in units] == list("aabbcc")
    assert parse_units(",".join(u.text for u in units), vit) == units
    x = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = units[2].objective(vit.activations(x, units[2].objective.taps))
    expected = outputs_of(vit, "blocks.1", x).mean(1) @ vectors[1].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    with pytest.raises(UserError, match="not of"):
        parse_units(f"direction:{path}:0", network("flexivit_small"))
    directions.save(path, vectors[:, :5], {"layer": "blocks.1"})
    with pytest.raises(UserError, match="directions of 5 channels, but blocks.1 of .* has 192"):
        parse_units(f"direction:{path}:0", vit)
    directions.save(path, vectors, {})
    with pytest.raises(UserError, match="does not say of which layer"):
        parse_units(f"direction:{path}:0", vit)
    path.write_bytes(b"no tensors")
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        parse_units(f"direction:{path}:0", vit)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "convnext_atto", "densenet121", "mixer_s16_224"])
def test_what_pytorch_documents_of_a_module_agrees_with_what_is_measured(name):
    """Conv2d puts its channels first and Linear last, in every network: an oracle that does not measure."""
    torch.manual_seed(0)
    net = timm.create_model(name).eval()
    layers = measure(net, (224, 224))
    checked = 0
    for module_name, module in net.named_modules():
        layer = layers.get(module_name)
        if isinstance(layer, Layer) and isinstance(module, nn.Linear | nn.Conv2d):
            first = isinstance(module, nn.Conv2d)
            assert layer.channel == (1 if first else len(layer.shape)), module_name
            assert layer.channels == (module.out_channels if first else module.out_features), module_name
            checked += 1
    assert checked >= 10
    assert 1 <= len(stages(layers, 5)) <= 5
    assert not any(m._forward_hooks for m in net.modules())


def test_units_that_a_relu6_holds_at_a_bound_before_a_pooling_are_revived():
    """At 0 or 6 everywhere the network's own gradient is nothing; that of what goes into the ReLU6 stands in."""
    torch.manual_seed(0)
    net = timm.create_model("mobilenetv2_035").eval()
    with torch.no_grad():
        net.bn2.bias[3], net.bn2.bias[5] = -30.0, 30.0
        net.bn2.bias[7] = 3.0  # between, at some position at least
    classifier = Classifier(net, ModelSpec("m", "mobilenetv2_035", input_size=(64, 64)), precision="float32")
    layer = classifier.layer("global_pool")
    assert (layer.rectifier, layer.bound, layer.channels) == (34, 6.0, 1280)  # the last of 35

    def before(x: torch.Tensor) -> torch.Tensor:
        kept = []
        handle = net.bn2.act.register_forward_pre_hook(lambda m, a: kept.append(a[0].clone()))
        net((x - classifier.mean) / classifier.std)
        handle.remove()
        return kept[0]

    start = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for channel, value in ((3, 0.0), (5, 6.0), (7, None)):
        x = start.clone().requires_grad_()
        read = classifier.activations(x, frozenset({"global_pool"}))["global_pool"][0, channel]
        (gradient,) = torch.autograd.grad(read, x)
        y = start.clone().requires_grad_()
        own = before(y)[0, channel]
        if value is not None:
            assert float(read) == value, "what is read stays what the network says"
        (expected,) = torch.autograd.grad((own if value is not None else own.clamp(0, 6)).mean(), y)
        assert float(expected.norm()) > 0
        assert torch.allclose(gradient, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
        # Up a little: what goes into the ReLU6 follows.
        moved = before((start + 1e-2 * gradient / gradient.abs().max()).detach())[0, channel]
        assert float(moved.mean()) > float(own.mean())


def test_what_is_added_to_in_place_after_a_relu_is_not_taken_for_its_output():
    class Added(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act, self.pool, self.fc = (
                nn.Conv2d(3, 4, 3),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(1),
                nn.Linear(4, 2),
            )

        def forward(self, x):
            y = self.act(self.conv(x))
            y += 1
            return self.fc(self.pool(y).flatten(1))

    found = measure(Added().eval(), (16, 16))
    assert found["act"].rectifier == 0
    assert found["pool"].rectifier == -1


def torchvisions(size: int = 32) -> nn.Module:
    """A ViT that takes one input size alone: a class token before 4 x 4 patches."""
    torch.manual_seed(0)
    net = torchvision.models.VisionTransformer(size, 8, 2, 2, hidden_dim=16, mlp_dim=32, num_classes=5)
    nn.init.normal_(net.class_token)  # which is zero as it is made
    return net.eval()


class Rearranging(nn.Module):
    """A ViT without a convolution, as lucidrains' are made: patches are cut by their shape, positions are for one size.

    With `told` a module makes the patches, at any size; else none does.
    """

    def __init__(self, told: bool, registers: int | None = 0):
        super().__init__()
        self.embed = nn.Sequential(Cut(), nn.Linear(192, 16)) if told else None
        beside = 0 if registers is None else 1 + registers
        self.cls_token = nn.Parameter(torch.randn(1, beside, 16)) if beside else None
        self.positions = nn.Parameter(torch.randn(1, 16 + beside, 16))
        self.mix, self.block, self.head = (
            nn.Linear(192, 16),
            nn.Sequential(nn.Linear(16, 16), nn.GELU()),
            nn.Linear(16, 3),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = Cut()(x) @ self.mix.weight.T if self.embed is None else self.embed(x)
        x = x if self.cls_token is None else torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1)
        x = x + self.positions
        return self.head(self.block(x)[:, 0])


class Cut(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.unfold(x, 8, stride=8).transpose(1, 2)


ONE_SIZE = {
    "torchvision": (torchvisions, "encoder.layers.encoder_layer_1", 1),
    "tokens before": (lambda: Rearranging(True), "block", 1),
    "registers": (lambda: Rearranging(True, 4), "block", 5),
    "a square": (lambda: Rearranging(False, None), "block", 0),
}


@pytest.mark.parametrize("name", ONE_SIZE)
def test_the_patches_of_a_network_of_one_input_size_are_told_from_what_stands_beside_them(name):
    make, layer, extra = ONE_SIZE[name]
    net = make()
    classifier = classifier_of(net, "float32", mean=0.5, std=0.25, input_size=32)
    x, kept = torch.rand(3, 3, 32, 32), []
    handle = net.get_submodule(layer).register_forward_hook(lambda m, a, o: kept.append(o.detach()))
    with torch.no_grad():
        net.eval()((x - 0.5) / 0.25)
        handle.remove()
        raw = kept[0]
        assert raw.shape == (3, 16 + extra, 16)
        wanted = {
            f"{layer}[patches]": raw[:, extra:].mean(1), layer: raw.mean(1),
            **({f"{layer}[cls]": raw[:, 0]} if extra else {}),
            f"{layer}[1,2]": raw[:, extra + 6], f"{layer}[middle]": raw[:, extra + 10],
        }  # fmt: skip
        found = classifier.activations(x, frozenset(wanted))
    for tap, values in wanted.items():
        assert torch.allclose(found[tap], values, atol=1e-5), tap
    same = torch.allclose(found[f"{layer}[patches]"], raw.mean(1), atol=1e-2)
    assert same == (not extra), "a class token would be seen"
    assert [u.where for u in parse_units(f"{layer}:3,2", classifier, tokens="patches")] == ["patches" * bool(extra), ""]


def test_tokens_of_which_nobody_knows_which_are_patches_are_not_called_so():
    classifier = classifier_of(Rearranging(False).eval(), "float32", mean=0.5, std=0.25, input_size=32)
    for where in ("patches", "cls", "reg0", "1,2", "middle"):
        with pytest.raises(UserError, match=r"of the 17 tokens of layer block .* so no \[") as refused:
            parse_units(f"block:3[{where}]", classifier)
        assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=r"block:3: it cannot be told which of the 17 tokens"):
        parse_units("block:3", classifier, tokens="patches")
    # All of them can be read.
    assert [u.where for u in parse_units("block:3,head:1", classifier)] == ["", ""]
    assert parse_units("head:1", classifier, tokens="patches")[0].where == ""
    with torch.no_grad():
        assert classifier.activations(torch.rand(2, 3, 32, 32), frozenset({"block[:]"}))["block[:]"].shape == (
            2,
            17,
            16,
        )


def test_a_pooled_or_unlike_map_says_nothing_of_the_patches():
    class Pooled(nn.Module):
        """Tokens of 4 x 4 patches and one more, after a map of theirs and one of other places."""

        def __init__(self):
            super().__init__()
            self.stem, self.side = nn.Conv2d(3, 16, 8, 8), nn.Conv2d(16, 16, 2, 2)
            self.position, self.block = nn.Parameter(torch.randn(1, 17, 16)), nn.Linear(16, 16)

        def forward(self, x):
            maps = self.stem(x)
            small = self.side(maps)
            tokens = torch.cat([small.mean((2, 3))[:, None], maps.flatten(2).transpose(1, 2)], 1)
            return self.block(tokens + self.position)[:, 0]

    layer = measure(Pooled().eval(), (32, 32))["block"]
    assert (layer.extra, layer.grid) == (1, (4, 4))


def test_networks_of_one_size_are_made_anew_and_no_others():
    """Pictures and caches of networks of which all tokens were patches before are not believed; others keep hashes."""

    def setting(net: nn.Module, size: int, own: str | None = "") -> dict[str, str]:
        numbers = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "input_size": (size, size)}
        return Classifier(net, ModelSpec("own", "own", own=own, **numbers), precision="float32").setting

    def before(net: nn.Module, size: int) -> str:
        seen = {
            "mean": [0.5] * 3,
            "std": [0.5] * 3,
            "size": [size, size],
            "flat": None,
            "made": "",
            "layers": repr(net),
        }
        return hashlib.sha256(json.dumps(seen, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:12]

    convolutional = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    assert setting(convolutional, 16) == {"setting": before(convolutional, 16)}
    vit = timm.create_model("vit_tiny_patch16_224", img_size=96, depth=1)
    assert setting(vit, 96) == {"setting": before(vit, 96)}
    assert setting(vit, 96, None) == {}
    assert setting(torchvisions(), 32) != {"setting": before(torchvisions(), 32)}
    assert setting(torchvisions(), 32) == setting(torchvisions(), 32)
    assert setting(timm.create_model("pit_ti_224"), 224, None).keys() == {"setting"}
