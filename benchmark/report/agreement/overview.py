"""All tables together: in which of them each column brackets, and whether it keeps its order of the methods."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import pandas as pd

from benchmark.records.columns import unmarked
from benchmark.records.record import Measurement
from benchmark.report.agreement.agree import Agreement, Place, Stability
from benchmark.report.agreement.layout import BRACKETS, YES, heading, spell
from benchmark.report.agreement.ranks import FEWEST
from benchmark.report.agreement.verdicts import Verdict
from benchmark.report.tables.sheet import DASH, Cell, Column, Row, Sheet

STABLE = (
    "mean, lowest",
    "Spearman's rank correlation of the column's order of the methods in one table with that in another, over the "
    "methods of the same names: 1, the same order, -1, the opposite. — where a table has one value for all of them.",
)


def _names(places: Iterable[Place]) -> dict[Place, str]:
    """What the tables are called: by their suite and layer, and by their model where there are several."""
    listed = list(dict.fromkeys(places))
    one = len({alias for _, alias, _ in listed}) == 1
    return {
        place: place[0] + ("" if one else f" on {place[1]}") + (f", {place[2]}" if place[2] else "") for place in listed
    }


def _heading(column: Measurement) -> str:
    return heading(dataclasses.replace(column, label=unmarked(column.label)))


def by_column(agreements: Sequence[Agreement]) -> dict[str, dict[Place, Verdict]]:
    """Each column's verdicts, table by table."""
    found: dict[str, dict[Place, Verdict]] = defaultdict(dict)
    for agreement in agreements:
        for verdict in agreement.verdicts:
            found[verdict.column.name][agreement.place] = verdict
    return found


def overview_sheet(agreements: Sequence[Agreement]) -> Sheet:
    """In which tables each column brackets: a row a column, a column a table.

    Args:
        agreements: at least one.
    """
    names, rows = _names(a.place for a in agreements), []
    for verdicts in by_column(agreements).values():
        said = [v.brackets for v in verdicts.values()]
        cells = [Cell(f"{sum(b is True for b in said)} of {sum(b is not None for b in said)}")]
        for place in names:
            v = verdicts.get(place)
            cells.append(Cell("") if v is None else Cell(YES[v.brackets], best=v.brackets is True))
        rows.append(Row(_heading(next(iter(verdicts.values())).column), tuple(cells), None, False))
    heads = [Column("brackets in", "count"), *(Column(name, name) for name in names.values())]
    return _sheet(names, "Which columns bracket, table by table", heads, rows, BRACKETS, sentences(agreements))


def sentences(agreements: Sequence[Agreement]) -> tuple[str, ...]:
    """What the overview comes to: which columns bracket wherever it is known, which nowhere, which say nothing new."""
    verdicts = by_column(agreements)
    labels: dict[str, list[str]] = {"always": [], "sometimes": [], "never": []}
    for lines in verdicts.values():
        label = unmarked(next(iter(lines.values())).column.label)
        said = [v.brackets for v in lines.values() if v.brackets is not None]
        if said:
            labels["always" if all(said) else "sometimes" if any(said) else "never"].append(label)
    same = [
        f"{unmarked(next(iter(lines.values())).column.label)} ({count} of {len(lines)})"
        for lines in verdicts.values()
        if (count := sum(v.monotone for v in lines.values()))
    ]
    return (
        f"In every table that can say, these bracket: {_listed(labels['always'])}.",
        f"In some tables: {_listed(labels['sometimes'])}.",
        f"In none: {_listed(labels['never'])}.",
        f"In the order of the target's own answer or in the opposite one, in so many of their tables: {_listed(same)}.",
    )


def _listed(labels: Sequence[str]) -> str:
    return "; ".join(labels) or "none"


def stability_sheet(found: Sequence[Stability]) -> Sheet:
    """How stable each column's order of the methods is over pairs of tables: a row a column.

    Args:
        found: at least one.
    """
    names = _names(place for s in found for place in (s.first, s.second))
    lines: dict[str, list[Stability]] = defaultdict(list)
    for s in found:
        lines[s.column.name].append(s)
    rows = []
    for pairs in lines.values():
        known = [s for s in pairs if not math.isnan(s.correlation)]
        cells = [Cell(str(len(pairs))), Cell(DASH), Cell(DASH), Cell("")]
        if known:
            lowest = min(known, key=lambda s: s.correlation)
            mean = math.fsum(s.correlation for s in known) / len(known)
            between = f"{names[lowest.first]} and {names[lowest.second]} ({len(lowest.methods)} methods)"
            cells[1:] = [Cell(spell(mean)), Cell(spell(lowest.correlation)), Cell(between)]
        rows.append(Row(_heading(pairs[0].column), tuple(cells), None, False))
    heads = [Column(head, head) for head in ("pairs of tables", "mean", "lowest", "between")]
    remark = f"Over the pairs of tables that share at least {FEWEST} methods by name."
    return _sheet(names, "Does a column keep its order of the methods?", heads, rows, STABLE, (remark,))


def _sheet(
    places: Iterable[Place], title: str, columns: Iterable[Column], rows: Iterable[Row], meaning: tuple[str, str],
    remarks: tuple[str, ...],
) -> Sheet:  # fmt: skip
    return Sheet(
        suite="",
        alias="",
        model=", ".join(dict.fromkeys(alias for _, alias, _ in places)),
        columns=tuple(columns),
        rows=tuple(rows),
        warnings=(),
        notes=(),
        orderings=(),
        definitions=(meaning,),
        runs=(),
        caption=title,
        legend="A row is a column of the tables.",
        corner="column",
        remarks=remarks,
    )


def numbers(agreements: Sequence[Agreement], found: Sequence[Stability]) -> pd.DataFrame:
    """Both, tidy: `brackets` of a column in a table (1, 0 or empty), and `order` between two tables.

    Returns:
        Columns what, column, suite, alias, layer, second_suite, second_alias, shared (the methods), value, why.
    """

    def row(what: str, column: Measurement, first: Place, value: float, **more: object) -> dict[str, object]:
        facts = {"what": what, "column": column.name, "suite": first[0], "alias": first[1], "layer": first[2]}
        return facts | {"value": value} | more

    rows = [
        row("brackets", v.column, place, math.nan if v.brackets is None else float(v.brackets), why=v.why)
        for verdicts in by_column(agreements).values()
        for place, v in verdicts.items()
    ]
    for s in found:
        second = {"second_suite": s.second[0], "second_alias": s.second[1], "shared": " ".join(s.methods)}
        rows.append(row("order", s.column, s.first, s.correlation, **second))
    names = ["suite", "alias", "layer", "second_suite", "second_alias"]
    return pd.DataFrame(rows, columns=["what", "column", *names, "shared", "value", "why"])
