"""Networks small enough for whole methods in a second."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
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


def put(folder: Path, *names: str) -> Path:
    """A folder with random weights of timm's smallest networks, such as test_resnet, for FEATVIS_WEIGHTS."""
    folder.mkdir()
    torch.manual_seed(0)
    for name in names:
        save_file(timm.create_model(name).state_dict(), folder / f"{name}.safetensors")
    return folder
