"""What may be chance: what judges recognise in pictures of a random network, and that one method is before another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest, permutation_test

from benchmark.records.columns import CLASSES
from benchmark.records.record import Measurement, Record
from benchmark.records.seen import RANDOM_NETWORK, is_control
from featvis.intervals import share_interval


def chance_lines(records: Sequence[Record]) -> tuple[str, ...]:
    """A sentence for each row of the control `random network`: which judges are at chance, and how far they may be.

    A judge is at chance where the 95 % interval of its top-1, which the table has too, holds 1 in as many as its
    classes.

    Args:
        records: of one table.
    """
    return tuple(
        line for record in records if is_control(record, RANDOM_NETWORK) and (line := _line(record)) is not None
    )


def _line(record: Record) -> str | None:
    judges = [m for m in record.metrics if m.group == "transferability" and m.value is not None and m.n]
    if record.status != "done" or not judges:
        return None
    bounds = [m.interval or share_interval(np.arange(m.n) < _hits(m), np.ones(m.n)) for m in judges]
    classes = [int(m.definition.get("classes", CLASSES)) for m in judges]
    found = list(zip(judges, bounds, classes, strict=True))
    above = [_result(m, bound) for m, bound, count in found if bound[0] > 1 / count]
    said = [f"above chance for {', '.join(above)}"] * bool(above)
    if within := [high for _, (low, high), count in found if low <= 1 / count]:
        who = "the other judges" if above else f"all {len(judges)} judges" if len(judges) > 1 else "the judge"
        said.insert(0, f"within chance for {who}, whose top-1 is {100 * max(within):.1f} % at most")
    usual = max(dict.fromkeys(classes), key=classes.count)
    other = "".join(f", and for {m.label} 1 in {count}" for m, _, count in found if count != usual)
    how = f"chance is 1 in {usual}{other}; 95 % intervals"
    return f"{record.method}, of a network with random weights: {'; '.join(said)} ({how})."


def _hits(m: Measurement) -> int:
    return round((m.value or 0.0) * m.n)


def _result(m: Measurement, bound: tuple[float, float]) -> str:
    return f"{m.label} ({_hits(m)} of {m.n}, {100 * bound[0]:.1f} to {100 * bound[1]:.1f} %)"


def differences(one: Record, x: Measurement, other: Record, y: Measurement) -> list[float]:
    """By how much a measurement of one row exceeds that of another, a unit at a time, over its images that both have.

    Returns:
        The sum of the differences of each unit's images; empty where records hold no scores an image.
    """
    if x.values is None or y.values is None:
        return []
    theirs = dict(zip(other.units, y.values, strict=True))
    found: dict[str, float] = {}
    for unit, value in zip(one.units, x.values, strict=True):
        if value is not None and (less := theirs.get(unit)) is not None:
            name = unit.partition("@")[0]
            found[name] = found.get(name, 0.0) + value - less
    return list(found.values())


def paired(changes: Sequence[float]) -> float:
    """The two-sided p-value of differences whose signs are chance, each independent of the others.

    Of differences of one size, such as those of one picture a class that a judge names or not, the exact test of
    McNemar (1947); else the sum against those with signs flipped, all of them where there are few (Fisher 1935).

    Args:
        changes: one a unit; where nothing differs, or there is none, the p-value is 1.

    Example:
        >>> from benchmark.report.tables.chance import paired
        >>> paired([1, 1, 1, 1, 1, 0, -1]) == 2 * (1 + 6) / 2**6
        True
    """
    moved = np.array([change for change in changes if change], float)
    if not len(moved):
        return 1.0
    if np.ptp(np.abs(moved)) == 0:
        return float(binomtest(int((moved > 0).sum()), len(moved)).pvalue)
    found = permutation_test(
        (moved,), np.sum, permutation_type="samples", n_resamples=9999, batch=1000, random_state=0
    )  # fmt: skip
    return float(found.pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """p-values of a family, corrected so that the chance of one false finding stays below the level (Holm 1979).

    Example:
        >>> from benchmark.report.tables.chance import holm
        >>> [round(v, 3) for v in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    corrected, highest = np.empty(len(p)), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        corrected[i] = highest
    return [float(v) for v in corrected]
