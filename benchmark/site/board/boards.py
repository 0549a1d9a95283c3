"""The leaderboard: records in; a board a suite and target, with ranks, intervals and what each row may see, out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmark.records.columns import percent_groups
from benchmark.records.record import REFERENCES, Record, shown
from benchmark.records.seen import seen
from benchmark.report.agreement.scores import scores_of
from benchmark.report.agreement.verdicts import mean_rank, verdict
from benchmark.report.tables.numbers import by_model, frame, metrics_of
from benchmark.report.tables.sheet import Cell, decimals_of, metric_cell
from benchmark.site.board.reports import Report
from benchmark.site.model import key_of

REPORTED, VERIFIED = "reported", "verified by us"


@dataclass(frozen=True)
class Value:
    """A number of a row.

    Attributes:
        cell: as tables spell it.
        number: in the metric's own unit; None where there is none.
        bar: where its interval begins, how wide it is and where the number stands in the column's range, each 0 to
            100; None without an interval.
        status: of a submitted row, whether it is reported alone or was verified too; empty otherwise.
        why: it is absent.
    """

    cell: Cell
    number: float | None
    bar: tuple[float, float, float] | None
    status: str
    why: str


@dataclass(frozen=True)
class Head:
    """A column: its metric's name, heading, definition, and whether more is better."""

    metric: str
    label: str
    text: str
    higher_is_better: bool


@dataclass(frozen=True)
class Line:
    """A row of a board: its record, what people read of it, its place over the metrics that bracket, and its values."""

    record: Record
    name: str
    key: str
    reference: bool
    sees: str
    budget: str
    rank: float | None
    values: tuple[Value, ...]
    report: Report | None


@dataclass(frozen=True)
class Board:
    """The rows of a suite on a target, in the order of its table; `ranked` says over what they are ranked."""

    suite: str
    target: str
    model: str
    heads: tuple[Head, ...]
    lines: tuple[Line, ...]
    ranked: str

    @property
    def filled(self) -> list[int]:
        """The places of the columns in which some row has a number; those without any stand on the rows' own pages."""
        return [i for i in range(len(self.heads)) if any(line.values[i].number is not None for line in self.lines)]


def boards(records: Sequence[Record], reports: Mapping[tuple[str, str, str], Report] | None = None) -> list[Board]:
    """A board for each suite and target of the records that are done.

    Args:
        records: all of them.
        reports: of submitted rows, by the cell of their record.
    """
    done = [r for r in records if r.status == "done"]
    return [_board(group, reports or {}) for group in by_model(done)]


def _board(group: Sequence[Record], reports: Mapping[tuple[str, str, str], Report]) -> Board:
    heads = tuple(Head(m.name, m.label, str(m.definition["text"]), m.higher_is_better) for m in metrics_of(group))
    numbers = frame(group)
    columns = [_column(numbers[numbers["metric"] == head.metric]) for head in heads]
    ranks, ranked = _ranks(group)
    lines = []
    for at, record in enumerate(group):
        report = reports.get((record.suite, record.alias, record.method))
        values = [_with_status(column[at], head.metric, report) for head, column in zip(heads, columns, strict=True)]
        lines.append(
            Line(
                record=record, name=shown(record.method), key=key_of(record.suite, record.alias, record.method),
                reference=record.method in REFERENCES, sees=seen(record) or "", budget=_budget(record),
                rank=ranks.get(record.method), values=tuple(values), report=report,
            )
        )  # fmt: skip
    return Board(group[0].suite, group[0].alias, group[0].model, heads, tuple(lines), ranked)


def _column(part: pd.DataFrame) -> list[Value]:
    """The values of a column, one a row, as `frame` has them, their bars in the column's own range."""
    percent = str(part["group"].iloc[0]) in percent_groups()
    decimals = decimals_of(part, percent)
    ends = part[["value", "low", "high"]].to_numpy(dtype=float)
    known = ends[~pd.isna(ends)]
    least, most = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    span = (most - least) or 1.0
    found = []
    for row in part.to_dict("records"):
        value, low, high = (float(row[k]) for k in ("value", "low", "high"))
        bar = None
        if not math.isnan(low):
            bar = (100 * (low - least) / span, 100 * (high - low) / span, 100 * (value - least) / span)
        cell = metric_cell(row, decimals, percent, None)
        # A column of texts has NaN, which is true, where there is none.
        why = row["absent"] if isinstance(row["absent"], str) else ""
        found.append(Value(cell, None if math.isnan(value) else value, bar, "", why))
    return found


def _with_status(value: Value, metric: str, report: Report | None) -> Value:
    if report is None or value.number is None:
        return value
    status = f"{REPORTED}, {VERIFIED}" if metric in report.verified else REPORTED
    return Value(value.cell, value.number, value.bar, status, value.why)


def _ranks(group: Sequence[Record]) -> tuple[dict[str, float], str]:
    """The mean place of each method over the columns that bracket, and which those are, in words."""
    scores = scores_of(group)
    found = mean_rank(scores, [verdict(scores, column) for column in scores.columns])
    if found is None:
        return {}, "No rank: no metric has all methods between photographs and noise."
    over = "; ".join(column.label for column in found.columns)
    return dict(zip(found.methods, found.means, strict=True)), f"The rank is the mean place over what brackets: {over}."


def _budget(record: Record) -> str:
    b = record.budget
    return "" if b is None else f"{b.passes_per_image} passes, {b.canvas[0]} x {b.canvas[1]}"


def facts(line: Line) -> dict[str, Any]:
    """What is known of a row, by name, for people."""
    record = line.record
    said: dict[str, Any] = {
        "target": record.model, "suite": record.suite, "images": record.n, "may see": line.sees,
        "budget": line.budget, "configuration": record.config_hash, "made by": record.device,
        "seconds an image": record.seconds_per_image and f"{record.seconds_per_image:.1f}",
        "commit": record.git_commit, "of": record.created[:10],
        "versions": ", ".join(f"{k} {v}" for k, v in sorted(record.versions.items())),
        "submitted by": line.report and line.report.sender,
    }  # fmt: skip
    return {name: value for name, value in said.items() if value not in (None, "")}
