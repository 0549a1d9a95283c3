"""The layout of one model: a row a method, a column a metric, with the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from benchmark.records.columns import percent_groups
from benchmark.records.record import REFERENCES, Record, shown
from benchmark.records.seen import grouped, seen
from benchmark.report.tables.chance import chance_lines
from benchmark.report.tables.numbers import by_model, frame, metrics_of, paper, paper_values
from benchmark.report.tables.orderings import ordering
from benchmark.report.tables.sheet import (
    DASH,
    LEGEND,
    LEGEND_BY_GROUP,
    SEES,
    Cell,
    Column,
    Footnotes,
    Row,
    Sheet,
    arrow,
    decimals_of,
    definition_of,
    metric_cell,
    paper_text,
    runs_of,
    significant,
    warnings_of,
)


def sheets(records: Iterable[Record]) -> list[Sheet]:
    """The tables of the records, laid out: one a (suite, model), in that order."""
    return [lay_out(group) for group in by_model(records)]


def lay_out(records: list[Record]) -> Sheet:
    """The table of one suite and model, from its records in the order of `by_model`."""
    data = frame(records)
    columns: list[Column] = []
    cells: dict[str, list[Cell]] = {record.method: [] for record in records}
    note = Footnotes()
    orderings, definitions = [], []
    several = grouped(records)
    if several:
        columns.append(Column(SEES, "sees"))
        definitions.append((SEES, f"what the method may see besides the network; {DASH} where nothing was optimised."))
        for record in records:
            cells[record.method].append(Cell(seen(record) or DASH))

    for metric in metrics_of(records):
        part = data[data["metric"] == metric.name]
        percent = metric.group in percent_groups()
        head = f"{metric.label} {arrow(metric.higher_is_better)}"
        decimals = decimals_of(part, percent)
        columns.append(Column(head, metric.group, metric.name))
        for row in part.to_dict("records"):
            # A failed row says so once, across its cells.
            own = None if row["status"] == "failed" else note
            cells[row["method"]].append(metric_cell(row, decimals, percent, own))
        published = paper_values(records[0].alias, metric.name)
        if published:
            columns.append(Column("paper", metric.group))
            for method, row_cells in cells.items():
                row_cells.append(Cell(paper_text(published[method], percent) if method in published else ""))
            orderings.append(f"{metric.label}: {ordering(part, published, metric.higher_is_better)}")
        definitions.append((head, definition_of(metric, records)))
    cost: list[tuple[str, Callable[[Record], str], str]] = [
        ("n", lambda r: str(r.n), "images scored"),
        ("s / image", lambda r: significant(r.seconds_per_image), "wall-clock seconds to make one image"),
        (
            "passes / image",
            lambda r: str(r.budget.passes_per_image) if r.budget else "",
            "forward-backward passes an image",
        ),
        (
            "steps × views",
            lambda r: f"{r.budget.steps} × {r.budget.views}" if r.budget else "",
            "optimisation steps, times the views of the canvas that each step shows the network",
        ),
    ]
    for head, text, meaning in cost:
        columns.append(Column(head, "cost"))
        definitions.append((head, meaning + "; — where nothing was optimised" * (head != "n") + "."))
        for record in records:
            cells[record.method].append(Cell(text(record) or DASH))
    if orderings:
        definitions.append(
            (
                "paper",
                f"{paper()['source']}, {paper()['comparison_where']}; top-1 in percent; empty where it has no number.",
            )
        )
    rows = tuple(
        Row(shown(r.method), tuple(cells[r.method]), r.error if r.status == "failed" else None, r.method in REFERENCES)
        for r in records
    )
    return Sheet(
        records[0].suite,
        records[0].alias,
        records[0].model,
        tuple(columns),
        rows,
        tuple(warnings_of(records)),
        tuple(note.texts),
        tuple(orderings),
        tuple(definitions),
        tuple(runs_of(records)),
        legend=LEGEND_BY_GROUP if several else LEGEND,
        remarks=chance_lines(records),
    )
