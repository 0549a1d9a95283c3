"""Tables: records in, tables out as Markdown, CSV and LaTeX: one a suite and model, and the paper's own layouts.

`frame` holds every number once, tidy (one row a method and metric), and is what the CSV is. `sheets`,
`ablation_sheet` and `comparison_sheets` lay it out, once, as the rows, columns, notes and definitions that people read;
the writers (Markdown, LaTeX, and the page's HTML) only spell that layout. Directions come from the records'
`higher_is_better`, the paper's numbers from `paper.yaml`. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from benchmark.records.record import Record
from benchmark.report.tables.ablation import ablation_sheet
from benchmark.report.tables.budget import budget_frame, budget_sheet
from benchmark.report.tables.comparison import comparison_sheets
from benchmark.report.tables.layers import by_layer, layer_sheets
from benchmark.report.tables.model import lay_out, sheets
from benchmark.report.tables.numbers import by_model, frame, method_order, paper, paper_values
from benchmark.report.tables.sheet import Cell, Column, Row, Sheet, arrow
from benchmark.report.tables.short import readme_block, text_block
from benchmark.report.tables.targets import target_sheet
from benchmark.report.tables.writers import latex, latex_blocks, markdown, markdown_blocks
from featvis.errors import UserError
from featvis.storage.images import write_atomic

__all__ = [
    "Cell",
    "Column",
    "Row",
    "Sheet",
    "ablation_sheet",
    "arrow",
    "budget_frame",
    "budget_sheet",
    "build",
    "by_layer",
    "comparison_sheets",
    "csv",
    "frame",
    "latex",
    "latex_blocks",
    "layer_sheets",
    "markdown",
    "markdown_blocks",
    "method_order",
    "paper",
    "paper_values",
    "readme_block",
    "sheets",
    "target_sheet",
    "text_block",
]


def build(records: Iterable[Record], out_dir: Path | str) -> list[Path]:
    """Write `<out_dir>/<suite>/<alias>.md`, `.csv` and `.tex` for every suite and model of the records.

    Where the units are of several layers, a table a layer too, `<alias>_<layer>`. Beside them, in the layout of the
    paper's tables: `<alias>_ablation` (Table 3) where `ablation_sheet` finds one, `<alias>_budget` where
    `budget_sheet` does, and `comparison` (Tables 1 and 2, all models) where `comparison_sheets` does; and `targets`, a
    line a model, where `target_sheet` does.

    Args:
        records: any number of cells; rows and columns come in a fixed order whatever theirs is.
        out_dir: where to; made where it is not there.

    Returns:
        The files written.

    Raises:
        UserError: there is no record, or records disagree on a metric's direction.
    """
    groups = by_model(records)
    suites: dict[str, list[Record]] = {}
    for group in groups:
        suites.setdefault(group[0].suite, []).extend(group)
    if not groups:
        raise UserError("There is no record to make a table of; `featvis run` makes some.")
    written: list[Path] = []

    def write(suite: str, stem: str, *texts: str) -> None:
        for suffix, text in zip(("md", "csv", "tex"), texts, strict=True):
            written.append(Path(out_dir) / suite / f"{stem}.{suffix}")
            write_atomic(written[-1], text.encode("utf-8"))

    for group in groups:
        sheet = lay_out(group)
        write(sheet.suite, sheet.alias, markdown(sheet), csv(group), latex(sheet))
    for group in groups:
        for kind, rows in (("ablation", ablation_sheet(group)), ("budget", budget_sheet(group))):
            if rows:
                sheet, numbers = rows
                write(sheet.suite, f"{sheet.alias}_{kind}", markdown(sheet), _csv(numbers), latex(sheet))
        for layer, sheet, part in layer_sheets(group):
            write(sheet.suite, f"{sheet.alias}_{layer}", markdown(sheet), csv(part), latex(sheet))
    for suite, group in suites.items():
        if compared := comparison_sheets(group):
            blocks, numbers = compared
            title = f"Methods compared, suite {suite}"
            write(suite, "comparison", markdown_blocks(title, blocks), _csv(numbers), latex_blocks(blocks))
        if lines := target_sheet(group):
            write(suite, "targets", markdown(lines[0]), _csv(lines[1]), latex(lines[0]))
    return written


def csv(records: Iterable[Record]) -> str:
    """`frame` as comma-separated text: numbers in full precision, an absent one empty with its reason in `absent`."""
    return _csv(frame(records))


def _csv(numbers: pd.DataFrame) -> str:
    return str(numbers.to_csv(index=False, lineterminator="\n"))
