"""Tables: records in, one table a suite and model out, as Markdown, CSV and LaTeX.

`frame` holds every number once, tidy (one row a method and metric), and is what the CSV is. `sheets` lays it out, once,
as the rows, columns, notes and definitions that people read; the writers (Markdown, LaTeX, and the page's HTML) only
spell that layout. Directions come from the records' `higher_is_better`, the paper's numbers from `paper.yaml`. Nothing
here imports torch.
"""

from __future__ import annotations

import functools
import io
import itertools
import math
import re
import statistics
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from benchmark.records import REFERENCES, Measurement, Record
from featvis.errors import UserError
from featvis.images import write_atomic

GROUPS = ("plausibility", "fid", "frechet", "transferability", "logit", "spectrum")
DASH = "—"
_FIRST_METHODS = ("maco", "fourier", "cbr")
_FIRST_METRICS = ("plausibility_flat", "plausibility_pooled", "plausibility_deep_knn", "fid", "kid")
_UNITS = {
    "plausibility": "distance between activations of the target network, no unit",
    "fid": "squared distance between feature distributions, no unit",
    "frechet": "squared distance between feature distributions, no unit",
    "transferability": "% of the images",
    "logit": "pre-softmax score",
    "spectrum": "difference of natural logarithms of magnitude",
}


# --- The numbers -----------------------------------------------------------------------------------------------------


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
        n, best, paper, absent, seconds_per_image, passes_per_image, steps, views, config_hash, units_hash, git_commit.
    """
    rows = [row for group in _by_model(records) for row in _rows(group)]
    columns = [
        "suite", "model", "alias", "method", "preset", "status", "metric", "label", "group", "higher_is_better",
        "value", "low", "high", "n", "best", "paper", "absent", "seconds_per_image", "passes_per_image", "steps",
        "views", "config_hash", "units_hash", "git_commit",
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=columns)
    whole = ["n", "passes_per_image", "steps", "views"]
    real = ["value", "low", "high", "paper", "seconds_per_image"]
    # Int64 is pandas' integer that can be missing: a count of 10 must not become 10.0 because a row failed.
    return table.astype(dict.fromkeys(whole, "Int64") | dict.fromkeys(real, "float64"))


def _by_model(records: Iterable[Record]) -> list[list[Record]]:
    def order(record: Record) -> tuple[Any, ...]:
        return (record.suite, record.alias, record.model, *method_order(record.method))

    return [
        list(g) for _, g in itertools.groupby(sorted(records, key=order), key=lambda r: (r.suite, r.alias, r.model))
    ]


def method_order(method: str) -> tuple[int, int, str]:
    """A sort key: real, then maco, fourier, cbr, the other methods by name, and noise."""
    block = {"real": 0, "noise": 2}.get(method, 1)
    return block, _FIRST_METHODS.index(method) if method in _FIRST_METHODS else len(_FIRST_METHODS), method


def _metrics(records: Sequence[Record]) -> list[Measurement]:
    """One measurement a metric (for its label, group and direction), in the order of the columns."""
    known = [*_FIRST_METRICS, *(entry["metric"] for entry in paper()["comparison"])]
    found: dict[str, Measurement] = {}
    for record in records:
        for m in record.metrics:
            first = found.setdefault(m.name, m)
            if first.higher_is_better != m.higher_is_better:
                raise UserError(f"The records of {record.alias} disagree on which direction of {m.name} is better.")

    def order(m: Measurement) -> tuple[Any, ...]:
        group = GROUPS.index(m.group) if m.group in GROUPS else len(GROUPS)
        return group, m.group, known.index(m.name) if m.name in known else len(known), m.name

    return sorted(found.values(), key=order)


def _rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    rows = []
    metrics: list[Measurement | None] = [*_metrics(records)]
    for metric in metrics or [None]:
        column = {r.method: _measured(r, metric) for r in records}
        best = _best(column, metric) if metric else set()
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
                    "absent": _absent(record, m),
                    "seconds_per_image": record.seconds_per_image,
                    "passes_per_image": record.budget.passes_per_image if record.budget else None,
                    "steps": record.budget.steps if record.budget else None,
                    "views": record.budget.views if record.budget else None,
                    "config_hash": record.config_hash,
                    "units_hash": record.units_hash,
                    "git_commit": record.git_commit,
                }
            )
    position = {record.method: i for i, record in enumerate(records)}
    return sorted(rows, key=lambda row: position[row["method"]])


def _measured(record: Record, metric: Measurement | None) -> Measurement | None:
    return record.metric(metric.name) if metric and record.status == "done" else None


def _absent(record: Record, m: Measurement | None) -> str | None:
    if record.status == "failed":
        return f"failed: {record.error}"
    if m is None:
        return "this metric was not evaluated for this row"
    return m.absent


def _best(column: dict[str, Measurement | None], metric: Measurement) -> set[str]:
    values = {k: m.value for k, m in column.items() if m and m.value is not None and k not in REFERENCES}
    if len(values) < 2:  # one competitor is not the best of anything
        return set()
    top = (max if metric.higher_is_better else min)(values.values())
    return {method for method, value in values.items() if value == top}


# --- The layout ------------------------------------------------------------------------------------------------------


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
        rows: real, the methods, noise.
        warnings: what makes rows incomparable.
        notes: footnotes, the first is number 1.
        orderings: for each column that the paper has too, whether its order of the methods holds.
        definitions: (heading, what it means and its unit).
        runs: what was run.
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

    @property
    def title(self) -> str:
        """The table's heading."""
        return f"{self.alias}, suite {self.suite}"


def arrow(higher_is_better: bool) -> str:
    """The arrow that points to the better direction."""
    return "↑" if higher_is_better else "↓"


def sheets(records: Iterable[Record]) -> list[Sheet]:
    """The tables of the records, laid out: one a (suite, model), in that order."""
    return [_sheet(group) for group in _by_model(records)]


def _sheet(records: list[Record]) -> Sheet:
    data = frame(records)
    columns: list[Column] = []
    cells: dict[str, list[Cell]] = {record.method: [] for record in records}
    notes: list[str] = []
    orderings, definitions = [], []

    def note(text: str) -> int:
        if text not in notes:
            notes.append(text)
        return notes.index(text) + 1

    for metric in _metrics(records):
        part = data[data["metric"] == metric.name]
        percent = metric.group == "transferability"
        head = f"{metric.label} {arrow(metric.higher_is_better)}"
        decimals = _decimals(part, percent)
        columns.append(Column(head, metric.group, metric.name))
        for row in part.to_dict("records"):
            cells[row["method"]].append(_metric_cell(row, decimals, percent, note))
        published = paper_values(records[0].alias, metric.name)
        if published:
            columns.append(Column("paper", metric.group))
            for method, row_cells in cells.items():
                row_cells.append(Cell(_paper_text(published[method], percent) if method in published else ""))
            orderings.append(f"{metric.label}: {_ordering(part, published, metric.higher_is_better)}")
        definitions.append((head, _definition(metric, records)))
    cost: list[tuple[str, Callable[[Record], str], str]] = [
        ("n", lambda r: str(r.n), "images scored"),
        ("s / image", lambda r: _significant(r.seconds_per_image), "wall-clock seconds to make one image"),
        (
            "passes / image",
            lambda r: str(r.budget.passes_per_image) if r.budget else "",
            "forward-backward passes an image",
        ),
        (
            "steps × views",
            lambda r: f"{r.budget.steps} × {r.budget.views}" if r.budget else "",
            "optimisation steps, times the views of the canvas that each step shows the network",
        ),
    ]
    for head, text, meaning in cost:
        columns.append(Column(head, "cost"))
        definitions.append((head, meaning + "; — where nothing was optimised" * (head != "n") + "."))
        for record in records:
            cells[record.method].append(Cell(text(record) or DASH))
    if orderings:
        definitions.append(
            (
                "paper",
                f"{paper()['source']}, {paper()['comparison_where']}; top-1 in percent; empty where it has no number.",
            )
        )
    rows = tuple(
        Row(r.method, tuple(cells[r.method]), r.error if r.status == "failed" else None, r.method in REFERENCES)
        for r in records
    )
    return Sheet(
        records[0].suite,
        records[0].alias,
        records[0].model,
        tuple(columns),
        rows,
        tuple(_warnings(records)),
        tuple(notes),
        tuple(orderings),
        tuple(definitions),
        tuple(_runs(records)),
    )


def _metric_cell(row: dict[Any, Any], decimals: int, percent: bool, note: Callable[[str], int]) -> Cell:
    if math.isnan(row["value"]):
        # A failed row says so once, across its cells.
        return Cell(DASH, note=None if row["status"] == "failed" else note(row["absent"]))
    scale = 100 if percent else 1
    low, high = row["low"], row["high"]
    interval = "" if math.isnan(low) else f"[{low * scale:.{decimals}f}, {high * scale:.{decimals}f}]"
    return Cell(f"{row['value'] * scale:.{decimals}f}" + " %" * percent, interval, bool(row["best"]))


def _decimals(part: pd.DataFrame, percent: bool) -> int:
    """Decimals that a column deserves: two digits of its typical half interval; without any, three of its values."""
    scale = 100 if percent else 1
    halves = [h for h in ((part["high"] - part["low"]) / 2 * scale).dropna() if h > 0]
    values = [abs(v) * scale for v in part["value"].dropna() if v != 0]
    size, digits = (statistics.median(halves), 2) if halves else (statistics.median(values) if values else 1.0, 3)
    magnitude = math.floor(math.log10(size) + 1e-9)  # a half interval of 10 must not become 9.999999
    return min(max(digits - 1 - magnitude, 0), 1 if percent else 6)


def _significant(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}" if value < 10 else f"{value:.1f}"


def _paper_text(value: float, percent: bool) -> str:
    return f"{round(value * 100, 6):g} %" if percent else f"{value:g}"  # as published


def _ordering(part: pd.DataFrame, published: dict[str, float], higher_is_better: bool) -> str:
    """Whether our values order the methods as the paper's do, in words."""
    ours = {row["method"]: row for row in part.to_dict("records") if not math.isnan(row["value"])}
    shared = [method for method in published if method in ours]
    if len(shared) < 2:
        return "the paper's ordering cannot be judged with fewer than two of its methods here."
    sign = -1 if higher_is_better else 1
    expected = sorted(shared, key=lambda m: sign * published[m])
    pairs = list(itertools.pairwise(expected))
    text = ", ".join(expected) + " (best first)"
    if not all(sign * ours[a]["value"] < sign * ours[b]["value"] for a, b in pairs):
        found = sorted(shared, key=lambda m: sign * ours[m]["value"])
        tied = any(ours[a]["value"] == ours[b]["value"] for a, b in pairs)
        return f"the paper's ordering, {text}, does not hold: here {', '.join(found)}{', with a tie' * tied}."
    close = [
        f"{a} and {b}" for a, b in pairs if ours[a]["low"] <= ours[b]["high"] and ours[b]["low"] <= ours[a]["high"]
    ]
    return (
        f"the paper's ordering, {text}, holds" + f"; the intervals of {', of '.join(close)} overlap" * bool(close) + "."
    )


def _definition(metric: Measurement, records: Sequence[Record]) -> str:
    """The definition, its knobs and its unit; every wording with its methods, where the rows do not share one."""
    wordings: dict[str, list[str]] = {}
    for record in records:
        m = record.metric(metric.name)
        if m:
            knobs = "; ".join(
                f"{k}: {v}" for k, v in m.definition.items() if k not in ("text", "unit") and v is not None
            )
            text = m.definition["text"].rstrip(".") + (f" ({knobs})" if knobs else "")
            wordings.setdefault(text, []).append(record.method)
    unit = metric.definition.get("unit") or _UNITS.get(metric.group, "none stated")
    texts = [t if len(wordings) == 1 else f"for {', '.join(methods)}: {t}" for t, methods in wordings.items()]
    better = "higher" if metric.higher_is_better else "lower"
    return f"{'; '.join(texts)}. Unit: {unit}; {better} is better."


def _warnings(records: Sequence[Record]) -> list[str]:
    hashes: dict[str, list[str]] = {}
    for record in records:
        if record.status == "done":
            hashes.setdefault(record.units_hash, []).append(record.method)
    if len(hashes) < 2:
        return []
    parts = "; ".join(f"{', '.join(methods)} on {digest}" for digest, methods in hashes.items())
    return [f"Rows were scored on different units and do not compare: {parts}."]


def _runs(records: Sequence[Record]) -> list[str]:
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
        own += [f"{k} {f(record)}" for k, f in facts.items() if k not in shared and f(record)]
        own += [f"{record.created}"]
        if record.failed_units:
            failed = "; ".join(f"{u.unit} ({_where(u.step)}{u.reason.rstrip('.')})" for u in record.failed_units[:5])
            more = f"; and {len(record.failed_units) - 5} more" if len(record.failed_units) > 5 else ""
            own.append(f"{len(record.failed_units)} of {len(record.units)} units failed: {failed}{more}")
        if record.error:
            own.append(f"failed: {record.error.rstrip('.')}")
        lines.append(f"{record.method}: {'; '.join(own)}.")
    return lines


def _where(step: int | None) -> str:
    return "" if step is None else f"step {step}: "


def _failed_text(row: Row) -> str:
    return "failed: " + textwrap.shorten(row.failed or "", 90, placeholder=" …")  # in full under "What was run"


# --- The writers -----------------------------------------------------------------------------------------------------


def build(records: Iterable[Record], out_dir: Path | str) -> list[Path]:
    """Write `<out_dir>/<suite>/<alias>.md`, `.csv` and `.tex` for every suite and model of the records.

    Args:
        records: any number of cells; rows and columns come in a fixed order whatever theirs is.
        out_dir: where to; made where it is not there.

    Returns:
        The files written.

    Raises:
        UserError: there is no record, or records disagree on a metric's direction.
    """
    groups = _by_model(records)
    if not groups:
        raise UserError("There is no record to make a table of; `featvis run` makes some.")
    written = []
    for group in groups:
        sheet = _sheet(group)
        stem = Path(out_dir) / sheet.suite / sheet.alias
        for suffix, text in ((".md", markdown(sheet)), (".csv", csv(group)), (".tex", latex(sheet))):
            path = stem.with_name(stem.name + suffix)  # an alias may hold a dot
            write_atomic(path, text.encode("utf-8"))
            written.append(path)
    return written


def csv(records: Iterable[Record]) -> str:
    """`frame` as comma-separated text: numbers in full precision, an absent one empty with its reason in `absent`."""
    buffer = io.StringIO()
    frame(records).to_csv(buffer, index=False, lineterminator="\n")
    return buffer.getvalue()


def markdown(sheet: Sheet) -> str:
    """A sheet as a page of GitHub Markdown."""

    def cell(c: Cell) -> str:
        value = f"**{c.text}**" if c.best else c.text
        return value + (f" {c.interval}" if c.interval else "") + (f" <sup>{c.note}</sup>" if c.note else "")

    lines = [
        f"# {_md(sheet.title)}",
        "",
        f"Model `{sheet.model}`. Best method in bold; in brackets the 95 % interval.",
        "",
    ]
    for warning in sheet.warnings:
        lines += [f"> **Warning.** {_md(warning)}", ""]
    body = []
    for row in sheet.rows:
        cells = [cell(c) for c in row.cells]
        if row.failed is not None:
            cells = [_md(_failed_text(row)), *[DASH] * (len(cells) - 1)]
        body.append([_md(row.method), *cells])
    lines += _md_table(["method", *(_md(c.head) for c in sheet.columns)], body)
    lines += ["", *(f"<sup>{i}</sup> {_md(note)}<br>" for i, note in enumerate(sheet.notes, 1))]
    sections = {
        "Against the paper": sheet.orderings,
        "Columns": [f"**{head}**: {text}" for head, text in ((_md(h), _md(t)) for h, t in sheet.definitions)],
        "What was run": sheet.runs,
    }
    for heading, items in sections.items():
        if items:
            escaped = items if heading == "Columns" else [_md(item) for item in items]
            lines += ["", f"## {heading}", "", *(f"- {item}" for item in escaped)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"


def _md_table(head: list[str], body: list[list[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return ["| " + " | ".join(row) + " |" for row in (head, rule, *body)]


def _md(text: str) -> str:
    # An underscore inside a word is a letter to GitHub; escaping those would only make names hard to read and to find.
    return re.sub(r"([\\`*|<>\[\]]|(?<!\w)_|_(?!\w))", r"\\\1", text.replace("\n", " "))


def latex(sheet: Sheet) -> str:
    r"""A sheet as a LaTeX table to `\input`; it needs the packages booktabs and graphicx.

    All columns side by side would fit no page, so they come in panels; one still wider than the line is scaled down.
    """

    def cell(c: Cell) -> str:
        value = rf"\textbf{{{_tex(c.text)}}}" if c.best else _tex(c.text)
        return (
            value
            + (f" {_tex(c.interval)}" if c.interval else "")
            + (rf"\textsuperscript{{{c.note}}}" if c.note else "")
        )

    panels: list[str] = []
    for indices in _panels(sheet):
        head = ["method", *(_tex(sheet.columns[i].head) for i in indices)]
        lines = [rf"\begin{{tabular}}{{l{'r' * len(indices)}}}", r"\toprule", " & ".join(head) + r" \\", r"\midrule"]
        for row in sheet.rows:
            cells = [cell(row.cells[i]) for i in indices]
            if row.failed is not None:
                reason = _tex(_failed_text(row)) if not panels else _tex(DASH)
                cells = [rf"\multicolumn{{{len(indices)}}}{{l}}{{{reason}}}"]
            lines.append(" & ".join([_tex(row.method), *cells]) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}"]
        tabular = "\n".join(lines)
        panels.append(
            rf"\sbox0{{{tabular}}}" + "\n" + r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi"
        )
    under = [rf"\textsuperscript{{{i}}} {_tex(note)}" for i, note in enumerate(sheet.notes, 1)]
    # Run-in paragraphs: as lists these would not fit below the panels on one page.
    meanings = [rf"\emph{{{_tex(head)}}}: {_tex(text)}" for head, text in sheet.definitions]
    paragraphs = {
        "Warning.": [_tex(line) for line in sheet.warnings],
        "Against the paper.": [_tex(line) for line in sheet.orderings],
        "Columns.": meanings,
        "What was run.": [_tex(line) for line in sheet.runs],
    }
    under += [rf"\textbf{{{_tex(name)}}} {' '.join(lines)}" for name, lines in paragraphs.items() if lines]
    caption = f"{sheet.title} ({sheet.model}). Best method in bold; in brackets the 95 % interval."
    return "\n".join(
        [
            r"% Needs \usepackage{booktabs} and \usepackage{graphicx}.",
            r"\begin{table}",
            r"\centering\footnotesize",
            rf"\caption{{{_tex(caption)}}}",
            *(panel + r"\par\medskip" for panel in panels),
            r"\begin{minipage}{\linewidth}\scriptsize\raggedright",
            *(line + r"\par" for line in under),
            r"\end{minipage}",
            r"\end{table}",
            "",
        ]
    )


def _panels(sheet: Sheet, width: int = 110) -> list[list[int]]:
    """The columns' positions, cut into panels of at most so many characters; a metric keeps its paper column."""
    blocks: list[list[int]] = []
    for i, column in enumerate(sheet.columns):
        together = column.metric is None and blocks and column.group == sheet.columns[blocks[-1][-1]].group
        blocks[-1].append(i) if together else blocks.append([i])

    def room(i: int) -> int:
        cells = [len(row.cells[i].text) + len(row.cells[i].interval) for row in sheet.rows]
        return max(len(sheet.columns[i].head), *cells) + 3

    panels: list[list[int]] = []
    used = width
    for block in blocks:
        need = sum(map(room, block))
        if used + need > width:
            panels, used = [*panels, []], max(len(row.method) for row in sheet.rows)
        panels[-1] += block
        used += need
    return panels


_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$", "—": "---", "–": "--",
    "…": r"\dots{}", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "×": r"$\times$", "·": r"$\cdot$", "±": r"$\pm$",
    "−": "$-$", "≤": r"$\leq$", "≥": r"$\geq$", "²": "$^2$", "√": r"$\surd$", "‖": r"$\|$", "α": r"$\alpha$",
    "β": r"$\beta$", "ε": r"$\epsilon$", "λ": r"$\lambda$", "μ": r"$\mu$", "π": r"$\pi$", "σ": r"$\sigma$",
    "’": "'", "“": "``", "”": "''",
}  # fmt: skip


def _tex(text: str) -> str:
    """Text that LaTeX prints as it stands; a letter that its fonts lack loses its accent or becomes a question mark."""

    def spell(c: str) -> str:
        if c in _TEX:
            return _TEX[c]
        if c.isspace():
            return " "
        # Accented Latin-1 letters are in the default fonts.
        return (
            c
            if c.isascii() or ("À" <= c <= "ÿ" and c.isalpha())
            else unicodedata.normalize("NFKD", c).encode("ascii", "ignore").decode() or "?"
        )

    return "".join(map(spell, text))


# --- The short forms -------------------------------------------------------------------------------------------------


def readme_block(records: Iterable[Record]) -> str:
    """The compact table for a README: a row a metric, a column a method, values only, the best method in bold."""
    blocks = []
    for sheet in sheets(records):
        head, body = _turned(sheet, lambda c: f"**{c.text}**" if c.best else c.text)
        blocks.append("\n".join([f"**{_md(sheet.title)}**", "", *_md_table([_md(h) for h in head], body)]))
    return "\n\n".join(blocks) + "\n"


def text_block(records: Iterable[Record]) -> str:
    """The same for a terminal: aligned, the best method starred, the failed cells, warnings and reasons below."""
    blocks = []
    for sheet in sheets(records):
        starred = any(c.best for row in sheet.rows for c in row.cells)
        head, body = _turned(sheet, lambda c: c.text + f" ({c.note})" * bool(c.note) + ("*" if c.best else " "), str)
        widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
        lines = [sheet.title, ""]
        for row in (head, ["-" * w for w in widths], *body):
            first, *rest = (
                cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
            lines.append("  ".join([first, *rest]).rstrip())
        lines += ["", *(f"({i}) {note}" for i, note in enumerate(sheet.notes, 1))]
        lines += [f"{row.method} failed: {row.failed}" for row in sheet.rows if row.failed is not None]
        lines += [f"warning: {warning}" for warning in sheet.warnings] + list(sheet.orderings)
        lines += ["* best method"] * starred
        blocks.append("\n".join(lines).rstrip())
    return "\n\n".join(blocks) + "\n"


def _turned(
    sheet: Sheet, spell: Callable[[Cell], str], escape: Callable[[str], str] | None = None
) -> tuple[list[str], list[list[str]]]:
    """Metrics down and methods across: labels are long and methods few, so this fits a README and a terminal."""
    body = []
    for i, column in enumerate(sheet.columns):
        if column.metric or column.head == "s / image":
            values = ["failed" if row.failed is not None else spell(row.cells[i]) for row in sheet.rows]
            body.append([(escape or _md)(column.head), *values])
    return ["", *(row.method for row in sheet.rows)], body
