"""Fixtures that all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from places import SHARED

# Small tensors gain nothing from a second thread, and lose much on a machine that is shared.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def classifier():
    """The embedded default network, in float32."""
    from featvis.networks.loading import load

    return load("efficientnet_lite0", "float32")


@pytest.fixture(scope="session")
def sample() -> Path:
    """One real ImageNet image a class, in folders named by synset."""
    folder = SHARED / "imagenet-sample"
    if not folder.is_dir():
        pytest.skip("needs ../shared/imagenet-sample")
    return folder


@pytest.fixture(scope="session")
def zoo() -> Path:
    """Real weights as safetensors."""
    folder = SHARED / "zoo"
    if not folder.is_dir():
        pytest.skip("needs ../shared/zoo")
    return folder


LONGEST = ("test_faults.py", "test_notebooks.py")


def pytest_collection_modifyitems(items):
    """Start the longest tests first: the other workers go through the rest meanwhile."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
