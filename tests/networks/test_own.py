"""Live modules as classifiers: what they take and put out is found, and they are left as they were."""

from __future__ import annotations

import copy
import warnings
from collections import namedtuple
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn.utils import parametrizations, prune
from torchvision.transforms import v2

import featvis
from featvis.data.gallery import ActivationJob, GalleryJob, activations
from featvis.data.reference import BankJob, NearestJob
from featvis.errors import UserError
from featvis.generators import Fourier
from featvis.networks import classifier as classifiers
from featvis.networks.loading import load
from featvis.networks.names import ModelSpec
from featvis.networks.own import wrap
from featvis.networks.own.inputs import describe
from featvis.networks.own.modules import baked, classifier_of, twin, unwrapped, version
from featvis.networks.own.outputs import logits_of
from featvis.networks.units import parse_units
from featvis.storage.hashing import config_hash

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
OWN = {"mean": 0.5, "std": 0.25, "input_size": 16}
GIVEN = {**OWN, "precision": "float32"}


def small(channels: int = 3, classes: int = 4) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, classes)
    )


@dataclass
class Output:
    loss: torch.Tensor | None
    logits: torch.Tensor


class Puts(nn.Module):
    """A network whose output has another form."""

    def __init__(self, form):
        super().__init__()
        self.net, self.form = small(), form

    def forward(self, pixel_values):
        return self.form(self.net(pixel_values))


Pair = namedtuple("Pair", "logits aux")
FORMS = {
    "dataclass": lambda y: Output(None, y),
    "dict": lambda y: {"loss": None, "logits": y},
    "other dict": lambda y: {"y": y},
    "tuple": lambda y: (y, y * 2),
    "named tuple": lambda y: Pair(y, y * 2),
    "maps of one place": lambda y: y[:, :, None, None],
    "object": lambda y: SimpleNamespace(logits=y, hidden_states=None),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_logits_in_any_form_are_the_networks(form):
    net = Puts(form)
    x = torch.rand(2, 3, 16, 16)
    found = classifier_of(net, **GIVEN)
    assert torch.allclose(found(x), net.net((x - 0.5) / 0.25), atol=1e-5)
    assert found.layer("net.0").channels == 6


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (torch.zeros(2, 3, 4, 4), "puts out 3 x 4 x 4 for an image"),
        ({"a": torch.zeros(2, 3), "b": torch.zeros(2, 3)}, "no part is known to be its logits"),
        ({"a": None}, "no part is known"),
        ((), "no part is known"),
    ],
)
def test_outputs_without_logits_are_refused(output, said):
    with pytest.raises(UserError, match=said):
        logits_of(output)


def test_a_module_is_left_as_it_was():
    net = small().train()
    net[0].weight.requires_grad_(False)
    net[0].bias.grad = torch.ones(6)
    seen = []
    handle = net[1].register_forward_hook(lambda m, a, o: seen.append(o))
    state, ids = {k: v.clone() for k, v in net.state_dict().items()}, [id(p) for p in net.parameters()]
    with pytest.warns(RuntimeWarning, match="hooks on Sequential \\(1\\) are not run"):
        found = classifier_of(net, **GIVEN)
    x = torch.rand(1, 3, 16, 16, requires_grad=True)
    torch.autograd.grad(found.activations(x, frozenset({"0", "logits"}))["logits"].sum(), x)
    assert not seen
    assert net.training
    assert net[1].training
    assert list(net[1]._forward_hooks) == [handle.id]
    assert [p.requires_grad for p in net.parameters()] == [False, True, True, True]
    assert [id(p) for p in net.parameters()] == ids
    assert torch.equal(net[0].bias.grad, torch.ones(6))
    assert net[4].weight.grad is None
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert type(net) is nn.Sequential
    # The weights are shared: what is trained is seen.
    with torch.no_grad():
        before = version(net)
        net[4].bias += 1
    assert version(net)[0] > before[0]
    assert found.net[4].bias.data_ptr() == net[4].bias.data_ptr()


@pytest.mark.parametrize("write", ["fused", "data"])
def test_weights_that_are_written_to_without_a_word_are_seen(write):
    net = small()
    before = version(net)
    assert version(net) == before
    if write == "fused":
        net(torch.rand(2, 3, 16, 16)).sum().backward()
        torch.optim.SGD(net.parameters(), lr=0.1, fused=True).step()
    else:
        net[0].weight.data.mul_(1.5)
    assert version(net) != before


def test_a_module_is_first_run_where_it_is(monkeypatch):
    """`meta` stands for a GPU: nothing of it meets what lies on the CPU."""
    monkeypatch.setattr(classifiers, "content_hash", lambda net: "0" * 12)
    found = classifier_of(small().to("meta"), **GIVEN)
    assert found.device.type == "meta"
    assert found.num_classes == 4


def test_buffers_that_a_forward_pass_writes_to_are_its_own():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return self.net(x)

    net = Counts()
    classifier_of(net, **GIVEN)(torch.rand(1, 3, 16, 16))
    assert net.calls == 0


def test_wrappers_are_taken_off():
    net = small()
    assert unwrapped(nn.DataParallel(net)) is net
    assert unwrapped(torch.compile(net)) is net
    clip = nn.Module()
    clip.visual, clip.encode_image = net, lambda x: x
    assert unwrapped(clip) is net
    assert classifier_of(nn.DataParallel(net), **GIVEN).layer("module.0").name == "0"


@pytest.mark.parametrize("make", [torch.jit.script, lambda net: torch.jit.trace(net, torch.rand(1, 3, 16, 16))])
def test_scripts_have_logits_and_no_layers(make):
    net = small().eval()
    found = classifier_of(make(net), **GIVEN)
    x = torch.rand(2, 3, 16, 16, requires_grad=True)
    assert torch.allclose(found(x), net((x - 0.5) / 0.25), atol=1e-5)
    with pytest.raises(UserError, match="give the module that it was made of"):
        found.layer("0")


PARAMETRIZED = {
    "weight norm": lambda m: parametrizations.weight_norm(m),
    "spectral norm": lambda m: parametrizations.spectral_norm(m),
    "orthogonal": lambda m: parametrizations.orthogonal(m),
    "old weight norm": lambda m: torch.nn.utils.weight_norm(m),
    "pruned": lambda m: prune.l1_unstructured(m, "weight", 0.5),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("change", PARAMETRIZED.values(), ids=PARAMETRIZED)
def test_weights_that_are_computed_are_the_networks(change):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 14 * 14, 4))
    change(net[0])
    net = net.eval()
    x = torch.rand(2, 3, 16, 16)
    expected, names = net((x - 0.5) / 0.25), set(net.state_dict())
    assert torch.allclose(classifier_of(net, **GIVEN)(x), expected, atol=1e-4)
    assert set(net.state_dict()) == names


def test_baking_leaves_no_parametrization():
    net = twin(nn.Sequential(parametrizations.weight_norm(nn.Conv2d(3, 2, 1))))
    assert type(net[0]) is nn.Conv2d
    assert isinstance(baked(net), nn.Sequential)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_a_network_computes_in_the_type_of_its_weights(dtype):
    net = small().to(dtype)
    found = classifier_of(net, **OWN)
    x = torch.rand(2, 3, 16, 16, requires_grad=True)
    assert found.dtype == dtype
    with torch.no_grad():
        expected = net(((x - 0.5) / 0.25).to(dtype)).float()
    assert torch.allclose(found(x), expected, atol=1e-6 if dtype == torch.float64 else 0.05)
    assert torch.autograd.grad(found(x).sum(), x)[0].dtype == torch.float32
    assert classifier_of(net, **GIVEN).dtype == torch.float32
    assert net[0].weight.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_float32_asked_of_a_network_of_another_type_is_float32(dtype):
    net, x = small().to(dtype), torch.rand(2, 3, 16, 16)
    found = classifier_of(net, **OWN)
    before = found(x)
    made = featvis.classifier(found, precision="float32")
    assert (made.dtype, made.precision, made.weights_hash) == (torch.float32, "float32", found.weights_hash)
    wanted = copy.deepcopy(net).float()((x - 0.5) / 0.25)
    assert torch.allclose(made(x), wanted, atol=1e-6)
    assert torch.equal(made(x), classifier_of(net, **GIVEN)(x)), "as it is loaded in float32"
    assert made.activations(x, frozenset({"0"}))["0"].dtype == torch.float32
    assert made.in_precision("float32") is made
    assert featvis.classifier(found) is found.in_precision("auto") is found
    assert Fourier(model=found, precision="float32", steps=1, canvas=48).config()["precision"] == "float32"
    # The network itself is what it was, and stays where it is when the other is moved.
    assert made.to("meta").device.type == "meta"
    assert (found.dtype, found.device.type) == (dtype, "cpu")
    assert found.net[4].bias.data_ptr() == net[4].bias.data_ptr()
    assert torch.equal(found(x), before)


def test_batch_norms_without_running_statistics_are_said_and_not_folded():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten(), nn.Linear(784, 2)
    )
    with pytest.warns(RuntimeWarning, match="each picture depends on the batch"):
        found = classifier_of(net, **GIVEN)
    x = torch.rand(3, 3, 16, 16)
    assert torch.allclose(found(x), net.eval()((x - 0.5) / 0.25), atol=1e-4)


# --- what networks take ---------------------------------------------------------------------------------------------


def test_timms_networks_say_what_they_take():
    net = timm.create_model("mobilenetv2_035", in_chans=1, num_classes=3)
    found = describe(net)
    assert (found.channels, found.size) == (1, (224, 224))
    # Another number of channels than three: the mean of the three that timm states.
    assert found.mean == pytest.approx([sum(net.pretrained_cfg["mean"]) / 3])


def test_another_head_on_a_network_of_timms_has_classes_of_its_own():
    net = timm.create_model("mobilenetv2_035")
    net.classifier = nn.Linear(1280, 10)
    found = classifier_of(net, input_size=64)
    assert net.num_classes == 1000
    assert (found.num_classes, found.synsets, found.labels[3]) == (10, [], "class 3")


@pytest.mark.parametrize(
    ("name", "size"), [("resnet18", 224), ("efficientnet_b1", 240), ("inception_v3", 299), ("vit_b_32", 224)]
)
def test_torchvisions_networks_are_described_by_their_weights(name, size):
    with torch.device("meta"):
        net = torchvision.models.get_model(name, **({"init_weights": False} if "inception" in name else {}))
    found = describe(net)
    stated = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    assert found.size == (size, size)
    assert (found.mean, found.std) == (tuple(stated.mean), tuple(stated.std))


def test_a_config_names_classes_and_size():
    net = small()
    net.config = SimpleNamespace(id2label={1: "dog", 0: "cat", 2: "owl", 3: "fox"}, image_size=24)
    found = describe(net, mean=0.5, std=0.5)
    assert (found.labels, found.size) == (("cat", "dog", "owl", "fox"), (24, 24))
    net.config.id2label = {i: f"LABEL_{i}" for i in range(4)}
    assert describe(net, mean=0.5, std=0.5).labels is None


def test_preprocessing_of_others_says_it():
    transforms = torchvision.transforms
    chain = transforms.Compose(
        [
            transforms.Resize(40),
            transforms.CenterCrop(32),
            transforms.ToTensor(),
            transforms.Normalize([0.1] * 3, [0.2] * 3),
        ]
    )
    found = describe(small(), preprocess=chain)
    assert (found.size, found.mean, found.std) == ((32, 32), (0.1,) * 3, (0.2,) * 3)
    preset = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
    assert describe(small(), preprocess=preset).size == (224, 224)
    processor = SimpleNamespace(image_mean=[0.3] * 3, image_std=[0.4] * 3, size={"height": 20, "width": 24})
    found = describe(small(), preprocess=processor)
    assert (found.size, found.mean) == ((20, 24), (0.3,) * 3)
    assert describe(small(), preprocess={"mean": [0.1] * 3, "std": [1] * 3, "input_size": (3, 8, 8)}).size == (8, 8)
    with pytest.raises(UserError, match="says neither mean nor size"):
        describe(small(), preprocess=lambda x: x)


@pytest.mark.parametrize("kind", [list, tuple, torch.tensor, np.array, lambda v: torch.tensor(v).view(-1, 1, 1)])
def test_mean_and_deviation_of_a_transform_are_read_in_any_form(kind):
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    chain = torchvision.transforms.Compose(
        [torchvision.transforms.CenterCrop(32), torchvision.transforms.Normalize(kind(mean), kind(std))]
    )
    # What the network says itself is another network's by now.
    net = timm.create_model("mobilenetv2_035", num_classes=4)
    assert net.pretrained_cfg["mean"] != mean
    found = classifier_of(net, "float32", preprocess=chain)
    x = torch.rand(2, 3, 32, 32)
    normalised = (x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    assert torch.allclose(found(x), net.eval()(normalised), atol=1e-4)
    said = describe(net, preprocess={"mean": kind(mean), "std": kind(std)})
    assert (said.mean, said.std) == (mean, std)


def test_timms_transforms_say_what_its_config_says():
    cfg = {"input_size": (3, 40, 48), "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    for training in (False, True):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = describe(small(), preprocess=timm.data.create_transform(**cfg, is_training=training))
        assert found == describe(small(), preprocess=cfg)
        assert (found.mean, found.std, found.size) == (cfg["mean"], cfg["std"], (40, 48))


def test_a_number_is_for_all_channels_where_it_normalises_and_no_other():
    transforms = torchvision.transforms
    crop, one, noise = transforms.CenterCrop(16), transforms.Normalize(0.5, 0.25), v2.GaussianNoise(0.1)
    found = describe(small(), preprocess=transforms.Compose([crop, one, noise]))
    assert (found.mean, found.std) == ((0.5,) * 3, (0.25,) * 3)
    found = describe(small(), preprocess={"mean": 0.5, "std": 0.25, "input_size": 16})
    assert (found.mean, found.std) == ((0.5,) * 3, (0.25,) * 3)


class AddNoise(SimpleNamespace):
    """Many a training's own: numbers of noise, not of images."""


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (
            SimpleNamespace(mean="imagenet", std=[1.0] * 3),
            "the mean of SimpleNamespace in .* channel but 'imagenet'; give",
        ),
        (SimpleNamespace(mean=[0.0] * 3, std=[]), r"the std of SimpleNamespace in .* channel but \[\]; give"),
        (SimpleNamespace(mean=torch.full((3, 2), torch.nan), std=[1.0]), r"the mean of .* but tensor\(\[\[nan, nan\]"),
        (SimpleNamespace(mean=[0.1, "x"], std=[1.0] * 3), "the mean of .* is not a number a channel"),
        (
            AddNoise(mean=0.0, std=0.1),
            "the mean of AddNoise in preprocess is not a number a channel but 0.0; give mean=",
        ),
        ({"mean": {"red": 0.1}, "std": [1.0] * 3}, "the mean of dict in preprocess is not a number a channel"),
        (
            SimpleNamespace(image_mean="x", image_std=[1.0], size=16),
            "the image_mean of .* not a number a channel but 'x'",
        ),
    ],
)
def test_a_mean_that_cannot_be_read_is_refused_unless_it_is_given(part, said):
    alone = isinstance(part, dict) or hasattr(part, "image_mean")
    preprocess = part if alone else torchvision.transforms.Compose([torchvision.transforms.CenterCrop(16), part])
    net = timm.create_model("mobilenetv2_035", num_classes=4)  # which says a mean of its own
    with pytest.raises(UserError, match=said) as refused:
        describe(net, preprocess=preprocess)
    assert "\n" not in str(refused.value)
    found = describe(net, mean=0.5, std=0.25, preprocess=preprocess)
    assert (found.mean, found.std) == ((0.5,) * 3, (0.25,) * 3)


def test_a_buffer_of_a_network_that_normalises_by_itself_is_not_taken():
    net = small()
    net.register_buffer("image_mean", torch.full((3,), 0.5))
    net.register_buffer("image_std", torch.full((3,), 0.25))
    assert describe(net, mean=0, std=1, input_size=16).mean == (0.0,) * 3
    with pytest.warns(RuntimeWarning, match="does not say its mean, std"):
        assert describe(net, input_size=16).std == (1.0,) * 3


def test_a_network_that_says_nothing_is_taken_as_it_comes_and_that_is_said():
    net = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10))
    with pytest.warns(RuntimeWarning, match=r"does not say its mean, std, input_size.*28 x 28 pixels"):
        found = describe(nn.Sequential(nn.Conv2d(1, 1, 1), *net))
    assert (found.channels, found.size, found.mean) == (1, (28, 28), (0.0,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        describe(small(), mean=0, std=1, input_size=16)


class HeadFirst(nn.Module):
    """A network whose head is made before its stem."""

    def __init__(self, channels: int):
        super().__init__()
        self.head = nn.Conv2d(6, 4, 1)
        self.backbone = nn.Sequential(nn.Conv2d(channels, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())

    def forward(self, x):
        return self.head(self.backbone(x)).mean((2, 3))


class Patches(nn.Module):
    """A network without a convolution, whose positions have four dimensions."""

    def __init__(self, channels: int):
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(1, 6, 4, 4))
        self.embed, self.head = nn.Linear(16 * channels, 6), nn.Linear(6, 4)

    def forward(self, x):
        x = self.embed(nn.functional.pixel_unshuffle(x, 4).movedim(1, -1)).movedim(-1, 1)
        return self.head((x + self.positions).mean((2, 3)))


class OwnKernel(nn.Module):
    """A network that convolves by itself."""

    def __init__(self, channels: int):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(4, channels, 3, 3))

    def forward(self, x):
        return nn.functional.conv2d(x, self.kernel).mean((2, 3))


@pytest.mark.parametrize(
    ("make", "channels", "mean"),
    [
        (HeadFirst, 3, 0.5), (HeadFirst, 1, 0.5), (HeadFirst, 5, (0.5,) * 5), (HeadFirst, 1, (0.4, 0.5, 0.6)),
        (Patches, 3, 0.5), (Patches, 1, 0.5), (OwnKernel, 5, 0.5), (OwnKernel, 1, (0.4, 0.5, 0.6)),
    ],
)  # fmt: skip
def test_a_network_takes_the_channels_that_it_runs_on_whatever_was_made_first(make, channels, mean):
    torch.manual_seed(0)
    net = make(channels).train()
    state = {key: value.clone() for key, value in net.state_dict().items()}
    found = classifier_of(net, "float32", mean=mean, std=0.25, input_size=16)
    x = torch.rand(2, channels, 16, 16)
    assert (found.channels, found.layer("logits").channels) == (channels, 4)
    assert net.training
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items()), "it was not run itself"
    assert torch.allclose(found(x), net.eval()((x - 0.5) / 0.25), atol=1e-5)


def test_size_and_channels_are_found_together():
    with pytest.warns(RuntimeWarning, match="28 x 28 pixels"):
        found = describe(nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10)))
    assert (found.channels, found.size) == (1, (28, 28))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"mean": ()}, "mean must be a number a channel"),
        ({"std": 0}, "std must be a number a channel, above 0"),
        ({"input_size": (0, 3)}, "input_size must be one side"),
        ({"mean": (0.1, 0.2)}, "mean has 2 numbers, but the network takes 3 channels"),
        ({"labels": ("a", "b")}, "there are 2 labels, but the network has 4 classes"),
        ({"input_size": 16, "mean": (0.1,) * 4}, "mean has 4 numbers, but the network takes 3 channels"),
    ],
)
def test_values_that_cannot_be_used_are_refused(given, said):
    with pytest.raises(UserError, match=said):
        classifier_of(small(), **{**GIVEN, **given})


def test_what_a_network_does_not_take_is_said():
    with pytest.raises(UserError, match="does not take a batch of images of 3 channels and 9 x 9 pixels"):
        classifier_of(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2)), mean=0, std=1, input_size=9)
    with pytest.raises(UserError, match="takes none of the sizes"):
        classifier_of(nn.Sequential(nn.Flatten(), nn.Linear(3 * 77, 2)))


# --- where a network ends -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "flat", "pooled"), [("resnet18", 2048, 512), ("googlenet", 4096, 1024)])
def test_flat_is_the_map_before_the_pooling(name, flat, pooled):
    net = getattr(torchvision.models, name)(**({"init_weights": False} if name == "googlenet" else {}))
    found = classifier_of(net, "float32", input_size=64)
    x = torch.rand(2, 3, 64, 64)
    features = found.features(x)
    assert features["flat"].shape == (2, flat)
    assert features["pooled"].shape == (2, pooled)
    # The pooled features are the mean of the map, and the head makes the logits of them.
    assert torch.allclose(features["flat"].view(2, pooled, -1).mean(2), features["pooled"], atol=1e-4)
    assert torch.allclose(net.eval().fc(features["pooled"]), features["logits"], atol=1e-4)


def test_the_head_is_what_makes_the_logits_whatever_ran_last():
    class Twisted(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.map, self.other = nn.Linear(6, 4), nn.Conv2d(3, 6, 3), nn.Linear(6, 4)

        def forward(self, x):
            pooled = self.map(x).mean((2, 3))
            logits = self.head(pooled)
            self.other(pooled)
            return logits

    found = classifier_of(Twisted(), **GIVEN)
    assert (found.ends().head, found.ends().flat) == ("head", "map")


def test_a_network_without_maps_has_no_flat():
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 5), nn.ReLU(), nn.Linear(5, 2))
    found = classifier_of(net, mean=0, std=1, input_size=4)
    assert found.last_block() == ""
    assert set(found.features(torch.rand(2, 3, 4, 4))) == {"logits", "pooled"}


# --- units that a ReLU holds ----------------------------------------------------------------------------------------


class Dead(nn.Module):
    """One channel far below zero, behind a ReLU that is a function, or a module that two layers share."""

    def __init__(self, shared: bool):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.fc = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 2)
        self.block = nn.Identity()
        self.relu = nn.ReLU() if shared else torch.nn.functional.relu
        with torch.no_grad():
            self.two.bias[1] = -50.0

    def forward(self, x):
        x = self.relu(self.one(x))
        x = self.block(self.relu(self.two(x)))
        return self.fc(x.mean((2, 3)))


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("tap", ["block", "block[2,3]"])
def test_a_unit_behind_a_functional_or_shared_relu_is_revived(shared, tap):
    net = Dead(shared).eval()
    found = classifier_of(net, **GIVEN)
    x = torch.rand(2, 3, 16, 16, requires_grad=True)
    value = found.activations(x, frozenset({tap}))[tap][:, 1]
    assert value.abs().max() == 0
    (gradient,) = torch.autograd.grad(value.sum(), x)
    # That of what goes into the ReLU, as a second computation has it.
    before = net.two(net.one((x - 0.5) / 0.25).relu())[:, 1]
    expected = before.mean((1, 2)) if tap == "block" else before[:, 2, 3]
    (other,) = torch.autograd.grad(expected.sum(), x)
    assert float(other.abs().max()) > 0
    assert torch.allclose(gradient, other, atol=1e-6)
    # A living channel has its own gradient.
    alive = found.activations(x, frozenset({"block"}))["block"][:, 0]
    own = net.two(net.one((x - 0.5) / 0.25).relu()).relu()[:, 0].mean((1, 2))
    assert torch.allclose(torch.autograd.grad(alive.sum(), x)[0], torch.autograd.grad(own.sum(), x)[0], atol=1e-6)


class OneSize(nn.Module):
    """A transformer that takes one size alone: 16 tokens of 12 numbers."""

    def __init__(self):
        super().__init__()
        self.patch, self.norm = nn.Conv2d(3, 12, 4, 4), nn.LayerNorm(12)
        self.block = nn.Sequential(nn.Linear(12, 20), nn.GELU(), nn.Linear(20, 12))
        self.position = nn.Parameter(torch.zeros(1, 16, 12))
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.block(self.norm(x)).mean(1))


def test_a_block_that_takes_one_size_has_the_channels_of_its_last_linear_layer():
    net = OneSize()
    found = classifier_of(net, **GIVEN)
    layer = found.layer("block")
    assert (layer.channels, layer.channel, layer.kind) == (12, 2, "tokens")
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        tokens = net.patch((x - 0.5) / 0.25).flatten(2).transpose(1, 2)
        assert torch.allclose(
            found.activations(x, frozenset({"block"}))["block"], net.block(net.norm(tokens)).mean(1), atol=1e-5
        )


def test_labels_are_named_with_and_without_underscores():
    found = classifier_of(small(), **GIVEN, labels=("maple_tree", "stop sign", "Oak_Tree", "sea"))
    units = parse_units("maple_tree,maple tree@1,stop_sign,STOP SIGN@1,oak_tree,Oak Tree@1,sea", found)
    assert [unit.id for unit in units] == ["0", "0@1", "1", "1@1", "2", "2@1", "3"]
    with pytest.raises(UserError, match="did you mean maple tree"):
        parse_units("maple_tre", found)


NET = """
from beside import WIDTH
from torch import nn


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(192, WIDTH))
"""
YAML = "class_path: {}.Net\nmean: [0, 0, 0]\nstd: [1, 1, 1]\ninput_size: [8, 8]\n"


@pytest.mark.parametrize("files", ["mynet.py", "pack/__init__.py", "pack/mynet.py", "pack/inner/__init__.py"])
def test_files_of_one_name_in_two_folders_are_two_networks(files, tmp_path):
    for folder, width in (("a", 3), ("b", 5)):
        file = tmp_path / folder / files
        file.parent.mkdir(parents=True)
        file.write_text(NET.replace("beside", f"beside_{tmp_path.name}"))
        (tmp_path / folder / f"beside_{tmp_path.name}.py").write_text(f"WIDTH = {width}\n")
        module = files.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        (tmp_path / folder / "net.yaml").write_text(YAML.format(module))
    found = [load(f"wrap:{tmp_path / folder / 'net.yaml'}").num_classes for folder in "aba"]
    assert found == [3, 5, 3]


def test_a_file_of_a_package_reaches_its_neighbours_as_ever(tmp_path):
    (tmp_path / "relatives").mkdir()
    (tmp_path / "relatives" / "__init__.py").write_text("from .net import Net\n")
    (tmp_path / "relatives" / "net.py").write_text(
        NET.replace("beside", ".other") + "from relatives.other import WIDTH\n"
    )
    (tmp_path / "relatives" / "other.py").write_text("WIDTH = 7\n")
    (tmp_path / "net.yaml").write_text(YAML.format("relatives"))
    assert load(f"wrap:{tmp_path / 'net.yaml'}").num_classes == 7


class Told(nn.Sequential):
    """A network that says where something lies in memory."""

    def extra_repr(self):
        return f"{object()}"


def test_what_the_weights_do_not_say_of_ones_own_network_is_a_part_of_what_is_made_of_it():
    """Mean, deviation, size and layers decide what a picture, a bank or an activation is, and are in no weight."""
    gelu, half = small(), 0.5
    gelu[1] = nn.GELU()
    others = [small(), small(), small(), gelu]
    given = [OWN, {**OWN, "mean": half / 2}, {**OWN, "std": half}, OWN]
    found = [classifier_of(net, **values, precision="float32") for net, values in zip(others, given, strict=True)]
    found.append(classifier_of(small(), **{**OWN, "input_size": 32}, precision="float32"))
    assert len({c.weights_hash for c in found}) == 1
    for made in (
        lambda c: BankJob(c).facts,
        lambda c: NearestJob(c, {}, "").facts,
        lambda c: GalleryJob(c).facts,
        lambda c: ActivationJob(c, []).facts,
        lambda c: Fourier(model=c, steps=1, canvas=48).config(),
    ):
        assert len({config_hash(made(c)) for c in found}) == len(found)
        assert made(found[0]) == made(classifier_of(small(), **GIVEN)), "the same network, made again"
    told = [classifier_of(Told(*small()), **GIVEN).setting for _ in range(2)]
    assert told[0] == told[1]
    assert told[0] != found[0].setting
    spec = ModelSpec("tiny", "tiny", mean=(half,) * 3, std=(half / 2,) * 3, input_size=(16, 16))
    assert classifiers.Classifier(small(), spec).setting == {}, "timm's by name, whose records have none"


def test_what_a_file_says_of_its_network_is_a_part_of_what_is_made_of_it(tmp_path):
    (tmp_path / "strange.py").write_text(
        "from torch import nn\n"
        "def make(power=1):\n"
        "    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
        "    net.power = power\n"
        "    return net\n"
    )
    text = "class_path: strange.make\nmean: [0, 0, 0]\nstd: [1, 1, 1]\ninput_size: [8, 8]\n"
    found = []
    for more in ("", "", "flat: '0'\n", "init_args: {power: 2}\n"):
        (tmp_path / "net.yaml").write_text(text + more)
        found.append(load(f"wrap:{tmp_path / 'net.yaml'}", "float32"))
    assert len({c.weights_hash for c in found}) == 1
    assert found[0].setting == found[1].setting
    assert len({config_hash(c.setting) for c in found}) == 3


@pytest.mark.parametrize(
    ("data", "said"),
    [("café\ndog\n".encode("utf-8-sig"), None), ("café\ndog\n".encode("latin-1"), "are no text in UTF-8")],
)
def test_a_file_of_labels_is_read_as_utf8_with_or_without_its_mark(data, said, tmp_path):
    text = "class_path: a.b\nmean: [0, 0, 0]\nstd: [1, 1, 1]\ninput_size: [8, 8]\nlabels: labels.txt\n"
    (tmp_path / "net.yaml").write_text(text)
    (tmp_path / "labels.txt").write_bytes(data)
    if said is None:
        assert wrap.read(f"wrap:{tmp_path / 'net.yaml'}")[0].labels == ("café", "dog")
    else:
        with pytest.raises(UserError, match=said):
            wrap.read(f"wrap:{tmp_path / 'net.yaml'}")


def test_a_grey_network_sees_the_luminance_of_photographs_in_all_its_layers():
    network, x = classifier_of(small(channels=1), **GIVEN), torch.rand(2, 3, 16, 16)
    luminance = (x * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    for units in ("1", "0:2,1:0"):
        units = parse_units(units, network)
        expected = activations(network, units, luminance)
        assert torch.equal(activations(network, units, x), expected)
        assert expected.std() > 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = = 1", "SyntaxError: invalid syntax"),
        ("undefined", "NameError: name 'undefined'"),
        ("", "no attribute 'Net'"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_sentence(text, said, tmp_path):
    (tmp_path / "faulty.py").write_text(text)
    (tmp_path / "net.yaml").write_text(YAML.format("faulty"))
    with pytest.raises(UserError, match=f"cannot be imported from .*faulty.py .*{said}") as refused:
        load(f"wrap:{tmp_path / 'net.yaml'}")
    assert "featvis_wrap_" not in str(refused.value)
