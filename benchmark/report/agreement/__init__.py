"""Do the columns of a table agree, and which are to be believed? Records in; tables, a figure, sentences out. No torch.

A column is a claim about pictures. Three things are known of it without asking anyone: what it says of photographs and
of noise (`verdicts.bracketing`), whether it says anything that the target's own answer does not
(`Verdict.monotone`), and whether other columns, and other suites, say the same (`agree`, `stability`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmark.records.record import Record
from benchmark.report.agreement.agree import Agreement, Stability, agree, stability
from benchmark.report.agreement.figure import draw
from benchmark.report.agreement.layout import numbers, sheets, summary, verdict_sheets
from benchmark.report.agreement.overview import numbers as numbers_of_all
from benchmark.report.agreement.overview import overview_sheet, stability_sheet
from benchmark.report.tables.layers import by_layer
from benchmark.report.tables.numbers import by_model
from benchmark.report.tables.sheet import Sheet
from benchmark.report.tables.writers import latex_blocks, markdown_blocks, markdown_part
from featvis.storage.images import write_atomic

__all__ = [
    "Agreement",
    "Stability",
    "agree",
    "agreements",
    "draw",
    "lines",
    "numbers",
    "of_all",
    "sheets",
    "stability",
    "summary",
    "text",
    "verdicts_text",
    "write",
]


def agreements(records: Sequence[Record]) -> list[Agreement | str]:
    """The agreement of each suite and model, in the order of the tables; a sentence where there is none.

    Where the units of a suite are of several layers, that of each layer follows, without those that there is none of.
    """
    found = []
    for group in by_model(records):
        parts = [agree(part, layer) for layer, part in by_layer(group).items()]
        found += [agree(group), *(part for part in parts if isinstance(part, Agreement))]
    return found


def write(records: Sequence[Record], found: Sequence[Agreement | str], out: Path) -> list[Path]:
    """Write `<out>/<suite>/<alias>_agreement`, one a layer too, and of several tables `<out>/agreement`.

    Each as Markdown, CSV and LaTeX.

    Args:
        records: all of them.
        found: their agreements; sentences are left out.
        out: the folder of the tables.

    Returns:
        The files written; none where there is nothing to compare.
    """
    written = []
    for agreement in found:
        if isinstance(agreement, str):
            continue
        blocks, (suite, alias, layer) = sheets(agreement), agreement.place
        stem = out / suite / "_".join(filter(None, (alias, layer, "agreement")))
        text = markdown_blocks(title(agreement), blocks)
        written += _write(stem, text, numbers(agreement), latex_blocks(blocks))
    if together := of_all(records, found):
        whole, stable = [a for a in found if isinstance(a, Agreement)], stability(by_model(records))
        text = markdown_blocks("Do the columns agree? All tables", together)
        written += _write(out / "agreement", text, numbers_of_all(whole, stable), latex_blocks(together))
    return written


def of_all(records: Sequence[Record], found: Sequence[Agreement | str]) -> list[Sheet]:
    """All tables together: in which each column brackets, whether it keeps its order; nothing where there is one."""
    whole, stable = [a for a in found if isinstance(a, Agreement)], stability(by_model(records))
    several = [overview_sheet(whole)] if len(whole) > 1 else []
    return several + ([stability_sheet(stable)] if stable else [])


def lines(found: Sequence[Agreement | str]) -> list[str]:
    """What the agreements come to, a line a sentence, for a terminal."""
    said = []
    for agreement in found:
        if not isinstance(agreement, str):
            said += [title(agreement), *(f"  {line[0].upper()}{line[1:]}" for line in summary(agreement))]
    return said


def text(found: Sequence[Agreement | str]) -> str:
    """What each column is worth and the mean rank, as Markdown; the sentences of the tables that have none."""
    pages = [
        f"# {title(a)}\n\n{verdicts_text(a)}" if isinstance(a, Agreement) else f"Not compared: {a}." for a in found
    ]
    return "\n\n".join(pages) + "\n"


def verdicts_text(agreement: Agreement) -> str:
    """What each column is worth and the mean rank, as Markdown without a heading."""
    return "\n\n".join(markdown_part(sheet).strip() for sheet in verdict_sheets(agreement))


def title(agreement: Agreement) -> str:
    """The heading of an agreement's page."""
    return f"Do the columns agree? {agreement.name}"


def _write(stem: Path, text: str, table: pd.DataFrame, tex: str) -> list[Path]:
    spelled = {"md": text, "csv": str(table.to_csv(index=False, lineterminator="\n")), "tex": tex}
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in spelled]
    for path, content in zip(paths, spelled.values(), strict=True):
        write_atomic(path, content.encode("utf-8"))
    return paths
