"""Fixtures that all tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import figures
import numpy as np
import pytest
import torch
from hypothesis import settings
from places import ROOT, SHARED

from benchmark.launch import keep_freed

# The same examples everywhere, and no deadline: a test fails for what is wrong, not for luck or a slow machine.
settings.register_profile("featvis", derandomize=True, deadline=None, max_examples=60, database=None)
settings.load_profile("featvis")

# The tests start some hundred processes; where nothing compiled is kept, each of them would compile the sources anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# What a command logs by default would be made some hundred times; the tests of it ask for it.
os.environ["WANDB_MODE"] = "disabled"

# Processes that tests start are more than there are cores: whoever waits for a thread should let another work.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Servers of tests are on the loopback, whatever proxy a machine has for the world.
for name in ("NO_PROXY", "no_proxy"):
    os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1", "localhost")))

# Small tensors gain nothing from a second thread, and lose much on a machine that is shared.
torch.set_num_threads(1)
keep_freed()

figures.leave_out()


@pytest.fixture(autouse=True)
def seeded():
    """The same numbers wherever a test draws without a seed, whatever ran before it in this process."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 -- the global one, which libraries draw from


@pytest.fixture(scope="module")
def plain_engine():
    """PyTorch's own operations, for files that are about what surrounds an optimisation of a few steps.

    The compiled engine folds a network and tries what it has folded before the first step: seconds in each process.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATVIS_ENGINE", "torch")
        yield


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


LONGEST = (
    "test_run", "test_notebooks", "test_faults", "test_bad_input", "test_layers", "test_launch", "test_verify",
    "test_installed", "test_own_classes", "test_perf", "test_am", "test_base", "test_concepts", "test_contributing",
    "test_attacks", "test_fid", "test_counts",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    """Start the longest files first: the other workers go through the rest meanwhile."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


COMPILE = """
from featvis.generators import CBR, MACO
for method in (MACO(steps=1, canvas=48, views=1), CBR(steps=1, canvas=48)):
    method.visualize("301")
"""


def pytest_sessionstart(session):
    """Compile the engine's loops once, for all workers and all processes that tests start."""
    compiled = any((ROOT / "featvis" / "engine" / "__pycache__").glob("loops.*.nbi"))
    # Workers have an input; those who collect only, or run something small, need not wait.
    if not hasattr(session.config, "workerinput") and session.config.getoption("numprocesses", None) and not compiled:
        subprocess.run([sys.executable, "-c", COMPILE], cwd=ROOT, check=False, capture_output=True)
