"""The figure of an agreement: which columns have the methods in the same order, which bracket, and the mean rank."""

from __future__ import annotations

import functools
import math
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmark.report.agreement.agree import Agreement
from benchmark.report.agreement.layout import heading, numbers
from benchmark.report.agreement.ranks import Array
from benchmark.report.drawing import drawn, figure_of, named, tidy
from benchmark.report.figures import colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, LINE = "#222222", "#5A5A5A", "#E4E4E4"
CELL = 0.36  # inches
MARKS = {True: "●", False: "○", None: "–"}


def draw(found: Sequence[Agreement | str], path: Path) -> list[Path]:
    """A figure a suite and model (its layers have none), PNG, PDF or SVG as the path's ending says.

    Args:
        found: agreements; a sentence stands for a table that has none, and keeps its place in the names.
        path: the figure; with several tables the suite's and the model's name are put before the ending.

    Returns:
        The files written.
    """
    whole, written = [a for a in found if isinstance(a, str) or not a.layer], []
    for agreement in whole:
        if isinstance(agreement, str):
            continue
        file = named(path, "-".join(agreement.place[:2]), len(whole))
        shown = f"agreement {len(agreement.scores.units)} {numbers(agreement).to_csv()}"
        written.append(drawn(file, shown, functools.partial(_figure, agreement)))
    return written


def _figure(agreement: Agreement) -> Figure:
    columns, rank = agreement.scores.columns, agreement.mean_rank
    count, methods = len(columns), 0 if rank is None else len(rank.methods)
    side, left, gap, ranks = CELL * count, 3.6, 0.55, 3.0
    top, bottom = 0.95, 0.65
    kept = np.flatnonzero(~np.isnan(agreement.over_units).all(axis=0))
    within = agreement.over_units[np.ix_(kept, kept)]
    width = left + side + agreement.has_units * (gap + CELL * len(kept)) + (methods > 0) * (1.6 + ranks) + 0.2
    width, height = max(width, 6.6), top + max(side, 0.26 * methods + 0.5) + bottom
    figure = figure_of(width, height)

    def axes(x: float, w: float, h: float) -> Axes:
        return figure.add_axes((x / width, 1 - (top + h) / height, w / width, h / height))

    axis = axes(left, side, side)
    _map(axis, agreement.over_methods, agreement.over_rows, f"over {len(agreement.scores.methods)} methods")
    _margin(axis, agreement)
    if agreement.has_units:
        axis = axes(left + side + gap, CELL * len(kept), CELL * len(kept))
        _map(axis, within, within, f"within a method, over {len(agreement.scores.units)} units", kept)
        axis.set_yticks(range(len(kept)), [str(i + 1) for i in kept])
    if methods:
        _ranks(axes(width - ranks - 0.2, ranks, 0.26 * methods + 0.15), agreement)
    title = f"{agreement.name}: do the columns agree?"
    figure.text(0.1 / width, 1 - 0.06 / height, title, fontsize=10, fontweight="bold", va="top")
    note = (
        "Spearman's rank correlation, each column turned so that higher is better; over the rows below the diagonal "
        "without, above it with the reference rows. "
        "● real images are better and noise is worse than every method, ○ they are not, – a row is missing. "
        "= the methods stand as by the target's own answer, ≠ in the opposite order."
    )
    lines = textwrap.wrap(note, int(width * 17))
    figure.text(0.1 / width, 0.06 / height, "\n".join(lines), fontsize=7, color=SOFT, va="bottom")
    return figure


def _margin(axis: Axes, agreement: Agreement) -> None:
    """The columns' headings left of the map, what is thought of each, and its number."""
    heads = {"brackets": -2.4, "the target's": -1.6}
    for name, x in heads.items():
        axis.text(x, -0.7, name, rotation=90, ha="center", va="bottom", fontsize=7, color=SOFT)
    for y, v in enumerate(agreement.verdicts):
        label = "\n".join(textwrap.wrap(heading(v.column), 36))
        axis.text(-2.9, y, label, ha="right", va="center", fontsize=8, color=INK)
        axis.text(heads["brackets"], y, MARKS[v.brackets], ha="center", va="center", fontsize=9, color=INK)
        order = ("=" if v.target > 0 else "≠") if v.monotone else ""
        axis.text(heads["the target's"], y, order, ha="center", va="center", fontsize=9, color=INK)
        axis.text(-0.7, y, str(y + 1), ha="right", va="center", fontsize=7.5, color=INK)
    axis.set_yticks([])


def _map(axis: Axes, lower: Array, upper: Array, title: str, columns: Iterable[int] | None = None) -> None:
    count = len(lower)
    shown = np.where(np.tri(count, k=-1, dtype=bool), lower, upper)
    np.fill_diagonal(shown, np.nan)
    # Red and blue of one lightness each way, white between: told apart by every common colour blindness.
    axis.imshow(np.ma.masked_invalid(shown), cmap="RdBu", vmin=-1.15, vmax=1.15, interpolation="nearest")
    for a, b in np.ndindex(*shown.shape):
        if a != b:
            value = shown[a, b]
            text = "–" if math.isnan(value) else f"{value + 0.0:.1f}".replace("-0.0", "0.0").replace("0.", ".")
            pale = math.isnan(value) or abs(value) < 0.75
            axis.text(b, a, text, ha="center", va="center", fontsize=6.5, color=INK if pale else "white")
    axis.set_xticks(range(count), [str(i + 1) for i in (range(count) if columns is None else columns)])
    axis.xaxis.tick_top()
    axis.set_title(title, fontsize=9, pad=16)
    axis.tick_params(length=0, labelsize=7.5)
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axis.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axis.grid(which="minor", color="white", lw=1)
    axis.tick_params(which="minor", length=0)


def _ranks(axis: Axes, agreement: Agreement) -> None:
    from matplotlib.ticker import MaxNLocator

    rank = agreement.mean_rank
    assert rank is not None
    palette = colours(rank.methods)
    for y, (method, mean, ends) in enumerate(zip(rank.methods, rank.means, rank.intervals, strict=True)):
        if ends is not None:
            axis.plot(ends, [y, y], color=palette[method], lw=2, solid_capstyle="round")
        axis.plot(mean, y, "o", ms=6, color=palette[method])
    axis.set_yticks(range(len(rank.methods)), rank.methods)
    axis.set_ylim(len(rank.methods) - 0.5, -0.5)
    axis.set_xlim(0.7, len(rank.methods) + 0.3)
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axis.grid(axis="x", color=LINE, lw=0.6)
    tidy(axis)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    many = f"mean rank over the {len(rank.columns)} that bracket"
    axis.set_title(many if len(rank.columns) > 1 else "rank in the one that brackets", fontsize=9)
