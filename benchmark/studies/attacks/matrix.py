"""Who fools whom: records in, the matrix of attacked and judging networks out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from tabulate import tabulate

from benchmark.records.record import Measurement, Record
from benchmark.report.tables import Cell, Column, Row, Sheet
from benchmark.report.tables.sheet import DASH, definition_of, runs_of, warnings_of

KINDS = {"success": "Targeted success", "fooled": "Fooling rate"}


def matrix(found: Sequence[Record], kind: str) -> Sheet:
    """A row an attack (setting and attacked network), a column a judging network.

    Args:
        found: records of attacks, in the order of the rows.
        kind: `success` or `fooled`.
    """
    judges = list(
        dict.fromkeys([r.alias for r in found] + [m.definition["judge"] for r in found for m in _of(r, kind)])
    )
    rows = []
    for record in found:
        by_judge = {m.definition["judge"]: m for m in _of(record, kind)}
        cells = tuple(_cell(by_judge.get(judge), judge == record.alias) for judge in judges)
        failed = record.error if record.status == "failed" else None
        rows.append(Row(f"{record.alias}, {record.method}", cells, failed, False))
    example = next(m for r in found for m in _of(r, kind))
    text = definition_of(example, [r for r in found if r.metric(example.name)][:1])
    return Sheet(
        suite=found[0].suite,
        alias=", ".join(dict.fromkeys(r.alias for r in found)),
        model=", ".join(dict.fromkeys(r.model for r in found)),
        columns=tuple(Column(judge, judge, kind) for judge in judges),
        rows=tuple(rows),
        warnings=tuple(warnings_of(found)),
        notes=(NOTE,),
        orderings=(),
        definitions=((KINDS[kind], f"In the first column, and alike in the others: {text}"),),
        runs=tuple(runs_of(found)),
        caption=KINDS[kind],
        legend="Rows: the attacked network and the setting; columns: the network that looks; in brackets the 95 % "
        "interval.",
        corner="attacked",
    )


NOTE = "the attacked network itself, so this is no transfer"


def _of(record: Record, kind: str) -> list[Measurement]:
    return [m for m in record.metrics if m.name == kind or m.name.startswith(f"{kind}_")]


def _cell(m: Measurement | None, own: bool) -> Cell:
    if m is None or m.value is None:
        return Cell(DASH)
    decimals = 0 if m.n <= 100 else 1
    interval = "" if m.interval is None else "[" + ", ".join(f"{100 * v:.{decimals}f}" for v in m.interval) + "]"
    return Cell(f"{100 * m.value:.{decimals}f} %", interval, note=1 if own else None)


def numbers(found: Sequence[Record]) -> pd.DataFrame:
    """The matrices' numbers, tidy: one row an attack, judge and kind; fractions."""
    rows: list[dict[str, Any]] = []
    for record in found:
        for kind in KINDS:
            for m in _of(record, kind):
                low, high = m.interval or (None, None)
                facts = {"attacked": record.alias, "method": record.method, "judge": m.definition["judge"]}
                rows.append(facts | {"measure": kind, "value": m.value, "low": low, "high": high, "n": m.n})
    return pd.DataFrame(rows)


def text(sheet: Sheet) -> str:
    """A matrix for a terminal, values only."""
    body = [[row.method, *(cell.text for cell in row.cells)] for row in sheet.rows]
    table = tabulate(body, [sheet.corner, *(c.head for c in sheet.columns)], stralign="right", colalign=("left",))
    return f"{sheet.title}\n\n{table}\n"
