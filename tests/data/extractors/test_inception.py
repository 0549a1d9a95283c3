"""Loading Inception without its weights: random ones, saved once, must give torch-fidelity's own features."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from featvis.data.extractors.inception import FILE_NAMES, inception_features, load_inception
from featvis.errors import UserError


class RandomWeights(FeatureExtractorInceptionV3):
    def load_state_dict(self, state_dict, *args, **kwargs):
        """Keep the fresh weights."""


class Recorder(torch.nn.Module):
    """Keeps what it is shown."""

    def __init__(self):
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        self.shown = []

    def forward(self, x):
        self.shown.append(x)
        return (x.float().mean((1, 2, 3))[:, None].expand(-1, 2048),)


@pytest.fixture(scope="module")
def theirs():
    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    model = RandomWeights("random", ["2048"], feature_extractor_weights_path=nothing)
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):  # so that the features are of order 1, not 1e-10
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
    return model


@pytest.fixture(scope="module")
def folder(theirs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    torch.save(theirs.state_dict(), folder / FILE_NAMES[0])
    return folder


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


def images(*size, n=1):
    return torch.randint(0, 256, (n, 3, *size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def test_features_are_torch_fidelitys_on_the_centre(folder, theirs):
    ours = load_inception([folder / "nowhere", folder])
    assert not ours.training
    assert not any(p.requires_grad for p in ours.parameters())
    canvas = images(320, 411)
    want = theirs(canvas[:, :, 10:309, 56:355])[0]
    assert want.std() > 0.1
    torch.testing.assert_close(inception_features(ours, canvas), want)


def test_a_large_canvas_is_cropped_never_resized_and_floats_are_rounded():
    canvas = images(300, 411, n=5)
    for given in (canvas, canvas / 255, canvas.double() / 255 + 1e-4):
        model = Recorder()
        features = inception_features(model, given.clamp(max=1 if given.is_floating_point() else 255), batch_size=2)
        assert torch.equal(torch.cat(model.shown), canvas[:, :, :299, 56:355])
        assert [len(x) for x in model.shown] == [2, 2, 1]
        torch.testing.assert_close(features[:, 0], canvas[:, :, :299, 56:355].float().mean((1, 2, 3)))


def test_a_small_canvas_is_enlarged_until_its_short_side_fits():
    model, canvas = Recorder(), images(150, 200)
    inception_features(model, canvas)
    pil = Image.fromarray(canvas[0].permute(1, 2, 0).numpy()).resize((399, 299), Image.Resampling.BILINEAR)
    want = torch.tensor(np.asarray(pil))[:, 50:349].permute(2, 0, 1)
    assert (model.shown[0][0].int() - want.int()).abs().max() <= 2  # Pillow rounds twice, once a side


def test_no_images_no_features_and_floats_outside_the_range_are_refused():
    assert inception_features(Recorder(), images(299, 299)[:0]).shape == (0, 2048)
    for wrong in (1.5, -0.1, float("nan")):
        with pytest.raises(UserError, match=r"\[0, 1\]"):
            inception_features(Recorder(), torch.full((1, 3, 299, 299), wrong))


def test_it_is_none_without_a_file_and_found_in_the_hubs_cache_without_a_download(folder, hub, monkeypatch):
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *a, **k: pytest.fail("tried to download"))
    assert load_inception() is None
    assert load_inception([folder / "nowhere"]) is None
    hub.mkdir(parents=True)
    (hub / FILE_NAMES[1]).symlink_to(folder / FILE_NAMES[0])
    assert load_inception() is not None


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def broken_files(tmp_path):
    """What a weights file may be instead: cut, empty, harmful, another network's, a list."""
    whole = io.BytesIO()
    torch.save({"Conv2d_1a_3x3.conv.weight": torch.zeros(32, 3, 3, 3)}, whole)
    harmful = io.BytesIO()
    torch.save({"fc.bias": Harmful(tmp_path / "ran")}, harmful)
    listed = io.BytesIO()
    torch.save([1, 2], listed)
    yield from (b"", b"not found", whole.getvalue()[:300], whole.getvalue(), harmful.getvalue(), listed.getvalue())


@pytest.mark.parametrize("index", range(6))
def test_a_file_that_is_not_these_weights_is_named_and_runs_nothing(tmp_path, index):
    path = tmp_path / FILE_NAMES[0]
    path.write_bytes(list(broken_files(tmp_path))[index])
    with pytest.raises(UserError, match=FILE_NAMES[0]):
        load_inception([tmp_path])
    assert not (tmp_path / "ran").exists()
