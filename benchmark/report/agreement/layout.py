"""Agreements as sheets, which the writers spell, and as tidy rows, which the CSV is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from benchmark.records.record import Measurement
from benchmark.report.agreement.agree import Agreement
from benchmark.report.agreement.verdicts import CEILINGS, FLOOR, MeanRank, Verdict
from benchmark.report.tables.sheet import DASH, Cell, Column, Footnotes, Row, Sheet, arrow, runs_of, warnings_of

YES = {True: "yes", False: "no", None: DASH}
BRACKETS = (
    "brackets",
    f"whether real images (the row {' or, without it, '.join(CEILINGS)}) score better than every method and {FLOOR} "
    "worse than every method; a method that equals one of the two is outside. — where a row is missing. Only columns "
    "that do count in the mean rank.",
)
RHO = (
    "Spearman's rank correlation with the target's own answer, each column turned so that higher is better: 1, the "
    "same order of the rows, -1, the opposite one."
)
MONOTONE = (
    "monotone",
    "that correlation is 1 or -1 over the methods: of their order the column says nothing that the target's own answer "
    "does not say.",
)
FEW = 5
"""Columns below which resampling them is little better than nothing."""
MEAN = (
    "mean rank",
    "the mean place of a method, 1 the best, over the columns that bracket, never over all. In brackets the 95 % "
    "interval by bootstrap over these columns and, where records keep the scores of units, over the units; seeds are "
    "not in it.",
)


def heading(column: Measurement) -> str:
    """A column's heading with its arrow."""
    return f"{column.label} {arrow(column.higher_is_better)}"


def sheets(agreement: Agreement) -> list[Sheet]:
    """What each column is worth; the mean rank; and the correlations, over the rows and over the units."""
    found = [*verdict_sheets(agreement), _over_rows(agreement)]
    return found + ([_over_units(agreement)] if agreement.has_units else [])


def verdict_sheets(agreement: Agreement) -> list[Sheet]:
    """What each column is worth, and the mean rank where there is one."""
    first = _verdicts(agreement)
    return [first] if agreement.mean_rank is None else [first, _mean_rank(agreement, agreement.mean_rank)]


def _sheet(agreement: Agreement, title: str, columns: Iterable[Column], rows: Iterable[Row], **rest: object) -> Sheet:
    first, layer = agreement.scores.records[0], f", {agreement.layer}" if agreement.layer else ""
    facts: dict[str, object] = {"warnings": (), "notes": (), "orderings": (), "definitions": (), "runs": ()} | rest
    return Sheet(first.suite, first.alias, first.model, tuple(columns), tuple(rows), caption=title + layer, **facts)  # type: ignore[arg-type]


def spell(value: float) -> str:
    """A correlation with two decimals."""
    # A zero has no sign, and neither has what is rounded to it.
    return DASH if math.isnan(value) else f"{value + 0.0:.2f}".replace("-0.00", "0.00")


def _verdicts(agreement: Agreement) -> Sheet:
    scores, note = agreement.scores, Footnotes()
    target, rows = scores.target, []
    everyone = None if target is None else agreement.over_rows[scores.columns.index(target)]
    for c, v in enumerate(agreement.verdicts):
        cells = [Cell(YES[v.brackets], best=v.brackets is True, note=note(v.why) if v.why else None)]
        if everyone is not None:
            rho = ["itself", "itself"] if v.itself else [spell(v.target), spell(float(everyone[c]))]
            cells += [*map(Cell, rho), Cell("yes" if v.monotone else "")]
        rows.append(Row(heading(v.column), tuple(cells), None, False))
    heads, meanings = ["brackets"], [BRACKETS]
    if target is not None:
        rho_head = f"ρ with {_the(target)}"
        heads += [rho_head, "with reference rows", "monotone"]
        references = ", ".join(scores.references) or "none"
        meanings += [(rho_head, RHO), ("with reference rows", f"the same over all rows: also {references}."), MONOTONE]
    return _sheet(
        agreement,
        "Which columns to believe",
        [Column(head, head) for head in heads],
        rows,
        notes=tuple(note.texts),
        remarks=(*summary(agreement), *(f"Not compared: {label}: {why}." for label, why in scores.left_out)),
        definitions=tuple(meanings),
        warnings=tuple(warnings_of(scores.records)),
        # Each row's own stands in the table that this is of.
        runs=tuple(runs_of(scores.records)[:1]),
        legend=f"Over {len(scores.methods)} methods: {', '.join(scores.methods)}.",
        corner="column",
    )


def summary(agreement: Agreement) -> list[str]:
    """What the verdicts come to, in sentences."""
    verdicts, count = agreement.verdicts, len(agreement.scores.methods)
    good = [v for v in verdicts if v.brackets]
    lines = [f"{_of(len(verdicts), good)} bracket{_s(good)} the methods."]
    others, target = [v for v in verdicts if not v.itself], agreement.scores.target
    if target is not None:
        same = [v for v in others if v.monotone]
        chance = math.factorial(count) // 2
        odds = f"one column in {chance}" if chance < 1000 else "hardly any column"
        lines.append(
            f"{_of(len(others), same)} put{_s(same)} the methods in the order of {_the(target)} or in the opposite "
            f"order; with {count} methods, {odds} would by chance."
        )
    return [*lines, NO_MEAN if agreement.mean_rank is None else _mean_line(agreement.mean_rank)]


NO_MEAN = "There is no mean rank: no column brackets, or those that do lack a value for most methods."


def _the(target: Measurement) -> str:
    return "the logit" if target.name == "logit" else f"the {target.label[:1].lower()}{target.label[1:]}"


def _s(some: Sequence[Verdict]) -> str:
    return "s" if len(some) == 1 else ""


def _of(count: int, some: Sequence[Verdict]) -> str:
    named = f" ({'; '.join(v.column.label for v in some)})" if some else ""
    return f"{len(some) or 'None'} of {count} columns{named}"


def _mean_line(rank: MeanRank) -> str:
    order = np.argsort(rank.means, kind="stable")
    places = [f"{rank.methods[i]} {_place(rank.means[i])} {_ends(rank.intervals[i])}".strip() for i in order]
    few = " So few columns make a rough interval." if len(rank.columns) < FEW else ""
    return f"Mean rank over the columns that bracket: {', '.join(places)}.{few}"


def _place(value: float) -> str:
    return f"{value:.1f}"


def _ends(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f"[{ends[0]:.1f}, {ends[1]:.1f}]"


def _mean_rank(agreement: Agreement, rank: MeanRank) -> Sheet:
    means = rank.means
    rows = [
        Row(
            method,
            (
                Cell(_place(means[i]), _ends(rank.intervals[i]), means[i] == min(means)),
                *(Cell(f"{rank.each[c, i]:g}") for c in range(len(rank.columns))),
            ),
            None,
            False,
        )
        for i, method in enumerate(rank.methods)
    ]
    return _sheet(
        agreement,
        "Mean rank over the columns that bracket",
        [Column("mean rank ↓", "mean"), *(Column(heading(c), c.name) for c in rank.columns)],
        rows,
        remarks=tuple(f"Left out: {label}: {why}." for label, why in rank.left_out),
        definitions=(MEAN,),
        legend="Beside the mean, the place in each of these columns.",
    )


def _over_rows(agreement: Agreement) -> Sheet:
    texts = np.full(agreement.over_methods.shape, "", dtype=object)
    for a, b in np.ndindex(*texts.shape):
        if a != b:
            texts[a, b] = spell(float((agreement.over_methods if a > b else agreement.over_rows)[a, b]))
    return _matrix(
        agreement,
        "Rank correlation of the columns over the rows",
        texts,
        f"Spearman's, each column turned so that higher is better. Below the diagonal over the "
        f"{len(agreement.scores.methods)} methods alone; above it with the reference rows "
        f"({', '.join(agreement.scores.references) or 'none here'}), which make columns agree that have noise last.",
    )


def _over_units(agreement: Agreement) -> Sheet:
    texts = np.full(agreement.over_units.shape, "", dtype=object)
    for a, b in np.ndindex(*texts.shape):
        if a > b:
            texts[a, b] = spell(float(agreement.over_units[a, b]))
            if not math.isnan(agreement.low[a, b]):
                texts[b, a] = f"[{spell(float(agreement.low[a, b]))}, {spell(float(agreement.high[a, b]))}]"
    return _matrix(
        agreement,
        "Rank correlation of the columns over the units",
        texts,
        f"Over the units ({len(agreement.scores.units)}) within a method, averaged over the methods: whether pictures "
        "by one method that are good by one column are good by another. Above the diagonal the 95 % interval by "
        "bootstrap over the units.",
        np.flatnonzero((~np.isnan(agreement.over_units)).any(axis=0)),
    )


NUMBERED = "The columns go by their numbers, which stand before their names in the rows."


def _matrix(
    agreement: Agreement, title: str, texts: np.ndarray, legend: str, shown: Iterable[int] | None = None
) -> Sheet:
    columns = agreement.scores.columns
    kept = list(range(len(columns)) if shown is None else shown)
    rows = [
        Row(f"{c + 1} {heading(columns[c])}", tuple(Cell(str(texts[c, d])) for d in kept), None, False) for c in kept
    ]
    heads = [Column(str(c + 1), columns[c].name, columns[c].name) for c in kept]
    return _sheet(agreement, title, heads, rows, remarks=(legend,), legend=NUMBERED, corner="column")


def numbers(agreement: Agreement) -> pd.DataFrame:
    """Every number of an agreement, tidy.

    Returns:
        One row a fact: suite, model, alias, layer, what (`rows`, `rows_with_references`, `units`: correlations of
        `column` and `other`; `brackets`: 1, 0 or empty, with the reason in `why`; `monotone`: 1 or 0; `mean_rank`: of
        `method`; `rank`: of `method` in `column`), column, other, method, value, low, high, why.
    """
    columns = [c.name for c in agreement.scores.columns]
    rows: list[dict[str, object]] = []
    empty = np.full(agreement.over_rows.shape, math.nan)
    for what, values, low, high in (
        ("rows", agreement.over_methods, empty, empty),
        ("rows_with_references", agreement.over_rows, empty, empty),
        ("units", agreement.over_units, agreement.low, agreement.high),
    ):
        for a, b in zip(*np.triu_indices(len(columns), 1), strict=True):
            if what != "units" or not math.isnan(values[a, b]):
                ends = {"low": low[a, b], "high": high[a, b]}
                rows.append({"what": what, "column": columns[a], "other": columns[b], "value": values[a, b]} | ends)
    for v in agreement.verdicts:
        said = math.nan if v.brackets is None else float(v.brackets)
        rows.append({"what": "brackets", "column": v.column.name, "value": said, "why": v.why})
        rows.append({"what": "monotone", "column": v.column.name, "value": float(v.monotone)})
    if (rank := agreement.mean_rank) is not None:
        for i, method in enumerate(rank.methods):
            low_high = rank.intervals[i] or (math.nan, math.nan)
            ends = {"low": low_high[0], "high": low_high[1]}
            rows.append({"what": "mean_rank", "method": method, "value": rank.means[i]} | ends)
            for c, column in enumerate(rank.columns):
                rows.append({"what": "rank", "method": method, "column": column.name, "value": rank.each[c, i]})
    first = agreement.scores.records[0]
    facts = {"suite": first.suite, "model": first.model, "alias": first.alias, "layer": agreement.layer}
    names = [*facts, "what", "column", "other", "method", "value", "low", "high", "why"]
    return pd.DataFrame([facts | row for row in rows], columns=names)
