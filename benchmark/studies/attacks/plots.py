"""Figures of adversarial examples: records and pictures in, PNG files out. Imports no torch."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter
from numpy.typing import NDArray
from PIL import Image

from benchmark.records.record import Record
from benchmark.report.drawing import figure_of, save, tidy
from benchmark.report.figures import colours

GRID = 16
"""In pixels: the patches of most transformers. The same for every network, so that they can be compared."""
PANELS = {"success": "Targeted success", "probability": "Probability of the target, mean"}


@dataclass(frozen=True)
class Case:
    """A pair as people look at it.

    Attributes:
        unit: its id.
        title: `tench to thunder snake`.
        reached: whether the attacked network sees the target.
        pictures: original, perturbation and example.
        captions: what stands under each, two lines.
    """

    unit: str
    title: str
    reached: bool
    pictures: tuple[Image.Image, Image.Image, Image.Image]
    captions: tuple[str, str, str]


def epsilon_text(epsilon: float) -> str:
    """An epsilon as people write it: `4/255` where it is whole levels of a file, else the number."""
    levels = Fraction(epsilon * 255).limit_denominator(1000)
    return f"{levels}/255" if levels.denominator == 1 and levels else f"{epsilon:g}"


def curves(found: Sequence[Record], path: Path) -> list[Path]:
    """Success and probability of the target against epsilon, a line a network and series of settings.

    Returns:
        The file; none where no series has two epsilons.
    """
    series: dict[str, dict[float, Record]] = {}
    for record in found:
        name = re.sub(r"-eps-[\d.e]+(-\d+)?", "", record.method)
        epsilon = record.config["generator"]["init_args"]["epsilon"]
        if epsilon > 0 and record.status == "done":
            series.setdefault(f"{record.alias}, {name}", {})[epsilon] = record
    series = {name: points for name, points in series.items() if len(points) > 1}
    if not series:
        return []
    figure = figure_of(9.4, 3.7)
    axes = figure.subplots(1, 2, sharex=True)
    palette = colours(series)
    ticks = sorted({e for points in series.values() for e in points})
    for axis, (metric, title) in zip(axes, PANELS.items(), strict=True):
        for i, (name, points) in enumerate(series.items()):
            # Side by side where they agree: a factor that moves nothing anywhere else.
            shift = 1.03 ** (i - (len(series) - 1) / 2)
            kept = [(e * shift, m) for e in sorted(points) if (m := points[e].metric(metric)) and m.value is not None]
            axis.plot(
                [e for e, _ in kept], [m.value for _, m in kept], "o-", ms=4, lw=1.4, color=palette[name], label=name
            )
            for e, m in kept:
                if m.interval is not None:
                    axis.plot([e, e], m.interval, color=palette[name], lw=3.5, alpha=0.28, solid_capstyle="butt")
        axis.set_title(title, fontsize=9.5, loc="left")
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_locator(FixedLocator(ticks))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xticklabels([epsilon_text(e) for e in ticks], rotation=35 if len(ticks) > 5 else 0)
        axis.set_xlabel("ε, the largest change of a value in [0, 1]", fontsize=8.5)
        axis.set_ylim(-0.03, 1.05)
        axis.yaxis.set_major_formatter(PercentFormatter(1.0))
        axis.grid(color="#E4E4E4", lw=0.6)
        tidy(axis)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=min(len(labels), 3), fontsize=8.5, frameon=False)
    lines = -(-len(labels) // 3)
    figure.text(
        0.995, 0.985, "Bars: 95 % intervals over the images.", fontsize=7.5, color="#5A5A5A", ha="right", va="top"
    )
    figure.tight_layout(rect=(0, 0.04 + 0.055 * lines, 1, 0.98), w_pad=2)
    return [save(figure, path)]


def strength_in_a_patch(cases: Sequence[Case], side: int) -> NDArray[np.float64] | None:
    """How strong perturbations are at each place of a patch: (side, side), mean 1; None where patches do not fit."""
    found = []
    for case in cases:
        before, _, after = (np.asarray(p, np.float64) for p in case.pictures)
        strength = np.abs(after - before).mean(2)
        height, width = strength.shape
        if height % side == width % side == 0 and strength.any():
            tiles = strength.reshape(height // side, side, width // side, side).mean((0, 2))
            found.append(tiles / tiles.mean())
    return np.mean(found, 0) if found else None


def patches(drawn: Sequence[tuple[Record, Sequence[Case]]], side: int, path: Path) -> list[Path]:
    """How strong the perturbations are at each place of a patch: a panel a network and setting, one scale for all.

    Returns:
        The file; none where no picture is a multiple of a patch.
    """
    panels = [(r, m) for r, cases in drawn if (m := strength_in_a_patch(cases, side)) is not None]
    if not panels:
        return []
    across = min(len(panels), 4)
    lines = -(-len(panels) // across)
    width, height = 2.35 * across + 0.75, 2.45 * lines + 0.75
    figure = figure_of(width, height)
    layout = {"left": 0.15 / width, "right": 1 - 0.85 / width, "top": 1 - 0.85 / height, "bottom": 0.12 / height}
    axes = figure.subplots(lines, across, squeeze=False, gridspec_kw=layout | {"wspace": 0.08, "hspace": 0.28})
    for axis in axes.flat:
        axis.set_axis_off()
    most = max(2.0, *(float(m.max()) for _, m in panels))
    for axis, (record, strength) in zip(axes.flat, panels, strict=False):
        shown = axis.imshow(strength, cmap="magma", vmin=0, vmax=most, interpolation="nearest")
        grid = record.metric("grid")
        share = "" if grid is None or grid.value is None else f": {100 * grid.value:.1f} %"
        axis.set_title(f"{textwrap.shorten(record.alias, 26, placeholder='…')}\n{record.method}{share}", fontsize=8)
    bar = figure.add_axes((1 - 0.68 / width, 0.12 / height, 0.12 / width, 1 - 0.97 / height))
    figure.colorbar(shown, cax=bar)
    tidy(bar)
    text = f"Strength of the perturbation at each place of a patch of {side} px, 1 on average"
    figure.text(0.15 / width, 1 - 0.1 / height, text, fontsize=9.5, fontweight="bold", va="top")
    return [save(figure, path)]


def sheet(record: Record, said: str, cases: Sequence[Case], path: Path) -> Path:
    """The first pairs of a record: original, perturbation and example, with what the network says under each."""
    shown, across = cases[:SHOWN], 2 if len(cases) > 1 else 1
    lines = -(-len(shown) // across)
    width, height = 5.6 * across + 0.2, 2.5 * lines + 0.55
    figure = figure_of(width, height)
    # A narrow empty column between two pairs.
    ratios = ([1, 1, 1, 0.12] * across)[:-1]
    layout = {"width_ratios": ratios, "left": 0.01, "right": 0.99, "top": 1 - 0.72 / height, "bottom": 0.42 / height}
    axes = figure.subplots(lines, len(ratios), squeeze=False, gridspec_kw=layout | {"wspace": 0.05, "hspace": 0.27})
    for axis in axes.flat:
        axis.set_axis_off()
    for i, case in enumerate(shown):
        line, column = divmod(i, across)
        for j, (picture, caption) in enumerate(zip(case.pictures, case.captions, strict=True)):
            axis = axes[line, 4 * column + j]
            axis.imshow(picture, interpolation="antialiased")
            colour = ("#1b7f4d" if case.reached else "#a3211b") if j == 2 else "#333333"
            wrapped = "\n".join(textwrap.shorten(part, 32, placeholder="…") for part in caption.split("\n"))
            axis.text(0.5, -0.03, wrapped, ha="center", va="top", fontsize=7.5, color=colour, transform=axis.transAxes)
            if line == 0:
                axis.set_title(("original", f"perturbation × {GAIN}", "result")[j], fontsize=8.5, color="#5A5A5A")
    figure.text(0.01, 1 - 0.08 / height, f"{record.alias}: {said}", fontsize=10, fontweight="bold", va="top")
    return save(figure, path)


SHOWN = 8
"""How many pairs a sheet has at most."""

GAIN = 10
"""How many times its size a perturbation is shown, around a middle grey."""
