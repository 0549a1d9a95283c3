"""The layout of a suite whose units are of several layers: a table a layer, from what the records keep of each unit.

A mean over classes and channels of several depths would hide that a method may lead in one layer and trail in another.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from benchmark.records.record import Measurement, Record, units_hash
from benchmark.report.tables.model import lay_out
from benchmark.report.tables.sheet import Sheet
from featvis.intervals import expanded, share_interval

RESAMPLES = 1000
CLASSES = "classes"


def layer_of(unit: str) -> str:
    """The layer of a unit, by its id; `classes` for a class.

    Example:
        >>> from benchmark.report.tables.layers import layer_of
        >>> layer_of("301@2"), layer_of("blocks.2-7-r3c4@1"), layer_of("blocks.2-7")
        ('classes', 'blocks.2', 'blocks.2')
    """
    name, cut, repeat = unit.rpartition("@")
    name = name if cut and repeat.isdecimal() else unit
    if name.isdecimal():
        return CLASSES
    parts = name.split("-")
    number = next((i for i in range(len(parts) - 1, 0, -1) if parts[i].isdecimal()), len(parts))
    return "-".join(parts[:number])


def by_layer(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The records of one suite and model as they are of each layer alone; empty where there is one layer.

    Values are means over the units, with 95 % percentile intervals of a bootstrap over units; the images of a unit are
    one draw. Measurements of whole sets, which have no value a unit, are left out.
    """
    layers = list(dict.fromkeys(layer_of(unit) for record in records for unit in record.units))
    if len(layers) < 2:
        return {}
    found = {layer: [_part(record, layer) for record in records] for layer in layers}
    return {layer: kept for layer, part in found.items() if (kept := _with_values(part))}


def _with_values(records: Sequence[Record]) -> list[Record]:
    """Without columns that no row has a value in, and rows that have none in any."""
    known = {m.name for r in records for m in r.metrics if m.value is not None}
    kept = [dataclasses.replace(r, metrics=tuple(m for m in r.metrics if m.name in known)) for r in records]
    return [r for r in kept if r.status == "failed" or any(m.value is not None for m in r.metrics)]


def layer_sheets(records: Sequence[Record]) -> list[tuple[str, Sheet, list[Record]]]:
    """For each layer: its name, its table and the records behind it."""
    found = []
    for layer, part in by_layer(records).items():
        sheet = lay_out(part)
        count = len({unit.partition("@")[0] for unit in part[0].units})
        caption = f"Suite {sheet.suite}: {count} units of {sheet.alias}, {layer}"
        found.append((layer, dataclasses.replace(sheet, caption=caption), part))
    return found


def _part(record: Record, layer: str) -> Record:
    at = [i for i, unit in enumerate(record.units) if layer_of(unit) == layer]
    units = tuple(record.units[i] for i in at)
    metrics = [m for metric in record.metrics if (m := _mean(metric, units, at)) is not None]
    known = [m.values for m in metrics if m.values is not None]
    n = sum(any(values[i] is not None for values in known) for i in range(len(at))) if known else len(at)
    labels = tuple(record.labels[i] for i in at)
    return dataclasses.replace(
        record, units=units, labels=labels, units_hash=units_hash(units), metrics=tuple(metrics), n=n,
        failed_units=tuple(f for f in record.failed_units if f.unit in units),
        silent_units=tuple(u for u in record.silent_units if u in units),
    )  # fmt: skip


def _mean(metric: Measurement, units: Sequence[str], at: Sequence[int]) -> Measurement | None:
    if metric.values is None:
        return metric if metric.value is None else None
    values = tuple(metric.values[i] for i in at)
    by_unit: dict[str, list[float]] = {}
    for unit, value in zip(units, values, strict=True):
        if value is not None:
            by_unit.setdefault(unit.partition("@")[0], []).append(value)
    means = np.array([sum(v) / len(v) for v in by_unit.values()])
    if not len(means):
        why = metric.absent or "no unit of this layer has a score"
        return dataclasses.replace(metric, value=None, interval=None, n=0, values=values, absent=why)
    interval = _interval(list(by_unit.values())) if len(means) > 1 else None
    value = math.fsum(means) / len(means)
    return dataclasses.replace(metric, value=value, interval=interval, n=len(means), values=values, absent=None)


def _interval(scores: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Of the mean of the units' means, as the metric itself has it: a share's is no percentile."""
    if all(value in (0.0, 1.0) for values in scores for value in values):
        return share_interval([sum(values) for values in scores], [len(values) for values in scores])
    means = np.array([sum(values) / len(values) for values in scores])
    draws = np.random.default_rng(0).integers(len(means), size=(RESAMPLES, len(means)))
    tail = (1 - expanded(len(means))) / 2
    low, high = np.quantile(means[draws].mean(1), [tail, 1 - tail])
    return float(low), float(high)
