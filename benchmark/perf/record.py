"""The record of a measurement, and its Markdown."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tabulate import tabulate

from benchmark.records.schema import parse
from featvis.errors import UserError
from featvis.storage.images import write_atomic

STAGES = ("decode", "transforms", "network", "alpha", "optimiser")


@dataclass(frozen=True)
class Timing:
    """A method on a network. Times are medians, in milliseconds a view of one step.

    `shipped_ms` is the bare network's forward and input gradient on as many views, in the same precision and memory
    layout, one micro-batch after the other, timed in turn with the step: timm's network, its weights frozen, under
    autocast where the precision is not float32. `network_ms` is the same of the network as the step runs it
    (`Classifier.forward`). `times_shipped` and `overhead` are the medians of the rounds' ratios to them.
    `stages_ms` takes the step apart in proportion to the time of its stages, in which parts of a batch may run side by
    side. `gflop` are the products and sums, in 10^9, of the matrix products and convolutions in a view's forward pass
    and input gradient, and `matrices` how many of them a second this machine does in large matrix products of that
    type, timed in turn with the step; 0 in older records.
    """

    model: str
    random_weights: bool
    method: str
    precision: str
    units: int
    views: int
    canvas: int
    rounds: int
    step_ms: float
    network_ms: float
    shipped_ms: float
    overhead: float
    times_shipped: float
    stages_ms: dict[str, float]
    gflop: float = 0.0
    matrices: float = 0.0

    @property
    def share(self) -> float:
        """Of the machine's throughput in matrix products, what a step reaches; NaN in older records."""
        return 1000 * self.gflop / self.step_ms / self.matrices if self.matrices else math.nan


@dataclass(frozen=True)
class LeftOut:
    """A row that was not timed, since one step of it takes `seconds`."""

    model: str
    method: str
    units: int
    views: int
    canvas: int
    seconds: float


@dataclass(frozen=True)
class Around:
    """What surrounds the steps, in milliseconds; the Trainer's start counts among its steps."""

    canvas: int
    lightning_ms_a_step: float
    writing_ms_an_image: float


@dataclass(frozen=True)
class Memory:
    """The peak of a process that makes two steps, in megabytes (10^6 bytes).

    `before_mb` is what it holds before the first step, network and libraries; `parameters_mb` the parameters alone.
    """

    model: str
    method: str
    units: int
    views: int
    canvas: int
    before_mb: float
    parameters_mb: float
    peak_mb: float


@dataclass(frozen=True)
class Processes:
    """Views a second of one process of one thread, and of two at once; medians of `rounds`, and the ratio's."""

    model: str
    method: str
    units: int
    views: int
    canvas: int
    rounds: int
    one: float
    two: float
    ratio: float


@dataclass(frozen=True)
class Part:
    """What a part of the engine is worth: the share of a step's time without it that it saves, a median of `rounds`."""

    model: str
    method: str
    precision: str
    units: int
    views: int
    canvas: int
    rounds: int
    part: str
    saved: float


@dataclass(frozen=True)
class Circumstances:
    """The facts that every measurement depends on; `created` is ISO 8601."""

    command: str
    device: str
    threads: int
    versions: dict[str, str]
    git_commit: str | None
    created: str

    def sentence(self) -> str:
        """They, for people."""
        return (
            f"`{self.command}` on {self.device}, {self.threads} threads, torch {self.versions.get('torch')}, "
            f"{self.created[:10]}, commit {self.git_commit}."
        )


@dataclass(frozen=True)
class PerfRecord(Circumstances):
    """All that `featvis perf` found."""

    timings: tuple[Timing, ...]
    left_out: tuple[LeftOut, ...]
    around: tuple[Around, ...]
    memory: tuple[Memory, ...]
    processes: Processes | None
    schema: Literal["featvis-perf/2"] = "featvis-perf/2"
    parts: tuple[Part, ...] = ()

    def numbers(self) -> dict[str, float]:
        """The final ones, each by a name of its own."""
        found: dict[str, float] = {}
        for t in self.timings:
            row = f"{t.method}/{t.model}/{t.units}x{t.views}"
            found |= {f"{row}/{k}": getattr(t, k) for k in ("step_ms", "times_shipped", "overhead")}
            found |= {f"{row}/share_of_matrices": t.share} if t.matrices else {}
        for m in self.memory:
            found[f"{m.method}/{m.model}/{m.units}x{m.views}/{m.canvas}/peak_mb"] = m.peak_mb
        if self.processes is not None:
            found["two_processes/ratio"] = self.processes.ratio
        return found


def write(record: Circumstances, text: str, folder: Path, name: str) -> tuple[Path, Path]:
    """Write a record as `<name>.json`, and the text made from it as `<name>.md`."""
    data, table = folder / f"{name}.json", folder / f"{name}.md"
    write_atomic(data, (json.dumps(dataclasses.asdict(record), indent=1, sort_keys=True) + "\n").encode())
    write_atomic(table, text.encode())
    return data, table


def read(path: Path) -> PerfRecord:
    """A record from its file.

    Raises:
        UserError: for a file that cannot be read, or is no such record.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no record of a measurement ({error})") from error
    found = parse(PerfRecord, data, str(path))
    assert isinstance(found, PerfRecord)
    return found


PAPER = {"maco": (256, 32), "fourier": (256, 1), "cbr": (256, 1)}
"""Steps, and views a step, as the MACO paper ran the methods (Fel et al. 2023, section 4)."""
CLASSES = 500


def paper_rows(record: PerfRecord) -> list[list[str]]:
    """For each network: images a second of MACO at the paper's setting, and hours for 500 classes by each method."""
    rows = []
    for model in dict.fromkeys(t.model for t in record.timings):
        found = {}
        for method, (_, views) in PAPER.items():
            own = [t for t in record.timings if t.model == model and t.method == method]
            if own:
                found[method] = min(own, key=lambda t: (abs(t.views - views), -t.units))
        if "maco" not in found:
            continue
        seconds = {m: t.step_ms / 1000 * math.prod(PAPER[m]) for m, t in found.items()}
        hours = {m: s * CLASSES / 3600 for m, s in seconds.items()}
        rate = 1 / seconds["maco"]
        rows.append([model, f"{rate:.4f}", *(f"{hours[m]:.1f}" if m in hours else "" for m in PAPER)])
    return rows


def markdown(record: PerfRecord) -> str:
    """The record as tables that people read."""
    parts = [
        "# What a step costs",
        record.sentence(),
        "Milliseconds a view of one step, medians. *As shipped* is the bare network's forward and input gradient on as "
        "many views, in the same precision and memory layout, one micro-batch after the other, timed in turn with the "
        "step in one process: timm's network, its weights frozen, under autocast where the precision is not float32. "
        "*Ours* is the same of the network as the step runs it, its batch norms folded and its convolutions frozen. "
        "*Step / shipped* and *step / ours* are medians of the rounds' ratios. The last columns take the step apart in "
        "proportion to the time of its stages, in which parts of a batch may run side by side."
        + " *Of the matrices* is the share of the machine's throughput in large matrix products of the same type, "
        "timed in turn with the step, that its matrix products and convolutions (forward and input gradient) come to."
        * any(t.matrices for t in record.timings),
        _timings(record),
    ]
    for row in record.left_out:
        parts.append(f"Left out: {row.method} on {row.model}, {row.units} x {row.views}, {row.seconds:.0f} s a step.")
    for a in record.around:
        parts.append(
            f"Beside the steps: Lightning and its callbacks {a.lightning_ms_a_step:.2f} ms a step of a whole batch, "
            f"writing {a.writing_ms_an_image:.0f} ms an image (canvas {a.canvas})."
        )
    if record.parts:
        parts += [
            "## What the parts of the engine buy",
            "The share of a step's time that each saves: 1 less the time with it over the time without it, made in "
            "turn in one process; medians of the rounds.",
            _parts(record.parts),
        ]
    if record.memory:
        parts += ["## Memory, in MB", _memory(record.memory)]
    if record.processes is not None:
        p = record.processes
        parts += [
            "## Two processes",
            f"{p.method} on {p.model}, {p.units} x {p.views}, canvas {p.canvas}: one process of one thread "
            f"{p.one:.1f} views a second, two at once {p.two:.1f}: {p.ratio:.2f} times (median of {p.rounds}).",
        ]
    if rows := paper_rows(record):
        head = ["network", "MACO images a second", *(f"{m}, hours for {CLASSES} classes" for m in PAPER)]
        parts += [
            "## The paper's setting",
            "256 steps of 32 crops for MACO, of one view for Fourier and CBR, at the speed of the row above "
            "whose views are nearest. Table 1 of Fel et al. 2023 is three such rows (FlexiViT, ViT, "
            "ResNetV2).",
            tabulate(rows, head, tablefmt="pipe", disable_numparse=True),
        ]
    return "\n\n".join(parts) + "\n"


def _timings(record: PerfRecord) -> str:
    head = [
        "network",
        "method",
        "units x views",
        "canvas",
        "precision",
        "step",
        "as shipped",
        "step / shipped",
        "ours",
        "step / ours",
        *["of the matrices"] * any(t.matrices for t in record.timings),
        *STAGES,
    ]
    rows = [
        [
            t.model + (" (random weights)" if t.random_weights else ""),
            t.method,
            f"{t.units} x {t.views}",
            t.canvas,
            t.precision,
            f"{t.step_ms:.2f}",
            f"{t.shipped_ms:.2f}",
            f"{t.times_shipped:.3f}",
            f"{t.network_ms:.2f}",
            f"{t.overhead:.3f}",
            *[f"{100 * t.share:.0f} %" if t.matrices else ""] * any(x.matrices for x in record.timings),
            *(f"{t.stages_ms.get(s, 0.0):.2f}" for s in STAGES),
        ]
        for t in record.timings
    ]
    return tabulate(rows, head, tablefmt="pipe", disable_numparse=True)


def _parts(rows: Sequence[Part]) -> str:
    columns = list(dict.fromkeys((p.model, p.method, p.units, p.views, p.precision) for p in rows))
    found = {(p.part, (p.model, p.method, p.units, p.views, p.precision)): p.saved for p in rows}
    head = ["part", *(f"{method}, {units} x {views}, {model}, {how}" for model, method, units, views, how in columns)]
    names = dict.fromkeys(p.part for p in rows)
    table = [
        [name, *(f"{100 * found[name, c]:.1f} %" if (name, c) in found else "" for c in columns)] for name in names
    ]
    return tabulate(table, head, tablefmt="pipe", disable_numparse=True)


def _memory(rows: Sequence[Memory]) -> str:
    head = ["network", "method", "units x views", "canvas", "before", "parameters", "peak", "peak - parameters"]
    table = [
        [
            m.model, m.method, f"{m.units} x {m.views}", m.canvas,
            *(f"{x:.0f}" for x in (m.before_mb, m.parameters_mb, m.peak_mb, m.peak_mb - m.parameters_mb)),
        ]
        for m in rows
    ]  # fmt: skip
    return tabulate(table, head, tablefmt="pipe", disable_numparse=True)
