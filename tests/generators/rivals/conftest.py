"""A network small enough for whole methods in a second, and real-looking images of its classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from featvis.networks.classifier import Classifier
from featvis.networks.weights import ModelSpec

LABELS = ("cat", "dog", "fox", "owl")


def network(norm: bool = True) -> Classifier:
    """Two convolutions, with statistics of their own where they have batch norms, over 16 x 16 pixels."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6) if norm else nn.Identity(), nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8) if norm else nn.Identity(), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, len(LABELS)),
    )  # fmt: skip
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.3, 2)
    about = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "input_size": (16, 16), "labels": LABELS}
    return Classifier(net, ModelSpec("tiny", "tiny", **about), precision="float32")


@pytest.fixture(scope="module")
def tiny() -> Classifier:
    return network()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three images of each of the first three classes, a folder a class; none of the last."""
    rng = np.random.default_rng(0)
    for label in LABELS[:3]:
        (tmp_path / "images" / label).mkdir(parents=True)
        for i in range(3):
            small = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(small).resize((16, 16), Image.Resampling.BICUBIC).save(
                tmp_path / "images" / label / f"{i}.png"
            )
    return tmp_path / "images"
