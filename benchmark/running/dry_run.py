"""What a suite will cost, found by timing some of it; nothing is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate
from tqdm import tqdm

from benchmark.scoring import references
from benchmark.suites.job import Job
from featvis.networks.devices import default_device
from featvis.networks.loading import load
from featvis.networks.units import cut

STEPS = 3
"""That are timed of each cell."""


def timing(job: Job) -> list[dict[str, Any]]:
    """What a suite costs: per cell its forward-backward passes, and the seconds expected after timing a few steps.

    Cells that differ in the number of steps alone are timed once, and those that share their images made once.
    """
    table, timed, made = [], dict[str, float](), set[Path]()
    for cell in tqdm(job.cells, desc="timing", unit="cell", leave=False):
        generator = cell.generator
        batch, *_ = cuts = cut(job.units, job.suite.batch_size, generator.together)
        todo = [b for b in cuts if cell.folder not in made and any(u.id in cell.missing for u in b)]
        made.add(cell.folder)
        count = sum(map(len, todo))
        passes = generator.steps * generator.views * count
        seconds = 0.0
        if count:
            arguments = {k: v for k, v in cell.init_args.items() if k != "steps"}
            key = json.dumps([cell.class_path, arguments], sort_keys=True, default=str)
            if key not in timed:
                planned, generator.steps = generator.steps, 1
                generator.to(default_device()).predict_step(batch)
                generator.steps = STEPS
                timed[key] = generator.predict_step(batch).seconds / STEPS / len(batch)
                generator.steps = planned
            seconds = timed[key] * generator.steps * count
        table.append(
            {"method": cell.method, "images": count, "of": len(job.units), "passes": passes, "seconds": seconds}
        )
    return table


def passes(job: Job) -> list[references.Cost]:
    """What the passes over the real images cost that a run with data makes, the finished ones included."""
    table: list[references.Cost] = []
    counted = set()
    for task in references.passes(job.plan):
        source = job.sources.of(task.role)
        assert source is not None
        # One set may serve two roles.
        if (which := (task.kind, task.model, source.fingerprint)) in counted:
            continue
        counted.add(which)
        if task.kind == "nearest":
            # Each real image of the units' classes passes the target once more, beside the visualizations.
            again = sum(len(source.rows.get(c, [])) for c in task.classes)
            seconds = table[0].seconds / max(1, table[0].images) * again
            table.append(references.Cost("nearest images (flat)", again, seconds, 0, table[0].memory))
        elif task.kind != "inception":
            model = None if task.model is None else job.networks.get(task.model) or load(task.model)
            networks = [] if model is None else [model.in_precision("float32").to(default_device())]
            table += references.costs(source, networks, task.kind == "spectrum")
    return table


def passes_text(table: Sequence[Any]) -> str:
    """What passes over real images will cost (`benchmark.scoring.references.Cost`)."""
    rows = [[c.what, c.images, f"{c.seconds:.0f}", f"{c.disk / 2**20:.1f}", f"{c.memory / 2**20:.0f}"] for c in table]
    head = ["pass", "images", "seconds expected on one device", "MB on disk", "MB of memory beyond the network"]
    return tabulate(rows, head, tablefmt="simple")


def plan_text(job: Job, table: list[dict[str, Any]]) -> str:
    """What a suite will do and cost."""
    rows = [[t["method"], t["images"], t["of"], t["passes"], f"{t['seconds']:.0f}"] for t in table]
    rows.append(
        [
            "total",
            *(sum(t[k] for t in table) for k in ("images", "of", "passes")),
            f"{sum(t['seconds'] for t in table):.0f}",
        ]
    )
    head = ["cell", "images to do", "of", "forward-backward passes", "seconds expected"]
    text = tabulate(rows, head, tablefmt="simple")
    return f"{job.name} on {job.classifier.name} ({job.classifier.source}), into {job.out}\n\n{text}"
