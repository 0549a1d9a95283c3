"""Commands as a user runs them, and what a refused one must look like."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import figures
import pytest
from warm import WARM

from benchmark.cli import main
from benchmark.running import runner
from featvis.generators import Generator

ROOT = Path(__file__).parents[2]
SMALL = ("--steps", "2", "--crops", "1", "--canvas", "64", "--classifiers", "efficientnet_lite1", "--wandb", "disabled")
"""Flags of a small run, with one judge."""
PLAIN = {"FEATVIS_ENGINE": "torch"}
"""For commands that are about what surrounds a few steps: the compiled engine takes seconds before the first one."""


def command(
    *args: str, cwd: Path, timeout: float = 1200, drawing: bool = False, **env: str
) -> subprocess.CompletedProcess[str]:
    """`featvis args` in a process of its own: a copy of one that has imported everything, or a new one for an `env`.

    What an `env` says may be read on import; the folder of weights and the engine are not. A copy draws no figures of
    a run, unless `drawing`.
    """
    if env.keys() <= {"FEATVIS_WEIGHTS", "FEATVIS_ENGINE"} and WARM.possible:
        process = WARM.start("-m", "benchmark", *args, cwd=cwd, **env, **({figures.ASKED: "1"} if drawing else {}))
        out, err = process.communicate(timeout)
        return subprocess.CompletedProcess(args, process.wait(), out, err)
    return subprocess.run(
        [sys.executable, "-m", "benchmark", *args],
        cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **env},
    )  # fmt: skip


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder: the bytes of each file, None for a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def check_sentence(code: int, stderr: str, words: Sequence[str]) -> None:
    """Exit code 2, and one line on standard error that says what was wrong in the words expected."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    assert code == 2, stderr
    assert len(lines) == 1, stderr
    assert lines[0].startswith("featvis: ")
    for word in (*words, " "):
        assert word in lines[0], f"{word!r} is not in: {lines[0]}"
    for jargon in ("Traceback", "<class", "Parser key", "NoneType", "Subtypes", "Errno"):
        assert jargon not in lines[0]


def _let_through(*args: object) -> None:
    raise AssertionError("the command was not refused")


class Refusals:
    """Runs commands that must be refused, in this process, in an empty folder.

    Args:
        folder: of the test; nothing below it may change.
        capsys: pytest's.
    """

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys

    def __call__(self, args: Sequence[str], *words: str) -> str:
        """Run a command, check that it is refused with these words and nothing written or lost; its message."""
        before = tree(self.folder)
        self.capsys.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            # Whatever is let through shall fail here and not compute for an hour.
            patch.setattr(runner, "generate", _let_through)
            patch.setattr(runner, "evaluate", _let_through)
            patch.setattr(Generator, "optimise", _let_through)
            code = main(list(args))
        said = self.capsys.readouterr()
        check_sentence(code, said.err, words)
        assert tree(self.folder) == before, "nothing may be written or lost"
        return said.err
