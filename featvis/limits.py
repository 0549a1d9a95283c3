"""What counts as a usable number: its name in, the least and the greatest value out; no torch."""

from __future__ import annotations

from featvis.errors import UserError

LIMITS = {
    "steps": (1, 100_000),
    "views": (1, 4096),
    "canvas": (16, 8192),
    "batch_size": (1, 4096),
    "devices": (1, 1024),
}
"""Least and greatest value of each; a flag is named after its key, but for views, which is --crops."""


def check_limit(name: str, value: int | None, flag: str | None = None) -> None:
    """Raise a UserError for a value outside of `LIMITS`.

    Args:
        name: a key of `LIMITS`.
        value: None is a value that was not given.
        flag: the option that gave it, for messages; None: named after the key.
    """
    low, high = LIMITS[name]
    if value is not None and not low <= value <= high:
        flag = flag or "--" + {"views": "crops"}.get(name, name).replace("_", "-")
        raise UserError(f"{flag} must be between {low} and {high}, not {value}")
