"""The record of a comparison with other libraries, and its Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tabulate import tabulate

from benchmark.perf.record import Circumstances

ASKED = (
    "The others were asked for one class at a time, since they take no more: horama for `maco()` with pixels in [0, 1] "
    "and its default's noise as a share of that range, dreamlens for `FeatureVisualizer.maco()`; both with as many "
    "crops, the same canvas and input, and crop sizes of their own. *As documented*: as their examples call them. "
    "*Tuned*: with timm's network frozen, in channels_last and under autocast. *With our network*: its batch norms "
    "folded and its convolutions frozen too, as ours has it."
)


@dataclass(frozen=True)
class PeerTiming:
    """A library's step on our work: `view_ms`, the median of the rounds, in milliseconds a view.

    `how` is our preset, or how the library was run; `network` the network that it had, in words; `times_ours` the
    median of the rounds' ratios to the first row.
    """

    library: str
    how: str
    network: str
    units: int
    view_ms: float
    times_ours: float


@dataclass(frozen=True)
class PeerPictures:
    """A library's pictures and their scores; `scores` holds a metric's result by its name."""

    library: str
    steps: int
    views: int
    canvas: int
    images: int
    seconds_an_image: float
    scores: dict[str, Any]


@dataclass(frozen=True)
class PeersRecord(Circumstances):
    """All that `featvis perf-peers` found."""

    model: str
    views: int
    canvas: int
    rounds: int
    timings: tuple[PeerTiming, ...]
    pictures: tuple[PeerPictures, ...]
    schema: Literal["featvis-peers/1"] = "featvis-peers/1"

    def numbers(self) -> dict[str, float | None]:
        """The final ones, each by a name of its own."""
        found: dict[str, float | None] = {}
        for t in self.timings:
            row = f"{t.library}/{t.how}/{t.units}"
            found |= {f"{row}/view_ms": t.view_ms, f"{row}/times_ours": t.times_ours}
        for p in self.pictures:
            found |= {f"{p.library}/{name}": score["value"] for name, score in p.scores.items()}
        return found


def markdown(record: PeersRecord) -> str:
    """The record as tables that people read."""
    head = ["library", "run", "network", "units at once", "ms a view", "times ours"]
    rows = [[t.library, t.how, t.network, t.units, f"{t.view_ms:.1f}", f"{t.times_ours:.2f}"] for t in record.timings]
    parts = [
        "# MACO beside other libraries",
        record.sentence(),
        f"A step of {record.views} crops of a canvas of {record.canvas} pixels on {record.model}: milliseconds a view, "
        f"medians of {record.rounds} rounds in which all take turns in one process; *times ours* is the median of the "
        "ratios to the first row. What happens once an image does not count.",
        ASKED,
        tabulate(rows, head, tablefmt="pipe", disable_numparse=True),
    ]
    if record.pictures:
        first = record.pictures[0]
        scores = list(first.scores)
        table = [
            [p.library, *(_score(p.scores[name]) for name in scores), f"{p.seconds_an_image:.1f}"]
            for p in record.pictures
        ]
        parts += [
            "## The pictures",
            f"{first.images} classes, {first.steps} steps of {first.views} crops, canvas {first.canvas}, each "
            "library's own crops and noise, the others with our network. The mean, with its 95 % bootstrap "
            "interval.",
            tabulate(table, ["library", *scores, "seconds an image"], tablefmt="pipe", disable_numparse=True),
        ]
    return "\n\n".join(parts) + "\n"


def _score(result: dict[str, Any]) -> str:
    if result["interval"] is None:
        return f"{result['value']:.2f}"
    low, high = result["interval"]
    return f"{result['value']:.2f} [{low:.2f}, {high:.2f}]"
