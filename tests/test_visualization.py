"""The public face: anyone's network in a line or three; the unit that is named rises, and the network is as it was."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from types import SimpleNamespace

import jaxtyping
import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from torch import nn

import featvis
from featvis.canvas import montage
from featvis.data.spectra import folder_spectrum
from featvis.generators import DAS, Fourier
from featvis.generators.arguments import accepted
from featvis.networks.units import base_of
from featvis.storage import images

pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning"), pytest.mark.filterwarnings("ignore::RuntimeWarning")]
QUICK = {"steps": 24, "progress": False, "seed": 1}


def small(channels: int, classes: int = 10) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, classes),
    )  # fmt: skip


@pytest.fixture
def unchecked():
    """As a user has it: without the checks of types that pytest switches on."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@dataclass
class Output:
    logits: torch.Tensor


class Labelled(nn.Module):
    """What a Hugging Face classifier looks like from outside."""

    def __init__(self):
        super().__init__()
        self.net = small(3, 3)
        self.config = SimpleNamespace(id2label={0: "cat", 1: "red fox", 2: "owl"}, image_size=32)

    def forward(self, pixel_values):
        return Output(self.net(pixel_values))


CASES = {
    "torchvision": (lambda: torchvision.models.resnet18(), "layer1:3", {"input_size": 64}),
    "dataclass with id2label": (Labelled, "red fox", {"mean": 0.5, "std": 0.5}),
    "timm ViT": (
        lambda: timm.create_model("vit_tiny_patch16_224", img_size=64, depth=2), "blocks.1:5", {"input_size": 64}
    ),
    "one channel": (lambda: small(1), "3:2", {"mean": 0.5, "std": 0.5, "input_size": 28}),
    "five channels": (lambda: small(5), "3:2", {"mean": 0.5, "std": 0.5, "input_size": 28}),
    "32 x 32": (lambda: small(3), "3:2", {"mean": 0.5, "std": 0.5, "input_size": 32}),
    "compiled": (lambda: torch.compile(small(3)), "3:2", {"mean": 0.5, "std": 0.5, "input_size": 32}),
}  # fmt: skip


def state(net: nn.Module) -> dict:
    return {
        "values": {k: v.clone() for k, v in net.state_dict().items()},
        "modes": [m.training for m in net.modules()],
        "gradients": [(p.requires_grad, p.grad) for p in net.parameters()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules()],
        "types": [type(m) for m in net.modules()],
    }


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_unit_that_is_named_rises_and_the_network_is_as_it_was(case):
    make, unit, about = case
    net = make().train()
    before = state(net)
    few = featvis.visualize(net, unit, "fourier", **{**QUICK, "steps": 1}, **about)
    out = featvis.visualize(net, unit, "fourier", **QUICK, **about)
    after = state(net)
    values, others = before.pop("values"), after.pop("values")
    assert before == after
    assert all(torch.equal(values[k], others[k]) for k in values)
    # Read by the test's own hook, in the network itself.
    inner = getattr(net, "_orig_mod", net).eval()
    layer, _, index = unit.partition(":") if ":" in unit else ("", "", "1")
    seen = {}
    if layer:
        inner.get_submodule(layer).register_forward_hook(lambda m, a, o: seen.update(y=o))

    def activation(pictures: featvis.Pictures) -> float:
        found = featvis.classifier(net, "float32", **about)
        with torch.no_grad():
            y = inner((found.preprocess(pictures.canvas) - found.mean) / found.std)
        y = seen["y"] if layer else y.logits
        y = y.movedim(-1, 1) if y.ndim == 3 else y
        return float(y.flatten(2).mean(2)[0, int(index)] if y.ndim > 2 else y[0, int(index)])

    assert activation(out) > activation(few)
    assert out.units[0].label in (unit, "red fox")


@pytest.mark.parametrize("method", ["maco", "fourier", "cbr", "am_lucid", "am_literal"])
@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_every_method_takes_any_number_of_channels(method, channels, tmp_path):
    out = featvis.visualize(
        small(channels), "3:2", method, mean=0.5, std=0.5, input_size=28, steps=3, progress=False, seed=1
    )
    assert out.canvas.shape[1] == channels
    assert out.canvas.min() >= 0
    assert out.canvas.max() <= 1
    assert not out.silent
    (path,) = out.save(tmp_path)
    pixels, facts = images.read(path)
    assert facts["channels"] == channels
    back = montage.from_picture(pixels, channels)
    assert torch.equal(back, (out.canvas[0] * 255).round() / 255)


def test_one_channel_keeps_the_natural_luminance():
    found = featvis.MACO(
        model=featvis.classifier(small(1), mean=0.5, std=0.5, input_size=28), canvas=32, steps=1, views=1
    )
    found.load_classifier()
    rgb = featvis.MACO(canvas=32, steps=1, views=1).parametrization.magnitude
    assert torch.equal(found.parametrization.magnitude, rgb[:1])


def test_the_spectrum_of_a_folder_is_the_mean_of_its_images(tmp_path):
    rng = np.random.default_rng(0)
    arrays = rng.random((3, 5, 16, 16)).astype(np.float32)
    for i, array in enumerate(arrays):
        np.save(tmp_path / f"{i}.npy", array)
    expected = np.abs(np.fft.rfft2(arrays)).mean(0)
    assert np.allclose(folder_spectrum(tmp_path, 5).numpy(), expected, atol=1e-3)
    out = featvis.visualize(
        small(5),
        "3:2",
        "maco",
        mean=0.5,
        std=0.5,
        input_size=16,
        canvas=16,
        steps=1,
        spectrum=str(tmp_path),
        progress=False,
    )
    assert out.canvas.shape == (1, 5, 16, 16)
    with pytest.raises(featvis.UserError, match="nor a folder of images of 4 channels"):
        featvis.visualize(small(4), "3:2", "maco", mean=0, std=1, input_size=16, spectrum=str(tmp_path), progress=False)


def test_a_silent_unit_is_named(tmp_path):
    net = small(3)
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.fill_(-1.0)
        net[1].bias.fill_(-1.0)
    out = featvis.visualize(net, "3:2", "fourier", mean=0.5, std=0.5, input_size=16, **{**QUICK, "steps": 2})
    assert [u.text for u in out.silent] == ["3:2"]
    assert "silent" in repr(out)
    assert images.facts(out.save(tmp_path)[0])["silent"] is True


def test_objectives_are_values_of_any_kind():
    net, about = small(3), {"mean": 0.5, "std": 0.5, "input_size": 32}
    aims = [
        featvis.channel("3", 2) + 0.2 * featvis.neuron("3", 4, (1, 2)),
        featvis.neuron("3", 1),
        featvis.logit(3) - featvis.logit(4),
        featvis.direction("3", torch.arange(12.0)),
        featvis.objective(lambda a: a["3"][:, 2] * a["logits"][:, 1], "3", "logits"),
        lambda a: a["3[:]"].amax(1)[:, 5] - a["0"][:, 1],
    ]
    few = featvis.visualize(net, aims, "fourier", **{**QUICK, "steps": 1}, **about)
    out = featvis.visualize(net, aims, "fourier", **QUICK, **about)
    assert all(b > a for a, b in zip(few.scores, out.scores, strict=True))
    assert out.names[0] == "3:2 + 0.2*3:4[1,2]"
    assert len(out) == 6


BAD = {
    "no unit": (("nothing",), {}, "no class of that name"),
    "no method": (("0", "makro"), {}, "unknown method makro: .*maco"),
    "no option": (("0",), {"stepps": 3}, "takes no stepps; did you mean steps"),
    "nothing left": (("0", "das"), {"canvas": 32}, "canvas 32 is too small: the transforms leave nothing"),
    "no chain": (("0", "fourier"), {"chain": "lucid"}, "chain must be xplique11, lucid5, am3 or none, not 'lucid'"),
    "no distribution": (("0",), {"crop_distribution": "gaussian"}, "crop_distribution must be normal or uniform"),
    "no centre": (("0",), {"crop_centre": "centre"}, "crop_centre must be inside or normal, not 'centre'"),
    "no domain": (("0", "am_lucid"), {"domain": "pixels"}, "domain must be spectrum or pixel, not 'pixels'"),
    "no ascent": (("0", "am_lucid"), {"ascent": "sgd"}, "ascent must be gradient, normalised or adam, not 'sgd'"),
    "no precision": (("0",), {"precision": "float16"}, "precision must be auto, float32 or bfloat16, not 'float16'"),
    "no device": (("0",), {"device": "gpu"}, "device must be .*cpu.*, not 'gpu'"),
    "no such device": (("0",), {"device": "cuda:99"}, "device must be .*cpu.*, not 'cuda:99'"),
    "text for a number": (("0",), {"steps": "4"}, "steps must be a whole number, not '4'"),
    "half a step": (("0",), {"steps": 2.5}, "steps must be a whole number, not 2.5"),
    "canvas, number": (("0",), {"canvas": 64.0}, "canvas must be a whole number or 2 values, each a whole number, not"),
    "canvas, one": (("0",), {"canvas": (64,)}, r"canvas must be a whole number or 2 values, .* not \(64,\)"),
    "rate": (("0",), {"lr": "0.1"}, "lr must be a number, not '0.1'"),
    "one side": (("0",), {"crop_side": 0.5}, "crop_side must be 2 values, each a number, not 0.5"),
    "switch": (("0", "fourier"), {"min_max": "no"}, "min_max must be true or false, not 'no'"),
    "pairs only": (("0", featvis.Attack), {}, "an attack needs images"),
    "not an attack's": (("0", featvis.Attack), {"canvas": 32}, "Attack takes no canvas; "),
    "null method": (("0", None), {}, "method must be a name such as 'maco', .* not None"),
    "no generator": (("0", dict), {}, "method must be a name such as 'maco', .* not <class 'dict'>"),
    "size, text": (("0",), {"input_size": "224"}, "input_size must be one side .* not '224'"),
    "size, number": (("0",), {"input_size": 32.0}, "input_size must be one side .* not 32.0"),
    "size, channels last": (("0",), {"input_size": (32, 32, 3)}, "input_size must be one side .* not .32, 32, 3."),
    "labels by number": (("0",), {"labels": {0: "a"}}, "labels must be a list of names, one a class, not {0: 'a'}"),
    "labels in a text": (("0",), {"labels": "abcdefghij"}, "labels must be a list of names, one a class, not 'abc"),
    "no objective": (([],), {}, "units must be a text"),
    "a function of nothing": ((lambda a: 1,), {}, "reads no layer"),
    "a function that fails": ((lambda a: a["3"] @ a["logits"],), {}, "cannot be computed .*RuntimeError"),
    "no channel": ((featvis.channel("3", 99),), {}, "has the units 0 to 11, so no 99"),
    "no layer": ((featvis.channel("33", 1),), {}, "has no layer 33"),
    "wrong function": ((featvis.objective(lambda a: a["3"], "3"),), {}, r"gives \(4, 12\) for 4 views"),
    "broken function": ((featvis.objective(lambda a: a["4"], "3"),), {}, "cannot be computed .*KeyError"),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_what_is_wrong_is_said(case):
    positional, more, said = case
    with pytest.raises(featvis.UserError, match=said):
        featvis.visualize(
            small(3), *positional, **{"mean": 0.5, "std": 0.5, "input_size": 16, "progress": False, "steps": 2, **more}
        )


@pytest.mark.usefixtures("unchecked")
def test_numbers_of_other_libraries_are_numbers(tmp_path):
    out = featvis.visualize(
        small(3), "0", mean=np.float32(0.5), std=0.5, input_size=np.int64(16), labels=np.array(list("abcdefghij")),
        steps=np.int64(2), canvas=[np.int32(24), 32], lr=np.float32(0.5), seed=np.int64(1), progress=False,
    )  # fmt: skip
    same = featvis.visualize(
        small(3), "0", mean=0.5, std=0.5, input_size=16, steps=2, canvas=(24, 32), lr=0.5, seed=1, progress=False
    )
    assert torch.equal(out.canvas, same.canvas)
    assert out.generator.config_hash() == same.generator.config_hash()
    assert images.facts(out.save(tmp_path)[0])["label"] == "a"


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("net", [None, 3])
def test_what_is_no_network_is_said(net):
    with pytest.raises(featvis.UserError, match=f"net must be a name or a torch.nn.Module, not {net}"):
        featvis.layers(net)


def test_pictures_are_found_by_unit_label_and_place_and_shown(tmp_path):
    about = {"mean": 0.5, "std": 0.5, "input_size": 16, "labels": [f"thing {i}" for i in range(10)]}
    out = featvis.visualize(small(3), "3:0-2, thing 4", steps=1, progress=False, batch_size=3, **about)
    assert [u.text for u in out.units] == ["3:0", "3:1", "3:2", "4"]
    assert out["3:1"] is out.images[1] is out[1]
    assert out["thing 4"] is out[-1]
    with pytest.raises(KeyError, match="3:9 is not among these"):
        out["3:9"]
    assert all(isinstance(image, Image.Image) for image in out)
    page = out._repr_html_()
    assert page.count("<img") == 4
    assert "thing 4" in page
    assert out.sheet().size[0] > 2 * 224
    paths = out.save(tmp_path / "new")
    assert [p.name for p in paths] == ["3-0.png", "3-1.png", "3-2.png", "4.png"]
    assert json.loads(Image.open(paths[3]).text["featvis"])["label"] == "thing 4"


def test_what_is_trained_between_two_calls_counts():
    net = small(3)
    generator = featvis.Fourier(model=featvis.classifier(net, mean=0.5, std=0.5, input_size=16), canvas=16, steps=1)
    assert generator.visualize("3").units[0].index == 3
    live = featvis.Fourier(model=Known(net), canvas=32, steps=1)
    first = live.config_hash()
    with torch.no_grad():
        net[7].bias += 1
    assert live.config_hash() != first


def test_the_precision_that_is_written_down_is_the_one_that_was_computed_in():
    low = featvis.classifier(small(3), "bfloat16", mean=0.5, std=0.5, input_size=16)
    assert featvis.classifier(low).precision == "bfloat16"
    assert featvis.classifier(low, "float32").precision == "float32"
    few = {"steps": 1, "canvas": 16, "views": 1}
    by_name = featvis.visualize(low, "3", "maco", progress=False, **few).generator
    ready = featvis.MACO(model=small(3), precision="float32", **few)
    for made in (by_name, featvis.visualize(low, "3", ready, precision="bfloat16", progress=False).generator):
        assert made.config()["precision"] == str(made.load_classifier().dtype).removeprefix("torch.") == "bfloat16"
    asked = featvis.visualize(low, "3", "maco", precision="float32", progress=False, **few).generator
    assert asked.load_classifier().dtype == torch.float32
    assert asked.config()["precision"] == "float32"


def test_the_picture_of_an_objective_is_its_own_whatever_stands_beside_it(tmp_path):
    net = featvis.classifier(small(3), "float32", mean=0.5, std=0.5, input_size=16)
    few = {"steps": 2, "canvas": 16, "progress": False}
    alone = featvis.visualize(net, [featvis.logit(0)], **few)
    beside = featvis.visualize(net, [featvis.logit(1), featvis.logit(0)], **few)
    assert np.abs(np.asarray(alone[0], float) - np.asarray(beside[1], float)).max() <= 1
    paths = alone.save(tmp_path) + featvis.visualize(net, [featvis.channel("3", 5)], **few).save(tmp_path)
    assert len(set(paths)) == 2
    nameless = featvis.visualize(net, [lambda a: a["3"][:, 0], lambda a: a["3"][:, 1]], **few)
    assert len({u.id for u in nameless.units}) == 2


def named(text: str) -> str:
    return f"objective-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def test_objectives_of_other_content_have_other_names_and_published_ones_keep_theirs(tmp_path):
    net = featvis.classifier(small(3), "float32", mean=0.5, std=0.5, input_size=16)
    few = {"steps": 1, "canvas": 16, "progress": False}
    first, second, third = torch.eye(12)[:3]
    saved = {}
    for vector in (first, second):
        out = featvis.visualize(net, featvis.direction("3", vector), **few)
        (path,) = out.save(tmp_path)
        saved[path] = np.asarray(out[0])
    assert len(saved) == 2
    for path, pixels in saved.items():
        assert np.array_equal(images.read(path)[0][..., :3], pixels), "nothing is lost"
    together = featvis.visualize(net, [featvis.direction("3", v) for v in (third, second, third)], **few)
    ids = [unit.id for unit in together.units]
    assert ids[2] == f"{ids[0]}@1", "two images of one"
    assert f"{ids[1]}.png" in {path.name for path in saved}

    def a(x):
        return x["3"][:, 0]

    kept = [featvis.channel("3", 2) - 0.5 * featvis.logit(1), featvis.objective(a, "3"), lambda x: x["3"][:, 5]]
    ids = [unit.id for unit in featvis.visualize(net, kept, **few).units]
    assert ids == [named("3:2 - 0.5*logits:1"), named("a(3)"), named("function(3)")]


def test_different_objectives_are_never_images_of_one_unit():
    """A likeness penalty between them would make each picture another one than it is alone."""
    net = featvis.classifier(small(3), "float32", mean=0.5, std=0.5, input_size=16)
    few = {"steps": 2, "canvas": 16, "progress": False, "diversity": 50.0, "diversity_layer": "3"}
    one, same = (lambda a: a["3"][:, 0]), featvis.direction("3", torch.eye(12)[4])
    aims = [same, featvis.direction("3", torch.eye(12)[5]), one, lambda a: a["3"][:, 1], one, same]
    out = featvis.visualize(net, aims, "fourier", **few)
    function, ids = named("function(3)"), [base_of(unit.id) for unit in out.units]
    assert ids[2:] == [ids[2], function, function, f"{function}-1"]
    assert ids[0] == ids[1] != ids[2]
    assert [unit.repeat for unit in out.units] == [0, 1, 0, 0, 1, 0]
    alone = featvis.visualize(net, aims[1], "fourier", **few)
    assert torch.equal(out.canvas[2], alone.canvas[0])


def test_the_picture_of_a_function_is_not_replaced_by_anothers(tmp_path):
    net = featvis.classifier(small(3), "float32", mean=0.5, std=0.5, input_size=16)
    few = {"steps": 1, "canvas": 16, "progress": False}
    out = featvis.visualize(net, lambda a: a["3"][:, 0], **few)
    (path,) = out.save(tmp_path)
    assert out.save(tmp_path) == [path], "the same picture"
    before = path.read_bytes()
    other = featvis.visualize(net, [featvis.logit(1), lambda a: a["3"][:, 7] - a["3"][:, 0]], **few)
    with pytest.raises(featvis.UserError, match=f"{path.name} is another picture, .* name another folder"):
        other.save(tmp_path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path], "nothing is written where something is refused"


class Unlike(Fourier):
    """A method that maximises the units of some networks, and not those of others."""

    def objective(self, unit):
        return unit.objective if self.load_classifier().num_classes == 10 else 2 * unit.objective

    def about(self, unit):
        return {"classes": self.load_classifier().num_classes}


def test_what_is_saved_is_of_the_network_that_the_pictures_were_made_for(tmp_path):
    nets = [featvis.classifier(small(3, n), "float32", mean=0.5, std=0.5, input_size=16) for n in (10, 7)]
    made = Unlike(canvas=16, steps=1, precision="float32")
    first, second = (featvis.visualize(net, "0-2", made, batch_size=2, progress=False) for net in nets)
    made.steps, made.views, made.seed = 9, 9, 9
    hashes = [Unlike(model=net, canvas=16, steps=1, precision="float32").config_hash() for net in nets]
    assert hashes[0] != hashes[1]
    for out, net, config_hash, own in zip((first, second), nets, hashes, (True, False), strict=True):
        for i, path in enumerate(out.save(tmp_path / config_hash)):
            facts = images.facts(path)
            assert (facts["config_hash"], facts["classes"]) == (config_hash, net.num_classes)
            assert (facts["steps"], facts["views"], facts["seed"]) == (1, 1, 0)
            with torch.no_grad():
                logit = float(net(net.preprocess(out.canvas[i : i + 1]))[0, i])
            assert facts["logit"] == facts["activation"] == (pytest.approx(logit, abs=1e-5) if own else None)


class Known(nn.Module):
    """A network that says what it takes, as open_clip's towers do."""

    image_mean, image_std, image_size = (0.5,) * 3, (0.5,) * 3, 32

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)


def test_a_generator_that_is_made_already_takes_the_network_as_it_is_described():
    net = small(3)
    made = featvis.Fourier(model=net, canvas=16, steps=1)
    out = featvis.visualize(net, "3", made, mean=0.25, std=0.5, input_size=16, progress=False)
    network = out.generator.load_classifier()
    assert (network.input_size, float(network.mean[0, 0, 0, 0])) == ((16, 16), 0.25)


def test_layers_are_a_table():
    table = featvis.layers(small(3), mean=0.5, std=0.5, input_size=32)
    assert list(table.columns) == ["type", "units", "shape", "unit"]
    assert table.loc["3", "units"] == 12
    assert table.loc["3", "shape"] == "12 x 8 x 8"


def test_all_public_names_are_there():
    for name in featvis.__all__:
        assert getattr(featvis, name).__doc__, name
    assert set(featvis.__all__) == set(featvis._PUBLIC)
    with pytest.raises(AttributeError):
        featvis.nothing  # noqa: B018


def test_each_picture_is_found_by_its_name():
    out = featvis.visualize(
        "efficientnet_lite0", "tench@0-1, blocks.4:7", method="maco_fast", steps=1, canvas=64, progress=False
    )
    assert [out[name] for name in out.names] == out.images


@pytest.mark.parametrize(("method", "shift"), [("das", "jitter"), ("deepinversion", "roll")])
def test_shifts_shrink_with_the_canvas_for_a_small_network(method, shift):
    out = featvis.visualize(
        small(3), "0", method, mean=0.5, std=0.5, input_size=28, steps=1, precision="float32", progress=False
    )
    sides, own = out.canvas.shape[2] / {"das": 256, "deepinversion": 224}[method], {"das": 32, "deepinversion": 30}
    assert out.generator.chain[0].pixels == round(own[method] * sides)
    assert out.generator.hparams[shift] == out.generator.chain[0].pixels
    with pytest.raises(featvis.UserError, match="leave nothing of a canvas of 32 x 32 pixels"):
        DAS(model=featvis.classifier(small(3), mean=0.5, std=0.5, input_size=28), canvas=32).visualize("0")


class Brief(Fourier):
    """A method that takes its steps alone."""

    def __init__(self, steps: int = 1):
        super().__init__(steps=steps, canvas=16, precision="float32")


def test_a_method_that_takes_neither_network_nor_precision_runs():
    assert accepted(Brief) == ["steps"]
    assert accepted(featvis.Attack) == ["model", "steps", "epsilon", "lr", "tv", "sign", "seed", "micro_batch"]
    net, about = small(3), {"mean": 0.25, "std": 0.5, "input_size": 16, "progress": False}
    out = featvis.visualize(net, "3", Brief, **about)
    same = featvis.visualize(net, "3", Fourier, steps=1, canvas=16, precision="float32", **about)
    assert torch.equal(out.canvas, same.canvas)
    assert out.scores == same.scores
