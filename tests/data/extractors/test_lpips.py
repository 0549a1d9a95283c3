"""LPIPS with random backbones against torchmetrics' own, and files that are no weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torchmetrics.functional.image.lpips import _LPIPS

from featvis.data.extractors.lpips import LAYOUTS, Lpips, heads, load_lpips, lpips_distance
from featvis.errors import UserError


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *a, **k: pytest.fail("tried to download"))
    return tmp_path / "hub" / "checkpoints"


def random_backbone(name: str) -> dict[str, torch.Tensor]:
    """A state dict of torchvision's layout; the classifier's layers, which are large, are but one tensor."""
    with torch.device("meta"):
        features = getattr(torchvision.models, LAYOUTS[name].network)(weights=None).features
    features, generator = features.to_empty(device="cpu"), torch.Generator().manual_seed(0)
    for module in features.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            torch.nn.init.zeros_(module.bias)
    return {f"features.{k}": v for k, v in features.state_dict().items()} | {"classifier.1.bias": torch.zeros(3)}


def pictures(seed: int, *size: int) -> torch.Tensor:
    return torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["alex", "squeeze", "vgg"])
def test_the_distance_is_torchmetrics(name, tmp_path, monkeypatch):
    state = random_backbone(name)
    if name == "squeeze":
        save_file(state, (tmp_path / LAYOUTS[name].file).with_suffix(".safetensors"))
    else:
        torch.save(state, tmp_path / LAYOUTS[name].file)
    model = load_lpips(name, [tmp_path / "nowhere", tmp_path])
    assert model is not None
    assert not any(p.requires_grad for p in model.parameters())
    for initial in ("kaiming_uniform_", "kaiming_normal_", "uniform_", "normal_"):  # of what is replaced below
        monkeypatch.setattr(torch.nn.init, initial, lambda tensor, *args, **kwargs: tensor)
    theirs = _LPIPS(pretrained=True, net=name, pnet_rand=True)
    # They keep the layers in slices, under the layers' own numbers.
    depth = 2 if name == "squeeze" else 1
    own = {k: state["features." + k.split(".", depth)[depth]] for k in theirs.net.state_dict()}
    theirs.net.load_state_dict(own)
    x, y = pictures(0, 64, 80), pictures(1, 64, 80)
    with torch.no_grad():
        want = theirs(x, y, normalize=True).flatten()
    assert want.min() > 0.05
    torch.testing.assert_close(lpips_distance(model, x, y, batch_size=2), want, rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def model() -> Lpips:
    torch.manual_seed(0)
    return Lpips("squeeze", torchvision.models.squeezenet1_1(weights=None).features, heads("squeeze"))


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_it_is_symmetric_and_zero_for_the_same(seed):
    torch.manual_seed(0)
    model = Lpips("squeeze", torchvision.models.squeezenet1_1(weights=None).features, heads("squeeze"))
    x, y = pictures(seed, 48, 40), pictures(seed + 1, 48, 40)
    found = lpips_distance(model, x, y)
    assert (found > 0).all()
    torch.testing.assert_close(lpips_distance(model, y, x), found)
    assert torch.equal(lpips_distance(model, x, x), torch.zeros(3))
    # Each pair for itself.
    torch.testing.assert_close(lpips_distance(model, x.flip(0), y.flip(0)), found.flip(0))


def test_it_is_differentiable_and_never_in_training_mode(model):
    x = pictures(0, 64, 64).requires_grad_()
    model.train()(x, pictures(1, 64, 64)).sum().backward()
    assert not model.training
    assert x.grad is not None
    assert np.isfinite(x.grad.numpy()).all()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.zeros(1, 3, 16, 64), torch.zeros(1, 3, 16, 64), "at least 32 pixels"),
        (torch.full((1, 3, 64, 64), 1.5), torch.zeros(1, 3, 64, 64), r"RGB in \[0, 1\]"),
        (torch.full((1, 3, 64, 64), torch.nan), torch.zeros(1, 3, 64, 64), r"RGB in \[0, 1\]"),
    ],
)
def test_what_cannot_be_compared_is_a_sentence(model, x, y, message):
    with pytest.raises(UserError, match=message):
        lpips_distance(model, x, y)


def test_it_is_none_without_weights_and_found_in_the_hubs_cache(tmp_path, hub):
    assert load_lpips() is None
    assert load_lpips("squeeze", [tmp_path]) is None
    hub.mkdir(parents=True)
    torch.save(random_backbone("squeeze"), hub / LAYOUTS["squeeze"].file)
    assert load_lpips("squeeze") is not None
    assert load_lpips("alex") is None
    with pytest.raises(UserError, match="no backbone resnet; take one of alex, vgg, squeeze"):
        load_lpips("resnet")


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_file_that_is_not_these_weights_is_named_and_runs_nothing(tmp_path):
    path = tmp_path / LAYOUTS["squeeze"].file
    whole = random_backbone("squeeze")
    wrong = [{"features.0.bias": Harmful(tmp_path / "ran")}, [1], dict(list(whole.items())[1:]), {}]
    for content in wrong:
        torch.save(content, path)
        with pytest.raises(UserError, match=f"{path.name} does not hold the weights of torchvision's squeezenet1_1"):
            load_lpips("squeeze", [tmp_path])
    path.write_bytes(b"cut")
    with pytest.raises(UserError, match="complete squeezenet"):
        load_lpips("squeeze", [tmp_path])
    assert not (tmp_path / "ran").exists()
