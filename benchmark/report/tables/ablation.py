"""The layout of the paper's Table 3: what each part of MACO and of Fourier contributes, on one model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pandas as pd

from benchmark.records.record import Record
from benchmark.report.tables.numbers import complete, measurement, metrics_of, paper
from benchmark.report.tables.orderings import ordering
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
    paper_text,
    runs_of,
    warnings_of,
)

_NAMES = {"maco": "MACO", "fourier": "Fourier"}


def ablation_sheet(records: Sequence[Record]) -> tuple[Sheet, pd.DataFrame] | None:
    """The paper's six rows of one suite and model, and its numbers; None where the records hold no ablation.

    There is one where at least two of the six rows have a record, and one of those has something removed.

    Args:
        records: of one suite and model.

    Returns:
        The layout, and one row a (row, metric) as `frame` has it, with `row` the paper's heading and `paper` its value.
        Source: Fel et al. 2023, Table 3.
    """
    published = {entry["row"]: entry for entry in paper()["ablation"]["rows"]}
    found = [record for record in records if record.method in published]
    if len(found) < 2 or not any(published[record.method]["removed"] for record in found):
        return None
    heads = {row: _heading(entry) for row, entry in published.items()}
    chosen = {
        "plausibility": _first(["plausibility_flat", "plausibility_pooled"], found),
        "fid": _first(["fid", *_stand_ins(found)], found),
        "logit": "logit",
    }
    data = complete(found, list(published), [measurement(name, found) for name in chosen.values()])
    keys = {name: key for key, name in chosen.items()}
    data["paper"] = [published[row][keys[name]] for row, name in zip(data["method"], data["metric"], strict=True)]
    data.insert(0, "row", data["method"].map(heads))
    # The rows build on each other and do not compete: none of them is best.
    return _sheet(found, data.assign(best=False), heads, chosen), data.drop(columns="best")


def _heading(entry: dict[str, Any]) -> str:
    return f"− {entry['removed'][-1]}" if entry["removed"] else _NAMES[entry["method"]]


def _stand_ins(records: Sequence[Record]) -> list[str]:
    return [m.name for m in metrics_of(records) if m.group == "frechet" and m.name.startswith("frechet_")]


def _first(names: Sequence[str], records: Sequence[Record]) -> str:
    """The first of the metrics that has a value somewhere; else the first that was asked for; else the first."""
    asked = {m.name for r in records for m in r.metrics}
    valued = {m.name for r in records if r.status == "done" for m in r.metrics if m.value is not None}
    return next((n for known in (valued, asked) for n in names if n in known), names[0])


def _sheet(records: list[Record], data: pd.DataFrame, heads: dict[str, str], chosen: dict[str, str]) -> Sheet:
    # Named as their rows, so that warnings, definitions and facts speak of what the reader sees.
    named = [
        dataclasses.replace(r, method=heads[r.method]) for r in sorted(records, key=lambda r: [*heads].index(r.method))
    ]
    note = Footnotes()
    columns: list[Column] = []
    cells: dict[str, list[Cell]] = {head: [] for head in heads.values()}
    orderings, definitions = [], []
    for key, name in chosen.items():
        metric = measurement(name, records)
        head = f"{metric.label} {arrow(metric.higher_is_better)}"
        part = data[data["metric"] == name].assign(method=lambda d: d["row"])
        columns += [Column(head, key, name), Column(f"paper, {'FID' if key == 'fid' else key}", key)]
        for row in part.to_dict("records"):
            value = metric_cell(row, decimals_of(part, False), False, note)
            cells[row["row"]] += [value, Cell(paper_text(row["paper"], False))]
        theirs = dict(zip(part["row"], part["paper"], strict=True))
        orderings.append(f"{metric.label}: {ordering(part, theirs, metric.higher_is_better, pairs=True)}")
        definitions.append((head, definition_of(metric, named)))
    where = paper()["ablation"]["where"]
    target = paper()["models"][paper()["ablation"]["model"]]
    definitions.append(("paper", f"{paper()['source']}, {where}, {target}."))
    return Sheet(
        suite=records[0].suite,
        alias=records[0].alias,
        model=records[0].model,
        columns=tuple(columns),
        rows=tuple(Row(head, tuple(row), None, False) for head, row in cells.items()),
        warnings=tuple(warnings_of(named)),
        notes=tuple(note.texts),
        orderings=(*orderings, *_cautions(records, chosen)),
        definitions=tuple(definitions),
        runs=(*(_budget(row, head, records) for row, head in heads.items()), *runs_of(named)),
        caption=f"Ablation of MACO and Fourier, {records[0].alias}, suite {records[0].suite}",
        legend="A row with a minus removes one thing more than the row above it. In brackets the 95 % interval.",
        corner="row",
    )


def _cautions(records: Sequence[Record], chosen: dict[str, str]) -> list[str]:
    """What keeps the numbers themselves from being compared with the paper's."""
    ours = paper()["ablation"]["model"]
    lines = [
        "The paper's plausibility in Table 3 is on another scale: only orderings and relative gaps compare with ours."
    ]
    if chosen["plausibility"] != "plausibility_flat":
        lines.append("No row has a flat plausibility, so the pooled one stands in its place.")
    if chosen["fid"] != "fid":
        label = measurement(chosen["fid"], records).label
        lines.append(f"{label} stands in for FID, which is over Inception: only orderings compare with the paper's.")
    if records[0].alias != ours:
        theirs = paper()["models"][ours]
        lines.append(f"The target network differs: the paper's is {theirs}, here it is {records[0].model}.")
    return lines


def _budget(method: str, head: str, records: Sequence[Record]) -> str:
    record = next((r for r in records if r.method == method), None)
    if record is None or record.budget is None:
        return f"{head} ({method}): {'no budget is recorded' if record else 'no record'}."
    b = record.budget
    canvas = " × ".join(map(str, b.canvas))
    return (
        f"{head} ({method}): {b.steps} steps × {b.views} views, {b.passes_per_image} passes an image, "
        f"canvas {canvas}, n {record.n}."
    )
