"""A small network, and images of its classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import LABELS, network

from featvis.networks.classifier import Classifier


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
