"""The layout of the paper's Tables 1 and 2: the methods on every model of a suite, a block a metric."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import pandas as pd

from benchmark.records.columns import SAME_FAMILY, unmarked
from benchmark.records.record import REFERENCES, Measurement, Record, listed, shown
from benchmark.records.seen import grouped, order, seen
from benchmark.report.tables.numbers import (
    FIRST_METHODS,
    complete,
    measurement,
    method_order,
    metrics_of,
    paper,
    paper_values,
)
from benchmark.report.tables.orderings import ordering
from benchmark.report.tables.sheet import (
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
    warnings_of,
)

_USUAL = (
    "maco, fourier, cbr: that of Table 1 but for FID on FlexiViT, where cbr precedes fourier; Table 2 has maco before "
    "fourier, without cbr"
)


def comparison_sheets(records: Sequence[Record]) -> tuple[list[Sheet], pd.DataFrame] | None:
    """The blocks of one suite, and their numbers; None where it has fewer than two of maco, fourier and cbr.

    Args:
        records: of one suite, all models.

    Returns:
        One sheet a block (plausibility in all its readings, FID, KID, transferability); and one row a (model,
        method, metric) as `frame` has it. Source: Fel et al. 2023, Tables 1 and 2.
    """
    if len({r.method for r in records} & {*FIRST_METHODS}) < 2:
        return None
    methods = sorted({*FIRST_METHODS, *(r.method for r in records)}, key=method_order)
    names = ["plausibility"] * any(r.metric("plausibility") for r in records)
    names += ["plausibility_flat", "plausibility_pooled", "plausibility_deep_knn"]
    names += _distances("fid", "frechet_", records) + _distances("kid", "kernel_", records)
    singles = [measurement(name, records) for name in names]
    judges = _judges(records)
    data = complete(records, methods, [*singles, *judges])
    blocks = [_by_metric(metric, data[data["metric"] == metric.name], records) for metric in singles]
    return [*blocks, _transfer(judges, data[data["metric"].isin([m.name for m in judges])], methods, records)], data


def _models(records: Sequence[Record]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda r: (r.alias, method_order(r.method))):
        groups.setdefault(record.alias, []).append(record)
    return groups


def _distances(name: str, prefix: str, records: Sequence[Record]) -> list[str]:
    """FID or KID where some model has it; the stand-ins, under their own names, where some model has it not."""
    having = {r.alias for r in records for m in r.metrics if m.name == name and m.value is not None}
    others = [m.name for m in metrics_of(records) if m.group == "frechet" and m.name.startswith(prefix)]
    return [name] * bool(having or not others) + others * (having != {r.alias for r in records})


def _judges(records: Sequence[Record]) -> list[Measurement]:
    """The classifiers of the records; the paper's too where it has one of the models, or where there are none."""
    names = [m.name for m in metrics_of(records) if m.group == "transferability"]
    if not names or any(r.alias in paper()["models"] for r in records):
        known = [entry["metric"] for entry in paper()["comparison"] if entry["unit"] == "percent"]
        names += [name for name in known if name not in names]
    found = [measurement(name, records) for name in names]
    # One network may be the target of one column and judge another.
    return [dataclasses.replace(m, label=unmarked(m.label)) for m in found]


def _by_metric(metric: Measurement, data: pd.DataFrame, records: Sequence[Record]) -> Sheet:
    """A block of Table 1: methods down, models across."""
    note = Footnotes()
    columns: list[Column] = []
    cells: dict[str, list[Cell]] = {}
    orderings = []
    for alias in _models(records):
        part = data[data["alias"] == alias]
        published = paper_values(alias, metric.name)
        columns += [Column(alias, alias, metric.name), *[Column("paper", alias)] * bool(published)]
        for row in part.to_dict("records"):
            line = cells.setdefault(row["method"], [])
            line.append(metric_cell(row, decimals_of(part, False), False, note))
            if published:
                line.append(_paper_cell(published, row["method"], False))
        orderings.append(": ".join(_verdict(alias, metric, part)))
    if metric.group == "frechet":
        kind = "FID" if metric.name.startswith("frechet_") else "KID"
        orderings.append(
            f"{metric.label} stands in for {kind}, which is over Inception, so no value of the paper's is beside it."
        )
    rows = [Row(shown(method), tuple(line), None, method in REFERENCES) for method, line in cells.items()]
    return _sheet([metric], records, columns, rows, note, orderings, "")


def _transfer(
    judges: Sequence[Measurement], data: pd.DataFrame, methods: Sequence[str], records: Sequence[Record]
) -> Sheet:
    """The block of Table 2: classifiers down, models and methods across."""
    note = Footnotes()
    columns: list[Column] = []
    rows: list[Row] = []
    verdicts: dict[tuple[str, str], list[str]] = {}  # one line for all classifiers that say the same
    models = {alias: group[0].model for alias, group in _models(records).items()}
    published = {(alias, m.name): paper_values(alias, m.name) for alias in models for m in judges}
    beside = {(alias, method) for (alias, _), values in published.items() for method in values}
    for alias in models:
        for method in methods:
            group = f"{alias} {method}"
            columns += [
                Column(f"{alias}: {shown(method)}", group, "top1"),
                *[Column("paper", group)] * ((alias, method) in beside),
            ]
    for metric in judges:
        cells: list[Cell] = []
        for alias, model in models.items():
            part = data[(data["alias"] == alias) & (data["metric"] == metric.name)]
            target = metric.name == f"top1_{model}"
            own = any(
                m.label.endswith(SAME_FAMILY) for r in records if r.alias == alias and (m := r.metric(metric.name))
            )
            for row in part.to_dict("records"):
                cell = metric_cell(row, decimals_of(part, True), True, note)
                if target and cell.note is None:
                    cell = Cell(cell.text, cell.interval, cell.best, note("the target itself, so this is no transfer"))
                elif own and cell.note is None:
                    cell = Cell(cell.text, cell.interval, cell.best, note("of the target's own family"))
                cells += [cell]
                if (alias, row["method"]) in beside:
                    cells.append(_paper_cell(published[alias, metric.name], row["method"], True))
            if not target:
                name = metric.label + SAME_FAMILY * own
                verdicts.setdefault(_verdict(alias, metric, part), []).append(name)
        rows.append(Row(f"{metric.label} {arrow(metric.higher_is_better)}", tuple(cells), None, False))
    orderings = [f"{who} ({'; '.join(labels)}): {text}" for (who, text), labels in verdicts.items()]
    return _sheet(judges, records, columns, rows, note, orderings, "Transferability")


def _paper_cell(published: dict[str, float], method: str, percent: bool) -> Cell:
    return Cell(paper_text(published[method], percent) if method in published else "")


def _verdict(alias: str, metric: Measurement, part: pd.DataFrame) -> tuple[str, str]:
    """Which model, and whether its methods have the paper's order: its usual one where it lacks this number."""
    published = paper_values(alias, metric.name)
    if published:
        return alias, ordering(part, published, metric.higher_is_better, pairs=True)
    sign = -1 if metric.higher_is_better else 1
    # Table 2 is without CBR.
    usual = FIRST_METHODS[:2] if metric.group == "transferability" else FIRST_METHODS
    ranks = {method: sign * i for i, method in enumerate(usual, 1)}
    text = ordering(part, ranks, metric.higher_is_better, "the paper's usual order", pairs=True)
    why = "of which the paper has no such number" if alias in paper()["models"] else "which the paper does not have"
    return f"{alias}, {why}", text


def _merged(records: Sequence[Record], lines: Callable[[Sequence[Record]], list[str]]) -> tuple[str, ...]:
    """Lines about each model: said once for all that share them, with the models' names where there are several."""
    groups = _models(records)
    said: dict[str, list[str]] = {}
    for alias, group in groups.items():
        for line in lines(group):
            said.setdefault(line, []).append(alias)
    return tuple(f"{', '.join(aliases)}: {line}" if len(groups) > 1 else line for line, aliases in said.items())


def _sheet(
    metrics: Sequence[Measurement],
    records: Sequence[Record],
    columns: Sequence[Column],
    rows: Sequence[Row],
    note: Footnotes,
    orderings: Sequence[str],
    name: str,
) -> Sheet:
    groups = _models(records)
    heads = [f"{m.label} {arrow(m.higher_is_better)}" for m in metrics]
    definitions = [
        (head, " ".join(_merged(records, lambda group, m=metric: [definition_of(m, group)])))  # type: ignore[misc]
        for head, metric in zip(heads, metrics, strict=True)
    ]
    several = any(map(grouped, groups.values()))
    definitions += [(SEES, f"what a method may see besides the network: {_sights(records)}.")] * several
    where = f"{paper()['source']}, {paper()['comparison_where']}; empty where it has no number"
    definitions += [("paper", f"{where}.")] * any(c.head == "paper" for c in columns)
    definitions += [("the paper's usual order", f"{_USUAL}.")] * any("usual order" in line for line in orderings)
    return Sheet(
        suite=records[0].suite,
        alias=", ".join(groups),
        model=", ".join(dict.fromkeys(r.model for group in groups.values() for r in group)),
        columns=tuple(columns),
        rows=tuple(rows),
        warnings=_merged(records, warnings_of),
        notes=tuple(note.texts),
        orderings=tuple(orderings),
        definitions=tuple(definitions),
        runs=_merged(records, runs_of),
        caption=name or heads[0],
        legend=LEGEND_BY_GROUP if several else LEGEND,
        corner="classifier" if name else "method",
    )


def _sights(records: Sequence[Record]) -> str:
    """Which methods see what: there is no room for a column of it in these tables."""
    methods: dict[str, list[str]] = {}
    for record in sorted(records, key=lambda r: (order(seen(r)), method_order(r.method))):
        if (what := seen(record)) is not None and record.method not in methods.setdefault(what, []):
            methods[what].append(record.method)
    return "; ".join(f"{listed(names)}: {what}" for what, names in methods.items())
