"""The fault runs with a few kills each; `python tests/faults.py` does more, and prints what it did."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from commands import ROOT

sys.path.insert(0, str(ROOT / "tests"))
import faults

pytestmark = pytest.mark.usefixtures("plain_engine")
SUITE = """
model: efficientnet_lite0
units: 301,323
methods: [maco, fourier]
classifiers: [efficientnet_lite0]
frechet: efficientnet_lite0
metrics: [plausibility, logit, spectrum]
"""


def few(folder: Path, kills: int) -> faults.Faults:
    """Few units and steps, and scores of each kind: of an image, of all, and against what is kept of real ones."""
    (folder / "small.yaml").write_text(SUITE)
    return faults.Faults(folder, kills=kills, units=2, steps=4, suite="small.yaml", warm=True)


def test_killed_runs_and_damaged_files_leave_what_an_undisturbed_run_leaves(tmp_path):
    faults.killed_runs(few(tmp_path, kills=3))


def test_killed_references_leave_what_an_undisturbed_one_leaves(tmp_path):
    faults.killed_references(faults.Faults(tmp_path, kills=2, warm=True))


def test_a_full_disk_loses_nothing(tmp_path):
    if not faults.full_disk(few(tmp_path, kills=0)):
        pytest.skip("this machine lets nobody mount a small disk")
