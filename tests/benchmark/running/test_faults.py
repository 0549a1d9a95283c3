"""The fault runs with a few kills each; `python tests/faults.py` does more, and prints what it did."""

from __future__ import annotations

import sys

import pytest
from commands import ROOT

sys.path.insert(0, str(ROOT / "tests"))
import faults

pytestmark = pytest.mark.usefixtures("plain_engine")
ONE_JUDGE = ("--classifiers", "efficientnet_lite0")


def test_killed_runs_and_damaged_files_leave_what_an_undisturbed_run_leaves(tmp_path):
    faults.killed_runs(faults.Faults(tmp_path, kills=3, units=2, steps=4, scoring=ONE_JUDGE, warm=True))


def test_killed_references_leave_what_an_undisturbed_one_leaves(tmp_path):
    faults.killed_references(faults.Faults(tmp_path, kills=2, warm=True))


def test_a_full_disk_loses_nothing(tmp_path):
    if not faults.full_disk(faults.Faults(tmp_path, kills=0, units=2, steps=4, scoring=ONE_JUDGE, warm=True)):
        pytest.skip("this machine lets nobody mount a small disk")
