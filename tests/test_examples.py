"""The examples of the docstrings do what they show, and every public score has one."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest
import torch

import benchmark
import featvis

FOUND = [m.name for p in (featvis, benchmark) for m in pkgutil.walk_packages(p.__path__, f"{p.__name__}.")]
# To import a __main__ is to run the command.
MODULES = sorted(name for name in FOUND if not name.endswith(".__main__"))
WITH_EXAMPLES = ("featvis.metrics",)
"""Packages whose every public name has an example."""
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def test_all_modules_are_found():
    assert {"featvis.metrics.functional.nearest", "featvis.generators.maco", "featvis.canvas.color"} <= set(MODULES)
    assert {"benchmark.records.record", "benchmark.study.analysing.simulate", "benchmark.cli"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    torch.manual_seed(0)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        runner.run(test, out=said.append)
    assert runner.failures == 0, "".join(said)


@pytest.mark.parametrize("package", WITH_EXAMPLES)
def test_every_public_name_has_an_example(package):
    module = importlib.import_module(package)
    without = [name for name in module.__all__ if ">>> " not in (getattr(module, name).__doc__ or "")]
    assert without == []
