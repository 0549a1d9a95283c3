"""Tables: records in, one table a suite and model out, as Markdown, CSV and LaTeX.

`frame` holds every number once, tidy (one row a method and metric), and is what the CSV is. `sheets` lays it out, once,
as the rows, columns, notes and definitions that people read; the writers (Markdown, LaTeX, and the page's HTML) only
spell that layout. Directions come from the records' `higher_is_better`, the paper's numbers from `paper.yaml`. Nothing
here imports torch.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

from benchmark.records import Record
from benchmark.tables.model import lay_out, sheets
from benchmark.tables.numbers import by_model, frame, method_order, paper, paper_values
from benchmark.tables.sheet import Cell, Column, Row, Sheet, arrow
from benchmark.tables.short import readme_block, text_block
from benchmark.tables.writers import latex, markdown
from featvis.errors import UserError
from featvis.images import write_atomic

__all__ = [
    "Cell",
    "Column",
    "Row",
    "Sheet",
    "arrow",
    "build",
    "csv",
    "frame",
    "latex",
    "markdown",
    "method_order",
    "paper",
    "paper_values",
    "readme_block",
    "sheets",
    "text_block",
]


def build(records: Iterable[Record], out_dir: Path | str) -> list[Path]:
    """Write `<out_dir>/<suite>/<alias>.md`, `.csv` and `.tex` for every suite and model of the records.

    Args:
        records: any number of cells; rows and columns come in a fixed order whatever theirs is.
        out_dir: where to; made where it is not there.

    Returns:
        The files written.

    Raises:
        UserError: there is no record, or records disagree on a metric's direction.
    """
    groups = by_model(records)
    if not groups:
        raise UserError("There is no record to make a table of; `featvis run` makes some.")
    written = []
    for group in groups:
        sheet = lay_out(group)
        stem = Path(out_dir) / sheet.suite / sheet.alias
        for suffix, text in ((".md", markdown(sheet)), (".csv", csv(group)), (".tex", latex(sheet))):
            path = stem.with_name(stem.name + suffix)  # an alias may hold a dot
            write_atomic(path, text.encode("utf-8"))
            written.append(path)
    return written


def csv(records: Iterable[Record]) -> str:
    """`frame` as comma-separated text: numbers in full precision, an absent one empty with its reason in `absent`."""
    buffer = io.StringIO()
    frame(records).to_csv(buffer, index=False, lineterminator="\n")
    return buffer.getvalue()
