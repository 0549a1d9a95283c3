"""Which parts of the engine work: those of the compiled engine, less what a measurement switches off."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from featvis.choice import chosen, has_numba

PARTS = {
    "folding": "batch norms and ReLUs in the convolutions before them",
    "convolutions": "input gradients of frozen convolutions",
    "chains": "convolutions in a row as one operation",
    "attention": "gradients of attention by matrix products",
    "decoding": "phases, standardising, colour and sigmoid in compiled loops",
    "views": "views that are not rotated in compiled loops",
    "side by side": "parts of a batch on a thread each",
}
"""The parts, and what each of them does."""

_off: frozenset[str] = frozenset()


def on(part: str) -> bool:
    """Whether a part of the compiled engine works here and now; else PyTorch's own operations take its place."""
    return part not in _off and chosen() == "compiled" and _compiles()


@contextmanager
def without(*parts: str) -> Iterator[None]:
    """The engine without some of its `PARTS` during the with block, in all threads: to see what they are worth."""
    global _off
    assert set(parts) <= set(PARTS)
    before = _off
    _off = before | set(parts)
    try:
        yield
    finally:
        _off = before


def _compiles() -> bool:
    if not has_numba():
        say_once("Numba is not installed, so PyTorch's own operations are used, which are slower on a CPU; "
                 "pip install 'featvis[fast]' installs it")  # fmt: skip
    return has_numba()


@cache
def say_once(text: str) -> None:
    """One warning a text and process."""
    warnings.warn(f"featvis: {text}", RuntimeWarning, stacklevel=2)
