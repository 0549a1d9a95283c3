"""All tables together: in which of them each column brackets, and whether it keeps its order of the methods."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import pandas as pd

from benchmark.records.record import Measurement
from benchmark.report.agreement.agree import Agreement, Stability
from benchmark.report.agreement.layout import BRACKETS, YES, heading, spell
from benchmark.report.agreement.ranks import FEWEST
from benchmark.report.agreement.verdicts import LOGIT, Verdict
from benchmark.report.tables.sheet import DASH, Cell, Column, Row, Sheet

STABLE = (
    "A number",
    "Spearman's rank correlation of the column's order of the methods in one table with that in the other, over the "
    "methods of the same names: 1, the same order, -1, the opposite. — where all of them have the same value.",
)
Place = tuple[str, str]
"""A table: its suite and the alias of its model."""


def place_of(agreement: Agreement) -> Place:
    """Which table an agreement is of."""
    first = agreement.scores.records[0]
    return first.suite, first.alias


def _names(places: Iterable[Place]) -> dict[Place, str]:
    """What the tables are called: by their suite, and by their model where there are several."""
    listed = list(dict.fromkeys(places))
    one = len({alias for _, alias in listed}) == 1
    return {place: place[0] if one else f"{place[0]} on {place[1]}" for place in listed}


def by_column(agreements: Sequence[Agreement]) -> dict[str, dict[Place, Verdict]]:
    """Each column's verdicts, table by table."""
    found: dict[str, dict[Place, Verdict]] = defaultdict(dict)
    for agreement in agreements:
        for verdict in agreement.verdicts:
            found[verdict.column.name][place_of(agreement)] = verdict
    return found


def overview_sheet(agreements: Sequence[Agreement]) -> Sheet:
    """In which tables each column brackets: a row a column, a column a table.

    Args:
        agreements: at least one.
    """
    names, rows = _names(map(place_of, agreements)), []
    for verdicts in by_column(agreements).values():
        said = [v.brackets for v in verdicts.values()]
        cells = [Cell(f"{sum(b is True for b in said)} of {sum(b is not None for b in said)}")]
        for place in names:
            v = verdicts.get(place)
            cells.append(Cell("") if v is None else Cell(YES[v.brackets], best=v.brackets is True))
        rows.append(Row(heading(next(iter(verdicts.values())).column), tuple(cells), None, False))
    heads = [Column("brackets in", "count"), *(Column(name, name) for name in names.values())]
    return _sheet(names, "Which columns bracket, table by table", heads, rows, BRACKETS, sentences(agreements))


def sentences(agreements: Sequence[Agreement]) -> tuple[str, ...]:
    """What the overview comes to: which columns bracket wherever that is known, which nowhere, which are the logit."""
    verdicts = by_column(agreements)
    labels: dict[str, list[str]] = {"always": [], "sometimes": [], "never": []}
    for lines in verdicts.values():
        label = next(iter(lines.values())).column.label
        said = [v.brackets for v in lines.values() if v.brackets is not None]
        if said:
            labels["always" if all(said) else "sometimes" if any(said) else "never"].append(label)
    same = [
        f"{next(iter(lines.values())).column.label} ({count} of {len(lines)})"
        for name, lines in verdicts.items()
        if name != LOGIT and (count := sum(v.monotone for v in lines.values()))
    ]
    return (
        f"In every table that can say, these bracket: {_listed(labels['always'])}.",
        f"In some tables: {_listed(labels['sometimes'])}.",
        f"In none: {_listed(labels['never'])}.",
        f"In the order of the logit or in its opposite, in so many of their tables: {_listed(same)}.",
    )


def _listed(labels: Sequence[str]) -> str:
    return "; ".join(labels) or "none"


def stability_sheet(found: Sequence[Stability]) -> Sheet:
    """How stable each column's order of the methods is: a row a column, a column a pair of tables.

    Args:
        found: at least one.
    """
    pairs = list(dict.fromkeys((s.first, s.second) for s in found))
    names = _names(place for pair in pairs for place in pair)
    lines: dict[str, dict[tuple[Place, Place], Stability]] = defaultdict(dict)
    for s in found:
        lines[s.column.name][s.first, s.second] = s
    rows = []
    for of_column in lines.values():
        values = [s.correlation for s in of_column.values() if not math.isnan(s.correlation)]
        cells = [Cell(spell(math.fsum(values) / len(values)) if values else DASH)]
        for pair in pairs:
            there = of_column.get(pair)
            cells.append(Cell("" if there is None else f"{spell(there.correlation)} ({len(there.methods)})"))
        rows.append(Row(heading(next(iter(of_column.values())).column), tuple(cells), None, False))
    heads = [Column("mean", "mean"), *(Column(" and ".join(names[p] for p in pair), str(pair)) for pair in pairs)]
    remark = f"Over the pairs of tables that share at least {FEWEST} methods by name; in brackets, how many they share."
    return _sheet(names, "Does a column keep its order of the methods?", heads, rows, STABLE, (remark,))


def _sheet(
    places: Iterable[Place], title: str, columns: Iterable[Column], rows: Iterable[Row], meaning: tuple[str, str],
    remarks: tuple[str, ...],
) -> Sheet:  # fmt: skip
    return Sheet(
        suite="",
        alias="",
        model=", ".join(dict.fromkeys(alias for _, alias in places)),
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
        Columns what, column, first_suite, first_alias, second_suite, second_alias, shared (the methods), value, why.
    """

    def row(what: str, column: Measurement, first: Place, value: float, **more: object) -> dict[str, object]:
        facts = {"what": what, "column": column.name, "first_suite": first[0], "first_alias": first[1], "value": value}
        return facts | more

    rows = [
        row("brackets", v.column, place, math.nan if v.brackets is None else float(v.brackets), why=v.why)
        for verdicts in by_column(agreements).values()
        for place, v in verdicts.items()
    ]
    for s in found:
        second = {"second_suite": s.second[0], "second_alias": s.second[1], "shared": " ".join(s.methods)}
        rows.append(row("order", s.column, s.first, s.correlation, **second))
    names = ["first_suite", "first_alias", "second_suite", "second_alias"]
    return pd.DataFrame(rows, columns=["what", "column", *names, "shared", "value", "why"])
