"""Figures: records and their images in, PNG, PDF or SVG files out (the path's ending decides).

`grid` shows the images, `scores` the metrics with their intervals; `benchmark.report.spectra` draws the mean magnitude
spectra (Fel et al. 2023, Figure 2). Nothing here imports torch.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmark.records.columns import percent_groups
from benchmark.records.record import REFERENCES, Record, shown
from benchmark.records.seen import is_control
from benchmark.report.drawing import drawn, figure_of, named, save, tidy
from benchmark.report.tables import arrow, frame
from benchmark.report.tables.numbers import by_model
from featvis.storage.images import over_grey

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]


# Okabe and Ito's palette, which the common colour blindnesses keep apart.
_FIXED = {
    "maco": "#0072B2",
    "fourier": "#D55E00",
    "cbr": "#009E73",
    "real": "#222222",
    "natural": "#222222",
    "real_other": "#5A5A5A",
    "noise": "#8A8A8A",
}
_SPARE = ("#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1", "#A6761D", "#7A9A01", "#B2182B", "#35978F")


def colours(methods: Iterable[str]) -> dict[str, str]:
    """A colour (`#rrggbb`) a method: fixed for the paper's methods, drawn by name for others: all figures agree."""
    chosen: dict[str, str] = {}
    for method in sorted(set(methods)):
        if method in _FIXED:
            chosen[method] = _FIXED[method]
            continue
        start = int(hashlib.sha256(method.encode()).hexdigest(), 16)
        wheel = [_SPARE[(start + i) % len(_SPARE)] for i in range(len(_SPARE))]
        # The next free one where two names draw the same, and repetition only when all are taken.
        chosen[method] = next((c for c in wheel if c not in chosen.values()), wheel[0])
    return chosen


# --- The images ------------------------------------------------------------------------------------------------------


def grid(records: Iterable[Record], out_dir: Path | str, path: Path | str, max_units: int = 8) -> list[Path]:
    """The images side by side: methods down, units across, each at its own aspect ratio, without transparency.

    But over grey by it in rows that were scored so.

    Args:
        records: of any number of models; those without images are left out.
        out_dir: the run's folder, which `Record.images` is relative to.
        path: the figure; with several models the model's name is put before the ending.
        max_units: at most so many columns, the first ones.

    Returns:
        The files written; none where no record has images.
    """
    written = []
    groups = [(name, [r for r in group if r.images and r.status == "done"]) for name, group in named_groups(records)]
    groups = [(name, group) for name, group in groups if group]
    for name, group in groups:
        labels = {unit: label for record in group for unit, label in zip(record.units, record.labels, strict=True)}
        units = list(labels)[:max_units]
        pictures = {
            (record.method, unit): rgb(Path(out_dir) / str(record.images) / f"{unit}.png", record.blended)
            for record in group
            for unit in units
        }
        # A cell has the shape of the widest and of the tallest picture; each keeps its own proportions inside.
        ratios = [p.shape[0] / p.shape[1] for p in pictures.values() if p is not None] or [1.0]
        names = [_short(record.method, 28) for record in group]
        side, left, top = 1.35, 0.2 + 0.08 * max(map(len, names)), 0.28
        width, height = left + side * len(units), top + side * max(ratios) * len(group)
        figure = figure_of(width, height)
        axes = figure.subplots(
            len(group),
            len(units),
            squeeze=False,
            gridspec_kw={
                "left": left / width,
                "right": 0.995,
                "top": 1 - top / height,
                "bottom": 0.005,
                "wspace": 0.04,
                "hspace": 0.04,
            },
        )
        for (row, record), (column, unit) in itertools.product(enumerate(group), enumerate(units)):
            axis = axes[row, column]
            axis.set_axis_off()
            picture = pictures[record.method, unit]
            if picture is None:
                axis.text(0.5, 0.5, "no image", ha="center", va="center", color="#767676", transform=axis.transAxes)
            else:
                axis.imshow(picture, aspect="equal", interpolation="antialiased")
            if row == 0:
                axis.set_title(_short(labels[unit] or unit, 18), fontsize=9)
            if column == 0:
                axis.text(
                    -0.06,
                    0.5,
                    names[row],
                    ha="right",
                    va="center",
                    fontsize=9,
                    transform=axis.transAxes,
                )
        written.append(save(figure, named(path, name, len(groups)), "visualizations"))
    return written


def rgb(path: Path, blended: bool = False) -> NDArray[np.uint8] | None:
    """RGB of an image file (H, W, 3), uint8: alpha ignored, or over a middle grey by it; None where there is none."""
    if not path.is_file():
        return None
    if blended:
        return np.asarray(over_grey(path))
    with Image.open(path) as image:
        # Not convert("RGBA") and paste: the colours under transparent pixels are the canvas and must show.
        return np.asarray(image.convert("RGB"))


TALLEST = 12.4
"""Inches of a figure of scores: about 2500 pixels."""

# --- The scores ------------------------------------------------------------------------------------------------------


def scores(records: Iterable[Record], path: Path | str) -> list[Path]:
    """Small multiples: a panel a metric, a dot and its 95 % interval a method; an absent value says that it is absent.

    Controls (`benchmark.suites.controls`) are in a figure of their own, `-controls`, with the same references.

    Args:
        records: of any number of models, one figure each.
        path: the figure; with several models the model's name is put before the ending.

    Returns:
        The files written; none where no record has a metric.
    """
    groups = [(name, group) for name, group in named_groups(records) if any(r.metrics for r in group)]
    written = []
    for name, group in groups:
        whole, title = frame(group), f"{group[0].alias}, suite {group[0].suite}"
        controls = {r.method for r in group if is_control(r)}
        place = named(path, name, len(groups))
        parts = [(place, title, whole[~whole["method"].isin(controls)])]
        if controls:
            kept = whole[whole["method"].isin({*controls, *REFERENCES})]
            parts.append((place.with_stem(f"{place.stem}-controls"), f"{title}: controls", kept))
        for file, heading, part in parts:
            data = _with_values(part)
            written.append(drawn(file, f"scores {data.to_csv()}", functools.partial(_scores, data, heading)))
    return written


def _with_values(data: Any) -> Any:
    """Without the panels of many that would say nothing but that all rows are absent; all of them where all would."""
    named = data[data["metric"].notna()]
    known = set(named[named["value"].notna()]["metric"])
    return named[named["metric"].isin(known)] if known else named


@dataclass(frozen=True)
class _Layout:
    """How many panels stand where, and their measures in inches; `wrap` is how many letters a heading's line has."""

    columns: int
    lines: int
    panel: float = 2.35
    pitch: float = 0.24
    head: float = 0.78
    font: float = 9
    wrap: int = 34

    @classmethod
    def of(cls, metrics: int, rows: int) -> _Layout:
        """Wide panels, three to five in a line; where that is too tall, as many narrow ones as make it fit."""
        columns = min(metrics, min((4, 5, 3), key=lambda c: -metrics % c))  # the fewest empty places
        usual = cls(columns, math.ceil(metrics / columns))
        if usual.height(rows) <= TALLEST:
            return usual
        dense = cls(0, 0, panel=1.55, pitch=0.19, head=0.95, font=7.5, wrap=25)
        lines = max(1, int((TALLEST - dense.height(rows)) / (dense.pitch * rows + dense.head)))
        return replace(dense, columns=math.ceil(metrics / lines), lines=lines)

    def height(self, rows: int) -> float:
        """Of the whole figure."""
        return (self.pitch * rows + self.head) * self.lines + 0.35


def _scores(data: Any, title: str) -> Figure:
    metrics = list(dict.fromkeys(data["metric"]))
    methods = list(dict.fromkeys(data["method"]))
    palette = colours(methods)
    layout = _Layout.of(len(metrics), len(methods))
    height = layout.height(len(methods))
    figure = figure_of(layout.panel * layout.columns + 0.9, height)
    axes = figure.subplots(layout.lines, layout.columns, sharey=True, squeeze=False)
    for axis in axes.flat[len(metrics) :]:
        axis.set_axis_off()
    for axis, metric in zip(axes.flat, metrics, strict=False):
        _panel(axis, data[data["metric"] == metric].to_dict("records"), palette, layout)
        axis.set_yticks(range(len(methods)), [_short(shown(method), 25) for method in methods])
        axis.set_ylim(len(methods) - 0.5, -0.5)
    note = "Dot and 95 % interval; hollow: references, not methods. The arrow points to the better direction."
    figure.text(0.01, 1 - 0.05 / height, title, fontsize=10, fontweight="bold", va="top")
    figure.text(0.01, 0.03 / height, note, fontsize=7.5, color="#5A5A5A", va="bottom")
    figure.tight_layout(rect=(0, 0.2 / height, 1, 1 - 0.24 / height), w_pad=1.6 * layout.panel / 2.35, h_pad=1.2)
    return figure


def _panel(axis: Axes, part: list[dict[Any, Any]], palette: dict[str, str], layout: _Layout) -> None:
    """A metric: a dot and its interval a row."""
    from matplotlib.ticker import MaxNLocator

    scale = 100 if part[0]["group"] in percent_groups() else 1
    for y, row in enumerate(part):
        colour = palette[row["method"]]
        if math.isnan(row["value"]):
            text = "failed" if row["status"] == "failed" else "absent"
            place: dict[str, Any] = {"transform": axis.get_yaxis_transform(), "ha": "center", "va": "center"}
            axis.text(0.5, y, text, color="#767676", fontsize=8, **place)
            continue
        if not math.isnan(row["low"]):
            axis.plot([row["low"] * scale, row["high"] * scale], [y, y], color=colour, lw=2, solid_capstyle="round")
        hollow = row["method"] in REFERENCES
        axis.plot(row["value"] * scale, y, "o", ms=6, color=colour, mfc="white" if hollow else colour, mew=1.5)
    unit = " (%)" if scale == 100 else ""
    heading = f"{part[0]['label']}{unit}\u00a0{arrow(part[0]['higher_is_better'])}"
    # A space at which no line ends: an arrow does not stand alone.
    axis.set_title("\n".join(textwrap.wrap(heading, layout.wrap)).replace("\u00a0", " "), fontsize=layout.font)
    axis.margins(x=0.12)
    axis.xaxis.set_major_locator(MaxNLocator(4))
    axis.grid(axis="x", color="#E4E4E4", lw=0.6)
    tidy(axis)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    if all(math.isnan(row["value"]) for row in part):
        axis.set_xticks([])


# --- Shared ----------------------------------------------------------------------------------------------------------


def named_groups(records: Iterable[Record]) -> list[tuple[str, list[Record]]]:
    """(name of the suite and model, its records in the order of the tables)."""
    return [(f"{group[0].suite}-{group[0].alias}", group) for group in by_model(records)]


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
