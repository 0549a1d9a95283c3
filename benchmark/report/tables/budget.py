"""What quality costs: the rows of a suite by the seconds that an image of theirs takes, on one model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import pandas as pd

from benchmark.records.columns import SAME_FAMILY
from benchmark.records.record import Measurement, Record
from benchmark.records.seen import grouped, is_control, seen
from benchmark.report.tables.numbers import frame, judges_of, metrics_of
from benchmark.report.tables.sheet import (
    Cell,
    Column,
    Footnotes,
    Row,
    Sheet,
    arrow,
    decimals_of,
    definition_of,
    metric_cell,
    runs_of,
    significant,
)

FEWEST = 3
"""Budgets that some preset must have been run with; where rows see different things two will do."""
_TEXT = "Mean over these classifiers of the share of images that they take for their class"


def budget_frame(records: Sequence[Record]) -> pd.DataFrame | None:
    """What each row but controls cost, and what it reached; None where no preset has both scores at enough budgets.

    Args:
        records: of one suite and model.

    Returns:
        One row a method, by cost: method, preset, cost (seconds where all images were made on one kind of device, else
        passes), timed (whether those are seconds), seconds, passes, steps, views, canvas (pixels of the longer side),
        transferability (mean top-1 of the classifiers of other families, a fraction; where none judged, of all others),
        mean (what that is called), logit, family (the first word of the preset; where rows see different things, what
        they see), front (whether no row of its family has as much of both for less, or more for as much).
    """
    rows = []
    several = grouped(records)
    for record in records:
        if is_control(record):
            continue
        judges = judges_of(record)
        logit = record.metric("logit")
        if record.budget is None or record.seconds_per_image is None or record.status != "done" or logit is None:
            continue
        values = [m.value for m in judges if m.value is not None]
        if record.preset is None or not values or logit.value is None:
            continue
        rows.append(
            {
                "method": record.method,
                "preset": record.preset,
                "device": record.device.partition(" (")[0],
                "seconds": record.seconds_per_image,
                "passes": record.budget.passes_per_image,
                "steps": record.budget.steps,
                "views": record.budget.views,
                "canvas": max(record.budget.canvas),
                "transferability": sum(values) / len(values),
                "mean": "Top-1 of " + ("the others" if _related(judges) else "other families"),
                "logit": logit.value,
                "family": seen(record) if several else record.preset.partition("_")[0],
            }
        )
    budgets = defaultdict(set)
    for row in rows:
        budgets[row["preset"]].add(row["passes"])
    if max(map(len, budgets.values()), default=0) < (2 if several else FEWEST):
        return None
    data = pd.DataFrame(rows)
    # Seconds of a GPU say nothing beside seconds of a CPU.
    timed = data.pop("device").nunique() == 1
    data = data.assign(cost=data["seconds" if timed else "passes"], timed=timed)
    data = data.sort_values("cost", ignore_index=True, kind="stable")
    scores = ["transferability", "logit"]
    front = []
    for _, r in data.iterrows():
        others = data[(data["family"] == r["family"]) & (data["cost"] <= r["cost"])]
        as_good = (others[scores] >= r[scores]).all(axis=1)
        # Rows may cost the same, as where passes are counted.
        less = (others["cost"] < r["cost"]) | (others[scores] > r[scores]).any(axis=1)
        front.append(not (as_good & less).any())
    data["front"] = front
    return data


def _related(judges: Sequence[Measurement]) -> bool:
    """Whether there were none but those of the target's family."""
    return all(m.label.endswith(SAME_FAMILY) for m in judges)


def budget_sheet(records: Sequence[Record]) -> tuple[Sheet, pd.DataFrame] | None:
    """The rows of one suite and model by what they cost; None where `budget_frame` is."""
    data = budget_frame(records)
    if data is None:
        return None
    numbers, note, mean = frame(records), Footnotes(), str(data["mean"].iloc[0])
    judges = [m for m in metrics_of(records) if m.group == "transferability" or m.name == "logit"]
    cells: dict[str, list[Cell]] = {}
    for row in data.to_dict("records"):
        cells[row["method"]] = [
            Cell(significant(row["seconds"])),
            Cell(str(row["passes"])),
            Cell(f"{row['steps']} × {row['views']}"),
            Cell(str(row["canvas"])),
            Cell(f"{100 * row['transferability']:.0f} %", best=row["front"]),
        ]
    columns = [Column(head, head) for head in ("s / image", "passes", "steps × views", "canvas", f"{mean} ↑")]
    for metric in judges:
        percent = metric.group == "transferability"
        part = numbers[numbers["metric"] == metric.name].assign(best=False)
        columns.append(Column(f"{metric.label} {arrow(metric.higher_is_better)}", metric.group, metric.name))
        found = {row["method"]: row for row in part.to_dict("records")}
        for method, line in cells.items():
            line.append(metric_cell(found[method], decimals_of(part, percent), percent, note))
    first = records[0]
    same = "that sees the same" if grouped(records) else "of the same method"
    front = ", ".join(data.loc[data["front"], "method"])
    timed = bool(data["timed"].all())
    cost = "seconds" if timed else "forward-backward passes"
    sheet = Sheet(
        suite=first.suite,
        alias=first.alias,
        model=first.model,
        columns=tuple(columns),
        rows=tuple(Row(method, tuple(line), None, False) for method, line in cells.items()),
        warnings=(),
        notes=tuple(note.texts),
        orderings=(),
        definitions=((mean, f"{_TEXT}."), *((m.label, definition_of(m, records)) for m in judges)),
        runs=tuple(runs_of([r for r in records if r.method in cells])),
        caption=f"What quality costs, {first.alias}, suite {first.suite}",
        legend=f"Rows by the {cost} that an image takes. Bold, where no row {same} that costs less, or as much and has "
        f"more of one, has as much of both scores: {front}. In brackets the 95 % interval.",
    )
    return sheet, data
