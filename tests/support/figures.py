"""The figures of a run, which are a quarter of what a small one costs: drawn where a test asks for them alone."""

from __future__ import annotations

import os

from benchmark.report import report

ASKED = "FEATVIS_TEST_FIGURES"
"""The variable by which a test asks a command in a process of its own for its figures."""
DRAW = report.draw


def leave_out() -> None:
    """Let runs of this process draw no figures, unless its environment asks for them."""
    report.draw = DRAW if os.environ.get(ASKED) else lambda *_: []
