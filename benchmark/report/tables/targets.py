"""The layout of a suite of several targets, a line each: what judges of other families see, and in which order."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import pandas as pd

from benchmark.records.columns import SAME_FAMILY
from benchmark.records.record import REFERENCES, Measurement, Record, shown
from benchmark.report.tables.chance import differences, holm, paired
from benchmark.report.tables.numbers import FIRST_METHODS, judges_of, method_order
from benchmark.report.tables.sheet import DASH, Cell, Column, Row, Sheet, runs_of

Judged = Mapping[str, Mapping[str, tuple[Record, Measurement]]]
"""A method to a judge's column to its row and its top-1."""
LEVEL = 0.05
"""Of the corrected p-values."""


def target_sheet(records: Sequence[Record]) -> tuple[Sheet, pd.DataFrame] | None:
    """One line a target; None where fewer than two were made pictures of by two of maco, fourier and cbr.

    Args:
        records: of one suite, all models.

    Returns:
        The table; and one row a (target, method) with the range, and a (target, pair of methods) with the counts.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.alias, []).append(record)
    found = {alias: neutral(group) for alias, group in groups.items()}
    found = {alias: by for alias, by in found.items() if len(set(by) & {*FIRST_METHODS}) > 1}
    if len(found) < 2:
        return None
    methods = sorted({m for by in found.values() for m in by}, key=method_order)
    pairs = list(itertools.pairwise(m for m in FIRST_METHODS if m in methods))
    rows, numbers = [], []
    for alias, by in found.items():
        cells = []
        for method in methods:
            values = [m.value for _, m in by.get(method, {}).values() if m.value is not None]
            cells.append(Cell(_range(values)))
            if values:
                numbers.append(
                    {"target": alias, "what": method, "judges": len(values), "low": min(values), "high": max(values)}
                )
        for a, b in pairs:
            before, clearly, judges = order(by, a, b)
            cells.append(Cell(f"{before} of {judges} ({clearly})" if judges else DASH))
            what = f"{a} before {b}"
            numbers.append({"target": alias, "what": what, "judges": judges, "before": before, "clearly": clearly})
        rows.append(Row(alias, tuple(cells), None, False))
    columns = [Column(f"{shown(m)} ↑", "top-1", "top1") for m in methods]
    columns += [Column(f"{a} before {b}", "order") for a, b in pairs]
    sheet = Sheet(
        suite=records[0].suite, alias=", ".join(found), model=", ".join(dict.fromkeys(r.model for r in records)),
        columns=tuple(columns), rows=tuple(rows), warnings=(), notes=(), orderings=(),
        definitions=(
            ("top-1", "Lowest and highest share of the pictures that a judge assigns to the class they were made for, "
             "over the judges of other families than the target's."),
            ("before", "For how many of those judges the one method has the higher top-1; in brackets for how many "
             "that is beyond chance: p < .05 of the signs of the differences, a class at a time, after Holm's "
             "correction over the judges. The order maco, fourier, cbr is the paper's."),
        ),
        runs=tuple(f"{alias}: {line}" for alias, group in groups.items() if alias in found for line in runs_of(group)),
        caption=f"By target, suite {records[0].suite}", legend="", corner="target",
    )  # fmt: skip
    return sheet, pd.DataFrame(numbers)


def neutral(group: Sequence[Record]) -> Judged:
    """What judges of other families than the target's see of each method's pictures."""
    found: dict[str, dict[str, tuple[Record, Measurement]]] = {}
    for record in group:
        if record.status != "done" or (record.method in REFERENCES and record.method != "real"):
            continue
        for m in judges_of(record):
            if not m.label.endswith(SAME_FAMILY):
                found.setdefault(record.method, {})[m.name] = record, m
    return found


def order(by: Judged, a: str, b: str) -> tuple[int, int, int]:
    """For how many judges method a is before b; for how many beyond chance; and how many there are."""
    both = [(by[a][name], by[b][name]) for name in by.get(a, {}) if name in by.get(b, {})]
    before = [(x.value or 0.0) > (y.value or 0.0) for (_, x), (_, y) in both]
    chances = holm([paired(differences(*x, *y)) for x, y in both])
    clearly = [p < LEVEL for p, yes in zip(chances, before, strict=True) if yes]
    return sum(before), sum(clearly), len(both)


def _range(values: Sequence[float]) -> str:
    if not values:
        return DASH
    low, high = (f"{100 * v:.0f}" for v in (min(values), max(values)))
    return f"{low} %" if low == high else f"{low} – {high} %"
