"""FID and KID of the whole path, folders in and records out, against torch-fidelity on the same two folders."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
import torch_fidelity
from PIL import Image
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from benchmark.cli import main
from benchmark.records import record as records
from featvis.data.extractors.inception import FILE_NAMES

CLASSES = [301, 323]


class RandomWeights(FeatureExtractorInceptionV3):
    def load_state_dict(self, state_dict, *args, **kwargs):
        """Keep the fresh weights."""


@pytest.fixture
def weights(tmp_path):
    """A weights file of Inception's layout with random values: its real ones are not everywhere."""
    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    model = RandomWeights("random", ["2048"], feature_extractor_weights_path=nothing)
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
    (tmp_path / "weights").mkdir()
    torch.save(model.state_dict(), tmp_path / "weights" / FILE_NAMES[0])
    return tmp_path / "weights"


def texture(rng, side, grain):
    coarse = (rng.random((grain, grain, 3)) * 255).astype(np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def test_fid_and_kid_are_torch_fidelitys(weights, tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    for name in ("canvases", "cropped", "reference"):
        (tmp_path / name).mkdir()
    for label in CLASSES:
        for i in range(2):
            canvas = texture(rng, 320, 6)
            canvas.save(tmp_path / "canvases" / f"{label}_{i}.png")
            canvas.crop((10, 10, 309, 309)).save(tmp_path / "cropped" / f"{label}_{i}.png")
        for i in range(3):
            photograph = texture(rng, 299, 12)
            path = tmp_path / "data" / str(label) / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            photograph.save(path)
            if i:  # the first of each class stands in the row real, and is left out of the reference
                photograph.save(tmp_path / "reference" / f"{label}_{i}.png")
    monkeypatch.setenv("FEATVIS_WEIGHTS", str(weights))
    arguments = ["--data", str(tmp_path / "data"), "--metrics", "frechet", "--classifiers", "efficientnet_lite1"]
    assert main(["evaluate", str(tmp_path / "canvases"), *arguments, "--out", str(tmp_path / "out" / "run")]) == 0
    assert "FID" in capsys.readouterr().out
    record = records.Record.read(tmp_path / "out" / "run" / "records" / "efficientnet_lite0" / "canvases.json")
    theirs = torch_fidelity.calculate_metrics(
        input1=str(tmp_path / "cropped"), input2=str(tmp_path / "reference"), fid=True, kid=True, kid_subsets=1,
        kid_subset_size=4, cuda=False, verbose=False, feature_extractor_weights_path=str(weights / FILE_NAMES[0]),
        cache=False, save_cpu_ram=True,
    )  # fmt: skip
    fid, kid = record.metric("fid"), record.metric("kid")
    assert fid is not None
    assert kid is not None
    assert fid.value == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
    # One subset of all four images: theirs is then the whole estimate, as ours is.
    assert kid.value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3)
    assert fid.n == 4
    assert fid.definition["reference"].startswith("4 images of the same classes")
    # The row real is of its own 2 images, and nearer than canvases of another grain.
    real = records.Record.read(tmp_path / "out" / "run" / "records" / "efficientnet_lite0" / "real.json").metric("fid")
    assert real is not None
    assert real.n == 2
    assert float(str(real.value)) < float(str(fid.value))
