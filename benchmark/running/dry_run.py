"""What a suite will cost, found by timing some of it; nothing is written."""

from __future__ import annotations

from typing import Any

from benchmark.scoring import references
from benchmark.suites.job import Job
from featvis.networks.devices import default_device
from featvis.networks.loading import load
from featvis.networks.units import classes_of, cut


def timing(job: Job, steps: int = 3) -> list[dict[str, Any]]:
    """What a suite costs: per cell its forward-backward passes, and the seconds expected after timing three steps."""
    table = []
    for cell in job.cells:
        generator, batch = cell.generator, job.units[: job.suite.batch_size]
        todo = [b for b in cut(job.units, job.suite.batch_size) if any(u.id in cell.missing for u in b)]
        count = sum(map(len, todo))
        passes = generator.steps * generator.views * count
        seconds = 0.0
        if count:
            planned, generator.steps = generator.steps, 1
            generator.to(default_device()).predict_step(batch)
            generator.steps = steps
            seconds = generator.predict_step(batch).seconds / steps / len(batch) * planned * count
            generator.steps = planned
        table.append(
            {"method": cell.method, "images": count, "of": len(job.units), "passes": passes, "seconds": seconds}
        )
    return table


def passes(job: Job) -> list[references.Cost]:
    """What the passes over the real images cost that a run with data makes, the finished ones included."""
    plan, synsets = job.plan, job.classifier.synsets
    bank, frechet, natural = (plan.images(role, synsets) for role in ("bank", "frechet", "spectrum"))
    if bank is None or frechet is None or natural is None:
        return []
    table = references.costs(bank, [load(plan.model, "float32", default_device())], False)
    if plan.frechet not in plan.unavailable:
        table += references.costs(frechet, [load(plan.frechet, "float32", default_device())], False)
    table += references.costs(natural, [], True)
    # Each real image of the units' classes passes the target once more, beside the visualizations.
    again = sum(len(bank.rows.get(c, [])) for c in classes_of(plan.units))
    seconds = table[0].seconds / max(1, table[0].images) * again
    return [*table, references.Cost("nearest images (flat)", again, seconds, 0, table[0].memory)]
