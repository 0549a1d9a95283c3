"""The row `real_other`: for each unit's class a photograph of another one, under the unit's label.

Nothing that is made for a class may be taken for it by less than such photographs, and a score that cannot tell them
from photographs of the class is blind to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence

from PIL import Image

from benchmark.scoring.plan import Picture, Row
from featvis.data.sets import ImageSet
from featvis.networks.units import class_of

OWN_CLASSES = (
    "there are real images of the units' own classes alone, so these are the same photographs under other labels, of "
    "which a distance between sets says nothing"
)


def table_rows(
    rows: Sequence[Row], units: Sequence[str], bank: ImageSet | None, unit_scores: bool = False
) -> list[Row]:  # fmt: skip
    """The rows of a table in order: real images, those given, the floors.

    Args:
        rows: of methods or folders.
        units: ids.
        bank: the real images; None: the embedded reference, which has more classes than any table.
        unit_scores: whether units are scored; then real images, which alone show what excites a unit, are a row.
    """
    classes = [class_of(unit) for unit in units]
    known = [c for c in dict.fromkeys(classes) if c is not None]
    possible = None not in classes and (bank is None or any(c is not None for c in other_classes(known, bank.rows)[0]))
    natural = [Row("natural", "natural")] * (unit_scores and bank is not None)
    floors = [*[Row("real_other", "real_other")] * possible, Row("noise", "noise")]
    return [Row("real", "real"), *natural, *rows, *floors]


def other_classes(classes: Sequence[int], there: Collection[int]) -> tuple[list[int | None], bool]:
    """For each class another one that is none of them, the same one again only when all have been taken.

    Where there is none, the next of the classes themselves; None where that is the same.

    Args:
        classes: each once.
        there: classes that have images.

    Returns:
        The other classes; and whether they are none of `classes`.

    Example:
        >>> from benchmark.scoring.others import other_classes
        >>> other_classes([4, 5], [4, 5]), other_classes([4], [4])
        (([5, 4], False), ([None], False))
        >>> sorted(other_classes([4, 5], range(8))[0]) == [4, 5]
        False
    """
    foreign = sorted(set(there) - set(classes), key=lambda c: hashlib.sha256(str(c).encode()).hexdigest())
    if foreign:
        return [foreign[i % len(foreign)] for i in range(len(classes))], True
    own = [c for c in classes if c in there]
    following = dict(zip(own, own[1:] + own[:1], strict=True))
    return [following[c] if following.get(c, c) != c else None for c in classes], False


def photographs(source: ImageSet, classes: Sequence[int]) -> tuple[list[Picture], str]:
    """The pictures of the row, no photograph twice.

    Args:
        source: the real images.
        classes: of the units, each once.

    Returns:
        At most one a class; and why distances between sets say nothing of them, or nothing.
    """
    others, foreign = other_classes(classes, source.rows)
    left = {c: decoded(source, c) for c in others if c is not None}
    found = []
    for label, other in zip(classes, others, strict=True):
        image = None if other is None else next(left[other], None)
        if image is not None:
            found.append(Picture(image[0], label, image[1], photograph=True, unit=str(label)))
    return found, "" if foreign else OWN_CLASSES


def decoded(source: ImageSet, label: int) -> Iterator[tuple[Image.Image, int]]:
    """The images of a class that can be decoded, in the set's order, each with its digest."""
    for i in source.rows.get(label, []):
        try:
            yield source.open(i)
        except OSError:
            continue
