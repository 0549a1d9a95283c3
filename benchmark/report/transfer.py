"""The figure of transferability over targets: what each judge sees in pictures made for each network."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.records.columns import SAME_FAMILY
from benchmark.records.record import Measurement, Record, shown
from benchmark.report.drawing import drawn, figure_of, named, tidy
from benchmark.report.figures import colours
from benchmark.report.tables import method_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Judged = Mapping[str, Mapping[str, Measurement]]
"""A judge's name to a method to its top-1."""
LEFT_OUT = ("natural", "real_other", "noise")
"""Rows that are no competitors and no bound that a judge could miss."""


def transfers(records: Iterable[Record], path: Path | str) -> list[Path]:
    """Top-1 of each judge, a row a judge, a dot a method, a panel a target; for suites of several targets.

    Args:
        records: of any number of suites and models.
        path: the figure; with several suites the suite's name is put before the ending.

    Returns:
        The files written; none where no suite has two targets with judges.
    """
    suites: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        if record.status == "done" and record.method not in LEFT_OUT:
            suites.setdefault(record.suite, {}).setdefault(record.alias, []).append(record)
    found = {suite: {alias: judged(group) for alias, group in models.items()} for suite, models in suites.items()}
    found = {suite: panels for suite, panels in found.items() if sum(map(bool, panels.values())) > 1}
    targets = {alias: group[0].model for models in suites.values() for alias, group in models.items()}
    written = []
    for suite, panels in found.items():
        drawing = functools.partial(_drawing, suite, panels, targets)
        written.append(drawn(named(path, suite, len(suites)), f"transfer {panels}", drawing))
    return written


def judged(group: Sequence[Record]) -> Judged:
    """What each judge, the target aside, makes of each method of one target."""
    found: dict[str, dict[str, Measurement]] = {}
    for record in sorted(group, key=lambda r: method_order(r.method)):
        for m in record.metrics:
            if m.group == "transferability" and m.name != f"top1_{record.model}" and m.value is not None:
                found.setdefault(m.name.removeprefix("top1_"), {})[record.method] = m
    return found


def _drawing(suite: str, panels: Mapping[str, Judged], targets: Mapping[str, str]) -> Figure:
    judges = in_order(panels.values())
    methods = sorted({m for panel in panels.values() for of in panel.values() for m in of}, key=method_order)
    palette = colours(methods)
    width = 1.9 + 2.3 * len(panels)
    # Below the panels stand as many lines as the legend needs, and one that says what is shown.
    columns = max(1, min(len(methods), int(width / 1.05)))
    below = 0.3 + 0.2 * math.ceil(len(methods) / columns)
    height = 0.9 + below + 0.33 * len(judges)
    figure = figure_of(width, height)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (alias, panel) in zip(axes, panels.items(), strict=True):
        _panel(axis, (alias, targets[alias]), panel, judges, methods, palette)
    axes[0].set_yticks(range(len(judges)), [_short(j) for j in judges], fontsize=8.5, color="#222222")
    axes[0].set_ylim(len(judges) - 0.4, -0.6)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="lower left", bbox_to_anchor=(0.01, 0.2 / height), ncols=columns, frameon=False,
        fontsize=8.5, handletextpad=0.2, columnspacing=1.4,
    )  # fmt: skip
    figure.suptitle(
        f"Which judges see the class? Top-1 (%) of pictures by target, suite {suite}", x=0.01, ha="left", fontsize=10,
        fontweight="bold",
    )  # fmt: skip
    text = "bars: 95 % intervals; shaded: judges of the target's own family"
    figure.text(0.02, 0.08 / height, text, fontsize=7.5, color="#5A5A5A")
    figure.tight_layout(rect=(0, below / height, 1, 0.97))
    return figure


def in_order(panels: Collection[Judged]) -> list[str]:
    """All judges, as the suite names them: a panel has them all but its own target.

    Example:
        >>> from benchmark.report.transfer import in_order
        >>> in_order([{"b": {}, "c": {}}, {"a": {}, "c": {}}, {"a": {}, "b": {}}])
        ['a', 'b', 'c']
    """
    places: dict[str, list[int]] = {}
    for panel in panels:
        for place, judge in enumerate(panel):
            places.setdefault(judge, []).append(place)
    return sorted(places, key=lambda judge: (statistics.mean(places[judge]), judge))


def _panel(
    axis: Axes, target: tuple[str, str], panel: Judged, judges: Sequence[str], methods: Sequence[str],
    palette: Mapping[str, str],
) -> None:  # fmt: skip
    """Draw what the judges make of the pictures for a target, (alias, name)."""
    spread = 0.5 / max(len(methods) - 1, 1)
    for i, method in enumerate(methods):
        known = [(j, panel[name][method]) for j, name in enumerate(judges) if method in panel.get(name, {})]
        for j, m in known:
            assert m.value is not None
            y, faint = j + (i - (len(methods) - 1) / 2) * spread, 0.3 if _own(m) else 1.0
            low, high = m.interval or (m.value, m.value)
            axis.plot([100 * low, 100 * high], [y, y], color=palette[method], lw=1, alpha=0.5 * faint, zorder=1)
            axis.plot(
                100 * m.value, y, "o" if method != "real" else "|", ms=4.5 if method != "real" else 7,
                color=palette[method], alpha=faint, zorder=2,
            )  # fmt: skip
        # In the legend even where the first dot is a faint one.
        axis.plot([], [], "o" if method != "real" else "|", ms=5, color=palette[method], label=shown(method))
    for j, name in enumerate(judges):
        if any(_own(m) for m in panel.get(name, {}).values()):
            axis.axhspan(j - 0.5, j + 0.5, color="#F2F2F2", zorder=0)
        elif name not in panel:
            what = "the target" if name == target[1] else "absent"
            axis.text(50, j, what, ha="center", va="center", fontsize=7.5, color="#8A8A8A")
    axis.set_title(target[0], fontsize=9.5)
    axis.set_xlim(-4, 104)
    axis.set_xticks([0, 25, 50, 75, 100])
    axis.grid(axis="x", color="#ECECEC", lw=0.6)
    tidy(axis)
    axis.tick_params(axis="y", length=0)


def _own(metric: Measurement) -> bool:
    return metric.label.endswith(SAME_FAMILY)


def _short(judge: str) -> str:
    return judge.partition(".")[0].removeprefix("tf_")
