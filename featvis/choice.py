"""Which engine computes: the environment variable FEATVIS_ENGINE in, one of `ENGINES` out; no torch."""

from __future__ import annotations

import os

from featvis.errors import UserError

ENGINES = ("compiled", "torch")


def chosen() -> str:
    """The engine that FEATVIS_ENGINE names; `compiled` where it is not set. Raises UserError for any other value."""
    value = os.environ.get("FEATVIS_ENGINE") or "compiled"
    if value not in ENGINES:
        raise UserError(f"FEATVIS_ENGINE={value} is no engine; it is compiled or torch")
    return value
