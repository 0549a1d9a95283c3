"""What a method was allowed to see, besides the network: a record in, a few words out."""

from __future__ import annotations

from typing import Any

from benchmark.records.record import REFERENCES, Record

UNKNOWN = "unknown"
DEFAULTS = {"MACO": "a spectrum", "Fourier": "nothing", "CBR": "nothing", "AM": "nothing", "Attack": "an image"}
"""By generator, for records that do not say it: MACO keeps the mean spectrum of natural images."""


def sees_of(record: Record) -> str:
    """What a row's method may see of real images; empty for reference rows, which are no methods.

    Args:
        record: of any version: one with a field `sees` says it itself.

    Example:
        >>> from types import SimpleNamespace
        >>> from benchmark.site.board.sees import sees_of
        >>> config = {"generator": {"class_path": "featvis.generators.MACO"}}
        >>> sees_of(SimpleNamespace(method="maco_32x2", config=config))
        'a spectrum'
    """
    if said := getattr(record, "sees", None):
        return str(said)
    if record.method in REFERENCES:
        return ""
    generator: dict[str, Any] = record.config.get("generator") or {}
    path = str(generator.get("class_path", ""))
    # Older records name the module too.
    return DEFAULTS.get(path.rpartition(".")[2], UNKNOWN) if path.startswith("featvis.generators.") else UNKNOWN
