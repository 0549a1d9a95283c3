"""What every layout is made of: the sheet with its rows and cells, and the texts that stand above and below it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmark.records import columns
from benchmark.records.record import BLENDED, OPAQUE, Measurement, Record, listed, shown

DASH = "—"
SEES = "sees"
"""The heading of what the methods of a row may see besides the network."""

LEGEND = "Best method in bold; in brackets the 95 % interval."
LEGEND_BY_GROUP = "In bold the best of the methods that see the same; in brackets the 95 % interval."


@dataclass(frozen=True)
class Column:
    """A column: its heading with the arrow, which columns it stands with, and whether it holds a metric."""

    head: str
    group: str
    metric: str | None = None


@dataclass(frozen=True)
class Cell:
    """A rendered number: its text, its interval's text, whether it is its column's best, its footnote (1, 2, …)."""

    text: str
    interval: str = ""
    best: bool = False
    note: int | None = None


@dataclass(frozen=True)
class Row:
    """A method's row. `failed` is the reason of a failed cell, whose cells are then all empty."""

    method: str
    cells: tuple[Cell, ...]
    failed: str | None
    reference: bool


@dataclass(frozen=True)
class Sheet:
    """One table as people read it, before any format: everything that stands on the page, in order.

    Attributes:
        suite: the suite's name.
        alias: the model's configuration name.
        model: the full timm tag.
        columns: headings; every row has as many cells.
        rows: what real images get, the methods, and the floors.
        warnings: what makes rows incomparable.
        notes: footnotes, the first is number 1.
        orderings: for each column that the paper has too, whether its order of the methods holds.
        definitions: (heading, what it means and its unit).
        runs: what was run.
        caption: the heading of a table that is not simply a model of a suite.
        legend: how to read a cell.
        corner: what the rows are.
        remarks: sentences that stand right under the table.
    """

    suite: str
    alias: str
    model: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    orderings: tuple[str, ...]
    definitions: tuple[tuple[str, str], ...]
    runs: tuple[str, ...]
    caption: str = ""
    legend: str = LEGEND
    corner: str = "method"
    remarks: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The table's heading."""
        return self.caption or f"{self.alias}, suite {self.suite}"


class Footnotes:
    """The reasons that stand under a table, each once, numbered from 1."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, text: str) -> int:
        """The reason's number."""
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1


def arrow(higher_is_better: bool) -> str:
    """The arrow that points to the better direction."""
    return "↑" if higher_is_better else "↓"


def metric_cell(row: dict[Any, Any], decimals: int, percent: bool, note: Callable[[str], int] | None) -> Cell:
    """A row of `frame` as a cell; `note` gives an absent value's reason its number (None: the row gives the reason)."""
    if math.isnan(row["value"]):
        return Cell(DASH, note=note(row["absent"]) if note else None)
    scale = 100 if percent else 1
    low, high = row["low"], row["high"]
    interval = "" if math.isnan(low) else f"[{low * scale:.{decimals}f}, {high * scale:.{decimals}f}]"
    return Cell(f"{row['value'] * scale:.{decimals}f}" + " %" * percent, interval, bool(row["best"]))


def decimals_of(part: pd.DataFrame, percent: bool) -> int:
    """Decimals that a column deserves: two digits of its typical half interval; without any, three of its values."""
    scale = 100 if percent else 1
    halves = [h for h in ((part["high"] - part["low"]) / 2 * scale).dropna() if h > 0]
    values = [abs(v) * scale for v in part["value"].dropna() if v != 0]
    size, digits = (statistics.median(halves), 2) if halves else (statistics.median(values) if values else 1.0, 3)
    magnitude = math.floor(math.log10(size) + 1e-9)  # a half interval of 10 must not become 9.999999
    return min(max(digits - 1 - magnitude, 0), 1 if percent else 6)


def significant(value: float | None) -> str:
    """A positive number with two or three digits; empty for None."""
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}" if value < 10 else f"{value:.1f}"


def paper_text(value: float, percent: bool) -> str:
    """A published number as it was published."""
    return f"{round(value * 100, 6):g} %" if percent else f"{value:g}"


def definition_of(metric: Measurement, records: Sequence[Record]) -> str:
    """The definition, its knobs and its unit; every wording with its methods, where the rows do not share one."""
    wordings: dict[str, list[str]] = {}
    for record in records:
        m = record.metric(metric.name)
        if m:
            knobs = "; ".join(
                f"{k}: {v}" for k, v in m.definition.items() if k not in ("text", "unit") and v is not None
            )
            # Records of before say of what was blended that it was not.
            said = m.definition["text"].replace(OPAQUE, BLENDED) if record.blended else m.definition["text"]
            text = said.rstrip(".") + (f" ({knobs})" if knobs else "")
            wordings.setdefault(text, []).append(record.method)
    column = columns.column_of(metric.name)
    unit = metric.definition.get("unit") or (column.unit if column is not None else "none stated")
    texts = [t if len(wordings) == 1 else f"for {listed(methods)}: {t}" for t, methods in wordings.items()]
    better = "higher" if metric.higher_is_better else "lower"
    return f"{'; '.join(texts) or 'not evaluated here'}. Unit: {unit}; {better} is better."


def warnings_of(records: Sequence[Record]) -> list[str]:
    """What makes the rows of one table incomparable."""
    hashes: dict[str, list[str]] = {}
    passes: dict[int, list[str]] = {}
    for record in records:
        if record.status == "done":
            hashes.setdefault(record.units_hash, []).append(record.method)
            # A row without a pass has optimised nothing, and its budget is no other's.
            if record.budget and record.budget.passes_per_image:
                passes.setdefault(record.budget.passes_per_image, []).append(record.method)
    warnings = []
    if len(hashes) > 1:
        parts = "; ".join(f"{listed(methods)} on {digest}" for digest, methods in hashes.items())
        warnings.append(f"Rows were scored on different units and do not compare: {parts}.")
    if len(passes) > 1:
        parts = "; ".join(f"{listed(methods)} {number}" for number, methods in passes.items())
        warnings.append(
            "Methods had different numbers of forward-backward passes an image, so a difference may be the budget's: "
            f"{parts}."
        )
    for role, images in (
        ("bank", "photographs"),
        ("frechet", "photographs in distances"),
        ("spectrum", "photographs' spectra"),
    ):
        if len(found := _by_fact(records, "data", role, "fingerprint")) > 1:
            warnings.append(f"Rows were compared with other {images} and do not compare: {_told(found)}.")
    for network in sorted({n for r in records for n in r.config.get("evaluation", {}).get("weights", {})}):
        if len(found := _by_fact(records, "weights", network)) > 1:
            warnings.append(f"Rows were scored by other weights of {network} and do not compare: {_told(found)}.")
    return warnings


def _by_fact(records: Sequence[Record], *keys: str) -> dict[str, list[str]]:
    """The finished rows by a fact of their evaluation; those that do not have it, as older ones, are left out."""
    found: dict[str, list[str]] = {}
    for record in records:
        value: Any = record.config.get("evaluation")
        for key in keys:
            value = (value or {}).get(key)
        if record.status == "done" and value is not None:
            found.setdefault(value, []).append(record.method)
    return found


def _told(found: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{listed(methods)} {value}" for value, methods in found.items())


def runs_of(records: Sequence[Record]) -> list[str]:
    """What was run: the facts that all rows share once, then what is each row's own."""
    facts: dict[str, Callable[[Record], str]] = {
        "model": lambda r: r.model,
        "units": lambda r: f"{len(r.units)} (set {r.units_hash})",
        "device": lambda r: r.device,
        "commit": lambda r: r.git_commit or "unknown",
        "versions": lambda r: ", ".join(f"{k} {v}" for k, v in sorted(r.versions.items())) or "unknown",
        "canvas": lambda r: " × ".join(map(str, r.budget.canvas)) if r.budget else "",
    }
    # A row without a fact (real has no canvas) does not keep the others from sharing theirs.
    seen = {k: sorted({f(r) for r in records} - {""}) for k, f in facts.items()}
    shared = {k: values[0] for k, values in seen.items() if len(values) == 1}
    lines = [f"All rows: {'; '.join(f'{k} {v}' for k, v in shared.items())}."]
    for record in records:
        own = [f"preset {record.preset}"] if record.preset else []
        own += [f"configuration {record.config_hash}"] if record.config_hash else []
        own += [f"scored {BLENDED}"] if record.blended else []
        own += [f"{k} {f(record)}" for k, f in facts.items() if k not in shared and f(record)]
        own += [f"{record.created}"]
        if record.failed_units:
            failed = "; ".join(f"{u.unit} ({_where(u.step)}{u.reason.rstrip('.')})" for u in record.failed_units[:5])
            more = f"; and {len(record.failed_units) - 5} more" if len(record.failed_units) > 5 else ""
            own.append(f"{len(record.failed_units)} of {len(record.units)} units failed: {failed}{more}")
        if record.silent_units:
            names = ", ".join(record.silent_units[:5])
            more = f" and {len(record.silent_units) - 5} more" if len(record.silent_units) > 5 else ""
            own.append(f"{len(record.silent_units)} of {len(record.units)} units silent (no gradient): {names}{more}")
        if record.error:
            own.append(f"failed: {record.error.rstrip('.')}")
        lines.append(f"{shown(record.method)}: {'; '.join(own)}.")
    return lines


def _where(step: int | None) -> str:
    return "" if step is None else f"step {step}: "
