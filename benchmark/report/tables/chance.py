"""Whether judges recognise anything in pictures of a random network: a line under a table for each such row."""

from __future__ import annotations

from collections.abc import Sequence

from scipy.stats import binomtest

from benchmark.records.record import Measurement, Record
from benchmark.records.seen import RANDOM_NETWORK, is_control

CLASSES = 1000
"""Of ImageNet, whose networks the judges are: a judge that sees nothing is right once in so many images."""


def chance_lines(records: Sequence[Record]) -> tuple[str, ...]:
    """A sentence for each row of the control `random network`: which judges are at chance, and how far they may be.

    A judge is at chance where the 95 % interval (Wilson 1927) of its top-1 holds 1 in 1000.

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
    bounds = [wilson(_hits(m), m.n) for m in judges]
    above = [_result(m, bound) for m, bound in zip(judges, bounds, strict=True) if bound[0] > 1 / CLASSES]
    said = [f"above chance for {', '.join(above)}"] * bool(above)
    if within := [high for low, high in bounds if low <= 1 / CLASSES]:
        who = "the other judges" if above else f"all {len(judges)} judges" if len(judges) > 1 else "the judge"
        said.insert(0, f"within chance for {who}, whose top-1 is {100 * max(within):.1f} % at most")
    how = f"chance is 1 in {CLASSES}; Wilson's 95 % intervals"
    return f"{record.method}, of a network with random weights: {'; '.join(said)} ({how})."


def _hits(m: Measurement) -> int:
    return round((m.value or 0.0) * m.n)


def _result(m: Measurement, bound: tuple[float, float]) -> str:
    return f"{m.label} ({_hits(m)} of {m.n}, {100 * bound[0]:.1f} to {100 * bound[1]:.1f} %)"


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson 1927).

    Example:
        >>> [round(bound, 3) for bound in wilson(0, 20)]
        [0.0, 0.161]
    """
    interval = binomtest(successes, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)
