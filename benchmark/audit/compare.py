"""A number of a record and what follows from its images in; what is wrong with it, or why nobody can tell, out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from benchmark.records.columns import column_of, share_groups
from benchmark.records.record import Measurement, Record

if TYPE_CHECKING:
    from benchmark.audit.verify import Report

TOLERANCE = 1e-3
"""Relative: another processor rounds otherwise; what follows from other images differs by far more."""
FILES = {"fid": "inception", "kid": "inception", "clip_top1": "words", "clip_top5": "words"}
"""Columns that a file computes which is no network of a plan, by its name in a record's weights."""


def source_of(name: str) -> str | None:
    """What computes a column, besides the target: a network as columns call it, or a file; None: neither.

    Example:
        >>> from benchmark.audit.compare import source_of
        >>> source_of("top1_vgg16.tv_in1k"), source_of("fid"), source_of("logit")
        ('vgg16.tv_in1k', 'inception', None)
    """
    column = column_of(name)
    if column is None or "{network}" not in column.name:
        return FILES.get(name)
    return name.removeprefix(column.name.partition("{")[0])


def compare(
    record: Record, said: Measurement, follows: Measurement | None, away: Mapping[str, str], report: Report
) -> None:
    """One number of a record and what follows from its images.

    Args:
        record: that has it.
        said: the number.
        follows: the same from the images; None: there is no such number here.
        away: what is not here, or is another one, and why, as `source_of` says it.
        report: gets what was found.
    """
    where = f"{record.alias} / {record.method}: {said.label}"
    if said.value is None:
        return
    if (reason := away.get(source_of(said.name) or "")) is not None:
        report.unchecked.append(f"{where}: {reason}")
        return
    if follows is None or follows.value is None:
        why = follows.absent if follows is not None else "this metric is not known here"
        report.unchecked.append(f"{where}: {why}")
        return
    report.numbers += 1
    report.follows[record.suite, record.alias, record.method, said.name] = follows.value
    # One image more or less is what rounding can do to a share.
    slack = 1 / max(1, said.n) if said.group in share_groups() else 0.0
    if said.n != follows.n or abs(said.value - follows.value) > slack + TOLERANCE * max(1e-3, abs(follows.value)):
        report.problems.append(
            f"{where} is {said.value:.6g} of {said.n} in the record, "
            f"but {follows.value:.6g} of {follows.n} follows from its images"
        )
    if (said.interval is None) != (follows.interval is None):
        report.problems.append(f"{where}: the interval does not follow from its images")
    elif said.interval is not None and follows.interval is not None:
        width = max(abs(follows.interval[1] - follows.interval[0]), abs(follows.value)) * 0.02 + slack
        if any(abs(a - b) > width for a, b in zip(said.interval, follows.interval, strict=True)):
            report.problems.append(f"{where}: the interval does not follow from its images")
