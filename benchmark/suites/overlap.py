"""Images that a method sees must not be among those that it is scored against: a content hash of each says so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmark.scoring.plan import Sources
from featvis.data.files import digest_of
from featvis.data.sets import ImageSet
from featvis.errors import UserError
from featvis.generators import Generator
from featvis.networks.units import Unit, classes_of

MOST = 50_000
"""Images of a set that are all looked at; of larger ones those of the units' classes."""


def check_overlap(method: str, generator: Generator, units: Sequence[Unit], sources: Sources) -> None:
    """Raise a UserError where a photograph that the method sees is one that its images are scored against.

    The spectrum's images are not scored against: what is compared with them is their mean.

    Args:
        method: the row.
        generator: the method.
        units: of the run.
        sources: the real images of the run.
    """
    seen = {digest for unit in units for digest in generator.photographs(unit)}
    if not seen:
        return
    sets = {s.fingerprint: s for s in (sources.bank, sources.frechet) if s is not None}
    for source in sets.values():
        rows: Iterable[int] = range(len(source))
        if len(source) > MOST:
            rows = [i for c in classes_of(unit.id for unit in units) for i in source.rows.get(c, [])]
        both = [source.where(i) for i in rows if _digest(source, i) in seen]
        if both:
            raise UserError(
                f"methods.{method} sees {len(both)} of the images that it would be scored against ({both[0]} is one); "
                "name other images for the method, or another --data"
            )


def _digest(source: ImageSet, row: int) -> int | None:
    try:
        return digest_of(source.read(row))
    except OSError:
        return None
