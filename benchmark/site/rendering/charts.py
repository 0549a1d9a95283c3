"""Where the bars of a distribution stand: counts in, rectangles in the units of an SVG of 720 x 200 out."""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.site.model import Distribution

LEFT, RIGHT, TOP, BASE = 20.0, 700.0, 10.0, 170.0


@dataclass(frozen=True)
class Bar:
    """A rectangle, its numbers as the SVG spells them."""

    x: str
    y: str
    width: str
    height: str


@dataclass(frozen=True)
class Histogram:
    """Bars, the place of the line (None: there is none), and the ends of the axis in units of the activation."""

    bars: tuple[Bar, ...]
    line: str | None
    axis: tuple[float, float]


def histogram(distribution: Distribution) -> Histogram:
    """A distribution as it is drawn; the axis reaches to the visualization's activation where that lies outside.

    Example:
        >>> from benchmark.site.model import Distribution
        >>> from benchmark.site.rendering.charts import histogram
        >>> drawn = histogram(Distribution(0.0, 2.0, (1, 2), 4.0, 1.0))
        >>> drawn.axis, drawn.line, [bar.height for bar in drawn.bars]
        ((0.0, 4.0), '700.0', ['80.0', '160.0'])
    """
    d = distribution
    ends = [d.low, d.high] + ([] if d.reached is None else [d.reached])
    low, high = min(ends), max(ends)
    span = (high - low) or 1.0

    def across(value: float) -> float:
        return LEFT + (RIGHT - LEFT) * (value - low) / span

    step, most = (d.high - d.low) / len(d.counts), max([*d.counts, 1])
    bars = []
    for i, count in enumerate(d.counts):
        x, height = across(d.low + i * step), (BASE - TOP) * count / most
        width = max(across(d.low + (i + 1) * step) - x - 1, 1)
        bars.append(Bar(f"{x:.1f}", f"{BASE - height:.1f}", f"{width:.1f}", f"{height:.1f}"))
    return Histogram(tuple(bars), None if d.reached is None else f"{across(d.reached):.1f}", (low, high))
