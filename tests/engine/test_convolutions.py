"""A frozen convolution and its input gradient are PyTorch's own, in double precision."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from timm.layers import Conv2dSame, StdConv2d, StdConv2dSame
from torch import Tensor, nn

from featvis import engine
from featvis.engine.convolutions import FrozenConv2d, freeze_convolutions
from featvis.networks.classifier import Classifier
from featvis.networks.loading import load
from featvis.networks.names import resolve


def integers(shape: Any, generator: torch.Generator, most: int = 2) -> Tensor:
    """Whole numbers: sums of their products are exact in bfloat16 too, up to 256."""
    return torch.randint(-most, most + 1, tuple(shape), generator=generator).double()


def gradient(f: nn.Module, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The output, and the input's gradient of its product with `weight`."""
    x = x.clone().requires_grad_()
    y = f(x)
    return y.detach(), torch.autograd.grad((y * weight.to(y)).sum(), x)[0]


@given(
    kind=st.sampled_from(["dense", "depthwise", "grouped", "few", "pointwise"]),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.one_of(st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 3))),
    padding=st.one_of(st.just("same"), st.integers(0, 3), st.tuples(st.integers(0, 3), st.integers(0, 3))),
    act=st.sampled_from([None, nn.ReLU(), nn.ReLU6(inplace=True)]),
    size=st.tuples(st.integers(6, 13), st.integers(6, 13)),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
    layout=st.sampled_from([torch.channels_last, torch.contiguous_format]),
    seed=st.integers(0, 99),
)
@settings(deadline=None)  # kernels are compiled at their first call
@example("depthwise", (3, 3), 2, "same", nn.ReLU6(), (12, 12), torch.bfloat16, torch.channels_last, 0)
@example("depthwise", (5, 5), 2, 2, None, (9, 12), torch.bfloat16, torch.channels_last, 1)
@example("few", (4, 4), 4, 0, None, (11, 13), torch.float32, torch.channels_last, 2)
@example("few", (32, 32), 32, 0, None, (64, 70), torch.bfloat16, torch.channels_last, 3)
@example("depthwise", (5, 5), 5, 0, None, (13, 11), torch.float32, torch.channels_last, 4)
def test_output_and_input_gradient(kind, kernel, stride, padding, act, size, dtype, layout, seed):
    g = torch.Generator().manual_seed(seed)
    kernel = (1, 1) if kind == "pointwise" else kernel
    groups = {"depthwise": 8, "grouped": 2}.get(kind, 1)
    into, out = (3 if kind == "few" else 8), (16 if kind == "grouped" else 8)
    if padding == "same":
        conv: nn.Conv2d = Conv2dSame(into, out, kernel, stride, groups=groups)
    else:
        conv = nn.Conv2d(into, out, kernel, stride, padding, groups=groups)
    conv = conv.requires_grad_(False)
    # Few taps that are not zero, so that no sum is beyond what bfloat16 holds exactly.
    conv.weight.copy_(integers(conv.weight.shape, g, 1) * (torch.rand(conv.weight.shape, generator=g) < 0.3))
    conv.bias.copy_(integers(conv.bias.shape, g))
    x = integers((2, into, *size), g)
    expected = nn.Sequential(*[m for m in (copy.deepcopy(conv).double(), act) if m is not None])
    weight = integers(expected(x).shape, g)
    out_expected, gradient_expected = gradient(expected, x, weight)
    frozen = FrozenConv2d(conv, act).to(dtype)
    found = gradient(frozen, x.to(dtype).contiguous(memory_format=layout), weight)
    assert found[0].dtype == found[1].dtype == dtype
    assert torch.equal(found[0].double(), out_expected)
    assert torch.equal(found[1].double(), gradient_expected)
    assert torch.equal(frozen(x[0].to(dtype)).double(), out_expected[0])


@pytest.mark.parametrize("kind", [StdConv2d, StdConv2dSame])
def test_weights_that_are_standardised_at_each_call_are_standardised_once(kind):
    torch.manual_seed(0)
    conv = kind(6, 8, 3, stride=2, eps=1e-8).requires_grad_(False)
    x, weight = torch.randn(2, 6, 12, 13), torch.randn(2, 8, 6, 7)
    for a, b in zip(gradient(FrozenConv2d(conv), x, weight), gradient(conv, x, weight), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_only_convolutions_that_it_knows_are_taken():
    class Own(nn.Conv2d):
        def forward(self, input):
            return super().forward(input) * 2

    assert FrozenConv2d.can_be(nn.Conv2d(3, 4, 3))
    assert not FrozenConv2d.can_be(Own(3, 4, 3))
    assert not FrozenConv2d.can_be(nn.Conv2d(3, 4, 3, dilation=2))
    assert not FrozenConv2d.can_be(nn.Conv2d(3, 4, 3, padding="same"))
    assert not FrozenConv2d.can_be(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"))
    normed = nn.Conv2d(3, 4, 3)
    torch.nn.utils.weight_norm(normed)
    assert not FrozenConv2d.can_be(normed)
    watched = nn.Conv2d(3, 4, 3)
    watched.register_forward_hook(lambda m, a, o: None)
    assert not FrozenConv2d.can_be(watched)


def test_other_weights_and_types_make_other_kernels():
    torch.manual_seed(0)
    one = FrozenConv2d(nn.Conv2d(4, 4, 3, 2, 1, groups=4).requires_grad_(False))
    x, weight = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 4, 4)
    before = gradient(one, x, weight)
    other = copy.deepcopy(one)
    other.weight.mul_(2)
    other.bias.mul_(2)
    for a, b in zip(gradient(other, x, weight), before, strict=True):
        assert torch.allclose(a, 2 * b, rtol=1e-6, atol=1e-6)
    again = pickle.loads(pickle.dumps(one))
    for a, b in zip(gradient(again, x, weight), before, strict=True):
        assert torch.equal(a, b)
    for size in range(8, 20):
        one(torch.randn(1, 4, size, size))
    assert len(one._plans) <= 4
    low = gradient(one.to(torch.bfloat16), x.bfloat16(), weight)
    high = gradient(one.float(), x, weight)
    for a, b, c in zip(low, high, before, strict=True):
        assert a.dtype == torch.bfloat16
        assert torch.allclose(a.float(), c, atol=0.05)
        # The weights have been through bfloat16.
        assert torch.allclose(b, c, atol=0.05)


@pytest.mark.parametrize("name", ["efficientnet_b0", "resnetv2_50x1_bit.goog_in21k_ft_in1k", "convnext_atto"])
def test_a_frozen_network_has_the_same_layers_and_gradient(name):
    torch.manual_seed(0)
    net = timm.create_model(name.partition(".")[0], pretrained=False).eval().requires_grad_(False)
    for parent in list(net.modules()):
        for child, module in list(parent.named_children()):
            if isinstance(module, nn.ReLU):
                # Where a ReLU has its kink turns with the last bit, which is every CPU's own.
                setattr(parent, child, nn.SiLU(inplace=module.inplace))
    for p in net.parameters():
        # Heads, and scales of residual branches, that begin at zero would hide what comes before them.
        if not p.any() or p.abs().max() <= 1e-5:
            p.normal_(0, 0.05)
    state = copy.deepcopy(net.state_dict())
    frozen = freeze_convolutions(net)
    assert sum(isinstance(m, FrozenConv2d) for m in frozen.modules()) > 3
    assert not any(isinstance(m, FrozenConv2d) for m in net.modules())
    assert frozen.state_dict().keys() == state.keys()
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    seen: list[dict[str, Tensor]] = [{}, {}]
    found = []
    for outputs, f in zip(seen, (net, frozen), strict=True):
        for layer, module in f.named_children():
            if not isinstance(module, nn.Identity):
                module.register_forward_hook(lambda m, a, o, layer=layer, outputs=outputs: outputs.update({layer: o}))
        y = x.clone().requires_grad_()
        found.append(torch.autograd.grad(f(y)[:, 7].sum(), y)[0])
    assert seen[0].keys() == seen[1].keys()
    for layer in seen[0]:
        assert torch.allclose(seen[0][layer], seen[1][layer], rtol=1e-3, atol=1e-4 * seen[0][layer].abs().max().item())
    assert F.cosine_similarity(found[0].flatten(), found[1].flatten(), dim=0) > 0.9999
    assert float(found[0].norm()) == pytest.approx(float(found[1].norm()), rel=1e-2)
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())


def test_gradients_of_layers_and_logits_come_through_it():
    classifier = load("efficientnet_lite0", "bfloat16")
    x = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    plain = copy.deepcopy(classifier.net)
    for taps in (frozenset({"logits"}), frozenset({"blocks.3"})):
        y = x.clone().requires_grad_()
        kept: list[Tensor] = []
        handle = plain.blocks[3].register_forward_hook(lambda m, a, o, kept=kept: kept.append(o))
        with torch.autocast("cpu", torch.bfloat16):
            logits = plain((y - classifier.mean) / classifier.std).float()
        handle.remove()
        reference = logits if taps == {"logits"} else kept[0].float().mean((2, 3))
        (expected,) = torch.autograd.grad(reference[:, 7].sum(), y)
        z = x.clone().requires_grad_()
        read = classifier.activations(z, taps)
        ours = next(iter(read.values())).float()
        (got,) = torch.autograd.grad(ours[:, 7].sum(), z)
        # Layers come from the same network, rounded alike; folded batch norms round otherwise.
        least = 0.8 if taps == {"logits"} else 0.9999
        for a, b in ((ours.detach(), reference.detach()), (got, expected)):
            assert F.cosine_similarity(a.flatten(), b.flatten(), dim=0) > least


def test_versions_of_a_network_are_made_once_and_also_in_inference_mode(monkeypatch):
    classifier = load("efficientnet_lite0", "bfloat16")
    made = []
    fold = engine.folded
    monkeypatch.setattr(engine, "folded", lambda *a, **k: made.append(1) or fold(*a, **k))
    x = torch.rand(1, 3, 224, 224)
    start, found = threading.Barrier(3), []

    def work() -> None:
        start.wait()
        with torch.inference_mode():
            found.append(classifier(x))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    y = x.requires_grad_()
    assert torch.autograd.grad(classifier(y)[:, 7].sum(), y)[0].any()
    assert torch.autograd.grad(classifier.activations(y, frozenset({"blocks.3"}))["blocks.3"].sum(), y)[0].any()


def test_layers_that_the_next_one_overwrites_are_read_before():
    """ResNet's ReLUs work in place; read with the logits, what goes into one is still there."""
    torch.manual_seed(0)
    net = timm.create_model("resnet18", pretrained=False)
    classifier = Classifier(net, resolve("resnet18.a1_in1k"), "random weights", "float32")
    x = torch.rand(1, 3, 224, 224)
    layer = "layer1.0.bn1"
    kept: list[Tensor] = []
    handle = net.layer1[0].bn1.register_forward_hook(lambda m, a, o: kept.append(o.detach().clone().mean((2, 3))))
    with torch.no_grad():
        classifier.net((x - classifier.mean) / classifier.std)
    handle.remove()
    assert kept[0].min() < 0
    for seen in (x, x.clone().requires_grad_()):
        read = classifier.activations(seen, frozenset({layer, "logits"}))[layer]
        assert torch.allclose(read, kept[0], atol=1e-4)
