"""The numbers of the tables: records in, one tidy frame out, with the paper's numbers beside ours."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from benchmark.records import columns, seen
from benchmark.records.record import REFERENCES, Measurement, Record
from featvis.errors import UserError

FIRST_METHODS = ("maco", "fourier", "cbr")
CEILINGS = ("real", "natural")
"""Rows that stand above the methods; the other references stand below."""


@functools.cache
def paper() -> dict[str, Any]:
    """The published numbers, as `paper.yaml` holds them (`source`, `models`, `comparison`, `ablation`)."""
    return yaml.safe_load(Path(__file__).with_name("paper.yaml").read_text(encoding="utf-8"))


def paper_values(alias: str, metric: str) -> dict[str, float]:
    """The paper's values of one metric on one model, in the unit that records use (top-1: percent made a fraction).

    Args:
        alias: the model's configuration name; `flexivit`, `vit` and `resnetv2` are the paper's.
        metric: a metric's name.

    Returns:
        Method name to value; empty where the paper has none. Source: Fel et al. 2023, Tables 1 and 2.
    """
    for entry in paper()["comparison"]:
        if entry["metric"] == metric:
            scale = 100 if entry["unit"] == "percent" else 1
            return {method: value / scale for method, value in entry["values"].get(alias, {}).items()}
    return {}


def frame(records: Iterable[Record]) -> pd.DataFrame:
    """Every number of the records, tidy: one row a (suite, model, method, metric), in the order of the tables.

    A metric that some method of the same suite and model has is a row for every method of it; where it is absent,
    `value` is NaN and `absent` the reason. A failed cell's numbers are left out. Values are in the metric's own unit
    (top-1 is a fraction, the paper's too).

    Returns:
        Columns suite, model, alias, method, preset, status, metric, label, group, higher_is_better, value, low, high,
        n, best, paper, absent, seconds_per_image, passes_per_image, steps, views, config_hash, units_hash, git_commit;
        and sees, where methods of one table see different things (`benchmark.records.seen`).
    """
    groups = by_model(records)
    rows = [row for group in groups for row in _rows(group)]
    columns = [
        "suite", "model", "alias", "method", "preset", "status", "metric", "label", "group", "higher_is_better",
        "value", "low", "high", "n", "best", "paper", "absent", "seconds_per_image", "passes_per_image", "steps",
        "views", "config_hash", "units_hash", "git_commit",
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=columns + ["sees"] * any(map(seen.grouped, groups)))
    whole = ["n", "passes_per_image", "steps", "views"]
    real = ["value", "low", "high", "paper", "seconds_per_image"]
    # Int64 is pandas' integer that can be missing: a count of 10 must not become 10.0 because a row failed.
    return table.astype(dict.fromkeys(whole, "Int64") | dict.fromkeys(real, "float64"))


def by_model(records: Iterable[Record]) -> list[list[Record]]:
    """The records of one suite and model together, in the order of the tables: what they see, and `method_order`."""

    def order(record: Record) -> tuple[Any, ...]:
        return (record.suite, record.alias, record.model, *method_order(record.method))

    groups = itertools.groupby(sorted(records, key=order), key=lambda r: (r.suite, r.alias, r.model))
    return [_by_what_they_see(list(group)) for _, group in groups]


def _by_what_they_see(records: list[Record]) -> list[Record]:
    """The rows of one table, the methods that see the same together where tables say what they see."""
    if not seen.grouped(records):
        return records
    return sorted(records, key=lambda r: (method_order(r.method)[0], seen.order(seen.seen(r))))


def method_order(method: str) -> tuple[int, int, str]:
    """A sort key: real (natural), maco, fourier, cbr, the other methods by name (numbers in it by size), the floors."""
    if method in REFERENCES:
        return 0 if method in CEILINGS else 2, REFERENCES.index(method), method
    name = re.sub(r"\d+", lambda m: m[0].zfill(8), method)
    return 1, FIRST_METHODS.index(method) if method in FIRST_METHODS else len(FIRST_METHODS), name


def judges_of(record: Record) -> list[Measurement]:
    """What networks of other families than the target's see of a row; where none of these judged, all others."""
    others = [
        m
        for m in record.metrics
        if m.group == "transferability" and m.name != f"top1_{record.model}" and m.value is not None
    ]
    return [m for m in others if not m.label.endswith(columns.SAME_FAMILY)] or others


def metrics_of(records: Sequence[Record]) -> list[Measurement]:
    """One measurement a metric (for its label, group and direction), in the order of the columns."""
    # One column a network stands in the order of the paper's networks, then by name.
    networks = [entry["metric"] for entry in paper()["comparison"]]
    order_of_groups = columns.groups()
    found: dict[str, Measurement] = {}
    for record in records:
        for m in record.metrics:
            first = found.setdefault(m.name, m)
            if first.higher_is_better != m.higher_is_better:
                raise UserError(f"The records of {record.alias} disagree on which direction of {m.name} is better.")

    def order(m: Measurement) -> tuple[Any, ...]:
        group = order_of_groups.index(m.group) if m.group in order_of_groups else len(order_of_groups)
        column = columns.column_of(m.name)
        place = columns.COLUMNS.index(column) if column is not None and "{" not in column.name else len(columns.COLUMNS)
        network = networks.index(m.name) if m.name in networks else len(networks)
        return group, m.group, place, network, m.name

    return sorted(found.values(), key=order)


def measurement(name: str, records: Sequence[Record]) -> Measurement:
    """A metric's label, group and direction; known for the paper's metrics even where no record has them."""
    found = next((m for m in metrics_of(records) if m.name == name), None)
    column = columns.column_of(name)
    assert column is not None, f"{name} is a column"
    label = column.heading.replace("{network}", name.removeprefix(column.name.partition("{")[0]))
    text = {"text": "Not evaluated."}
    return found or Measurement(
        name, label, column.group, None, None, 0, column.higher_is_better, text, "not evaluated"
    )


def complete(records: Sequence[Record], methods: Sequence[str], metrics: Sequence[Measurement]) -> pd.DataFrame:
    """`frame` with a row for every model, method and metric asked for, in that order; what is not there says why.

    Args:
        records: of one suite.
        methods: names of methods, with or without a record.
        metrics: one measurement a metric, as `measurement` gives it.
    """
    whole = frame(records)
    facts = [
        "preset",
        "status",
        "seconds_per_image",
        "passes_per_image",
        "steps",
        "views",
        "config_hash",
        "units_hash",
        "git_commit",
        *["sees"] * ("sees" in whole),
    ]
    keys = ["alias", "method", "metric"]
    models = {r.alias: r.model for r in records}
    index = pd.MultiIndex.from_product([list(models), methods, [m.name for m in metrics]], names=keys)
    numbers = whole[whole["metric"].notna()].set_index(keys)[["value", "low", "high", "n", "best", "absent"]]
    data = numbers.reindex(index).reset_index()
    data = data.join(whole.drop_duplicates(keys[:2]).set_index(keys[:2])[facts], on=keys[:2])
    data["suite"] = records[0].suite
    data["model"] = data["alias"].map(models)
    for fact in ("label", "group", "higher_is_better"):
        data[fact] = data["metric"].map({m.name: getattr(m, fact) for m in metrics})
    rows = list(data[keys].itertuples(index=False, name=None))
    data["paper"] = pd.Series([paper_values(a, name).get(method) for a, method, name in rows], dtype="float64")
    data["best"] = data["best"].eq(True)
    known = {(r.alias, r.method): r for r in records}
    data["absent"] = [
        reason if isinstance(reason, str) or value == value else _why_missing(known.get((alias, method)), alias, method)
        for (alias, method, _), reason, value in zip(rows, data["absent"], data["value"], strict=True)
    ]
    return data[whole.columns]


def _why_missing(record: Record | None, alias: str, method: str) -> str | None:
    return why_absent(record, None) if record else f"there is no record of {method} on {alias}"


def _rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    rows = []
    metrics: list[Measurement | None] = [*metrics_of(records)]
    sees = {r.method: seen.seen(r) for r in records}
    several = seen.grouped(records)
    methods = [r.method for r in records if not seen.is_control(r)]
    groups = [[m for m in methods if sees[m] == s] for s in set(sees.values())] if several else [methods]
    for metric in metrics or [None]:
        column = {r.method: _measured(r, metric) for r in records}
        best = set().union(*(_best({m: column[m] for m in g}, metric) for g in groups)) if metric else set()
        published = paper_values(records[0].alias, metric.name) if metric else {}
        for record in records:
            m = column[record.method]
            interval = m.interval if m and m.interval else (None, None)
            rows.append(
                {
                    "suite": record.suite,
                    "model": record.model,
                    "alias": record.alias,
                    "method": record.method,
                    "preset": record.preset,
                    "status": record.status,
                    "metric": metric.name if metric else None,
                    "label": metric.label if metric else None,
                    "group": metric.group if metric else None,
                    "higher_is_better": metric.higher_is_better if metric else None,
                    "value": m.value if m else None,
                    "low": interval[0],
                    "high": interval[1],
                    "n": m.n if m else record.n,
                    "best": record.method in best,
                    "paper": published.get(record.method),
                    "absent": why_absent(record, m),
                    "seconds_per_image": record.seconds_per_image,
                    "passes_per_image": record.budget.passes_per_image if record.budget else None,
                    "steps": record.budget.steps if record.budget else None,
                    "views": record.budget.views if record.budget else None,
                    "config_hash": record.config_hash,
                    "units_hash": record.units_hash,
                    "git_commit": record.git_commit,
                    "sees": sees[record.method] if several else None,
                }
            )
    position = {record.method: i for i, record in enumerate(records)}
    return sorted(rows, key=lambda row: position[row["method"]])


def _measured(record: Record, metric: Measurement | None) -> Measurement | None:
    return record.metric(metric.name) if metric and record.status == "done" else None


def why_absent(record: Record, m: Measurement | None) -> str | None:
    """Why a record has no value of a metric; None where it has one."""
    if record.status == "failed":
        return f"failed: {record.error}"
    if m is None:
        return "this metric was not evaluated for this row"
    return m.absent


def _best(column: dict[str, Measurement | None], metric: Measurement) -> set[str]:
    values = {k: m.value for k, m in column.items() if m and m.value is not None and k not in REFERENCES}
    if len(values) < 2:  # one competitor is not the best of anything
        return set()
    if any(_on_the_floor(column[method]) for method in values):
        return set()
    top = (max if metric.higher_is_better else min)(values.values())
    return {method for method, value in values.items() if value == top}


def _on_the_floor(m: Measurement | None) -> bool:
    """Whether a distance is of fewer images than its features have dimensions, which is most of what it then says.

    Records of before `dimension` stood in the definition do not say it.
    """
    dimension = None if m is None else m.definition.get("dimension")
    return m is not None and dimension is not None and m.n < dimension
