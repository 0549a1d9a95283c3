"""The figure of path curves: how far along the way of photographs each row's pictures go, layer by layer."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.records.record import REFERENCES
from benchmark.report.drawing import drawn, figure_of, tidy
from benchmark.report.figures import colours

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def curves(data: Any, path: Path, title: str) -> Path:
    """Draw path curves.

    Args:
        data: a frame with a row a point: `method`, `layer`, `value`, `low`, `high`; layers in the network's order.
        path: the figure, PNG, PDF or SVG as its ending says.
        title: above it.

    Returns:
        The file.
    """
    return drawn(path, f"path {title} {data.to_csv()}", functools.partial(_figure, data, title))


def _figure(data: Any, title: str) -> Figure:
    layers, methods = list(dict.fromkeys(data["layer"])), list(dict.fromkeys(data["method"]))
    palette = colours(methods)
    width, height = max(6.4, 0.62 * len(layers) + 2.4), 4.2
    figure = figure_of(width, height)
    axis = figure.add_axes((0.85 / width, 1.3 / height, 1 - 2.3 / width, 1 - 1.8 / height))
    for level, text in ((1, "photographs of the class"), (0, "photographs of other classes")):
        axis.axhline(level, color="#222222", lw=1, ls=(0, (4, 2)), zorder=1)
        axis.text(-0.4, level + 0.02, text, fontsize=7, color="#5A5A5A", va="bottom")
    for method in methods:
        part = data[data["method"] == method].set_index("layer").reindex(layers).reset_index()
        hollow = method in REFERENCES
        axis.fill_between(part.index, part["low"], part["high"], color=palette[method], alpha=0.15, lw=0)
        axis.plot(
            part.index, part["value"], "o-", color=palette[method], lw=1.6, ms=4.5,
            mfc="white" if hollow else palette[method], label=method,
        )  # fmt: skip
    # Where photographs of a class are hardly alike, in early layers, intervals are wider than any figure.
    axis.set_ylim(min(-0.4, data["value"].min() - 0.1), max(1.3, data["value"].max() + 0.1))
    axis.set_xlim(-0.5, len(layers) - 0.5)
    axis.set_xticks(range(len(layers)), layers, rotation=35, ha="right")
    axis.set_ylabel("own class less others,\nin units of photographs", fontsize=8)
    axis.grid(axis="y", color="#E4E4E4", lw=0.6)
    tidy(axis)
    axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)
    figure.text(0.1 / width, 1 - 0.07 / height, title, fontsize=10, fontweight="bold", va="top")
    note = "From early to late layers. The band is the 95 % interval over the units. After Geirhos et al. 2023."
    figure.text(0.1 / width, 0.06 / height, note, fontsize=7.5, color="#5A5A5A", va="bottom")
    return figure
