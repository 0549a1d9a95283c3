"""Feature inversion against NumPy and against the images; channels that a ReLU has silenced."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from featvis.canvas.transforms import draw
from featvis.data.files import ImageFile, list_images
from featvis.errors import UserError
from featvis.generators import AM, Accentuation, Attack
from featvis.generators.attack import pair_up
from featvis.generators.inversion import Inversion, units_of
from featvis.generators.rivals.accentuation import units_of as accentuated
from featvis.networks.classifier import Classifier
from featvis.networks.names import ModelSpec
from featvis.networks.objectives import match
from featvis.networks.units import Unit, parse_units

PICTURE = Path(__file__).parents[2] / "results" / "figures" / "visualizations.jpg"


def test_the_match_is_dot_times_squared_cosine():
    g = np.random.default_rng(0)
    target, found = g.normal(size=(5, 7)), g.normal(size=(3, 5, 7)) + 0.3
    found[1] = -target
    t, a = target.ravel(), found.reshape(3, -1)
    cosine = a @ t / np.linalg.norm(a, axis=1) / np.linalg.norm(t)
    expected = a @ t / np.linalg.norm(t) * np.maximum(cosine, 0.1) ** 2
    objective = match("blocks.1", torch.tensor(target, dtype=torch.float32))
    values = objective({"blocks.1[:]": torch.tensor(found, dtype=torch.float32)})
    np.testing.assert_allclose(values.numpy(), expected, rtol=1e-4)
    assert expected[1] < 0, "the floor keeps the sign of the dot product, and a gradient"


def inverted(classifier, paths: list[Path], layer: str, **settings):
    made = Inversion(canvas=classifier.input_size, precision="float32", **settings)
    made.classifier = classifier
    units = units_of(paths, [layer], classifier)
    canvas = made.predict_step(units).canvas
    targets = torch.stack([made.picture(u) for u in units])
    return made, canvas, targets


def test_noise_on_a_canvas_that_is_no_square_leaves_it_whole():
    """Views are compared place by place with the whole image; a square cut of it would be another place."""
    made = Inversion(canvas=(32, 64), noise=0.1)
    frame = draw(made.transforms(0), made.size, 3, [torch.Generator().manual_seed(0)])
    assert frame.matrix.tolist() == [[torch.eye(2, 3).tolist()] * 3]
    assert frame.size.tolist() == [[[32.0, 64.0]] * 3]
    assert frame.noise == (0.0, 0.05)
    with pytest.raises(UserError, match="crop is of square canvases; this one has 32 x 64 pixels"):
        Inversion(canvas=(32, 64), crop=0.1)


def test_an_early_layer_gives_the_picture_back(classifier):
    """By a hook of its own: the activations agree, and so do the pictures, since an early layer has lost little."""
    _, start, _ = inverted(classifier, [PICTURE], "blocks.0.0", steps=1)
    _, canvas, targets = inverted(classifier, [PICTURE], "blocks.0.0", steps=60)
    kept = []
    handle = classifier.net.blocks[0][0].register_forward_hook(lambda m, a, o: kept.append(o.flatten(1)))
    with torch.no_grad():
        classifier.net((torch.cat([canvas, start, targets]) - 0.5) / 0.5)
    handle.remove()
    after, before = torch.cosine_similarity(kept[0][:2], kept[0][2:]).tolist()
    # Whatever the rounding: at least half of the way from where it began to a perfect match.
    assert 1 - after < 0.5 * (1 - before)
    grey = [x.mean(1).flatten() for x in (canvas, targets)]
    assert float(torch.corrcoef(torch.stack(grey))[0, 1]) > 0.4


def test_each_image_of_a_batch_is_matched_with_itself(classifier, sample):
    paths = [f.path for f in list_images(sample, classifier.synsets)[::300]]
    made, canvas, targets = inverted(classifier, paths, "blocks.1.1", steps=30)
    a, b = (made.activations("blocks.1.1", x).flatten(1) for x in (canvas, targets))
    cosines = torch.cosine_similarity(a[:, None], b[None], dim=2)
    assert cosines.argmax(1).tolist() == list(range(len(paths)))
    alone = inverted(classifier, paths[1:2], "blocks.1.1", steps=1)[1]
    together = inverted(classifier, paths, "blocks.1.1", steps=1)[1]
    assert float((alone[0] - together[1]).abs().max()) < 1e-4


def test_a_unit_without_an_image_is_refused(classifier):
    made = Inversion(steps=1, canvas=32)
    made.classifier = classifier
    with pytest.raises(UserError, match="an inversion is of an image"):
        made.predict_step([Unit("blocks.1", 3, "x")])


def test_a_silent_channel_is_revived_and_an_audible_one_left_alone():
    torch.manual_seed(0)
    net = timm.create_model("resnet18").eval()
    layer = "layer2.0"
    with torch.no_grad():
        # One channel's last norm far below zero: its ReLU is silent whatever the block adds to it.
        net.layer2[0].bn2.bias[3] = -30.0
        net.layer2[0].bn2.weight[3] = 0.5
    classifier = Classifier(net, ModelSpec("resnet18", "resnet18", input_size=(64, 64)), precision="float32")
    assert classifier.layer(layer).rectifier >= 0

    def read(channel: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
        value = classifier.activations(x, frozenset({layer}))[layer][0, channel]
        return value.detach(), torch.autograd.grad(value, x)[0]

    def by_hand(channel: int, before: bool) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
        kept = []
        module = net.layer2[0].act2
        handle = (
            module.register_forward_pre_hook(lambda m, a: kept.append(a[0].clone()))
            if before
            else module.register_forward_hook(lambda m, a, o: kept.append(o.clone()))
        )
        net((x - classifier.mean) / classifier.std)
        handle.remove()
        value = kept[0][0, channel].mean()
        return value.detach(), torch.autograd.grad(value, x)[0]

    value, gradient = read(3)
    assert float(value) == 0.0, "what is read stays what the network says"
    assert torch.allclose(gradient, by_hand(3, before=True)[1], atol=1e-7)
    assert float(gradient.abs().max()) > 0
    audible = [channel for channel in range(64) if float(by_hand(channel, before=False)[0]) > 0][:2]
    assert len(audible) == 2
    for channel in audible:
        (value, gradient), (expected, own) = read(channel), by_hand(channel, before=False)
        assert float(value) == pytest.approx(float(expected), rel=1e-5)
        assert torch.allclose(gradient, own, atol=1e-7)


def test_steps_of_normalised_gradient_have_one_length(classifier):
    """Layers whose gradients differ by orders of magnitude move as far; a unit without a gradient stays."""
    made = AM(steps=1, canvas=48, domain="pixel", ascent="normalised", lr=0.02, chain="none", precision="float32")
    made.classifier = classifier
    units = parse_units("301,blocks.2:3,blocks.5.1:7", classifier)
    x, _ = made.start(units, made.streams(units))
    x = x.requires_grad_()
    before = x.detach().clone()
    x.grad = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)) * torch.tensor([1e-6, 1.0, 0.0]).view(
        3, 1, 1, 1
    )
    made.optimizer([x]).step()
    moved = (x.detach() - before).flatten(1).square().mean(1).sqrt()
    np.testing.assert_allclose(moved, [0.02, 0.02, 0.0], rtol=1e-3)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_methods_of_one_image_begin_with_its_alpha_where_the_network_has_one(tmp_path, count):
    rgba = np.random.default_rng(0).integers(0, 256, (16, 16, 4), np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    color, alpha = rgba[..., :3].transpose(2, 0, 1) / 255, rgba[None, ..., 3] / 255
    luminance = np.tensordot([0.299, 0.587, 0.114], color, 1)[None]
    expected = {2: [luminance, alpha], 3: [color], 4: [color, alpha]}[count]
    net = nn.Sequential(nn.Conv2d(count, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    about = {"mean": (0.5,) * count, "std": (0.5,) * count, "input_size": (16, 16), "labels": ("a", "b", "c")}
    network = Classifier(net, ModelSpec("own", "own", **about), precision="float32")
    inversion, attack = Inversion(model=network, canvas=16), Attack(model=network)
    accentuation = Accentuation(model=network, canvas=16, layer="0")
    for method in (inversion, attack, accentuation):
        method.load_classifier()
    (inverted,) = units_of([tmp_path / "a.png"], ["0"], network)
    pairs = pair_up([ImageFile(tmp_path / "a.png", 0)], [1], network)
    (within,) = accentuated([tmp_path / "a.png"], parse_units("b", network), count)
    begun = (inversion.picture(inverted), attack.start(list(pairs), [])[0][0], accentuation.beside([within])[0])
    for found in begun:
        assert np.abs(found.numpy() - np.concatenate(expected)).max() < 0.6 / 255, "luminance is on 256 levels"
    for method in (inversion, attack, accentuation):
        assert method.config().get("alpha") == (None if count == 3 else "of the files")
