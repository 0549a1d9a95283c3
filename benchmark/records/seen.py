"""What a method may see besides the network's gradient: a fact of each record, by which tables group rows. No torch.

A method that is handed photographs of a class, or the statistics that the network keeps of its training images, does
not compete with one that is handed nothing, so "best" is said within a group. Whether a natural spectrum is handed over
is what the MACO paper's own comparison is about; it makes a group of its own only beside methods that see more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.records.record import Record

NOTHING, SPECTRUM, STATISTICS, ONE_IMAGE = "nothing", "natural spectrum", "batch statistics", "one image"
OTHER_IMAGE = "one image of another class"
IMAGES = re.compile(r"(\d+) (?:images of the class|exciting patches)")
CONTROL = "; control: "
"""What stands between that and the name of a control (`benchmark.suites.controls`)."""
RANDOM_NETWORK, OTHER_SEED = "random network", "another seed"
_RENAMED = {f"{CONTROL}seed": f"{CONTROL}{OTHER_SEED}"}
"""Ends of what older records say: `seed` was that control's name, before an untouched seed image was another."""
_CLASSES = {"MACO": SPECTRUM, "Inversion": ONE_IMAGE, "Attack": ONE_IMAGE}
"""By the name of the class: what the methods see whose records do not say it, as older ones do not."""


def seen(record: Record) -> str | None:
    """What a row's method saw; None where nothing was optimised.

    Example:
        >>> from types import SimpleNamespace
        >>> old = SimpleNamespace(sees=None, config={"generator": {"class_path": "featvis.generators.MACO"}})
        >>> seen(old)
        'natural spectrum'
    """
    if record.sees is not None:
        old = next((end for end in _RENAMED if record.sees.endswith(end)), "")
        return record.sees.removesuffix(old) + _RENAMED.get(old, "")
    generator: Any = record.config.get("generator")
    if not isinstance(generator, dict):
        return None
    class_path = str(generator.get("class_path", ""))
    return _CLASSES.get(class_path.rpartition(".")[2], NOTHING) if class_path.startswith("featvis.") else NOTHING


def is_control(record: Record, name: str = "") -> bool:
    """Whether a row shows what a method's scores are worth, and is no method itself; or is the control of a name.

    Example:
        >>> from types import SimpleNamespace
        >>> row = SimpleNamespace(sees="nothing; control: random network")
        >>> is_control(row), is_control(row, "wrong images"), is_control(SimpleNamespace(sees="nothing"))
        (True, False, False)
    """
    control = (seen(record) or "").partition(CONTROL)[2]
    return control == name if name else bool(control)


def order(sees: str | None) -> tuple[int, int, str]:
    """A sort key: from nothing to images.

    Example:
        >>> sorted(["50 images of the class", "nothing", "5 images of the class", "batch statistics"], key=order)
        ['nothing', 'batch statistics', '5 images of the class', '50 images of the class']
    """
    known = (NOTHING, SPECTRUM, STATISTICS, OTHER_IMAGE, "", ONE_IMAGE)
    if match := IMAGES.fullmatch(sees or ""):
        return known.index(""), int(match[1]), ""
    return known.index(sees) if sees in known else len(known), 0, sees or ""


def grouped(records: Sequence[Record]) -> bool:
    """Whether the rows of one table are of several groups, one of which saw more than a natural spectrum."""
    groups = {s for r in records if (s := seen(r)) is not None}
    return len(groups) > 1 and not groups <= {NOTHING, SPECTRUM}
