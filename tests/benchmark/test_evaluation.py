"""Scores from Python, of a live network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import featvis
from benchmark.evaluation import evaluate

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
ABOUT = {"mean": 0.5, "std": 0.25, "input_size": 24, "labels": ["red", "green", "blue"]}


def colours() -> nn.Module:
    """Its logits are a pixel's colours, ten times."""
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
    with torch.no_grad():
        for layer in (net[0], net[3]):
            layer.weight.copy_(torch.eye(3).view_as(layer.weight))
            layer.bias.zero_()
        net[3].weight.mul_(10)
    return net


def test_a_live_network_scores_its_own_pictures(tmp_path):
    net = colours()
    out = featvis.visualize(net, "red, blue", "fourier", steps=30, progress=False, **ABOUT)
    out.save(tmp_path / "pictures")
    rng = np.random.default_rng(0)
    for i, label in enumerate(ABOUT["labels"]):
        (tmp_path / "real" / label).mkdir(parents=True)
        for j in range(3):
            pixels = rng.integers(0, 100, (24, 24, 3), dtype=np.uint8)
            pixels[..., i] += 150
            Image.fromarray(pixels).save(tmp_path / "real" / label / f"{j}.png")
    table = evaluate(
        tmp_path / "pictures", net, data=str(tmp_path / "real"), out=tmp_path / "out" / "scores", **ABOUT
    ).set_index(["method", "metric"])
    canvas = torch.stack([torch.from_numpy(np.asarray(image) / 255.0) for image in out.images]).float()
    expected = [float(10 * (canvas[k, ..., c].mean() - 0.5) / 0.25) for k, c in ((0, 0), (1, 2))]
    found = table.loc[("pictures", "logit"), "value"]
    assert found == pytest.approx(sum(expected) / 2, abs=0.05)
    assert table.loc[("real", "logit"), "value"] > 0
    assert table.loc[("pictures", "plausibility_pooled"), "value"] >= 0
    judges = table.loc["pictures"].filter(like="top1_tf_efficientnet", axis=0)
    assert judges["value"].isna().all()
    assert judges["absent"].str.contains("do not share their classes").all()
