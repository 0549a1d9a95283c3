"""A number of a record and what follows from its images in; what is wrong with it, or why nobody can tell, out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import featvis
from benchmark.records.columns import column_of, share_groups
from benchmark.records.record import Measurement, Record
from featvis.networks.units import base_of

if TYPE_CHECKING:
    from benchmark.audit.verify import Report

TOLERANCE = 1e-3
"""Relative: another processor rounds otherwise; what follows from other images differs by far more."""
EACH = 5 * TOLERANCE
"""The same of one picture's or unit's number: there rounding does not average out, and records keep five digits."""
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
    record: Record,
    again: Mapping[str, Measurement],
    report: Report,
    away: Mapping[str, str] | None = None,
    gone: Collection[str] = (),
) -> None:
    """The numbers of a record and what follows from its images.

    Args:
        record: whose they are.
        again: the numbers from the images, by name.
        report: gets what was found.
        away: what computes nothing here, or is another one, and why, as `source_of` says it.
        gone: what computed nothing where the record was made, by itself.
    """
    for said in record.metrics:
        source = source_of(said.name)
        if reason := (away or {}).get(source or ""):
            if said.value is not None:
                report.unchecked.append(f"{_where(record, said)}: {reason}")
        elif said.value is not None or source not in gone:
            _compare(record, said, again.get(said.name), report)
    # Never a problem: an older version lacks newer columns, and a column of somebody's own, which is one line, is in no
    # record but theirs.
    there = {m.name for m in record.metrics}
    lacking = [m for m in again.values() if m.value is not None and m.name not in there]
    if labels := [m.label for m in lacking if source_of(m.name) not in gone]:
        named = "; ".join(labels[:3]) + "; …" * (len(labels) > 3)
        report.unchecked.append(
            f"{record.alias} / {record.method}: the record lacks numbers that follow from its images: {named}"
            f"{_of_another(record)}"
        )


def _where(record: Record, said: Measurement) -> str:
    return f"{record.alias} / {record.method}: {said.label}"


def _of_another(record: Record) -> str:
    """The end of a sentence about a record of another version; empty: it is of this one."""
    version = record.versions.get("featvis", "unknown")
    return "" if version == featvis.__version__ else f" (it is of featvis {version})"


def _compare(record: Record, said: Measurement, follows: Measurement | None, report: Report) -> None:
    """One number of a record and what follows from its images."""
    where = _where(record, said)
    if follows is None or (said.value is not None and follows.value is None):
        if said.value is not None:
            why = follows.absent if follows is not None else "this metric is not known here"
            report.unchecked.append(f"{where}: {why}")
        return
    if follows.value is not None:
        if said.value is None:
            _withheld(record, said, follows, report)
            return
        _number(record, said, follows, report)
    _values(record, said, follows, report)


def _withheld(record: Record, said: Measurement, follows: Measurement, report: Report) -> None:
    """A number that is not in a record though it follows from its images, and though nothing was lacking there."""
    text = f"{_where(record, said)} has no value in the record ({said.absent}), "
    text += f"but {follows.value:.6g} of {follows.n} follows from its images"
    # An older one may not have been able to measure it, and does not say what its numbers were computed by.
    known = bool((record.config.get("evaluation") or {}).get("weights")) and not _of_another(record)
    (report.problems if known else report.unchecked).append(text + _of_another(record))


def _number(record: Record, said: Measurement, follows: Measurement, report: Report) -> None:
    """A value and its interval."""
    where = _where(record, said)
    assert said.value is not None
    assert follows.value is not None
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


def _values(record: Record, said: Measurement, follows: Measurement, report: Report) -> None:
    """What is said of each unit: tables of layers, of what is beyond chance and of agreement are made of it."""
    where = _where(record, said)
    if said.values is None or follows.values is None:
        if _any(said.values):
            text = f"{where}: the record has values of units, and none follow from the images{_of_another(record)}"
            (report.unchecked if _of_another(record) else report.problems).append(text)
        elif _any(follows.values) and any(_any(m.values) for m in record.metrics):  # older records have none at all
            report.unchecked.append(f"{where}: the record lacks its values of units, which it has of other numbers")
        return
    known = [abs(value) for value in follows.values if value is not None]
    scale = sum(known) / max(1, len(known))
    differing = [
        (unit, a, b)
        for unit, a, b in zip(record.units, said.values, follows.values, strict=True)
        if not _near(a, b, scale)
    ]
    column = column_of(said.name)
    of_units = column is not None and column.evaluator == "units"
    # Rounding can decide what one picture shows where pictures, or pairs of them, are counted; a unit's pictures have
    # its score in common.
    flips = 1 if of_units or said.group in share_groups() else 0
    if len({base_of(unit) if of_units else unit for unit, _, _ in differing}) > flips:
        unit, a, b = differing[0]
        report.problems.append(
            f"{where}: {len(differing)} of {len(record.units)} values are not those that follow from the images (of "
            f"{unit} it is {_shown(a)} in the record, but {_shown(b)} follows)"
        )


def _any(values: Sequence[float | None] | None) -> bool:
    """Whether there is a number among the values of units."""
    return any(value is not None for value in values or ())


def _near(a: float | None, b: float | None, scale: float) -> bool:
    if a is None or b is None:
        return a is b
    return abs(a - b) <= EACH * max(1e-3, abs(b), scale)


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.5g}"
