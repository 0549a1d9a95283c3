"""The scores of one suite on one model as arrays: records in; columns that can be compared, and why others cannot, out.

Every score is signed so that higher is better, and NaN where there is none.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.records.record import REFERENCES, Measurement, Record
from benchmark.records.seen import is_control
from benchmark.report.agreement.ranks import FEWEST, Array
from benchmark.report.tables.layers import layer_of
from benchmark.report.tables.numbers import metrics_of

TARGETS = ("logit", "excess_activation")
"""Columns that say how strongly the target itself answers; others may only repeat the first that a table has."""


@dataclass(frozen=True)
class Scores:
    """What a table says, without its layout.

    Attributes:
        records: its rows that are done, in their order.
        columns: a measurement each, for its name, label and direction: those that `FEWEST` methods have a value of.
        methods: names of the rows that compete.
        references: names of the others: real, noise and so on.
        rows: (columns, methods and then references), the rows' values.
        units: those of any method; several images of one (`301@0`, `301@1`) are one unit.
        values: (columns, methods, units), the units' values where a record has them, seeds averaged within a unit.
        left_out: (label, why) of the columns that too few methods have.
    """

    records: tuple[Record, ...]
    columns: tuple[Measurement, ...]
    methods: tuple[str, ...]
    references: tuple[str, ...]
    rows: Array
    units: tuple[str, ...]
    values: Array
    left_out: tuple[tuple[str, str], ...]

    def measured(self, row: str, column: Measurement) -> Measurement | None:
        """A row's measurement of a column, if it has a value."""
        found = next((r.metric(column.name) for r in self.records if r.method == row), None)
        return found if found is not None and found.value is not None else None

    def signed(self, row: str, column: Measurement) -> float:
        """A row's value of a column, higher is better; NaN where it has none."""
        found = self.measured(row, column)
        return np.nan if found is None or found.value is None else sign(column) * found.value

    @property
    def target(self) -> Measurement | None:
        """The column of the target's own answer, where there is one."""
        by_name = {c.name: c for c in self.columns}
        return next((by_name[name] for name in TARGETS if name in by_name), None)

    @property
    def layers(self) -> list[NDArray[np.int64]]:
        """The places of the units of each layer; all classes are of one."""
        found: dict[str, list[int]] = {}
        for place, unit in enumerate(self.units):
            found.setdefault(layer_of(unit), []).append(place)
        return [np.array(places) for places in found.values()]


def sign(column: Measurement) -> int:
    """1 where higher is better, else -1."""
    return 1 if column.higher_is_better else -1


def scores_of(group: Sequence[Record]) -> Scores:
    """The scores of the records of one suite and model; controls, which are no methods, are left out."""
    done = [r for r in group if r.status == "done" and not is_control(r)]
    methods = [r for r in done if r.method not in REFERENCES]
    references = [r for r in done if r.method in REFERENCES]
    units = tuple(sorted({_unit(u) for r in methods for u in r.units}))
    columns, left_out = [], []
    for column in metrics_of(done):
        found = [r.metric(column.name) for r in methods]
        count = sum(m is not None and m.value is not None for m in found)
        if count >= FEWEST:
            columns.append(column)
        else:
            reasons = [m.absent for m in found if m is not None and m.absent is not None]
            why = f"{count or 'none'} of the {len(methods)} methods {'has' if count < 2 else 'have'} a value"
            left_out.append((column.label, why + (f" ({reasons[0]})" if reasons else "")))
    rows = [[_value(r.metric(c.name), c) for r in (*methods, *references)] for c in columns]
    values = [[_values(r, c, units) for r in methods] for c in columns]
    return Scores(
        tuple(done),
        tuple(columns),
        tuple(r.method for r in methods),
        tuple(r.method for r in references),
        np.array(rows, dtype=np.float64).reshape(len(columns), len(done)),
        units,
        np.array(values, dtype=np.float64).reshape(len(columns), len(methods), len(units)),
        tuple(left_out),
    )


def _value(found: Measurement | None, column: Measurement) -> float:
    return np.nan if found is None or found.value is None else sign(column) * found.value


@functools.cache
def _unit(image: str) -> str:
    """The unit that an image is of, whatever its seed."""
    return re.sub(r"@\d+$", "", image)


def _values(record: Record, column: Measurement, units: Sequence[str]) -> list[float]:
    found = record.metric(column.name)
    if found is None or found.values is None:
        return [np.nan] * len(units)
    there: dict[str, list[float]] = {}
    for image, value in zip(record.units, found.values, strict=True):
        if value is not None:
            there.setdefault(_unit(image), []).append(sign(column) * value)
    return [math.fsum(there[unit]) / len(there[unit]) if unit in there else np.nan for unit in units]
