"""A folded network is the same function."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn

from featvis.engine.convolutions import FrozenChain, FrozenConv2d
from featvis.engine.fold import fold_batch_norms
from featvis.networks.loading import load
from featvis.networks.own.modules import classifier_of


def randomised(name: str) -> nn.Module:
    torch.manual_seed(0)
    net = timm.create_model(name, pretrained=False).eval().requires_grad_(False)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.2)
            m.running_var.uniform_(0.5, 2)
            m.weight.uniform_(0.5, 1.5)
            m.bias.normal_(0, 0.2)
    return net


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite1", "resnet18", "mobilenetv2_100"])
def test_output_and_input_gradient_are_the_same(name):
    # In double precision: in float32, activations at a kink fall on either side of it and blur the comparison.
    net = (load(name, "float32").net if name.startswith("eff") else randomised(name)).double()
    before = copy.deepcopy(net.state_dict())
    x = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1)).double()
    folded = fold_batch_norms(net, x)
    assert folded is not None
    assert sum(isinstance(m, nn.BatchNorm2d) for m in folded.modules()) == 0
    found = []
    for f in (net, folded):
        y = x.clone().requires_grad_()
        out = f(y)
        (gradient,) = torch.autograd.grad(out[:, 5].sum(), y)
        found.append((out.detach(), gradient))
    (a, ga), (b, gb) = found
    assert float((a - b).norm() / a.norm()) < 1e-10
    assert float((ga - gb).norm() / ga.norm()) < 1e-10
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_relus_after_norms_are_folded_too_but_not_what_comes_after_an_addition():
    net = randomised("resnet18")
    folded = fold_batch_norms(net, torch.rand(1, 3, 64, 64))
    assert folded is not None
    # The stem's, and the first of the two of each of eight blocks; the second ReLU comes after `x += shortcut`.
    assert sum(isinstance(m, FrozenConv2d) and m.bound is not None for m in folded.modules()) == 9
    assert sum(isinstance(m, nn.ReLU) for m in folded.modules()) == 8


class Small(nn.Module):
    """A convolution, its norm and an activation; `after` makes of these two outputs what is averaged."""

    def __init__(self, act, after):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.act, self.after = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), act, after

    def forward(self, x):
        normed = self.norm(self.conv(x))
        return self.after(self.act(normed), normed).mean((2, 3))


def test_a_norm_that_others_read_too_keeps_its_relu():
    net = Small(nn.ReLU(), lambda acted, normed: acted + normed)
    folded = fold_batch_norms(net.eval(), torch.rand(1, 3, 16, 16))
    assert folded is not None
    assert [type(m).__name__ for m in folded.children()] == ["FrozenConv2d", "Identity", "ReLU"]


@pytest.mark.parametrize("freeze", [True, False])
def test_what_fails_only_in_the_gradient_is_found_out(freeze):
    # A fused ReLU6 needs its output again, PyTorch's needs its input.
    net = Small(nn.ReLU6(), lambda acted, normed: acted.add_(1))
    folded = fold_batch_norms(net.eval(), torch.rand(1, 3, 16, 16), freeze=freeze)
    assert folded is not None
    assert isinstance(folded.act, nn.ReLU6)
    assert isinstance(folded.conv, FrozenConv2d) == freeze
    x = torch.rand(1, 3, 16, 16, requires_grad=True)
    assert torch.autograd.grad(folded(x).sum(), x)[0].any()


def test_a_network_without_batch_norms_is_left_alone():
    net = timm.create_model("vit_tiny_patch16_224", pretrained=False).eval()
    assert fold_batch_norms(net, torch.rand(1, 3, 224, 224)) is None


def test_a_convolution_that_others_read_too_is_not_folded():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
            self.norm.running_mean.fill_(0.5)

        def forward(self, x):
            y = self.conv(x)
            return (self.norm(y) + y).mean((2, 3))

    # Folding would change the second reader; the check of the output finds that out.
    assert fold_batch_norms(Shared().eval(), torch.rand(1, 3, 16, 16)) is None


@pytest.mark.parametrize(("name", "chains"), [("mobilenetv2_100", 16), ("resnet18", 8)])
def test_convolutions_that_feed_only_one_another_are_chained_and_keep_the_gradient(name, chains):
    net = randomised(name)
    x = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    folded = fold_batch_norms(net, x[:1])
    assert folded is not None
    found = [m for m in folded.modules() if isinstance(m, FrozenChain)]
    assert len(found) == chains
    y = x.requires_grad_()
    out = folded(y)
    (gradient,) = torch.autograd.grad(out[:, 5].sum(), y)
    z = x.detach().double().requires_grad_()
    exact = net.double()(z)
    (expected,) = torch.autograd.grad(exact[:, 5].sum(), z)
    assert float((out.detach().double() - exact).norm() / exact.norm()) < 1e-5
    # A few ReLUs at their kink turn with the last bit.
    assert float((gradient.double() - expected).norm() / expected.norm()) < 0.02


class Two(nn.Module):
    """Two convolutions with a ReLU between, of which something else may read what is between them."""

    def __init__(self, between):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.norm, self.act, self.two = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3)
        self.between = between

    def forward(self, x):
        y = self.act(self.norm(self.one(x)))
        return self.two(y).mean((2, 3)) + self.between(y)


@pytest.mark.parametrize(
    ("between", "chained"),
    [(lambda y: 0, True), (lambda y: y.mean((2, 3)), False), (lambda y: y.detach().amax((2, 3)), False)],
    ids=["nothing", "with a gradient", "without one"],
)
def test_what_others_read_between_convolutions_stays(between, chained):
    net = Two(between).eval().requires_grad_(False)
    x = torch.rand(2, 3, 9, 9)
    folded = fold_batch_norms(net, x)
    assert folded is not None
    assert any(isinstance(m, FrozenChain) for m in folded.modules()) == chained
    assert torch.allclose(folded(x), net(x), atol=1e-5)


class Head(nn.Module):
    """A convolution and its norm, and something between them and the classes that makes a type of its own."""

    def __init__(self, between):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.between = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), between
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        return self.fc(self.between(self.body(x)).mean((2, 3)))


@pytest.mark.filterwarnings("ignore:featvis. batch norms:RuntimeWarning")
@pytest.mark.parametrize("between", [torch.Tensor.float, lambda x: (x.double() * 2).float()], ids=["float", "double"])
def test_a_network_that_makes_types_of_its_own_is_left_to_autocast(between):
    net = Head(between).eval()
    about = {"mean": 0.5, "std": 0.5, "input_size": 16}
    rough, x = classifier_of(net, "bfloat16", **about), torch.rand(2, 3, 16, 16)
    found = rough(x)
    assert rough._folded() is None
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(found, net((x - 0.5) / 0.5).float(), atol=0.02)
    assert torch.allclose(found, classifier_of(net, "float32", **about)(x), atol=0.02)
