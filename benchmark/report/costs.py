"""The figure of what quality costs: scores against the seconds, or passes, that an image takes."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.records.record import Record
from benchmark.report.drawing import drawn, figure_of, named, tidy
from benchmark.report.figures import colours, named_groups
from benchmark.report.tables.budget import budget_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def budgets(records: Iterable[Record], path: Path | str) -> list[Path]:
    """Two scores against the seconds that an image takes, a dot a row but controls; for suites that vary them.

    Where images were made on several kinds of devices, against the passes. A colour is a preset or, where rows see
    different things, what they see.

    Args:
        records: of any number of models and suites; one figure each where `budget_frame` finds enough.
        path: the figure; with several models the model's name is put before the ending.

    Returns:
        The files written.
    """
    groups = named_groups(records)
    found = [(name, budget_frame(group), group[0]) for name, group in groups]
    return [
        drawn(
            named(path, name, len(groups)),
            f"budgets {_count(first)} {data.to_csv()}",
            functools.partial(_budgets, data, f"{first.alias}, suite {first.suite}, {_count(first)}"),
        )
        for name, data, first in found
        if data is not None
    ]


def _count(record: Record) -> str:
    """How many units a row is of: a unit may have several images."""
    units = {unit.partition("@")[0] for unit in record.units}
    one, more = ("class", "classes") if all(unit.isdecimal() for unit in units) else ("unit", "units")
    return f"{len(units)} {one if len(units) == 1 else more}"


def _budgets(data: Any, title: str) -> Figure:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    families = list(dict.fromkeys(data["family"]))
    palette = colours(families)
    figure = figure_of(10.2, 4.9)
    axes = figure.subplots(1, 2)
    # The places of the axes are fixed first, because the labels are placed by what is where.
    figure.subplots_adjust(left=0.05, right=0.99, top=0.87, bottom=0.15, wspace=0.12)
    panels = (("transferability", f"{data['mean'].iloc[0]} (%) ↑", 100), ("logit", "Logit of the target ↑", 1))
    for axis, (key, heading, scale) in zip(axes, panels, strict=True):
        for family in families:
            part = data[data["family"] == family]
            best = part[part[key].cummax() <= part[key]].drop_duplicates(key)
            axis.plot(
                [*best["cost"], data["cost"].max()], [*best[key] * scale, best[key].iloc[-1] * scale],
                drawstyle="steps-post", color=palette[family], lw=1.2, alpha=0.35, zorder=1,
            )  # fmt: skip
            axis.plot(part["cost"], part[key] * scale, "o", ms=5.5, color=palette[family], label=family, zorder=2)
        ticks = [(axis.xaxis, axis.set_xscale)]
        if key == "logit" and data[key].min() > 0:
            ticks.append((axis.yaxis, axis.set_yscale))
        for side, set_scale in ticks:
            set_scale("log")
            side.set_major_locator(LogLocator(10, (1, 2, 5)))
            side.set_major_formatter(StrMethodFormatter("{x:g}"))
            side.set_minor_formatter(NullFormatter())
        axis.margins(x=0.1, y=0.1)
        axis.autoscale_view()
        _label_points(axis, [(r["cost"], r[key] * scale, _budget_name(r)) for r in data.to_dict("records")])
        timed = bool(data["timed"].all())
        axis.set_xlabel("seconds an image" if timed else "forward-backward passes an image", fontsize=9)
        axis.set_title(heading, fontsize=10)
        axis.grid(color="#ECECEC", lw=0.6)
        tidy(axis)
    by_method = (data["preset"].str.partition("_")[0] == data["family"]).all()
    what = None if by_method else "what the method sees"
    axes[0].legend(frameon=False, fontsize=8, loc="upper left", title=what, title_fontsize=8)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    note = "Beside a dot: its row, or steps x views and what else it changes. Lines: the best of a colour for the cost."
    figure.text(0.01, 0.012, note, fontsize=7.5, color="#5A5A5A")
    return figure


def _budget_name(row: Mapping[str, Any]) -> str:
    """What tells a row from the others of its colour: `64x4`, `64x4 at 512`, `32x2 half`; `vital 64`."""
    first, _, rest = row["method"].partition("_")
    if row["family"] != first:
        return f"{first} {rest}".strip().replace("_", " ")
    return rest.replace("_", " ") or f"{row['steps']}x{row['views']}"


def _label_points(axis: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """A small text at each point, where it covers no dot and no other text, or as little as possible.

    The axes must have their limits and their place in the figure.
    """
    size, gap = 6.5, 6.0  # points, as all lengths here
    dots = [axis.transData.transform(p[:2]) * 72 / axis.figure.dpi for p in points]
    taken = [(x - 3, y - 3, x + 3, y + 3) for x, y in dots]
    places = [
        (across * gap * far, up * gap * far)
        for far in (1.0, 1.8, 2.8)
        for across, up in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))
    ]
    for (x, y), (*at, text) in sorted(zip(dots, points, strict=True), key=lambda pair: tuple(pair[0])):
        w, h = 0.56 * size * len(text), 1.15 * size
        boxes = []
        for dx, dy in places:
            left = x + dx - (w / 2 if dx == 0 else 0 if dx > 0 else w)
            low = y + dy - (h / 2 if dy == 0 else 0 if dy > 0 else h)
            boxes.append((left, low, left + w, low + h))
        costs = [sum(_overlap(box, other) for other in taken) for box in boxes]
        best = costs.index(min(costs))
        taken.append(boxes[best])
        dx, dy = places[best]
        axis.annotate(
            text, (at[0], at[1]), (dx, dy), textcoords="offset points", fontsize=size, color="#444444",
            ha="center" if dx == 0 else "left" if dx > 0 else "right",
            va="center" if dy == 0 else "bottom" if dy > 0 else "top",
        )  # fmt: skip


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """The area that two boxes (left, low, right, high) share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
