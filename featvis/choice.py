"""Which engine computes, found without importing it: the variable FEATVIS_ENGINE in, its name out.

`compiled` (the default) takes what makes a CPU fast, `torch` PyTorch's own operations everywhere. This module imports
neither torch nor Numba, so that commands can check the variable, and records can name the engine, without them.
"""

from __future__ import annotations

import importlib.util
import os
from functools import cache

from featvis.errors import UserError

VARIABLE = "FEATVIS_ENGINE"
ENGINES = ("compiled", "torch")


def chosen() -> str:
    """The engine that was asked for, `compiled` or `torch`.

    Raises:
        UserError: when the variable holds anything else.
    """
    found = os.environ.get(VARIABLE) or ENGINES[0]
    if found not in ENGINES:
        raise UserError(f"{VARIABLE}={found} is no engine; it is compiled (the default) or torch")
    return found


@cache
def has_numba() -> bool:
    """Whether Numba, which the compiled engine needs, is installed."""
    return importlib.util.find_spec("numba") is not None


def in_use() -> str:
    """The engine that computes here, for records: `compiled`, `torch`, or `torch (no numba)` where that is missing."""
    if chosen() == "torch":
        return "torch"
    return "compiled" if has_numba() else "torch (no numba)"
