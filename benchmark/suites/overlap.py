"""Images that a method sees must not be among those that it is scored against: a content hash of each says so."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.scoring.plan import Sources
from featvis.errors import UserError
from featvis.generators import Generator
from featvis.networks.units import Unit, classes_of


def check_overlap(method: str, generator: Generator, units: Sequence[Unit], sources: Sources) -> None:
    """Raise a UserError where a photograph that the method sees is one that its images are scored against.

    Args:
        method: the row.
        generator: the method.
        units: of the run.
        sources: the real images of the run.
    """
    seen = {digest for unit in units for digest in generator.photographs(unit)}
    if both := sources.overlap(seen, classes_of(unit.id for unit in units)):
        raise UserError(
            f"methods.{method} sees {len(both)} of the images that it would be scored against ({both[0]} is one); "
            "name other images for the method, or another --data"
        )
