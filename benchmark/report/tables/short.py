"""The short forms: values only, for a README and a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from benchmark.records.record import Record
from benchmark.report.tables.model import sheets
from benchmark.report.tables.sheet import LEGEND_BY_GROUP, SEES, Cell, Sheet
from benchmark.report.tables.writers import md, md_table


def readme_block(records: Iterable[Record]) -> str:
    """The compact table for a README: a row a metric, a column a method, values only, the best method in bold."""
    blocks = []
    for sheet in sheets(records):
        head, body = _turned(sheet, lambda c: f"**{c.text}**" if c.best else c.text)
        blocks.append("\n".join([f"**{md(sheet.title)}**", "", *md_table([md(h) for h in head], body)]))
    return "\n\n".join(blocks) + "\n"


def text_block(records: Iterable[Record]) -> str:
    """The same for a terminal: aligned, the best method starred, the failed cells, warnings and reasons below."""
    blocks = []
    for sheet in sheets(records):
        starred = any(c.best for row in sheet.rows for c in row.cells)
        head, body = _turned(sheet, lambda c: c.text + f" ({c.note})" * bool(c.note) + ("*" if c.best else " "), str)
        widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
        lines = [sheet.title, ""]
        for row in (head, ["-" * w for w in widths], *body):
            first, *rest = (
                cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
            lines.append("  ".join([first, *rest]).rstrip())
        lines += ["", *(f"({i}) {note}" for i, note in enumerate(sheet.notes, 1))]
        lines += [f"{row.method} failed: {row.failed}" for row in sheet.rows if row.failed is not None]
        lines += [f"warning: {warning}" for warning in sheet.warnings] + list(sheet.orderings)
        lines += list(sheet.remarks)
        lines += [
            "* best of the methods that see the same" if sheet.legend == LEGEND_BY_GROUP else "* best method"
        ] * starred
        blocks.append("\n".join(lines).rstrip())
    return "\n\n".join(blocks) + "\n"


def _turned(
    sheet: Sheet, spell: Callable[[Cell], str], escape: Callable[[str], str] | None = None
) -> tuple[list[str], list[list[str]]]:
    """Metrics down and methods across: labels are long and methods few, so this fits a README and a terminal."""
    body = []
    for i, column in enumerate(sheet.columns):
        if column.metric or column.head in ("s / image", SEES):
            values = ["failed" if row.failed is not None else spell(row.cells[i]) for row in sheet.rows]
            body.append([(escape or md)(column.head), *values])
    return ["", *(row.method for row in sheet.rows)], body
